"""Packs for torch: a thin iterator over blocks, or torch's DataLoader where worker processes are wanted."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from packer.errors import StateError
from packer.reading.ahead import BlocksAhead
from packer.reading.batch import RESERVED, PackBatch
from packer.reading.dataset import Pack, PackDataset
from packer.reading.join import PackShape, join
from packer.reading.order import EMPTY, LANES
from packer.reading.progress import Progress
from packer.reading.travel import Travelling
from packer.reading.workers import WorkerStart, interrupts_held

LAYOUTS = ("pyg", "dict")


def torch_loader(
    dataset: PackDataset,
    batch_size: int = 1,
    shuffle: bool = True,
    seed: int = 0,
    num_workers: int = 0,
    layout: str = "pyg",
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
    as_dataloader: bool = False,
    lanes: int = LANES,
    redraw: bool | None = None,
    **dataloader_options: Any,
) -> PackLoader | PackDataLoader:
    """Iterate over the packs of a data set, `batch_size` joined packs a step, every step of the same shapes.

    layout: "pyg" gives a PackBatch, "dict" a dict of tensors. Joined packs have their node numbers, `batch` and `ptr`
    shifted, so a step is one larger pack. The last step is filled with empty packs; none is dropped.
    shuffle, seed: the order is a function of (seed, epoch), the same for any number of workers and ranks. rank,
    world_size: those of torch.distributed where it is initialised, else 0 of 1; each rank takes every world_size-th
    pack, and as many steps. lanes: blocks that a shuffled epoch reads in turn. redraw: whether graphs of equal size
    change places within their block in every epoch, so that each meets others: by (seed, epoch) too; None: where
    shuffle is on. The number of packs, their shapes and what is read stay the same.

    num_workers=0 decodes blocks in one thread ahead of the loop. More workers, or as_dataloader=True for tools that
    ask for one, give a torch DataLoader, to which dataloader_options go; worker processes cost more than they give
    unless `transform` is slow. Both have len() (steps of an epoch), set_epoch, state_dict and load_state_dict; every
    pass is a new epoch unless set_epoch names it.
    """
    if layout not in LAYOUTS:
        raise StateError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    hidden = sorted(RESERVED.intersection(column.name for column in dataset.columns))
    if layout == "pyg" and hidden:
        raise StateError(f'fields {hidden} have names that a PackBatch itself uses: pass layout="dict"')
    if rank is None or world_size is None:
        rank, world_size = _distributed(rank, world_size)
    progress = Progress(dataset.manifest, shuffle, seed, rank, world_size, batch_size, lanes, redraw)
    collate = Collate(dataset.reader.shape, layout)
    if num_workers == 0 and not as_dataloader:
        if dataloader_options:
            raise StateError(f"{sorted(dataloader_options)} are for a torch DataLoader: pass as_dataloader=True too")
        return PackLoader(dataset, progress, collate, pin_memory)
    if set(dataloader_options) & {"sampler", "batch_sampler", "collate_fn", "drop_last"}:
        raise StateError(f"the order and the joining are the loader's own; got {sorted(dataloader_options)}")
    return PackDataLoader(
        Packs(dataset),
        batch_sampler=StepSampler(progress),
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=WorkerStart(dataloader_options.pop("worker_init_fn", None)),
        **dataloader_options,
    )


class Collate:
    """Several packs -> one step in the layout asked for."""

    def __init__(self, shape: PackShape, layout: str) -> None:
        self.shape = shape
        self.layout = layout

    def __call__(self, packs: Sequence[Pack]) -> Any:
        return self.wrap(packs[0] if len(packs) == 1 else join(packs, self.shape), len(packs))

    def wrap(self, joined: Pack, num_packs: int) -> Any:
        """Packs that are joined already."""
        if self.layout == "pyg":
            return PackBatch(joined, self.shape, num_packs)
        return joined if get_worker_info() is None else Travelling(joined)


class PackLoader:
    """The thin iterator of torch_loader: blocks are decoded by one thread, packs cut where they are consumed."""

    def __init__(self, dataset: PackDataset, progress: Progress, collate: Collate, pin_memory: bool) -> None:
        self.dataset = dataset
        self.progress = progress
        self.collate = collate
        self.pin_memory = pin_memory and torch.cuda.is_available()

    @property
    def batch_size(self) -> int:
        """Packs a step."""
        return self.progress.step

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return len(self.progress)

    def __iter__(self) -> Iterator[Any]:
        number, ids = self.progress.begin()
        return self._steps(number, ids, self.progress.redraw_key)

    def _steps(self, number: int, ids: np.ndarray, redraw: int) -> Iterator[Any]:
        progress, collate, step = self.progress, self.collate, self.progress.step
        with BlocksAhead(self.dataset, ids, progress.lanes if progress.shuffle else 1, redraw) as blocks:
            wanted = ids.tolist()
            for start in range(0, len(wanted), step):
                batch = collate.wrap(blocks.packs(wanted[start : start + step], collate.shape), step)
                if self.pin_memory:
                    batch = _pinned(batch)
                progress.consumed(number)
                yield batch
        progress.finished(number)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`."""
        self.progress.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop that consumes this loader is: plain values."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass gives exactly what was left when `state` was taken. StateError for another data set."""
        self.progress.load_state_dict(state)


class PackDataLoader(DataLoader[Any]):
    """torch's DataLoader over packs, with the progress that its batch sampler carries."""

    @property
    def progress(self) -> Progress:
        sampler: Any = self.batch_sampler
        return sampler.progress

    def __iter__(self) -> Any:
        progress = self.progress
        with interrupts_held():  # until workers have said what they do with them
            steps = super().__iter__()
        return _counted(steps, progress, progress.latest)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`."""
        self.progress.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop that consumes this loader is: plain values; what workers have read ahead does not count."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass gives exactly what was left when `state` was taken. StateError for another data set."""
        self.progress.load_state_dict(state)


def _counted(steps: Iterator[Any], progress: Progress, number: int) -> Iterator[Any]:
    for step in steps:
        progress.consumed(number)
        yield step
    progress.finished(number)


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

    def __len__(self) -> int:
        return len(self.progress)

    def __iter__(self) -> Steps:
        return Steps(self.progress)

    def set_epoch(self, epoch: int) -> None:
        self.progress.set_epoch(epoch)


class Steps(Iterator[List[int]]):
    """The steps of one pass, with the state of what it has given out: what torchdata's StatefulDataLoader saves."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begin()

    def _begin(self) -> None:
        _, ids = self._progress.begin()
        self._start = self._progress.state_dict()
        self._steps: list[list[int]] = self._progress.numbered(ids).reshape(-1, self._progress.step).tolist()
        self._taken = 0

    def __next__(self) -> list[int]:
        if self._taken == len(self._steps):
            raise StopIteration
        self._progress.touch()
        self._taken += 1
        return self._steps[self._taken - 1]

    def state_dict(self) -> dict[str, Any]:
        taken = self._taken * self._progress.step * self._progress.world
        return {**self._start, "packs_seen": self._start["packs_seen"] + taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._progress.load_state_dict(state)
        self._begin()


def _pinned(batch: Any) -> Any:
    if isinstance(batch, PackBatch):
        return batch.pin_memory()
    return {key: tensor.pin_memory() for key, tensor in batch.items()}


def _distributed(rank: int | None, world: int | None) -> tuple[int, int]:
    found = (0, 1)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if (rank is None) != (world is None):
        raise StateError(f"give both rank and world_size, or neither; got rank={rank}, world_size={world}")
    return found
