"""Limits from the data, where the user names none: some candidates are packed by a heuristic, the fullest packs win."""

from __future__ import annotations

from itertools import product

import numpy as np

from packer.limits import PackLimits
from packer.plan import make_plan
from packer.sizes import GraphSizes
from pipelines.build_plan import select_sizes

_SAMPLE = 20_000
_LEAST_NODES = 64
_EDGE_SLACK = (1.0, 1.04, 1.08, 1.15)
_GRAPH_SLACK = (1.15, 1.4, 2.0)
# Twice the slots are worth it only for so much more fill: large packs cost memory and make coarse steps.
_WORTH = 0.01


def choose_limits(sizes: GraphSizes) -> PackLimits:
    """Limits under which `sizes` packs well, null_graphs="all".

    Candidates: node slots of a power of two that holds the largest graph, and two and four times that; edge slots in
    the data's own ratio plus 0 to 15 %; graph slots for 1.15 to 2 times the mean number of graphs. Each is packed by
    best-fit-decreasing; of each number of node slots the candidate with the largest share of real node and edge rows is
    kept, and the smallest one that is within 1 % of the best is taken. At most 20,000 graphs are looked at, the
    largest of each axis among them. No randomness. Time: about a second.
    """
    sample = select_sizes(sizes, _sample_rows(sizes))
    node_rows = sum(sample.columns[axis.key] for axis in sample.axes if axis.level == "node")
    base = max(_LEAST_NODES, 1 << int(np.ceil(np.log2(1.25 * np.max(node_rows)))))
    best = [_best_of(sample, base * scale, float(np.mean(node_rows))) for scale in (1, 2, 4)]
    most = max(fill for fill, _ in best)
    return next(limits for fill, limits in best if fill >= most - _WORTH)


def _sample_rows(sizes: GraphSizes) -> np.ndarray:
    """Evenly spaced graphs, and the largest on each axis."""
    stride = -(-sizes.num_graphs // _SAMPLE)
    largest = [int(np.argmax(values)) for values in sizes.columns.values()]
    return np.union1d(np.arange(0, sizes.num_graphs, stride), largest)


def _best_of(sizes: GraphSizes, num_nodes: int, mean_nodes: float) -> tuple[float, PackLimits]:
    graphs = num_nodes / mean_nodes
    found = (_candidate(sizes, graphs, *slack) for slack in product(_EDGE_SLACK, _GRAPH_SLACK))
    return max(((_fill(sizes, limits), limits) for limits in found), key=lambda pair: pair[0])


def _candidate(sizes: GraphSizes, graphs: float, edge_slack: float, graph_slack: float) -> PackLimits:
    """Limits for `graphs` average graphs a pack."""
    num_graphs = 1 + max(1, int(np.ceil(graphs * graph_slack)))
    slots: dict[str, dict[object, int]] = {"node": {}, "edge": {}}
    for axis in sizes.axes:
        values = sizes.columns[axis.key]
        slack = edge_slack if axis.level == "edge" else 1.0
        wanted = int(np.ceil(graphs * float(np.mean(values)) * slack / 8)) * 8
        slots[axis.level][axis.type] = max(wanted, int(np.max(values)) + num_graphs - 1, num_graphs)
    nodes, edges = (found.get(None, found) for found in slots.values())
    return PackLimits(nodes, edges, num_graphs)  # pyright: ignore[reportArgumentType]


def _fill(sizes: GraphSizes, limits: PackLimits) -> float:
    """Share of real rows among the rows of all axes."""
    packs = make_plan(sizes, limits, "best-fit-decreasing").num_packs
    rows = sum(float(np.sum(values)) for values in sizes.columns.values())
    return rows / (packs * sum(limits.slots(sizes.axes).values()))
