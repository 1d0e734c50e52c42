"""Limits that may be worth using: a sweep over node slots, and edge and graph slots in the data's own proportions."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any, Mapping, Sequence, Union

import numpy as np

from packer.errors import LimitsError
from packer.graphs.axes import BUDGET, Axis, by_level
from packer.limits.pack_limits import PackLimits
from packer.limits.padding import NULL_GRAPHS, PADDING

RowBytes = Union[float, Mapping[str, float]]

_STEPS = 24
_EDGE_SHARES = (0.97, 1.0, 1.02, 1.05, 1.1)
_GRAPH_SHARES = (0.92, 1.0, 1.04, 1.1, 1.2, 1.4, 2.0)
_LARGEST_GRAPHS = 8
_MEAN_GRAPHS = 64
_LEAST_PACKS = 16
_FEW = 8


@dataclass(frozen=True)
class SweepRules:
    """What the limits of a sweep must keep; the meaning of each is told by `suggest_limits`."""

    null_graphs: str = "all"
    multiple_of: int = 1
    max_nodes: int | None = None
    num_graphs: tuple[int, int] | None = None
    memory_bytes_per_pack: float | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.null_graphs not in NULL_GRAPHS:
            raise LimitsError(f"null_graphs must be one of {', '.join(NULL_GRAPHS)}; got {self.null_graphs!r}")
        for name in ("multiple_of", "max_nodes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
                raise LimitsError(f"{name} must be a whole number above 0; got {value!r}")
        least = 1 + PADDING[self.null_graphs].graphs
        if self.num_graphs is not None and not least <= self.num_graphs[0] <= self.num_graphs[1]:
            raise LimitsError(f"num_graphs must be slots or (least, most), at least {least}; got {self.num_graphs}")
        most = self.memory_bytes_per_pack
        if most is not None and not most > 0:
            raise LimitsError(f"memory_bytes_per_pack must be a number above 0; got {most}")

    def allows(self, limits: PackLimits, axes: tuple[Axis, ...], pack_bytes: float) -> bool:
        """Whether neither nodes (of any type) nor bytes are too many."""
        most_nodes = np.inf if self.max_nodes is None else self.max_nodes
        most_bytes = np.inf if self.memory_bytes_per_pack is None else self.memory_bytes_per_pack
        slots = limits.slots(axes)
        nodes = [slots[axis.key] for axis in axes if axis.level == "node"]
        return pack_bytes <= most_bytes and all(number <= most_nodes for number in nodes)


@dataclass(frozen=True)
class Prices:
    """Tensor bytes of one slot: axis key -> bytes, and of a graph slot."""

    axes: Mapping[str, float]
    graph: float

    def of_pack(self, limits: PackLimits, axes: tuple[Axis, ...]) -> float:
        slots = limits.slots(axes)
        return sum(self.axes.get(key, 0.0) * slots[key] for key in slots) + self.graph * float(limits.num_graphs or 0)


def prices_of(axes: tuple[Axis, ...], node: RowBytes, edge: RowBytes, graph: float) -> Prices:
    """Numbers for all types of a level, or a dict by axis key; further axes are among `edge`, budgets cost nothing."""
    by_axis: dict[str, float] = {}
    for axis in axes:
        if axis.level == BUDGET:
            continue
        row_bytes = node if axis.level == "node" else edge
        if isinstance(row_bytes, Mapping) and axis.key not in row_bytes:
            level = "node" if axis.level == "node" else "edge"
            raise LimitsError(f"bytes_per_{level} has no entry for {axis.key!r}; it has {list(row_bytes)}")
        by_axis[axis.key] = float(row_bytes[axis.key] if isinstance(row_bytes, Mapping) else row_bytes)
    for name, value in [*by_axis.items(), ("graph", graph)]:
        if not (value >= 0 and np.isfinite(value)):
            raise LimitsError(f"the bytes of one {name} must be a number from 0 on; got {value}")
    if not sum(by_axis.values()) > 0:
        raise LimitsError("the bytes of nodes and edges are all 0: there is nothing to weigh limits by")
    return Prices(by_axis, float(graph))


def sweep(
    distinct: np.ndarray, count: np.ndarray, axes: tuple[Axis, ...], rules: SweepRules, prices: Prices
) -> list[PackLimits]:
    """Limits into which every graph fits, without repetition, by rising tensor bytes.

    distinct: int64 [sizes, axes]; count: int64 [sizes]. 24 sizes of packs, in equal ratios from the smallest that holds
    the largest graph to the larger of 8 such and 64 average graphs, but no more than a sixteenth of all (or what
    `rules` want); each with 5 edge and 7 graph limits around those that the mean graph suggests; then rounded. Where
    the rules leave none of them, or there are fewer than 16 graphs, also limits for the largest graph and little
    more. No randomness. Raises LimitsError where the rules allow nothing.
    """
    shape = _Shape.of(distinct, count, axes, rules.null_graphs)
    shares = list(product(_EDGE_SHARES, _GRAPH_SHARES))
    tried = [
        _limits(shape, rules, graphs, edge, graphs * slot) for graphs in _scales(shape, rules) for edge, slot in shares
    ]
    allowed = _allowed(tried, axes, rules, prices)
    if not allowed or shape.graphs < _LEAST_PACKS:
        # Packs for the largest graph and little more: mostly padding, unless there are few graphs.
        tried = [_limits(shape, rules, graphs, 1.0, few) for few in range(_FEW) for graphs in (0.0, float(few))]
        allowed.update(_allowed(tried, axes, rules, prices))
    if not allowed:
        raise LimitsError(_none_left(tried[0], axes, rules, prices))
    return sorted(allowed.values(), key=lambda limits: (prices.of_pack(limits, axes), limits.num_graphs, str(limits)))


def _allowed(
    tried: Sequence[PackLimits], axes: tuple[Axis, ...], rules: SweepRules, prices: Prices
) -> dict[tuple[Any, ...], PackLimits]:
    """By slots, those that the rules allow."""
    return {
        (*limits.slots(axes).values(), limits.num_graphs): limits
        for limits in tried
        if rules.allows(limits, axes, prices.of_pack(limits, axes))
    }


@dataclass(frozen=True)
class _Shape:
    """mean, most: float64 and int64 [axes], what a graph takes of a pack's capacity; graphs: how many there are."""

    axes: tuple[Axis, ...]
    mean: np.ndarray
    most: np.ndarray
    graphs: int

    @classmethod
    def of(cls, distinct: np.ndarray, count: np.ndarray, axes: tuple[Axis, ...], null_graphs: str) -> _Shape:
        padding = PADDING[null_graphs]
        row = np.array([padding.takes_a_row(axis.level) for axis in axes])
        need = np.maximum(distinct, row) - row
        weight = count.astype(np.float64) / float(count.sum())
        return cls(axes, weight @ need, need.max(axis=0), sum(count.tolist()))


def _scales(shape: _Shape, rules: SweepRules) -> np.ndarray:
    """How many average graphs a pack may hold: float64 [scales], rising."""
    heavy = shape.mean > 0
    holds = (shape.most[heavy] / shape.mean[heavy]).max(initial=1.0)
    least, most = max(2.0, holds), max(_LARGEST_GRAPHS * holds, float(_MEAN_GRAPHS))
    if rules.num_graphs is not None:
        low, high = rules.num_graphs
        least, most = max(1.0, 0.5 * low / max(_GRAPH_SHARES)), float(high)
    else:
        most = min(most, shape.graphs / _LEAST_PACKS)
    most = max(most, least)
    return np.unique(np.append(np.geomspace(least, most, _STEPS), holds if rules.num_graphs is not None else least))


def _limits(shape: _Shape, rules: SweepRules, graphs: float, edge_share: float, graph_slots: float) -> PackLimits:
    """Limits for the nodes of `graphs` average graphs, this share of their edges, and `graph_slots` for graphs; at
    least for the largest one."""
    padding = PADDING[rules.null_graphs]
    low, high = rules.num_graphs or (1 + padding.graphs, 2**31 - 1)
    slots = min(max(round(graph_slots) + padding.graphs, low), high)
    wide: dict[Axis, int] = {}
    for axis, mean, most in zip(shape.axes, shape.mean.tolist(), shape.most.tolist()):
        if axis.level == BUDGET:
            wide[axis] = _budget(axis, int(most), rules)
            continue
        share, reserved = edge_share if axis.level == "edge" else 1.0, padding.reserved(axis.level, slots)
        needed = max(int(np.ceil(graphs * mean * share)), most) + reserved
        rounded = max(round(needed / rules.multiple_of), -(-(most + reserved) // rules.multiple_of)) * rules.multiple_of
        wide[axis] = max(rounded, rules.multiple_of)
    nodes, edges, num, budgets = by_level(wide)
    return PackLimits(nodes, edges, slots, rules.null_graphs, num, budgets)


def _budget(axis: Axis, most: int, rules: SweepRules) -> int:
    budget = rules.budgets.get(axis.key)
    if budget is None or budget < most:
        problem = "has no number" if budget is None else f"is {budget}, but one graph takes {most}"
        raise LimitsError(f"the budget of {axis.key!r} {problem}: pass budgets={{{axis.key!r}: NUMBER}} (--budget)")
    return budget


def _none_left(smallest: PackLimits, axes: tuple[Axis, ...], rules: SweepRules, prices: Prices) -> str:
    rules_set = {
        "multiple_of": rules.multiple_of if rules.multiple_of > 1 else None,
        "max_nodes": rules.max_nodes,
        "num_graphs": rules.num_graphs,
        "memory_bytes_per_pack": rules.memory_bytes_per_pack,
    }
    limits = ", ".join(f"{name}={value}" for name, value in rules_set.items() if value is not None)
    most = smallest.slots(axes)
    slots = ", ".join(f"{most[axis.key]:,} {axis.rows}" for axis in axes)
    return (
        f"no limits keep {limits}: the smallest that hold every graph are {slots} and {smallest.num_graphs} graphs, "
        f"{prices.of_pack(smallest, axes):,.0f} bytes a pack. Allow more, or leave the largest graphs out"
    )
