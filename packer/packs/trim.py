"""Graphs that fit no pack made smaller: nodes or edges drawn by a seed are left out, and what that costs is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterable, Mapping

import numpy as np

from packer.errors import FieldError, SizesError
from packer.graphs.axes import BUDGET, Axis
from packer.graphs.ragged import flat_rows, pointers
from packer.graphs.schema import Field, Schema
from packer.graphs.table import GraphTable, concatenate, stored_fields
from packer.hashing import row_hashes
from packer.limits.fit import reserved_beside_one
from packer.limits.pack_limits import PackLimits

TRIM = ("trim-nodes", "trim-edges", "trim-both")
"""Nodes go, with their edges; or edges; or nodes with their edges, and then edges."""


def room_for_one(axes: Iterable[Axis], limits: PackLimits) -> dict[str, int]:
    """Axis key -> the most rows that a graph alone in its pack may have."""
    axes = tuple(axes)
    slots = limits.slots(axes)
    return {
        axis.key: slots[axis.key] - reserved_beside_one(axis, limits) for axis in axes if slots[axis.key] is not None
    }


def trim(table: GraphTable, limits: PackLimits, policy: str, seed: int) -> tuple[GraphTable, dict[str, np.ndarray]]:
    """The table with every graph that is too large for a pack cut down to one, and the rows lost: axis key -> int64
    [graphs]. Rows that stay keep their order; numbers of nodes follow.

    Rows of further axes go with what they number, and then down to their limits unless nodes alone may go.

    policy "trim-nodes": as many nodes stay as the limits of nodes and of edges allow, so edges go with their nodes
    alone; "trim-edges": edges go; "trim-both": nodes go down to the limit of nodes, then edges. At least one node of
    each graph stays. Which rows go is a hash of (seed, source id, type, row) and so depends on nothing else. Time
    O(rows log rows) of the graphs that are cut. Raises SizesError for a graph that the policy cannot make fit, and
    FieldError where a node stays that points to one that goes.
    """
    assert policy in TRIM, policy
    room = room_for_one(table.schema.sized, limits)
    over = np.zeros(table.num_graphs, dtype=bool)
    for key, most in room.items():
        over |= table.counts(key) > most
    lost = {key: np.zeros(table.num_graphs, dtype=np.int64) for key in table.ptr}
    rows = np.flatnonzero(over)
    if not len(rows):
        return table, lost
    large = table.select(rows)
    cut = _Cut(large, room, seed)
    if policy == "trim-edges":
        cut.refuse("node", "remove edges only")
    else:
        cut.nodes(until_edges_fit=policy == "trim-nodes")
    if policy != "trim-nodes":
        cut.edges()
    cut.refuse("edge", "remove nodes only: too many edges lead from its first node left to itself")
    cut.others(policy)
    small = cut.apply()
    for key in lost:
        lost[key][rows] = large.counts(key) - small.counts(key)
    order = np.arange(table.num_graphs)
    order[rows] = table.num_graphs + np.arange(len(rows))
    return concatenate([table, small]).select(order), lost


class _Cut:
    """Which rows of some graphs stay. keep: axis key -> bool [rows]; owner: axis key -> int64 [rows], the graph."""

    def __init__(self, table: GraphTable, room: Mapping[str, int], seed: int) -> None:
        self.table, self.room = table, room
        numbers = np.arange(table.num_graphs)
        self.owner = {key: np.repeat(numbers, np.diff(ptr)) for key, ptr in table.ptr.items()}
        self.keep = {key: np.ones(len(owner), dtype=bool) for key, owner in self.owner.items()}
        self.drawn = {
            key: row_hashes(
                [table.source_ids[owner], np.full(len(owner), number), np.arange(len(owner)) - table.ptr[key][owner]],
                seed % 2**64,
            )
            for number, (key, owner) in enumerate(self.owner.items())
        }

    def nodes(self, until_edges_fit: bool) -> None:
        """Of each type the nodes drawn first stay, as many as there is room; with them their edges."""
        axes = self.table.schema.axes
        for axis in axes:
            if axis.level == "node":
                self._keep_first(axis.key)
        self._drop_rows()
        if not until_edges_fit:
            return
        # Nodes are taken in the order drawn, all types together; an edge comes with the later of its ends. The first
        # edge without room ends the taking.
        stop = np.full(self.table.num_graphs, np.iinfo(np.uint64).max)
        for axis in axes:
            if axis.level == "edge":
                np.minimum(stop, self._edge_without_room(axis), out=stop)
        for axis in axes:
            if axis.level == "node":
                self.keep[axis.key] &= self.drawn[axis.key] < stop[self.owner[axis.key]]
        self._drop_rows()

    def edges(self) -> None:
        """Of each type the edges drawn first stay, as many as there is room."""
        for axis in self.table.schema.axes:
            if axis.level == "edge":
                self._keep_first(axis.key)
        self._drop_rows()

    def others(self, policy: str) -> None:
        """Of each further axis the rows drawn first stay, as many as there is room. A budget cannot be trimmed to."""
        for axis in self.table.schema.sized:
            if axis.level in ("node", "edge"):
                continue
            if axis.is_pointed and policy != "trim-nodes":
                self._keep_first(axis.key)
                self._drop_rows()
            left = self._left(axis) if axis.is_pointed else self.table.counts(axis.key)
            if (left > self.room[axis.key]).any():
                may = "remove nodes only" if axis.is_pointed else "remove rows"
                self._raise(int(np.argmax(left > self.room[axis.key])), axis, may)

    def refuse(self, level: str, policy: str) -> None:
        """Raise SizesError for a graph that still has too many rows on an axis of this level, or no node."""
        nodes = np.zeros(self.table.num_graphs, dtype=np.int64)
        for axis in self.table.schema.axes:
            left = self._left(axis)
            nodes += left if axis.level == "node" else 0
            if axis.level == level and (left > self.room[axis.key]).any():
                self._raise(int(np.argmax(left > self.room[axis.key])), axis, policy)
        if not nodes.all():
            edges = next(axis for axis in self.table.schema.axes if axis.level == "edge")
            self._raise(int(np.argmin(nodes)), edges, policy)

    def apply(self) -> GraphTable:
        """The table of what stays."""
        table = self.table
        counts = {
            key: np.bincount(self.owner[key][keep], minlength=table.num_graphs) for key, keep in self.keep.items()
        }
        ptr = {key: pointers(counts[key]) for key in counts}
        new_rows = {key: np.cumsum(keep) - 1 - ptr[key][self.owner[key]] for key, keep in self.keep.items()}
        columns: dict[str, np.ndarray] = {}
        for field in stored_fields(table.schema):
            values = table.columns[field.key]
            keep = None if field.axis is None else self.keep[field.axis.key]
            if field.role == "index":
                stays, values = self._ends(field, new_rows)
                left = np.ones(len(values), dtype=bool) if keep is None else keep
                if not stays[left].all():
                    self._refuse_index(field, np.flatnonzero(left & ~stays)[0])
                values = values.astype(field.storage)
            columns[field.key] = values if keep is None else values[keep]
        return replace(table, ptr=ptr, columns=columns)

    def _left(self, axis: Axis) -> np.ndarray:
        """Rows of each graph that stay: int64 [graphs]."""
        return np.bincount(self.owner[axis.key][self.keep[axis.key]], minlength=self.table.num_graphs)

    def _keep_first(self, key: str) -> None:
        self.keep[key] &= _rank(self.drawn[key], self.keep[key], self.owner[key]) < self.room[key]

    def _drop_rows(self) -> None:
        """Rows go with the rows that they number: edges with their nodes, triplets with their edges, and so on."""
        fields = [f for f in stored_fields(self.table.schema) if f.role == "index" and f.level not in ("graph", "node")]
        before = -1
        while before != (before := sum(int(keep.sum()) for keep in self.keep.values())):
            for field in fields:
                self.keep[field.axis.key] &= self._ends(field, {})[0]

    def _edge_without_room(self, axis: Axis) -> np.ndarray:
        """The draw at which a graph's edges of this type no longer fit: uint64 [graphs], the largest for never."""
        drawn = np.zeros(len(self.keep[axis.key]), dtype=np.uint64)
        for field in stored_fields(self.table.schema):
            if field.role == "index" and field.axis == axis:
                for target, rows in self._rows(field):
                    if rows.size and self.table.schema.axis(target).level == "node":
                        np.maximum(drawn, self.drawn[target][rows].max(axis=1), out=drawn)
        keep, owner = self.keep[axis.key], self.owner[axis.key]
        beyond = keep & (_rank(drawn, keep, owner) >= self.room[axis.key])
        stop = np.full(self.table.num_graphs, np.iinfo(np.uint64).max)
        np.minimum.at(stop, owner[beyond], drawn[beyond])
        return stop

    def _rows(self, field: Field) -> list[tuple[str, np.ndarray]]:
        """(axis key, int64 [rows, entries] rows of that axis) for each target of an index field."""
        values = self.table.columns[field.key].astype(np.int64)
        owner = np.arange(self.table.num_graphs) if field.axis is None else self.owner[field.axis.key]
        if not field.shape:
            return [(field.targets[0], (values + self.table.ptr[field.targets[0]][owner])[:, None])]
        return [
            (target, flat_rows(values[:, entry]) + self.table.ptr[target][owner][:, None])
            for entry, target in enumerate(field.targets)
        ]

    def _ends(self, field: Field, new_rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(bool [rows]: every row that the row names stays; the values, renumbered where `new_rows` has any)."""
        values = self.table.columns[field.key]
        stays = np.ones(len(values), dtype=bool)
        ends: list[np.ndarray] = []
        for target, rows in self._rows(field):
            if rows.size:
                stays &= self.keep[target][rows].all(axis=1)
            if new_rows:
                ends.append(new_rows[target][rows] if rows.size else rows)
        if not new_rows or not ends:
            return stays, values
        return stays, np.stack(ends, axis=1).reshape(values.shape) if field.shape else ends[0][:, 0]

    def _raise(self, graph: int, axis: Axis, policy: str) -> None:
        instead = "'skip'" if axis.level == BUDGET else "'trim-both' or 'skip'"
        raise SizesError(
            f"graph {self.table.source_ids[graph]} has {self.table.counts(axis.key)[graph]} {axis.rows}; alone in a "
            f"pack it may have {self.room[axis.key]}, and cannot be trimmed to that by a policy to {policy}. Pass "
            f"oversize={instead} (--oversize), or raise the limits"
        )

    def _refuse_index(self, field: Field, row: Any) -> None:
        graph = int(row) if field.axis is None else int(self.owner[field.axis.key][row])
        row = _a(self.table.schema, field)
        raise FieldError(
            f"graph {self.table.source_ids[graph]}: {field.key!r} points to {row} that trimming removes: pass "
            "oversize='trim-edges' or 'skip' (--oversize), raise the limits, or exclude the attribute"
        )


def _a(schema: Schema, field: Field) -> str:
    """ "a node", "an edge": what an index points to."""
    level = schema.axis(field.targets[0]).level
    return f"an {level}" if level[0] in "aeiou" else f"a {level}"


def _rank(drawn: np.ndarray, keep: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The rank of each row in its graph by `drawn`, rows that are not kept after all others: int64 [rows]."""
    order = np.lexsort((drawn, ~keep, owner))
    rank = np.empty(len(order), dtype=np.int64)
    starts = np.searchsorted(owner, owner)  # owner ascends
    rank[order] = np.arange(len(order)) - starts[order]
    return rank
