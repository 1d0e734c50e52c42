"""Packs for torch: a thin iterator over blocks, or torch's DataLoader where worker processes are wanted."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, get_worker_info

from packer.errors import StateError
from packer.reading.batch import RESERVED, PackBatch
from packer.reading.collate import PackShape, collate_tensors
from packer.reading.dataset import Pack, PackDataset
from packer.reading.order import LANES, Redraw
from packer.reading.prefetch import PrefetchedBlocks
from packer.reading.progress import Pass, Progress
from packer.reading.resumable import Resumable
from packer.reading.sharing import accelerate_processes, check_shared_out, not_packed
from packer.reading.steps import Packs, StepSampler
from packer.reading.transport import PipedStep
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
    redraw: Redraw | None = None,
    **dataloader_options: Any,
) -> PackLoader | PackDataLoader:
    """Iterate over the packs of a data set, `batch_size` joined packs a step, every step of the same shapes.

    layout: "pyg" gives a PackBatch, "dict" a dict of tensors. Joined packs have their node numbers, `batch` and `ptr`
    shifted, so a step is one larger pack. The last step is filled with empty packs; none is dropped.
    shuffle, seed: the order is a function of (seed, epoch), the same for any number of workers and ranks. rank,
    world_size: those of torch.distributed where it is initialised when a pass begins, else 0 of 1; each rank takes
    every world_size-th pack, and as many steps. lanes: blocks that a shuffled epoch reads in turn. redraw: whether
    graphs of equal size change places within their block in every epoch, so that each meets others: by (seed, epoch)
    too; None: where shuffle is on. "swaps": graphs of any sizes do, where the packs still hold them, for data sets in
    which few graphs share a size. The number of packs, their shapes and what is read stay the same.

    num_workers=0 decodes blocks in one thread ahead of the loop. More workers, or as_dataloader=True for tools that
    ask for one, give a torch DataLoader, to which dataloader_options go; worker processes cost more than they give
    unless `transform` is slow. Both have len() (steps of a whole epoch), steps_left, set_epoch, state_dict and
    load_state_dict; every pass is a new epoch unless set_epoch names it. Both calls say where the next pass begins: one
    under way goes on, and state_dict says what was consumed of it. Raises StateError for what is no PackDataset, for
    numbers out of range, and where accelerate would share out again what each rank takes its share of.
    """
    if not isinstance(dataset, PackDataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise not_packed(dataset, "PackDataset", "torch_loader")
    if layout not in LAYOUTS:
        raise StateError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    hidden = sorted(RESERVED.intersection(column.name for column in dataset.columns))
    if layout == "pyg" and hidden:
        raise StateError(f'fields {hidden} have names that a PackBatch itself uses: pass layout="dict"')
    progress = Progress(dataset.manifest, shuffle, seed, rank, world_size, batch_size, lanes, redraw, distributed)
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
        return self.wrap(packs[0] if len(packs) == 1 else collate_tensors(packs, self.shape), len(packs))

    def wrap(self, joined: Pack, num_packs: int) -> Any:
        """Packs that are joined already."""
        if self.layout == "pyg":
            return PackBatch(joined, self.shape, num_packs)
        return joined if get_worker_info() is None else PipedStep(joined)


class PackLoader(Resumable):
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

    def __iter__(self) -> Iterator[Any]:
        return self._steps(self.progress.begin())

    def _steps(self, run: Pass) -> Iterator[Any]:
        progress, collate, step = self.progress, self.collate, self.progress.step
        with run, PrefetchedBlocks(
            self.dataset.reader, run.ids, progress.prefetch_depth(run), run.redraw_key
        ) as blocks:
            ids = run.ids.tolist()
            for start in range(0, len(ids), step):
                packs = blocks.packs(self.dataset, ids[start : start + step], collate.shape)
                batch = collate.wrap(packs, step)
                if self.pin_memory:
                    batch = _pinned(batch)
                progress.consumed(run)
                yield batch
            progress.finished(run)


class PackDataLoader(Resumable, DataLoader[Any]):
    """torch's DataLoader over packs, with the progress that its batch sampler carries."""

    @property
    def progress(self) -> Progress:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._steps.progress

    @property
    def _steps(self) -> StepSampler:
        sampler: Any = self.batch_sampler
        return sampler

    def __iter__(self) -> Any:
        run = self.progress.begin()
        with self._steps.giving(run), interrupts_held():  # until workers have said what they do with them
            steps = super().__iter__()
        return _counted(steps, self.progress, run)

    @property
    def _is_accelerate_prepared(self) -> bool:
        """accelerate's `prepare` asks for it before it shards a loader."""
        check_shared_out(self.progress, accelerate_processes())
        return False


def _counted(steps: Iterator[Any], progress: Progress, run: Pass) -> Iterator[Any]:
    with run:
        for step in steps:
            progress.consumed(run)
            yield step
        progress.finished(run)


def _pinned(batch: Any) -> Any:
    if isinstance(batch, PackBatch):
        return batch.pin_memory()
    return {key: tensor.pin_memory() for key, tensor in batch.items()}


def distributed() -> tuple[int, int]:
    """Rank and world size of torch.distributed, 0 of 1 where it is not initialised."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
