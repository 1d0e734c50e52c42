"""Packs for PopTorch: joined on dimension 0 as its backend cuts them, in whole steps, in dtypes that IPUs have."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

import torch
from torch.utils.data import Sampler

from packer.errors import MissingExtraError, StateError
from packer.reading.collate import collate_unshifted, stack
from packer.reading.dataset import Pack, PackDataset
from packer.reading.order import LANES, MOST, Redraw, whole_number
from packer.reading.progress import Pass, Progress
from packer.reading.sharing import not_packed
from packer.reading.steps import Packs

LAYOUTS = ("joined", "stacked")
_OURS = ("sampler", "batch_sampler", "collate_fn", "drop_last", "auto_distributed_partitioning")


def poptorch_loader(
    dataset: PackDataset,
    options: Any,
    shuffle: bool = True,
    seed: int = 0,
    batch_size: int = 1,
    layout: str = "joined",
    mode: Any = None,
    state: Mapping[str, Any] | None = None,
    lanes: int = LANES,
    redraw: Redraw | None = None,
    **loader_options: Any,
) -> Any:
    """A poptorch.DataLoader that gives each iteration of the model `batch_size` packs, as a dict of tensors.

    A step takes batch_size x device iterations x replicas x gradient accumulation packs. layout: "joined" puts them
    one after the other along dimension 0, values unshifted, so that after PopTorch's cut and for batch_size=1 the model
    sees exactly one pack (`x [N, F]`, `edge_index [2, E]`); "stacked" gives the model a leading dimension of batch_size
    packs. Integers come as int32, floating numbers as float32 (or float16).

    No pack is dropped: the last step is filled with empty packs, also where the data set is smaller than one step.
    Under options.Distributed each process takes every num_processes-th pack, and as many steps. mode: a
    poptorch.DataLoaderMode; AsyncRebatched cuts along dimension 0 as if every item were one row, so it needs
    layout="stacked". Every pass is a new epoch; asynchronous modes begin the next one early, in a process that sees no
    later change made here, so give the start as `state`, from `loader.pack_sampler.state_dict(epoch, steps)`.

    A model trains on what `ipu_loss` marks. Async modes reuse a step's tensors; call `loader.terminate()` at the end.
    loader_options go to poptorch.DataLoader (num_workers, async_options, ...). Raises ImportError without poptorch;
    StateError for options of the wrong type, for what would mix or lose packs, and for a state of another data set.
    """
    poptorch = import_poptorch("poptorch_loader")
    if not isinstance(options, poptorch.Options):
        raise StateError(f"options must be a poptorch.Options; got {type(options).__name__}")
    mode = poptorch.DataLoaderMode.Sync if mode is None else mode
    if not isinstance(mode, poptorch.DataLoaderMode):
        raise StateError(f"mode must be a poptorch.DataLoaderMode; got {mode!r}")
    if not isinstance(dataset, PackDataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise not_packed(dataset, "PackDataset", "poptorch_loader")
    _check(layout, batch_size, mode == poptorch.DataLoaderMode.AsyncRebatched, loader_options)

    items = items_per_step(options, batch_size)
    distributed = options.Distributed
    progress = Progress(
        dataset.manifest, shuffle, seed, distributed.processId, distributed.numProcesses, items, lanes, redraw
    )
    if state is not None:
        progress.load_state_dict(state)
    sampler = PackSampler(progress)
    loader = poptorch.DataLoader(
        options,
        Packs(dataset.with_32_bits(), length=len(sampler)),
        batch_size=batch_size,
        mode=mode,
        sampler=sampler,
        collate_fn=_stacked if layout == "stacked" else _joined,
        drop_last=True,
        auto_distributed_partitioning=False,
        **loader_options,
    )
    if loader.combinedBatchSize != items:
        loader.terminate()
        raise StateError(
            f"this PopTorch takes {loader.combinedBatchSize} items a step, {items} were expected from its options: "
            "its steps and ours would not agree"
        )
    loader.pack_sampler = sampler
    return loader


def items_per_step(options: Any, batch_size: int) -> int:
    """Packs that one step of the device takes: batch x device iterations x replicas (less groups) x accumulation."""
    try:
        group = int(options.input_group_size)
    except (AttributeError, KeyError, AssertionError):  # releases without replica groups
        group = 1
    replicas = options.replication_factor // group
    return int(batch_size * options.device_iterations * replicas * options.Training.gradient_accumulation)


class PackSampler(Sampler[int]):
    """The pack ids of one process's passes, whole steps each. The pass after one that was begun is the next epoch."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __len__(self) -> int:
        """Ids of a whole epoch."""
        return len(self.progress) * self.progress.step

    @property
    def graphs_per_pack(self) -> float:
        """Real graphs a pack in the mean over an epoch: times batch_size, what `masked_mean(..., per=...)` takes."""
        return self.progress.graphs_per_pack

    def __iter__(self) -> Iterator[int]:
        return self._ids(self.progress.begin())

    def _ids(self, run: Pass) -> Iterator[int]:
        self.progress.touch(run)
        yield from self.progress.numbered(run).tolist()

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`, one under way goes on: in Sync mode only, the other modes sample in a process of
        their own."""
        self.progress.set_epoch(epoch)

    def state_dict(self, epoch: int, steps: int) -> dict[str, Any]:
        """The state after `steps` steps of `epoch`, counted from the epoch's start, as the training loop has counted
        them. StateError for what is no such number."""
        packs_seen = whole_number("steps", steps) * self.progress.step * self.progress.world
        return {**self.progress.state_dict(), "epoch": whole_number("epoch", epoch), "packs_seen": packs_seen}


def _joined(packs: Sequence[Pack]) -> Pack:
    return _device_dtypes(collate_unshifted(packs))


def _stacked(packs: Sequence[Pack]) -> Pack:
    return _device_dtypes(stack(packs))


def _device_dtypes(step: Pack) -> Pack:
    """What a transform may have made wider would be cast by PopTorch in every step, silently."""
    narrow = {torch.int64: torch.int32, torch.float64: torch.float32}
    return {key: tensor.to(narrow.get(tensor.dtype, tensor.dtype)) for key, tensor in step.items()}


def _check(layout: str, batch_size: int, rebatched: bool, loader_options: Mapping[str, Any]) -> None:
    if layout not in LAYOUTS:
        raise StateError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    if whole_number("batch_size", batch_size, -MOST) < 1:
        raise StateError(f"batch_size must be at least 1; got {batch_size}")
    if rebatched and layout != "stacked":
        raise StateError(
            "AsyncRebatched cuts steps along dimension 0 as if every pack were one row, and would mix rows of "
            'different packs: pass layout="stacked", or mode=DataLoaderMode.Async'
        )
    taken = sorted(set(loader_options).intersection(_OURS))
    if taken:
        raise StateError(
            f"{taken} would lose or reorder packs: the order, whole steps and the partition over processes are ours; "
            "use shuffle, seed, batch_size and layout"
        )


def import_poptorch(purpose: str) -> Any:
    """The module poptorch, or a MissingExtraError that says what it is needed for."""
    try:
        import poptorch
    except ImportError as error:
        package = "poptorch, which Graphcore ships with the Poplar SDK (it is on no public index)"
        raise MissingExtraError(
            package, "", purpose, "install its wheel, or train elsewhere with torch_loader"
        ) from error
    return poptorch
