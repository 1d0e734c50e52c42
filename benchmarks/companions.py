"""How many different graphs a graph meets in ten epochs, where few graphs share a size: four ways, counted.

    python benchmarks/companions.py [--quick] [--out benchmarks/results/companions.md]

The sizes are those of TU data sets and of `sample:nci`; the edges are made (each node's nearest neighbours on a ring),
as only sizes are at hand, so that how many packs a block holds may differ from that of the real graphs. Pack limits are
so many graphs in the mean. Companions are counted in what `numpy_loader` gives, in the mean over graphs; a graph is
alone that shares its size, or its class, with no other of its block. CPU is that of decoding all blocks, the median of
five.

- redraw=True, graphs of one size: what loaders do by default.
- redraw="swaps", graphs of any sizes, where the packs still hold them.
- K plans: K builds by other seeds of the planner, read in turn with redraw=True. They take K times the bytes.
- size classes: sizes are rounded up before they are planned, and graphs of one class change places. Of the roundings
  tried (each axis alone and both, by 0.5 % to 20 %) the one with most companions of those that take at most 0.1 % more
  packs. The bound is that of the sizes as they are. Counted on the plan, cut into blocks of as many packs.
- any place: graphs dealt anew to the slots of their block, whether they fit or not: what is there to be had.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from instances import sizes
from provenance import provenance
from tables import table

from packer import GraphSizes, PackLimits, PackPlan, PackReader, make_plan, numpy_loader
from packer.reading.redraw import redraw_key, source_slots

EPOCHS = 10
SECONDS = 10
MORE = 1.001
ROUNDED = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def graphs_of(num_nodes: np.ndarray, num_edges: np.ndarray) -> Iterator[Any]:
    """Graphs of these sizes: pairs of nodes by their distance on a ring, each in both directions, sorted by source."""
    import torch
    from torch_geometric.data import Data

    for nodes, edges in zip(num_nodes.tolist(), num_edges.tolist(), strict=True):
        pair = np.arange((edges + 1) // 2)
        source, target = pair % nodes, (pair + pair // nodes + 1) % nodes
        both = np.stack([np.concatenate([source, target]), np.concatenate([target, source])])[:, :edges]
        both = both[:, np.lexsort(both[::-1])]
        yield Data(x=torch.ones(nodes, 3, dtype=torch.uint8), edge_index=torch.from_numpy(both), num_nodes=nodes)


def nci_sizes() -> GraphSizes:
    from pipelines import build

    with tempfile.TemporaryDirectory() as folder:
        build("sample:nci", folder, PackLimits(256, 552, 32), algorithm="stream", workers=1)
        packs = list(PackReader(folder, columns=["ptr", "edge_index", "batch", "graphs_mask"]))
    real = [pack["graphs_mask"] for pack in packs]
    nodes = [np.diff(pack["ptr"])[mask] for pack, mask in zip(packs, real, strict=True)]
    edges = [np.bincount(p["batch"][p["edge_index"][0]], minlength=len(m))[m] for p, m in zip(packs, real, strict=True)]
    return GraphSizes(np.concatenate(nodes), np.concatenate(edges))


def limits_of(given: GraphSizes, graphs: int) -> PackLimits:
    """So many graphs in the mean, and room for the largest one."""
    slots = (max(int(np.ceil(graphs * c.mean())), int(c.max())) + 2 * graphs for c in given.columns.values())
    return PackLimits(*slots, 2 * graphs)


class Met:
    """Counts which graphs lie in one pack."""

    def __init__(self, graphs: int) -> None:
        self.graphs = graphs
        self.pairs: list[np.ndarray] = []

    def add(self, packs: list[np.ndarray]) -> None:
        for ids in packs:
            self.pairs.append((ids[:, None].astype(np.int64) * self.graphs + ids).reshape(-1))
        self.pairs = [np.unique(np.concatenate(self.pairs))]

    def mean(self) -> float:
        """Of other graphs, for each graph."""
        return len(self.pairs[0]) / self.graphs - 1


def packs_of(reader: PackReader, epoch: int, redraw: bool | str) -> list[np.ndarray]:
    loader = numpy_loader(reader, seed=0, redraw=redraw)
    loader.set_epoch(epoch)
    return [step["graph_ids"][step["graph_ids"] >= 0] for step in loader]


def met_of(readers: list[PackReader], redraw: bool | str) -> float:
    met = Met(readers[0].manifest.num_graphs)
    for epoch in range(EPOCHS if redraw else 1):
        met.add(packs_of(readers[epoch % len(readers)], epoch, redraw))
    return met.mean()


def met_in_classes(plan: PackPlan, classes: list[np.ndarray] | None, per_block: int) -> float:
    """The same for a plan whose graphs of one class, None for all, change places inside blocks."""
    met = Met(plan.sizes.num_graphs)
    cuts = plan.pack_offsets
    for epoch in range(EPOCHS):
        packs: list[np.ndarray] = []
        for block, first in enumerate(range(0, plan.num_packs, per_block)):
            offsets = cuts[first : first + per_block + 1]
            ids = plan.graph_ids[offsets[0] : offsets[-1]]
            of_slot = [np.zeros(len(ids), np.int64)] if classes is None else [column[ids] for column in classes]
            source = source_slots(of_slot, np.ones(len(ids), bool), redraw_key(block, epoch))
            packs += np.split(ids[source], offsets[1:-1] - offsets[0])
        met.add(packs)
    return met.mean()


def alone(plan: PackPlan, classes: list[np.ndarray], per_block: int) -> float:
    """The share of graphs that are alone in their class in their block."""
    found = 0
    for first in range(0, plan.num_packs, per_block):
        offsets = plan.pack_offsets[first : first + per_block + 1]
        ids = plan.graph_ids[offsets[0] : offsets[-1]]
        _, count = np.unique(np.stack([column[ids] for column in classes]), axis=1, return_counts=True)
        found += int(np.count_nonzero(count == 1))
    return found / plan.sizes.num_graphs


def rounded(values: np.ndarray, by: float, most: int) -> np.ndarray:
    """Each up to the next of a series of whole numbers that grow by a share `by`, and at most to `most`."""
    steps = [1]
    while steps[-1] < values.max():
        steps.append(max(steps[-1] + 1, int(steps[-1] * (1 + by))))
    up = np.minimum(np.array([0, *steps])[np.searchsorted([0, *steps], values)], most)
    return np.maximum(up, values)


def in_classes(given: GraphSizes, plan: PackPlan, per_block: int, rounding: tuple[float, ...]) -> list[Any] | None:
    """The best rounding: [packs, alone, companions, how], None where each costs too many packs."""
    best: list[Any] | None = None
    widest = [int(column.max()) for column in given.columns.values()]
    for by in rounding:
        for shares in ((by, 0.0), (0.0, by), (by, by)):
            columns = zip(given.columns.values(), shares, widest, strict=True)
            classes = [rounded(column, share, most) if share else column for column, share, most in columns]
            found = make_plan(GraphSizes(*classes), plan.limits, time_limit=SECONDS)
            if found.num_packs > MORE * plan.num_packs:
                continue
            met = met_in_classes(found, classes, per_block)
            if best is None or met > best[2]:
                how = ", ".join(f"{s:.1%} {n}s" for s, n in zip(shares, given.columns, strict=True) if s)
                best = [found.num_packs, alone(found, classes, per_block), met, how]
    return best


def cpu_of(reader: PackReader, redraw: bool | str) -> float:
    """CPU microseconds a pack of decoding all blocks."""
    blocks = -(-len(reader) // reader.manifest.packs_per_block)
    seconds: list[float] = []
    for epoch in range(5):
        started = time.process_time()
        for block in range(blocks):
            reader.blocks.decode(block, redraw_key(0, epoch, redraw))
        seconds.append(time.process_time() - started)
    return statistics.median(seconds) / len(reader) * 1e6


def rows(name: str, given: GraphSizes, limits: PackLimits, plans: int, rounding: tuple[float, ...]) -> list[list[Any]]:
    from pipelines import build

    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root) / str(seed) for seed in range(plans)]
        graphs = list(graphs_of(*given.columns.values()))
        for seed, folder in enumerate(folders):
            build(graphs, folder, limits, seed=seed, time_limit=SECONDS, workers=1)
        del graphs
        readers = [PackReader(folder, columns=["graph_ids"]) for folder in folders]
        whole, manifest = PackReader(folders[0]), readers[0].manifest
        per_block, bound = manifest.packs_per_block, manifest.plan["lower_bound"]
        plan = PackPlan.load(folders[0] / "plan.parquet").of(given)
        own = alone(plan, list(given.columns.values()), per_block)
        found: list[list[Any]] = []

        def row(way: str, packs: int, share: float | None, met: float, cpu: float | None, times: int = 1) -> None:
            said = "" if share is None else f"{share:.0%}"
            found.append(
                [name, way, packs, bound, per_block, times, said, f"{met:.1f}", "" if cpu is None else f"{cpu:.0f}"]
            )

        row("as stored", len(whole), own, met_of(readers[:1], False), cpu_of(whole, False))
        row("redraw=True", len(whole), own, met_of(readers[:1], True), cpu_of(whole, True))
        row('redraw="swaps"', len(whole), None, met_of(readers[:1], "swaps"), cpu_of(whole, "swaps"))
        for number in sorted({2, plans}):
            some = readers[:number]
            row(f"{number} plans, redraw=True", max(map(len, some)), own, met_of(some, True), None, number)
        classes = in_classes(given, plan, per_block, rounding)
        if classes is None:
            found.append([name, "size classes: none within 0.1 %", *[""] * 7])
        else:
            row(f"size classes: {classes[3]}", classes[0], classes[1], classes[2], None)
        row("any place (packs overflow)", len(whole), None, met_in_classes(plan, None, per_block), None)
    for line in found:
        print(*line, sep=" | ", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="one small data set")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "companions.md")
    options = parser.parse_args()
    found: list[list[Any]] = []
    for name in ("PROTEINS",) if options.quick else ("PROTEINS", "COLLAB"):
        given = sizes(f"tu_{name}")
        for graphs in (8,) if options.quick else (8, 32):
            plans, rounding = (2, (0.05,)) if options.quick else (4, ROUNDED)
            found += rows(f"{name}, mean of {graphs}", given, limits_of(given, graphs), plans, rounding)
    if not options.quick:
        found += rows("sample:nci 256/552/32", nci_sizes(), PackLimits(256, 552, 32), 4, ROUNDED)
    head = (
        "sizes|graphs change places|packs|bound|packs a block|copies stored|alone|companions in 10 epochs|CPU µs a pack"
    )
    title, _, text = (__doc__ or "").partition("\n")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    python")).strip()
    versions = provenance("numpy", "pyarrow", "ortools", seed=0)
    lines = ["# Companions", "", title, "", text, "", versions, "", *table(head, found, 2)]
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
