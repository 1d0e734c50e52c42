"""Axes: what every graph has a number of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Tuple, Union

from packer.errors import PackerError

Type = Union[None, str, Tuple[str, str, str]]

MAX_AXES, MAX_FIELDS = 1000, 10_000
"""Node and edge types and further axes together; fields, and string attributes, of a data set."""
_MAX_NAME = 100
_TAKEN = ("node", "edge", "graph")

BUDGET = "budget"
"""The level of a number that each graph has and a pack limits the sum of, without rows."""


@dataclass(frozen=True)
class Axis:
    """Something every graph has a number of, and a pack a limit for.

    level: "node" or "edge", of one type in heterogeneous graphs (type None otherwise); or the name of a further axis
    ("triplet"), whose rows are neither; or "budget", and type the name of a number of each graph: an axis without rows.

    An edge axis names the node axes its `edge_index` points into by `type` = (source, relation, target).
    """

    level: str
    type: Type = None

    @property
    def key(self) -> str:
        """ "node", "edge", "triplet", or the type's name: the prefix of its columns in heterogeneous packs."""
        if self.type is None:
            return self.level
        return self.type if isinstance(self.type, str) else "__".join(self.type)

    @property
    def rows(self) -> str:
        """What errors and tables call them: "nodes", "author nodes", "triplets", "n_edges"."""
        if self.level == BUDGET:
            return self.key
        return f"{self.level}s" if self.type is None else f"{self.key} {self.level}s"

    @property
    def is_pointed(self) -> bool:
        """Whether packs have `batch` and `ptr` of its rows; whose edges are whose follows from `edge_index`."""
        return self.level not in ("edge", BUDGET)

    @property
    def mask_name(self) -> str:
        return f"{self.level}s_mask" if self.type is None else f"{self.key}/mask"

    @property
    def ptr_name(self) -> str:
        """The column of the first row of each slot, where `is_pointed`."""
        return self._of_rows("ptr")

    @property
    def batch_name(self) -> str:
        """The column of the slot of each row; of edges, that of the nodes that they start from."""
        if self.level != "edge":
            return self._of_rows("batch")
        return "batch" if self.type is None else f"{self.ends[0]}/batch"

    @property
    def ends(self) -> tuple[str, str]:
        """Keys of the node axes that an edge axis leads from and to."""
        if self.type is None:
            return "node", "node"
        assert not isinstance(self.type, str)
        return self.type[0], self.type[2]

    def column(self, name: str) -> str:
        """The pack column of attribute `name` on this axis."""
        return name if self.type is None else f"{self.key}/{name}"

    def _of_rows(self, name: str) -> str:
        return self.column(name) if self.level == "node" else f"{self.level}s_{name}"


HOMOGENEOUS = (Axis("node"), Axis("edge"))


def by_level(values: Mapping[Axis, Any]) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """What belongs to nodes, edges, further axes and budgets: of the first two the value itself, or a dict by type."""
    nodes, edges, num, budgets = {}, {}, {}, {}
    for axis, value in values.items():
        into: Any = {"node": nodes, "edge": edges, BUDGET: budgets}.get(axis.level, num)
        into[axis.level if into is num else axis.type] = value
    return nodes.get(None, nodes), edges.get(None, edges), num, budgets


def check_keys(axes: Iterable[Axis], error: type[PackerError]) -> None:
    """Raise `error` where a budget or further axis is called like another axis: keys tell them apart everywhere."""
    seen: dict[str, Axis] = {}
    for axis in axes:
        other = seen.setdefault(axis.key, axis)
        if other != axis:
            kinds = [f"a {one.level}" if one.type else f"the {one.rows}" for one in (other, axis)]
            raise error(f"{axis.key!r} names {kinds[0]} and {kinds[1]}: rename the attribute or the axis")


def check_names(num: Iterable[Any], budgets: Iterable[Any], error: type[PackerError]) -> None:
    """Raise `error` for names of further axes and budgets that packs cannot write or tell apart."""
    names, budgets = list(num), list(budgets)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or len(name) > _MAX_NAME:
            raise error(f"an axis is named by letters, digits and _, as 'triplet'; got {name!r}")
        if name.rstrip("s") in _TAKEN or name == BUDGET:
            raise error(f"{name!r} is no name for a further axis: every graph has nodes, edges and budgets already")
    taken = [name for name in budgets if name in (*_TAKEN, BUDGET)]
    if taken:
        raise error(f"{taken[0]!r} is no name for a budget: packs limit it already. Rename the attribute")
    twice = set(names) & set(budgets)
    if twice:
        raise error(f"{sorted(twice)[0]!r} is both an axis and a budget: rename the axis")
