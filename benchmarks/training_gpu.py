"""Training steps on a GPU: static shapes and CUDA graphs on packs, beside PyG's batches of the same graphs.

    python benchmarks/training_gpu.py [--packs DIR] [--copies 4] [--epochs 3] [--rows packs device pyg] [--minutes M]
        [--out benchmarks/results/training_gpu.md]

The model is that of `graph-pack train` (3 GIN layers over categorical features, float32), its optimizer a fused Adam.
The graphs are the molecules of `sample:nci`, each `copies` times, in packs of 256 nodes, 552 edges and 32 graphs; or
those that are packed in DIR. PyG's DataLoader joins as many graphs a step as the packs of a step hold on average,
without padding, so its shapes change at every step. Each row trains a model of its own from the same seed;
all pin memory.

* ms a step: wall time of an epoch, of its first 400 steps at most, that begins and ends with an idle GPU; medians over
  epochs. s an epoch: as many of them as an epoch has steps.
* loader: the loop's time between asking for a batch and having its copy to the GPU under way, over the epoch's.
* host: processor time of this process, all threads, over the epoch's, but for the last wait for the GPU, in which a
  thread spins; kB a step: over the bus to the GPU, on average.
* step alone: ms a step when the batches lie on the GPU already; GPU: of it, the time that kernels and copies run.
* start: seconds until the fifth step is done, most of them compilation; what an earlier row of the same sizes has
  compiled comes from the compiler's cache.
* on the device: blocks lie on the GPU and steps are gathered there (device_loader): all of them, or a ring of 16 that
  streams, where there are more; MB: of the ring, as announced, and as its making took at most. "captured" is one CUDA
  graph, and its batch is made inside the compiled step, also of its step alone: what that costs shows beside "the
  compiled step as one CUDA graph". Otherwise batches come from an iterator, made eagerly. Without redraws graphs meet
  others: losses are not compared.
* graphs: how many torch.compile made in the first epoch, and since then: recompilations. Packs are compiled with
  fullgraph=True: a graph break would be an error.
* loss: mean over the last epoch. off by: the largest relative difference of the losses of the first 8 steps from those
  of "packs, eager"; in its own row, from a second run of it, as sums on a GPU have no fixed order. What rounding alone
  can do there: training_rounding.md. Later losses are alike, not equal; PyG's graphs come in another order.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import torch
from provenance import provenance
from torch_geometric.loader import DataLoader

from packer import PackBatch, PackDataset, PackLimits, device_loader, torch_loader, unpack
from packer.reading.collate import PackShape
from packer.shards import choose_layout
from pipelines import build
from pipelines.training.loop import TakenStep
from pipelines.training.train import Task, TrainingStep, build_model, find_task

LIMITS = PackLimits(256, 552, 32)
CASES = ["64x1", "64x8", "64x32", "256x8", "256x32"]
FIRST = 5  # steps that count as the start
COMPARED = 8  # steps whose losses are compared
STEPS = 400  # of an epoch, at most
KEPT = 100  # batches on the GPU, at most
PROFILED = 20


@dataclass(frozen=True)
class Row:
    """What was measured of one way to train: seconds to start, ms a step (with the loader, alone, of the GPU), the
    loader's share, steps of an epoch. losses: of the first steps; compiled: graphs of the first epoch, later; host: of
    a processor's time; bus: bytes a step, None where they are not counted."""

    start: float
    step: float
    loader: float
    alone: float
    busy: float | None
    steps: int
    compiled: tuple[int, int]
    loss: float
    losses: torch.Tensor
    note: str
    host: float
    bus: float | None


# ---- ways to take a step ---------------------------------------------------------------------------------------------


class Launched:
    """What the loop launches itself, step by step: an eager model, or a compiled one."""

    def __init__(self, step: Any, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.step, self.optimizer, self.device = step, optimizer, device

    def put(self, batch: Any) -> Any:
        """The batch where a step wants it."""
        return batch.to(self.device, non_blocking=True)

    def run(self, batch: Any) -> torch.Tensor:
        """One step; the loss, valid until the next one."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.step(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class OneGraph(Launched):
    """The whole step, forward to optimizer, as one CUDA graph. It reads its batch from fixed tensors, which static
    shapes allow: every batch is copied there."""

    fixed: Any = None
    graph: Any = None
    taken = 0

    def put(self, batch: Any) -> Any:
        if self.fixed is None:
            self.fixed = batch.to(self.device)
            self.side = torch.cuda.Stream(self.device)
        for name, tensor in batch:
            self.fixed[name].copy_(tensor, non_blocking=True)
        return self.fixed

    def run(self, batch: Any) -> torch.Tensor:
        self.taken += 1
        if self.taken < FIRST - 1:  # compiles, and sets libraries up, before the capture
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                loss = super().run(batch)
            torch.cuda.current_stream().wait_stream(self.side)
            return loss
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.side):
                self.loss = super().run(batch)
        self.graph.replay()
        return self.loss


@dataclass(frozen=True)
class Numbers:
    """A step of a device_loader as the numbers of its packs."""

    loader: Any
    of_packs: torch.Tensor

    def to(self, device: torch.device) -> Numbers:
        return self


class NumbersOf:
    """A device_loader's steps as Numbers."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.ring, self.made_of = loader, loader.ring, loader.made_of

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Numbers]:
        return (Numbers(self.loader, numbers) for numbers in self.loader.numbers())


class Captured(Launched):
    """Batch and step as one CUDA graph. step: takes numbers of packs."""

    captured: Any = None

    def put(self, batch: Numbers) -> Numbers:
        return batch

    def run(self, batch: Numbers) -> torch.Tensor:
        if self.captured is None:
            self.captured = batch.loader.captured(super().run, numbers=True)
        return self.captured(batch.of_packs)


class PlainStep(torch.nn.Module):
    """The step of batches without padding: a mean over all graphs."""

    def __init__(self, model: torch.nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, task.mean[0], task.std[0]

    def forward(self, batch: Any) -> tuple[torch.Tensor, int]:
        truth = (batch["y"].reshape(-1, 1) - self.mean) / self.std
        return torch.nn.functional.mse_loss(self.model(batch), truth), batch.num_graphs


class TensorsOf(Launched):
    """PyG's batches for a compiled model, which would not take them whole: their tensors, by the same names."""

    def put(self, batch: Any) -> Any:
        there = super().put(batch)
        tensors = {name: there[name] for name in ("x", "edge_index", "edge_attr", "y", "batch")}
        return PackBatch(tensors, PackShape((), (), there.num_graphs, {}))


# ---- measuring -------------------------------------------------------------------------------------------------------


class Losses:
    """Of the steps taken: the first ones, and the sum since `clear`. Reading them waits for the device."""

    def __init__(self) -> None:
        self.first: list[torch.Tensor] = []
        self.clear()

    def clear(self) -> None:
        self.total, self.steps = torch.zeros(()), 0

    def add(self, loss: torch.Tensor) -> None:
        if len(self.first) < COMPARED:
            self.first.append(loss.clone())
        self.total, self.steps = self.total.to(loss.device) + loss, self.steps + 1


def epoch(way: Launched, batches: Iterable[Any], losses: Losses) -> tuple[float, float, float]:
    """(Seconds in all, of them the loop's for loading, of processors until the last wait for the device)."""
    _synchronize(way.device)
    loading, busy = 0.0, time.process_time()
    start = asked = time.perf_counter()
    for batch in batches:
        there = way.put(batch)
        loading += time.perf_counter() - asked
        losses.add(way.run(there))
        asked = time.perf_counter()
    busy = time.process_time() - busy
    _synchronize(way.device)
    return time.perf_counter() - start, loading, busy


def measure(way: Launched, loader: Any, epochs: int) -> Row:
    """One warm-up epoch, `epochs` with the loader, as many with some of its batches kept on the device."""
    counters, losses = torch._dynamo.utils.counters, Losses()
    steps = iter(loader)
    start, _, _ = epoch(way, itertools.islice(steps, FIRST), losses)
    epoch(way, itertools.islice(steps, STEPS), losses)
    compiled = counters["stats"]["unique_graphs"]
    timed: list[tuple[float, float, float]] = []
    copied = _copied(loader)
    for _ in range(epochs):
        losses.clear()
        timed.append(epoch(way, itertools.islice(loader, STEPS), losses))
    copied = _copied(loader) - copied
    loss = float(losses.total) / losses.steps
    kept = [batch.to(way.device) for batch in itertools.islice(loader, KEPT)]
    alone = statistics.median(epoch(way, kept, Losses())[0] for _ in range(epochs))
    return Row(
        start=start,
        step=1e3 * statistics.median(total for total, _, _ in timed) / losses.steps,
        loader=statistics.median(loading / total for total, loading, _ in timed),
        alone=1e3 * alone / len(kept),
        busy=_busy_ms(way, kept[:PROFILED]),
        steps=len(loader),
        compiled=(compiled, counters["stats"]["unique_graphs"] - compiled),
        loss=loss,
        losses=torch.stack(losses.first).cpu(),
        note=_note(counters, loader),
        host=sum(busy for _, _, busy in timed) / sum(total for total, _, _ in timed),
        bus=_bus(loader, kept[0], copied / (epochs * losses.steps)),
    )


def first_losses(way: Launched, loader: Any) -> torch.Tensor:
    losses = Losses()
    epoch(way, itertools.islice(loader, COMPARED), losses)
    return torch.stack(losses.first).cpu()


def _busy_ms(way: Launched, batches: list[Any]) -> float | None:
    """Ms a step that the GPU runs kernels and copies, by the profiler."""
    if way.device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profile:
        epoch(way, batches, Losses())
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e3 / len(batches)


def _copied(loader: Any) -> int:
    """Bytes that a device_loader has copied to the device so far."""
    return loader.ring.num_copied if hasattr(loader, "ring") else 0


def _bus(loader: Any, batch: Any, copied: float) -> float | None:
    """Bytes a step to the device: blocks and the numbers of packs, or all tensors of a batch of packs."""
    if hasattr(loader, "ring"):
        return copied + 8 * batch.of_packs.shape[0] if isinstance(batch, Numbers) else copied + 8 * loader.batch_size
    if isinstance(batch, PackBatch):
        return sum(tensor.numel() * tensor.element_size() for _, tensor in batch)
    return None


def _note(counters: Any, loader: Any) -> str:
    ring: list[str] = []
    if hasattr(loader, "ring"):
        size = loader.ring.size
        ring = [f"{size.blocks} of {size.all_blocks} blocks"]
        if getattr(loader, "made_of", None) is not None:
            ring.append(f"{size.bytes / 1e6:.1f} MB announced, {loader.made_of / 1e6:.1f} taken")
    found = {"graph breaks": sum(counters["graph_break"].values())}
    found["CUDA graphs skipped"] = counters["inductor"]["cudagraph_skips"]
    return ", ".join([*ring, *(f"{count} {what}" for what, count in found.items() if count)])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """One row: on packs, or on PyG's batches from that many workers; compile: of torch.compile, None for eager; ring:
    blocks on the device, at most, None for packs that come one by one."""

    name: str
    kind: type[Launched]
    compile: dict[str, Any] | None = None
    workers: int | None = None
    ring: int | None = None
    redraw: bool = True

    @property
    def part(self) -> str:
        """One of KINDS."""
        return "device" if self.ring is not None else "packs" if self.workers is None else "pyg"


KINDS = ("packs", "device", "pyg")
STATIC: dict[str, Any] = {"dynamic": False, "fullgraph": True}
EAGER = "packs, eager"
REFERENCES = (EAGER, "packs, the compiled step as one CUDA graph")  # what other rows are read beside
ON_CUDA = [
    Way('packs, compile(mode="reduce-overhead")', Launched, STATIC | {"mode": "reduce-overhead"}),
    Way("packs, the eager step as one CUDA graph", OneGraph),
    Way("packs, the compiled step as one CUDA graph", OneGraph, STATIC),
]
WAYS = [
    Way(EAGER, Launched),
    Way("packs, compile(dynamic=False)", Launched, STATIC),
    *ON_CUDA,
    *(
        Way(f"on the device, {ring}, {how}{'' if redraw else ', no redraws'}", kind, STATIC, None, blocks, redraw)
        for ring, blocks in (("resident", sys.maxsize), ("streaming", 16))
        for how, kind in (("iterator", Launched), ("captured", Captured))
        for redraw in (True, False)
    ),
    *(Way(f"PyG, {workers} workers, eager", Launched, None, workers) for workers in (0, 4)),
    *(
        Way(f"PyG, {workers} workers, compile(dynamic=True)", TensorsOf, {"dynamic": True}, workers)
        for workers in (0, 4)
    ),
]


@dataclass(frozen=True)
class Case:
    """What the rows of one table have in common: the graphs, the model's width, the size of a step."""

    packs: PackDataset
    graphs: list[Any]
    task: Task
    hidden: int
    packs_per_step: int
    device: torch.device

    @property
    def graphs_per_step(self) -> int:
        """Of PyG's loader; of packs on average."""
        return round(len(self.graphs) * self.packs_per_step / len(self.packs))

    def trained(self, way: Way, loader: Any = None) -> Launched:
        """A fresh model, from the same seed, and its optimizer. loader: whose numbers a captured step takes."""
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        torch.manual_seed(0)
        model = build_model(self.packs, self.task, self.hidden, 3)
        step: Any = (TrainingStep if way.workers is None else PlainStep)(model, self.task).to(self.device)
        on_cuda = self.device.type == "cuda"
        optimizer = torch.optim.Adam(step.parameters(), lr=1e-3, fused=True, capturable=on_cuda)
        if way.kind is Captured:
            step = TakenStep(loader.loader, step)
        if way.compile is not None:  # elsewhere only traced: this is about GPUs
            step = torch.compile(step, **way.compile, **({} if on_cuda else {"backend": "eager"}))
        return way.kind(step, optimizer, self.device)

    def loader(self, way: Way) -> Any:
        pin = self.device.type == "cuda"
        if way.ring is not None:
            return self.ring_of(way, way.ring)
        if way.workers is None:
            return torch_loader(self.packs, self.packs_per_step, shuffle=True, seed=0, pin_memory=pin)
        options: dict[str, Any] = {"num_workers": way.workers, "persistent_workers": way.workers > 0}
        return DataLoader(self.graphs, self.graphs_per_step, shuffle=True, pin_memory=pin, **options)

    def ring_of(self, way: Way, blocks: int) -> Any:
        def loader(memory: float | None) -> Any:
            return device_loader(self.packs, self.device, self.packs_per_step, redraw=way.redraw, memory=memory)

        found = loader(None)
        memory = found.ring.form.size(min(blocks, found.size.blocks)).bytes
        del found  # its memory, before another ring takes its own
        before = self.memory()
        found: Any = loader(memory)
        found.made_of = None if before is None else torch.cuda.max_memory_allocated(self.device) - before
        return NumbersOf(found) if way.kind is Captured else found

    def memory(self) -> int | None:
        """Bytes in use on the device, from which its peak counts from now on."""
        if self.device.type != "cuda":
            return None
        gc.collect()
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def table(self, ways: Iterable[Way], epochs: int, until: float = math.inf) -> Iterator[str]:
        """Markdown, a line at a time. until: of the monotonic clock; no row begins after it."""
        packs = "1 pack" if self.packs_per_step == 1 else f"{self.packs_per_step} packs"
        yield f"\n## hidden {self.hidden}, {packs} or {self.graphs_per_step} graphs a step\n"
        yield (
            "| | ms a step | s an epoch | loader | step alone, ms | GPU, ms | start, s | graphs | loss | off by "
            "| host | kB a step |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )
        reference: torch.Tensor | None = None
        for way in ways:
            if way in ON_CUDA and self.device.type != "cuda":
                continue
            if time.monotonic() > until:
                yield f"| {way.name} | not run: the time was over |"
                continue
            try:
                loader = self.loader(way)
                row = measure(self.trained(way, loader), loader, epochs)
            except Exception as error:  # the other rows still count
                yield f"| {way.name} | failed: {type(error).__name__}: {str(error).partition(chr(10))[0]} |"
                continue
            if way.name == EAGER:
                reference = row.losses
                row = replace(row, losses=first_losses(self.trained(way), self.loader(way)))
            yield self.line(way, row, None if way.workers is not None or not way.redraw else reference)

    def line(self, way: Way, row: Row, reference: torch.Tensor | None) -> str:
        cells = [
            way.name + (f" ({row.note})" if row.note else ""),
            f"{row.step:.3f}",
            f"{row.step * row.steps / 1e3:.3f}",
            f"{100 * row.loader:.1f} %",
            f"{row.alone:.3f}",
            "" if row.busy is None else f"{row.busy:.3f}",
            f"{row.start:.1f}",
            "" if way.compile is None else "{} + {}".format(*row.compiled),
            f"{row.loss:.4f}",
            "" if reference is None else f"{off_by(row.losses, reference):.0e}",
            f"{100 * row.host:.0f} %",
            "" if row.bus is None else f"{row.bus / 1e3:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


def off_by(losses: torch.Tensor, reference: torch.Tensor) -> float:
    """An epoch may have fewer steps than are compared."""
    both = min(len(losses), len(reference))
    return float(((losses[:both] - reference[:both]) / reference[:both]).abs().max())


def packed(folder: Path, graphs: int | None, copies: int, block_bytes: int | None = None) -> PackDataset:
    """The first `graphs` of the sample's molecules, each `copies` times. block_bytes: of a block as stored, about, so
    that a few packs are many blocks; None for blocks as builds make them."""
    build("sample:nci", folder / "once", LIMITS, workers=1)
    sized = choose_layout if block_bytes is None else partial(choose_layout, block_bytes=block_bytes)
    with patch("pipelines.building.mapped.shards.choose_layout", sized):
        build(unpack(PackDataset(folder / "once"))[:graphs] * copies, folder / "packs", LIMITS, workers=1)
    return PackDataset(folder / "packs")


def about(device: torch.device) -> str:
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    cuda = f", CUDA {torch.version.cuda}" if device.type == "cuda" else ""
    return f"{card}{cuda}. " + provenance("graph-packer", "torch", "triton", "torch_geometric", "numpy", seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, help="a packed data set with one float target a graph")
    parser.add_argument("--graphs", type=int, help="only so many molecules")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--block-bytes", type=int, help="smaller blocks than builds make, for rings that stream")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=CASES, help="HIDDENxPACKS")
    parser.add_argument(
        "--rows", nargs="+", default=KINDS, help=f"kinds ({', '.join(KINDS)}) or names of rows, beside the reference"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="no row begins after them")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training_gpu.md")
    given = parser.parse_args()
    device, until = torch.device(given.device), time.monotonic() + 60 * given.minutes
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(
            1, f"torch {torch.__version__} sees no CUDA GPU: --device cpu runs the same loops, for a try only\n"
        )
    ways = [way for way in WAYS if {way.part, way.name} & set(given.rows) or way.name in REFERENCES]
    torch.set_num_threads(1)
    summary = (__doc__ or "").split("\n\n", 2)[2].strip()
    lines = [
        "# Training on a GPU",
        "",
        f"Generated by `python benchmarks/training_gpu.py`. {about(device)}",
        "",
        summary,
    ]
    with tempfile.TemporaryDirectory() as folder:
        packs = (
            PackDataset(given.packs)
            if given.packs
            else packed(Path(folder), given.graphs, given.copies, given.block_bytes)
        )
        graphs, task = unpack(packs), find_task(packs, "y")
        per_block = packs.manifest.packs_per_block
        lines += ["", f"{len(graphs):,} graphs, {len(packs):,} packs of {packs.limits}, {per_block} a block."]
        for hidden, per_step in (map(int, case.split("x")) for case in given.cases):
            for line in Case(packs, graphs, task, hidden, per_step, device).table(ways, given.epochs, until):
                print(line, flush=True)
                lines.append(line)
                given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
