"""Packs for samplers of whole steps: the parts of a torch DataLoader, which other tools' loaders take too."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generator, Iterator, List, Mapping, Sequence

from torch.utils.data import Dataset, Sampler

from packer.reading.dataset import Pack, PackDataset
from packer.reading.order import EMPTY, whole_number
from packer.reading.progress import Pass, Progress
from packer.reading.sharing import check_shared_out, sharing_caller


class Packs(Dataset[Pack]):
    """What samplers of whole steps index: EMPTY is an empty pack, other numbers carry redraws (`Progress.numbered`)."""

    def __init__(self, dataset: PackDataset, length: int | None = None) -> None:
        self.dataset = dataset
        self.length = len(dataset) if length is None else length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pack:
        number = int(index)
        if number == EMPTY:
            return self.dataset.empty_pack()
        redraw, pack = divmod(number, len(self.dataset))
        return self.dataset.redrawn(pack, redraw)

    def __getitems__(self, indices: Sequence[int]) -> list[Pack]:
        return [self[index] for index in indices]


class StepSampler(Sampler[List[int]]):
    """A batch sampler: the pack ids of each step of one rank's pass."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._given: Pass | None = None

    def __len__(self) -> int:
        return len(self.progress)

    @contextmanager
    def giving(self, run: Pass) -> Generator[None, None, None]:
        """Iterators made meanwhile, torch makes two where there are workers, are for a pass that others count."""
        self._given = run
        try:
            yield
        finally:
            self._given = None

    def __iter__(self) -> Iterator[list[int]]:
        if self._given is not None:
            return iter(self.progress.steps(self._given))
        check_shared_out(self.progress, sharing_caller(inspect.currentframe()))
        return self.started()

    def started(self) -> Steps:
        """The next pass."""
        return Steps(self.progress)

    def set_epoch(self, epoch: int) -> None:
        self.progress.set_epoch(epoch)


class Steps(Iterator[List[int]]):
    """The steps of one pass, with the state of what it has given out: what torchdata's StatefulDataLoader saves."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begin()

    def _begin(self) -> None:
        self._run = self._progress.begin()
        self._steps = self._progress.steps(self._run)
        self._taken = 0

    def __next__(self) -> list[int]:
        self._progress.touch(self._run)
        if self._taken == len(self._steps):
            raise StopIteration
        self._taken += 1
        return self._steps[self._taken - 1]

    def state_dict(self) -> dict[str, Any]:
        return self._run.state(self._taken).to_dict()

    @property
    def under_way(self) -> bool:
        return 0 < self._taken < len(self._steps)

    def state_after(self, steps: int | None = None) -> dict[str, Any]:
        """The state when so many steps were taken, or all that were given out; at the end, that of the next pass."""
        taken = self._taken if steps is None else whole_number("steps", steps, 0, len(self._steps))
        state = self._run.state(taken)
        return (state if taken < len(self._steps) else replace(state, epoch=state.epoch + 1, packs_seen=0)).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Of a pass that was exhausted nothing is left, and nobody may ask this iterator
        whether there is: the next pass is the next epoch all the same."""
        self._progress.load_state_dict(state)
        self._begin()
        if not self._steps:
            self._progress.touch(self._run)
