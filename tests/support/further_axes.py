"""Graphs with rows that are neither nodes nor edges, as their models have them, and how a build is told of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch_geometric.data import Data

from packer import PackLimits


class Molecule(Data):
    """What triplet models, Chemprop and ALIGNN add to a molecule: numbers of edges, which PyG must be told of."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key in ("idx_kj", "idx_ji", "rev_edge_index", "lg_edge_index"):
            return self.num_edges
        if key in ("idx_i", "idx_j"):
            return self.num_nodes
        if key == "quad":
            return self.idx_kj.numel()
        return super().__inc__(key, value, *args, **kwargs)


class Pair(Data):
    """Two graphs in one, as PyG's documentation has it."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "edge_index_s":
            return self.x_s.size(0)
        if key == "edge_index_t":
            return self.x_t.size(0)
        return super().__inc__(key, value, *args, **kwargs)


@dataclass(frozen=True)
class Situation:
    """graphs; axes, index: what `build` is told; num: slots of each axis; budgets."""

    graphs: list[Any]
    axes: dict[str, list[str]]
    num: dict[str, int]
    index: dict[str, str] = field(default_factory=dict)
    budgets: dict[str, int] = field(default_factory=dict)

    def limits(self, null_graphs: str = "all") -> PackLimits:
        return PackLimits(40, 90, 8, null_graphs, self.num, self.budgets)

    @property
    def told(self) -> dict[str, Any]:
        return {"axes": self.axes, "index_fields": self.index}


def tree(generator: torch.Generator, nodes: int) -> torch.Tensor:
    """A random tree, each edge in both directions: int64 [2, 2 * (nodes - 1)]."""
    pairs: list[tuple[int, int]] = []
    for node in range(1, nodes):
        other = int(torch.randint(0, node, (1,), generator=generator))
        pairs += [(other, node), (node, other)]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t().contiguous()


def paths(edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of edges k -> j -> i with k != i: (numbers of k -> j, numbers of j -> i)."""
    meets = (edges[1][:, None] == edges[0][None]) & (edges[0][:, None] != edges[1][None])
    first, second = meets.nonzero(as_tuple=True)
    return first, second


def _molecule(generator: torch.Generator, kind: type[Data] = Molecule) -> Any:
    nodes = int(torch.randint(1, 8, (1,), generator=generator))
    edges = tree(generator, nodes)
    return kind(x=torch.randn(nodes, 3, generator=generator), edge_index=edges, y=torch.randn(1, generator=generator))


def situation(name: str, graphs: int = 40, seed: int = 0) -> Situation:
    """One of SITUATIONS."""
    generator = torch.Generator().manual_seed(seed)
    return SITUATIONS[name](generator, graphs)


def _triplets(generator: torch.Generator, number: int) -> Situation:
    graphs: list[Any] = []
    for _ in range(number):
        graph = _molecule(generator)
        graph.idx_kj, graph.idx_ji = paths(graph.edge_index)
        graph.idx_i = graph.edge_index[1][graph.idx_ji]
        graph.angle = torch.randn(graph.idx_kj.numel(), generator=generator)
        graphs.append(graph)
    fields = ["idx_kj", "idx_ji", "idx_i", "angle"]
    index = {"idx_kj": "edges", "idx_ji": "edge", "idx_i": "nodes"}
    return Situation(graphs, {"triplet": fields}, {"triplet": 130}, index)


def _quadruplets(generator: torch.Generator, number: int) -> Situation:
    """Rows that number rows of a further axis, beside triplets."""
    found = _triplets(generator, number)
    for graph in found.graphs:
        triplets = graph.idx_kj.numel()
        rows = int(torch.randint(0, 4, (1,), generator=generator)) if triplets else 0
        graph.quad = torch.randint(0, max(triplets, 1), (rows, 2), generator=generator)
    index = {**found.index, "quad": "triplets"}
    return Situation(found.graphs, {**found.axes, "quadruplet": ["quad"]}, {"triplet": 130, "quadruplet": 20}, index)


def _reverse(generator: torch.Generator, number: int) -> Situation:
    """Chemprop: for each edge the number of its reverse. The rows are edges; only what they number is another axis."""
    graphs: list[Any] = []
    for _ in range(number):
        graph = _molecule(generator)
        graph.rev_edge_index = torch.arange(graph.num_edges).reshape(-1, 2).flip(1).reshape(-1)
        graphs.append(graph)
    return Situation(graphs, {}, {}, {"rev_edge_index": "edges"})


def _labels(generator: torch.Generator, number: int) -> Situation:
    """Link prediction: edges to be judged, each with a label."""
    graphs: list[Any] = []
    for _ in range(number):
        graph = _molecule(generator, Data)
        rows = int(torch.randint(0, 6, (1,), generator=generator))
        graph.edge_label_index = torch.randint(0, graph.num_nodes, (2, rows), generator=generator)
        graph.edge_label = torch.randint(0, 2, (rows,), generator=generator).float()
        graphs.append(graph)
    return Situation(graphs, {"label": ["edge_label_index", "edge_label"]}, {"label": 30})


def _faces(generator: torch.Generator, number: int) -> Situation:
    graphs: list[Any] = []
    for _ in range(number):
        graph = _molecule(generator, Data)
        rows = int(torch.randint(0, 6, (1,), generator=generator))
        graph.face = torch.randint(0, graph.num_nodes, (3, rows), generator=generator)
        graphs.append(graph)
    return Situation(graphs, {"face": ["face"]}, {"face": 30})


def _pairs(generator: torch.Generator, number: int) -> Situation:
    graphs: list[Any] = []
    for _ in range(number):
        one, other = _molecule(generator), _molecule(generator)
        pair = Pair(x_s=one.x, edge_index_s=one.edge_index, x_t=other.x, edge_index_t=other.edge_index, y=one.y)
        pair.num_nodes = 1
        graphs.append(pair)
    axes = {"s_node": ["x_s"], "s_edge": ["edge_index_s"], "t_node": ["x_t"], "t_edge": ["edge_index_t"]}
    num = {"s_node": 40, "s_edge": 90, "t_node": 45, "t_edge": 90}
    return Situation(graphs, axes, num, {"edge_index_s": "s_nodes", "edge_index_t": "t_node"})


def _line_graphs(generator: torch.Generator, number: int) -> Situation:
    """ALIGNN: the nodes of the line graph are the edges, its edges are rows of their own."""
    graphs: list[Any] = []
    for _ in range(number):
        graph = _molecule(generator)
        graph.edge_attr = torch.randn(graph.num_edges, 2, generator=generator)
        graph.lg_edge_index = torch.stack(paths(graph.edge_index))
        graph.lg_edge_attr = torch.randn(graph.lg_edge_index.shape[1], 2, generator=generator)
        graphs.append(graph)
    return Situation(
        graphs, {"lg_edge": ["lg_edge_index", "lg_edge_attr"]}, {"lg_edge": 130}, {"lg_edge_index": "edges"}
    )


def _budgeted(generator: torch.Generator, number: int) -> Situation:
    """A model that builds its edges on the device: how many it will build is limited, no row of them is stored."""
    found = _triplets(generator, number)
    for graph in found.graphs:
        graph.n_built = graph.num_nodes**2
    return Situation(found.graphs, found.axes, found.num, found.index, {"n_built": 70})


SITUATIONS = {
    "triplets": _triplets,
    "quadruplets": _quadruplets,
    "reverse edges": _reverse,
    "labelled edges": _labels,
    "faces": _faces,
    "pairs": _pairs,
    "line graphs": _line_graphs,
    "budget": _budgeted,
}
