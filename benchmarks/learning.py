"""Whether packs change what a model learns: the validation loss by epoch, of unpacked batches and of packs.

    python benchmarks/learning.py [--seeds 10] [--out benchmarks/results/learning.md]

One small GIN (2 layers, hidden 32, BatchNorm masked by `mask_norms` on packs) and one loop of Adam, whose loss is a sum
over the step's graphs divided by the mean number of graphs a step. Unpacked: PyG's DataLoader, shuffled. Packs: limits
are chosen for each algorithm such that a step of one pack holds as many graphs on average as an unpacked batch. Each
seed gives all ways the same first weights, and has an order and plans of its own. The validation loss is taken
unpacked, by one code for all. The band of unpacked training is the mean over its seeds, two standard deviations up and
down. `late` is the mean of the last quarter of the epochs; `off` is how far that lies from unpacked training, seed by
seed, with the standard error of that difference. More than 3.5 of these is called a difference: with 10 seeds and 9
comparisons, chance alone gives one in some 16 such pages.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from instances import DATA
from provenance import provenance
from tables import put_between, table
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINConv, global_add_pool

from packer import (
    GraphSizes,
    PackDataset,
    PackLimits,
    make_plan,
    mask_norms,
    masked_mean,
    masks_of,
    torch_loader,
    unpack,
)
from pipelines import build
from pipelines.report.style import BLUE, GREY, ORANGE, RED, Picture, drawn, finish, save_picture, whole_ticks
from pipelines.training.model import ColumnEmbedding, DenseEncoder

UNPACKED = "unpacked, shuffled"
WAYS = {
    "stream packs": ("stream", False),
    "optimal packs": ("optimal", False),
    "optimal packs, redrawn": ("optimal", True),
}
COLOURS = {UNPACKED: GREY, "stream packs": ORANGE, "optimal packs": RED, "optimal packs, redrawn": BLUE}
HIDDEN, LAYERS, RATE = 32, 2, 5e-3
DOCS = Path(__file__).parents[1] / "docs" / "learning.md"


@dataclass(frozen=True)
class Case:
    """name: as the page has it; source: of the graphs; graphs: as many at most, a fifth of them for validation; batch:
    graphs a step; epochs: of training."""

    name: str
    source: str
    graphs: int
    batch: int
    epochs: int


CASES = (
    Case("NCI, TPSA", "sample:nci", 1000, 32, 10),
    Case("Mutagenicity", "tudataset:Mutagenicity", 1000, 32, 10),
    Case("MUTAG", "tudataset:MUTAG", 188, 16, 24),
)


class GIN(torch.nn.Module):
    """Graphs to one row of `outputs` a graph slot."""

    def __init__(self, encoder: torch.nn.Module, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.convs = torch.nn.ModuleList(GINConv(_mlp(HIDDEN)) for _ in range(LAYERS))
        self.head = torch.nn.Sequential(
            torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, outputs)
        )

    def forward(self, batch: Any) -> torch.Tensor:
        h = self.encoder(batch.x)
        for conv in self.convs:
            h = h + conv(h, batch.edge_index).relu()
        return self.head(global_add_pool(h, batch.batch, batch.num_graphs) / 16)


def _mlp(hidden: int) -> torch.nn.Module:
    norm = torch.nn.BatchNorm1d(hidden)
    return torch.nn.Sequential(torch.nn.Linear(hidden, hidden), norm, torch.nn.ReLU(), torch.nn.Linear(hidden, hidden))


@dataclass(frozen=True)
class Learned:
    """The graphs of a case, and what is learned of them. classes: 0 for numbers, which have mean 0 and deviation 1."""

    train: list[Any]
    valid: Any
    classes: int

    def model(self, seed: int) -> GIN:
        torch.manual_seed(seed)
        x = torch.cat([graph.x for graph in self.train])
        whole = not x.is_floating_point()
        encoder = ColumnEmbedding(x.amax(dim=0).tolist(), HIDDEN) if whole else DenseEncoder(x.shape[1], HIDDEN)
        return GIN(encoder, self.classes or 1)

    def losses(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """[rows]: of each graph; padding rows of classes hold 0."""
        if self.classes:
            return torch.nn.functional.cross_entropy(out, y.reshape(-1), reduction="none")
        return (out.reshape(-1) - y.reshape(-1)).square()

    def limits(self, algorithm: str, batch: float) -> PackLimits:
        """Such that a pack holds `batch` graphs on average, as nearly as may be."""
        nodes = np.array([graph.num_nodes for graph in self.train])
        edges = np.array([graph.num_edges for graph in self.train])
        sizes = GraphSizes(nodes, edges)

        def of(graphs: float) -> PackLimits:
            slots = math.ceil(1.5 * batch)
            rows = (max(math.ceil(graphs * n.mean()), int(n.max())) + slots for n in (nodes, edges))
            return PackLimits(*rows, slots)

        def off(graphs: float) -> float:
            plan = make_plan(sizes, of(graphs), "histogram" if algorithm == "optimal" else algorithm)
            return abs(sizes.num_graphs / plan.num_packs - batch)

        return of(min(np.linspace(0.9 * batch, 1.3 * batch, 41).tolist(), key=off))


def learned(case: Case) -> Learned:
    with tempfile.TemporaryDirectory() as folder:
        root = {"root": str(DATA / "tu")} if case.source.startswith("tudataset:") else {}
        build(case.source, f"{folder}/all", limits="auto", algorithm="histogram", workers=1, **root)
        graphs = unpack(PackDataset(f"{folder}/all"))
    chosen = np.random.default_rng(0).permutation(len(graphs))[: case.graphs]
    graphs = [graphs[i] for i in chosen.tolist()]
    cut = len(graphs) * 4 // 5
    y = torch.cat([graph.y.reshape(-1) for graph in graphs])
    classes = 0 if y.is_floating_point() else int(y.max()) + 1
    if not classes:
        mean, std = y[:cut].mean(), y[:cut].std(correction=0)
        for graph in graphs:
            graph.y = (graph.y - mean) / std
    return Learned(graphs[:cut], next(iter(DataLoader(graphs[cut:], batch_size=len(graphs)))), classes)


def curve(of: Learned, seed: int, epochs: int, loader_of: Callable[[], Any]) -> list[float]:
    """The validation loss after each epoch. loader_of: makes a torch_loader, or a DataLoader of PyG."""
    loader, model = loader_of(), of.model(seed)
    packed = not isinstance(loader, DataLoader)
    if packed:
        model = mask_norms(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    found: list[float] = []
    for epoch in range(epochs):
        model.train()
        if packed:
            loader.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad(set_to_none=True)
            if packed:
                with masks_of(batch):
                    each = of.losses(model(batch), batch.y)
                loss = masked_mean(each, batch.graphs_mask, per=loader.graphs_per_step)
            else:
                loss = of.losses(model(batch), batch.y).sum() / (len(of.train) / len(loader))
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), masks_of(None):
            found.append(float(of.losses(model(of.valid), of.valid.y).mean()))
    return found


def curves(case: Case, seeds: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Way -> validation losses [seeds, epochs]; way -> graphs a step."""
    of = learned(case)
    found: dict[str, np.ndarray] = {}
    graphs: dict[str, float] = {}

    def plain(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(of.train, batch_size=case.batch, shuffle=True, generator=generator)

    found[UNPACKED] = np.array([curve(of, s, case.epochs, lambda s=s: plain(s)) for s in range(seeds)])
    graphs[UNPACKED] = len(of.train) / len(plain(0))
    limits = {algorithm: of.limits(algorithm, graphs[UNPACKED]) for algorithm in ("stream", "optimal")}
    by_seed: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            packs = {name: _packs(of, f"{folder}/{name}", name, limits[name], seed) for name in limits}
            for way, (algorithm, redraw) in WAYS.items():
                own = packs[algorithm]
                graphs[way] = own.manifest.num_graphs / len(own)
                loader = partial(torch_loader, own, shuffle=True, seed=seed, redraw=redraw)
                by_seed[way].append(curve(of, seed, case.epochs, loader))
    return {**found, **{way: np.array(losses) for way, losses in by_seed.items()}}, graphs


def _packs(of: Learned, out: str, algorithm: str, limits: PackLimits, seed: int) -> PackDataset:
    """A plan of each seed's own: of the graphs in an order of its own."""
    graphs = [of.train[i] for i in np.random.default_rng(seed).permutation(len(of.train)).tolist()]
    build(graphs, out, limits, algorithm=algorithm, seed=seed, time_limit=10, workers=1)
    return PackDataset(out)


def rows_of(name: str, found: dict[str, np.ndarray], graphs: dict[str, float]) -> tuple[list[list[str]], list[str]]:
    """Rows of the table; what is to be said of ways that differ."""
    plain = found[UNPACKED]
    late = {way: losses[:, -max(1, losses.shape[1] // 4) :].mean(axis=1) for way, losses in found.items()}
    middle, width = plain.mean(axis=0), 2 * plain.std(axis=0, ddof=1)
    rows: list[list[str]] = []
    said: list[str] = []
    for way, losses in found.items():
        mean, sd = late[way].mean(), late[way].std(ddof=1)
        inside = np.abs(losses.mean(axis=0) - middle) <= width
        off = late[way] - late[UNPACKED]
        error = off.std(ddof=1) / math.sqrt(len(off))
        told = (
            ""
            if way == UNPACKED
            else f"{100 * off.mean() / late[UNPACKED].mean():+.1f} ± {100 * error / late[UNPACKED].mean():.1f} %"
        )
        held = "" if way == UNPACKED else f"{inside.sum()} of {len(inside)}"
        rows.append([name, way, f"{graphs[way]:.1f}", f"{mean:.4f} ± {sd:.4f}", told, held])
        if way != UNPACKED and not inside.all():
            said.append(f"{name}, {way}: the mean curve leaves the band in {(~inside).sum()} of {len(inside)} epochs.")
        if way != UNPACKED and abs(off.mean()) > 3.5 * error:
            word = "worse" if off.mean() > 0 else "better"
            said.append(f"{name}, {way}: {word} than unpacked, by {told.lstrip('+-')}.")
    return rows, said


@drawn
def picture(found: dict[str, dict[str, np.ndarray]]) -> Picture:
    """Validation loss by epoch: a panel a case, the band of unpacked training in grey."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(found), 3.1), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, (name, ways) in zip(axes, found.items(), strict=True):
        epochs = np.arange(1, ways[UNPACKED].shape[1] + 1)
        middle, width = ways[UNPACKED].mean(axis=0), 2 * ways[UNPACKED].std(axis=0, ddof=1)
        axis.fill_between(epochs, middle - width, middle + width, color=GREY, alpha=0.3, linewidth=0)
        for way, losses in ways.items():
            axis.plot(epochs, losses.mean(axis=0), color=COLOURS[way], linewidth=1.4, label=way)
        whole_ticks(axis.xaxis)
        finish(axis, name, "epoch", "validation loss" if axis is axes[0] else "")
    axes[-1].legend(fontsize=8)
    alt = "Validation loss by epoch, means over seeds: unpacked batches with a band of two standard deviations, and "
    return Picture("Validation loss by epoch", f"{alt}{', '.join(WAYS)}; for {', '.join(found)}.", figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="MUTAG alone, two seeds, three epochs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "learning.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds = 2 if given.quick else given.seeds
    cases = [Case("MUTAG", "tudataset:MUTAG", 188, 16, 3)] if given.quick else CASES
    found: dict[str, dict[str, np.ndarray]] = {}
    rows: list[list[str]] = []
    said: list[str] = []
    for case in cases:
        start = time.process_time()
        found[case.name], graphs = curves(case, seeds)
        own, differing = rows_of(case.name, found[case.name], graphs)
        rows, said = rows + own, said + differing
        print(f"{case.name}: {time.process_time() - start:.0f} s", flush=True)
    head = "data|way|graphs a step|late validation loss|off unpacked|epochs in the band"
    measured = table(head, rows, 2)
    every = "Every mean curve of packs lies inside the band of unpacked training, and no late loss differs from it."
    verdict = [f"* {text}" for text in said] or [every]
    about = provenance("graph-packer", "torch", "torch_geometric", seed=0)
    summary = " ".join((__doc__ or "").split("\n\n")[-1].split())
    image = given.out.with_suffix(".svg")
    save_picture(picture(found), image)
    block = [f"{seeds} seeds.", "", *measured, "", *verdict]
    text = ["# Learning", "", f"Generated by `python benchmarks/learning.py`. {about}", "", summary, "", *block, ""]
    given.out.write_text("\n".join([*text, f"![Validation loss by epoch]({image.name})"]) + "\n")
    if not given.quick:
        put_between(DOCS, "learning", block)
    print("\n".join(block))


if __name__ == "__main__":
    main()
