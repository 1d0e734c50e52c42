"""Packs for torch on a device: blocks stay there, or come ahead, and a step is gathered out of them where it runs."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Iterator, Mapping

import torch

from packer.errors import StateError
from packer.reading.array_ops import TorchOps
from packer.reading.batch import RESERVED, PackBatch
from packer.reading.block_form import BlockForm, RingSize
from packer.reading.calls import CallThread
from packer.reading.dataset import PackDataset
from packer.reading.loader import distributed
from packer.reading.order import LANES, Redraw
from packer.reading.progress import Pass, Progress
from packer.reading.resumable import Resumable
from packer.reading.ring import Ring, ring_size
from packer.reading.ring_plan import blocks_at_once, least_blocks, ring_plan
from packer.reading.sharing import not_packed
from packer.reading.stored import layout_of
from packer.reading.take import take

log = logging.getLogger(__name__)

WARM_UP = 3
"""Steps before a capture: libraries set themselves up, and compilers compile."""


def device_loader(
    dataset: PackDataset,
    device: Any = "cuda",
    batch_size: int = 8,
    shuffle: bool = True,
    seed: int = 0,
    redraw: Redraw | None = None,
    memory: float | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    lanes: int = LANES,
) -> DeviceLoader:
    """Iterate over the packs of a data set as PackBatches that are made on the device, out of blocks that lie there.

    Blocks are kept in device memory in the narrow dtypes that they are stored in. Where all of them fit the ring is
    resident: after the first epoch nothing is read, and nothing copied but the numbers of packs and, with redraws, 4
    bytes a graph slot; with redraw="swaps" every block is read and copied again. Otherwise it is streaming: a thread
    reads, checks and decodes blocks ahead of the steps into pinned memory, from which each is copied once, beside the
    steps. Steps hold the tensors of `torch_loader` to the bit, in its order, with its redraws, ranks, filled tail and
    state; a state moves between the two.

    dataset: its columns, follow_batch, index_dtype and float_dtype count; it must have no transform. device: "cuda", a
    torch.device, or "cpu" where there is no GPU. batch_size: packs that are joined in a step. memory: of the ring, in
    bytes (int) or as a share of what is free (float up to 1); None for half of what is free. It is allocated here and
    given back with the loader; its size is logged (INFO) before. Two loaders on one device share it: the second counts
    what the first has left. shuffle, seed, redraw, rank, world_size, lanes: see `torch_loader`.

    One pass at a time: beginning another ends the one before. Raises StateError for what is no PackDataset or has a
    transform, for numbers out of range, where there is no such device, and where `memory` or the device cannot hold the
    fewest blocks that steps need; it gives the bytes.
    """
    if not isinstance(dataset, PackDataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise not_packed(dataset, "PackDataset", "device_loader")
    if dataset.transform is not None:
        raise StateError("device_loader makes packs on the device, where transform cannot be called: use torch_loader")
    hidden = sorted(RESERVED.intersection(column.name for column in dataset.columns))
    if hidden:
        raise StateError(f"fields {hidden} have names that a PackBatch itself uses: leave them out with columns=[...]")
    target = _device(device)
    progress = Progress(dataset.manifest, shuffle, seed, rank, world_size, batch_size, lanes, redraw, distributed)
    layout = layout_of(dataset.reader, TorchOps())
    layout = replace(layout, columns=tuple(sorted(layout.columns, key=lambda column: column.kind == "mask")))
    form = BlockForm(dataset.reader, layout, redraw=shuffle and redraw in (None, True))
    least = least_blocks(
        form.all_blocks, form.capacity, lanes if shuffle else 1, batch_size * progress.world, batch_size
    )
    size = ring_size(form, memory, least, target)
    log.info("device_loader: ring on %s: %s, with %s packs a step", target, size, batch_size)
    try:
        ring = Ring(form, size, target)
    except torch.cuda.OutOfMemoryError as error:
        raise StateError(f"the ring ({size}) could not be allocated on {target}: pass a smaller memory") from error
    return DeviceLoader(dataset, progress, ring)


def _device(name: Any) -> torch.device:
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise StateError(f"device must name a device of torch; got {name!r}") from error
    if device.type not in ("cuda", "cpu"):
        raise StateError(f"device must be cuda or cpu; got {name!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count or (device.index or 0) >= count:
            raise StateError(
                f"device={str(name)!r}: torch {torch.__version__} sees {count} CUDA devices. "
                'Pass device="cpu", or use torch_loader'
            )
        index: Any = device.index  # None for the current one
        return torch.device("cuda", torch.cuda.current_device() if index is None else index)
    return device


class DeviceLoader(Resumable):
    """What device_loader returns. Every pass is a new epoch unless set_epoch names it."""

    def __init__(self, dataset: PackDataset, progress: Progress, ring: Ring) -> None:
        self.dataset = dataset
        self.progress = progress
        self.ring = ring
        """What lies on the device."""
        self._layout = ring.form.layout
        self._shape = dataset.reader.shape

    @property
    def batch_size(self) -> int:
        """Packs a step."""
        return self.progress.step

    @property
    def device(self) -> torch.device:
        return self.ring.device

    @property
    def size(self) -> RingSize:
        """The ring: `size.bytes` of device memory, and whether it is `size.resident`."""
        return self.ring.size

    def __iter__(self) -> Iterator[PackBatch]:
        for numbers in self.numbers():
            yield self.take(numbers)

    def take(self, numbers: torch.Tensor) -> PackBatch:
        """The step of these packs of the ring, as `numbers` of this loader gives them: int64 [batch_size], on the
        device. Pure, of static shapes: it may stand inside torch.compile(fullgraph=True) and in a CUDA graph."""
        arrays = take(self.ring.arrays, numbers, self._layout, self.ring.slots)
        return PackBatch(arrays, self._shape, numbers.shape[0])

    def numbers(self) -> Iterator[torch.Tensor]:
        """A pass as the numbers of packs that `take` wants, int64 [batch_size] on the device, one tensor a step.

        They are places in the ring, valid for `take`s that are launched before the next step is asked for.
        """
        return self._numbers(self.progress.begin())

    def captured(self, step: Callable[[Any], Any], numbers: bool = False) -> Captured:
        """The loop of a training step that is one CUDA graph with the making of its batch: see `Captured`."""
        return Captured(self, step, numbers)

    def load_state_dict(self, state: Any) -> None:
        """As `Resumable` has it; StateError also for a state with redraws where the ring was made without."""
        if not self.ring.form.redraw and isinstance(state, Mapping) and state.get("redraw") is True:
            raise StateError("this state has redraw=True, which the device_loader was made without: leave it out")
        super().load_state_dict(state)

    def _numbers(self, run: Pass) -> Iterator[torch.Tensor]:
        ring, progress, step = self.ring, self.progress, self.progress.step
        turn, in_ring = ring.begin()
        self._check_fits(run)
        positions, loads = ring_plan(run.ids, step, ring.form.capacity, in_ring)
        at = self._sent(torch.from_numpy(positions.reshape(-1, step)))
        waiting = [load for load in reversed(loads) if not ring.ready(load, run.redraw_key)]
        coming: dict[int, list[Any]] = {}
        with run, closing(CallThread("blocks")) as thread:
            for number in range(run.num_steps):
                if ring.turn != turn:
                    raise StateError(
                        "this pass has ended, as another one of the same device_loader has begun: its blocks are gone. "
                        "For two passes at a time make two loaders"
                    )
                after = ring.moment() if waiting and waiting[-1].after <= number else None
                while waiting and waiting[-1].after <= number:
                    load = waiting.pop()
                    loading = partial(ring.load, key=run.redraw_key, turn=turn, after=after)
                    coming.setdefault(load.first, []).append(thread.submit(loading, load))
                ring.wait([future.result() for future in coming.pop(number, ())])
                progress.consumed(run)
                yield at[number]
            progress.finished(run)

    def _sent(self, positions: torch.Tensor) -> torch.Tensor:
        """On the device, without waiting for it."""
        if self.device.type != "cuda":
            return positions
        return positions.pin_memory().to(self.device, non_blocking=True)

    def _check_fits(self, run: Pass) -> None:
        """More lanes or ranks than the loader was made with may want more blocks at once."""
        form, size = self.ring.form, self.size
        need = blocks_at_once(run.ids, self.progress.step, form.capacity)
        if need > size.blocks:
            raise StateError(
                f"this pass needs {need} blocks at once, and the ring holds {size.blocks} ({size.bytes:,} bytes): "
                f"pass memory={form.size(need).bytes} or more"
            )


class Captured:
    """`for out in loader.captured(step)`: a pass over the loader, each step of it done, and what it returned.

    step: takes a PackBatch, and does all of a training step: forward, backward, the optimizer (`capturable=True`), and
    returns tensors, such as the loss. numbers: whether it takes the numbers of packs instead, to `take` them itself
    inside what torch.compile makes of take and model: that is faster, as gathers and casts fuse with the first layers.

    On CUDA the making of the batch and the step become one graph after three steps (real ones, each with its own
    packs), of which the numbers of packs are the only input: then Python launches that graph alone. What it returns is
    on the device and the same tensors at every step: clone what is to be kept. Nothing in it may wait for the device,
    and shapes must be static, as they are. A step that fails is not in `num_steps`, but the loader's state has passed
    it. Wants torch 2.1 or newer there. On a CPU steps are called one by one. May be iterated again for the next epoch:
    there is one capture, so states that replace tensors (an optimizer's) are to be loaded before it.
    """

    def __init__(self, loader: DeviceLoader, step: Callable[[Any], Any], numbers: bool = False) -> None:
        self.loader = loader
        self.num_steps = 0
        """Taken so far, of all passes."""
        self._step = step
        self._by_numbers = numbers
        self._on_cuda = loader.device.type == "cuda"
        self._graph: Any = None

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return map(self, self.loader.numbers())

    def __call__(self, numbers: torch.Tensor) -> Any:
        """One step by hand, of `numbers` of the loader; what it returned."""
        out = self._captured(numbers) if self._on_cuda else self._taken(numbers)
        self.num_steps += 1
        return out

    def _taken(self, numbers: torch.Tensor) -> Any:
        return self._step(numbers if self._by_numbers else self.loader.take(numbers))

    def _captured(self, numbers: torch.Tensor) -> Any:
        if self._graph is None and self.num_steps < WARM_UP:
            return self._warmed_up(numbers)
        if self._graph is None:
            self._graph = self._capture()
        self._numbers.copy_(numbers)
        self._graph.replay()
        return self._out

    def _warmed_up(self, numbers: torch.Tensor) -> Any:
        """A step on the stream that is captured later, so that what is allocated there is found again."""
        if self.num_steps == 0:
            self._numbers, self._side = numbers.clone(), torch.cuda.Stream(self.loader.device)
        self._side.wait_stream(torch.cuda.current_stream(self.loader.device))
        with torch.cuda.stream(self._side):
            out = self._taken(numbers)
        torch.cuda.current_stream(self.loader.device).wait_stream(self._side)
        return out

    def _capture(self) -> Any:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as that of a second loader, may go on with what they do on the device.
        capture = torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local")
        # The device is named, as a capture begins by waiting for what is under way on the current one.
        with torch.cuda.device(self.loader.device), self.loader.ring.still(), capture:
            self._out = self._taken(self._numbers)
        return graph
