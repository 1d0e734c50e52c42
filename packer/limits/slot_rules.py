"""How many slots follow from the sizes of graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple, Union

import numpy as np

from packer.errors import LimitsError
from packer.graphs.axes import BUDGET, Axis, by_level
from packer.graphs.sizes import GraphSizes
from packer.limits.padding import NULL_GRAPHS, PADDING

RULES = ("max", "mean", "batches")
"""How limits can follow from sizes, besides a share of the graphs."""
BATCHES = 1000
"""As many as a loader is asked for."""

NodeLimit = Union[int, None, Mapping[str, int]]
EdgeLimit = Union[int, None, Mapping[Tuple[str, str, str], int]]
Slots = Tuple[NodeLimit, EdgeLimit, Optional[int], str, Mapping[str, int], Mapping[str, int]]
"""What PackLimits takes, in its order."""


@dataclass(frozen=True)
class SlotRule:
    """Limits for `num_graphs` graph slots, the other slots following from the sizes of the graphs.

    by: "max": largest graph * (num_graphs - 1) + 1, so that any num_graphs - 1 graphs fit; a number q above 0 and up
    to 1: the same with the smallest size that a share q of the graphs does not exceed; "mean": mean * num_graphs,
    rounded down; "batches": the largest of the first 1,000 batches of num_graphs - 1 consecutive graphs, plus 1, which
    is what `PackLimits.from_loader` finds in an unshuffled PyG loader of such batches. Each is found for every node
    type and edge type by itself, and raised where null_graphs wants more. Under all but "max" and 1.0 single graphs
    may be too large. budgets: as of PackLimits, for they follow from nothing. Raises LimitsError.
    """

    num_graphs: int
    by: str | float = "max"
    null_graphs: str = "all"
    budgets: Mapping[str, int] = field(default_factory=dict)

    @property
    def first_graphs(self) -> int | None:
        """How many graphs from the first on decide, where their order matters; None: all do, in any order."""
        return BATCHES * (int(self.num_graphs) - 1) if self.by == "batches" else None

    def __post_init__(self) -> None:
        if isinstance(self.num_graphs, bool) or not hasattr(self.num_graphs, "__index__") or self.num_graphs < 2:
            raise LimitsError(
                f"num_graphs must be a whole number, at least 2, one of them for padding; got {self.num_graphs}"
            )
        is_share = isinstance(self.by, (int, float)) and 0 < self.by <= 1
        if self.by not in RULES and not is_share:
            raise LimitsError(
                f"by must be {', '.join(map(repr, RULES))} or a share above 0 and up to 1; got {self.by!r}"
            )
        if self.null_graphs not in NULL_GRAPHS:
            raise LimitsError(f"null_graphs must be one of {', '.join(NULL_GRAPHS)}; got {self.null_graphs!r}")

    def slots(self, sizes: GraphSizes) -> Slots:
        """What PackLimits takes, for graphs of these sizes."""
        graphs = int(self.num_graphs)
        count = sizes.count if sizes.count is not None else np.ones(len(next(iter(sizes.columns.values()))), np.int64)
        slots = {axis: self._slots(sizes.columns[axis.key], count) for axis in sizes.axes if axis.level != BUDGET}
        return (*with_padding(slots, graphs, self.null_graphs)[:-1], self.budgets)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        budgets = {"budgets": dict(self.budgets)} if self.budgets else {}
        return {"num_graphs": int(self.num_graphs), "by": self.by, "null_graphs": self.null_graphs, **budgets}

    def _slots(self, values: np.ndarray, count: np.ndarray) -> int:
        if self.by == "mean":
            total = sum(value * number for value, number in zip(values.tolist(), count.tolist()))
            return total * int(self.num_graphs) // sum(count.tolist())
        if self.by == "batches":
            most = BATCHES * (int(self.num_graphs) - 1)
            taken = np.diff(np.minimum(np.cumsum(np.minimum(count, most)), most), prepend=0)
            first = np.repeat(values, taken).astype(np.int64)
            return int(np.add.reduceat(first, np.arange(0, len(first), int(self.num_graphs) - 1)).max()) + 1
        share = 1.0 if self.by == "max" else float(self.by)
        order = np.argsort(values, kind="stable")
        below = np.cumsum(count[order])
        at = np.searchsorted(below, np.ceil(share * below[-1]))
        return int(values[order[at]]) * (int(self.num_graphs) - 1) + 1


def with_padding(slots: Mapping[Axis, int], graphs: int, null_graphs: str) -> Slots:
    """These slots, or as many more as `null_graphs` wants."""
    padding = PADDING[null_graphs]
    least = {axis: max(number, padding.least(axis.level, graphs)) for axis, number in slots.items()}
    nodes, edges, num, budgets = by_level(least)
    # Heterogeneous graphs that have no edge type at all take any number.
    return nodes, edges or graphs, graphs, null_graphs, num, budgets
