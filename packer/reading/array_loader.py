"""The loader of steps of arrays, whichever library holds them: a pass after the other, and where it is."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator, Mapping

from packer.reading.progress import Pass, Progress
from packer.reading.reader import PackReader
from packer.reading.sharing import not_packed


class ArrayLoader:
    """What numpy_loader and jax_loader return. Every pass is a new epoch unless set_epoch names it."""

    def __init__(self, reader: PackReader, progress: Progress, steps: Callable[[Pass], Iterator[Any]]) -> None:
        self.reader = reader
        self.progress = progress
        self._steps = steps
        """Gives the steps of a pass, and tells `progress` of each."""

    def __len__(self) -> int:
        """Steps of a whole epoch, also where the next pass resumes one (`steps_left`)."""
        return len(self.progress)

    def __iter__(self) -> Iterator[Any]:
        return self._steps(self.progress.begin())

    @property
    def steps_left(self) -> int:
        """Steps that the pass under way still gives; without one, those of the next pass."""
        return self.progress.steps_left

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`; one under way goes on. StateError for what is no epoch."""
        self.progress.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop that consumes this loader is: plain values."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass gives exactly what was left when `state` was taken; one under way goes on. StateError for what
        is no state, or one of another data set."""
        self.progress.load_state_dict(state)


def reader_of(dataset: Any, purpose: str) -> PackReader:
    """A PackReader, or that of a folder or URL; StateError for anything else, naming `purpose`."""
    if isinstance(dataset, PackReader):
        return dataset
    if isinstance(dataset, (str, os.PathLike)):
        return PackReader(dataset)
    raise not_packed(dataset, "PackReader", purpose)
