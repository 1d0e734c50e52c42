"""The packing instances that the benchmarks speak of: real sizes, limits, and what others published for them."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from packer import GraphSizes, PackLimits

DATA = Path(os.environ.get("GRAPH_PACKER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclass(frozen=True)
class Instance:
    """published: packs that others reported for these sizes and limits, and who; slow: takes more than 20 s."""

    name: str
    load: Callable[[], GraphSizes]
    limits: PackLimits
    published: tuple[int, str] | None = None
    slow: bool = False

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())


def histogram(name: str) -> GraphSizes:
    """A file of data/histograms: num_nodes[, num_edges], count; comment lines start with #."""
    with (DATA / "histograms" / name).open() as file:
        rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")][1:]
    table = np.array(rows, dtype=np.int64)
    edges = table[:, 1] if table.shape[1] == 3 else np.zeros(len(table), dtype=np.int64)
    return GraphSizes.from_histogram(table[:, 0], edges, table[:, -1])


def sizes(name: str) -> GraphSizes:
    """A file of data/sizes in source order, without the molecules that do not parse."""
    stored = np.load(DATA / "sizes" / f"{name}.npz")
    nodes, edges = stored["num_nodes"].astype(np.int64), stored["num_edges"].astype(np.int64)
    return GraphSizes(nodes[nodes > 0], edges[nodes > 0])


def records() -> Iterator[Instance]:
    """The well-known data sets, at limits in use."""

    def molhiv() -> GraphSizes:
        return histogram("ogbg_molhiv_train_hist2d.csv")

    def moses() -> GraphSizes:
        return sizes("moses_train")

    yield Instance(
        "ogbg-molhiv train 222/502/256",
        molhiv,
        PackLimits(222, 502, 256, "none"),
        (3789, "tuple packing, arXiv 2209.06354"),
    )
    yield Instance("ogbg-molhiv train 256/552/10", molhiv, PackLimits(256, 552, 10, "none"), slow=True)
    yield Instance(
        "HydroNet 4.46 M nodes 153",
        lambda: histogram("hydronet_4.46M_nodes.csv"),
        PackLimits(153, None, None, "none"),
        (2089809, "LPFHP, graphcore-research/hydronet-gnn"),
    )
    yield Instance("MOSES train 60/120/8", moses, PackLimits(60, 120, 8, "none"))
    yield Instance("MOSES train 128/276/16", moses, PackLimits(128, 276, 16, "none"))
    yield Instance("MOSES train 256/552/16", moses, PackLimits(256, 552, 16, "none"))
    yield Instance("MOSES train 256/552/16 all", moses, PackLimits(256, 552, 16, "all"))
    yield Instance("MOSES train 256/552/32 one", moses, PackLimits(256, 552, 32, "one"))
    yield Instance(
        "QM9 radius 3 A 128/1056/64",
        lambda: histogram("qm9_radius3.csv"),
        PackLimits(128, 1056, 64, "none"),
        slow=True,
    )


def tu_sets() -> Iterator[Instance]:
    """Each data set at four limits: its largest graph, twice that, and the mean of 8 and of 32 graphs."""
    names = (
        "tu_MUTAG",
        "tu_ENZYMES",
        "tu_NCI1",
        "tu_PROTEINS",
        "tu_IMDB-BINARY",
        "tu_COLLAB",
        "tox21",
        "lipophilicity",
    )
    for name in names:
        loaded = sizes(name)
        nodes, edges = np.asarray(loaded.num_nodes), np.asarray(loaded.num_edges)
        title = name.removeprefix("tu_")
        widest = int(nodes.max()), int(edges.max())
        for times in (1, 2):
            limits = PackLimits(times * widest[0], times * widest[1], None, "none")
            yield Instance(f"{title} {times} x largest", lambda s=loaded: s, limits)
        for graphs in (8, 32):
            mean = (column.sum() / len(column) for column in (nodes, edges))
            slots = (max(math.ceil(graphs * m), w) for m, w in zip(mean, widest, strict=True))
            yield Instance(f"{title} mean of {graphs}", lambda s=loaded: s, PackLimits(*slots, graphs, "none"))
