"""The loader of steps of arrays, whichever library holds them: a pass after the other, and where it is."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator

from packer.reading.progress import Pass, Progress
from packer.reading.reader import PackReader
from packer.reading.resumable import Resumable
from packer.reading.sharing import not_packed


class ArrayLoader(Resumable):
    """What numpy_loader and jax_loader return. Every pass is a new epoch unless set_epoch names it."""

    def __init__(self, reader: PackReader, progress: Progress, steps: Callable[[Pass], Iterator[Any]]) -> None:
        self.reader = reader
        self.progress = progress
        self._steps = steps
        """Gives the steps of a pass, and tells `progress` of each."""

    def __iter__(self) -> Iterator[Any]:
        return self._steps(self.progress.begin())


def reader_of(dataset: Any, purpose: str) -> PackReader:
    """A PackReader, or that of a folder or URL; StateError for anything else, naming `purpose`."""
    if isinstance(dataset, PackReader):
        return dataset
    if isinstance(dataset, (str, os.PathLike)):
        return PackReader(dataset)
    raise not_packed(dataset, "PackReader", purpose)
