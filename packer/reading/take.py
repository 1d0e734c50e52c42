"""Take: from the numbers of some packs to one step, by arrays alone.

Packs lie side by side in stored dtypes, `x [P, N, F] uint8` and so on, wherever the step runs. `take` gathers those
asked for, widens them and joins them into one larger pack; with a table of slots it also puts other graphs of the same
size into their places (`packer.reading.redraw`). Shapes depend on how many packs are asked for and on nothing else, and
nothing is read back: it runs inside `jax.jit` and `torch.compile(fullgraph=True)` as it runs in numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping, NamedTuple

from packer.reading.array_ops import Ops

Arrays = Dict[str, Any]


class TakeAxis(NamedTuple):
    """Rows of one axis of a pack, and the arrays that say whose they are.

    batch: [P, nodes] the slot of each row, or of each node that edges start from; edge_index: [P, 2, rows] the edges'
    nodes, "" for other axes; first: [P, G+1] the first row of each slot, "" where nothing tells (and
    all rows are padding).
    """

    key: str
    rows: int
    batch: str
    edge_index: str
    first: str


class TakeColumn(NamedTuple):
    """One column of a step. kind: "field", "batch", "ptr", "mask" or "graph_ids"; for other columns than fields of
    graphs, axis is the key of whose rows they are. shape: of one pack; last: whether rows are its last dimension;
    targets: the axis of each entry of an index field; real_column: that of num_real which counts a mask."""

    name: str
    kind: str
    axis: str
    shape: tuple[int, ...]
    dtype: str
    last: bool = False
    targets: tuple[str, ...] = ()
    real_column: int = 0


@dataclass(frozen=True, eq=False)
class TakeLayout:
    """All that is known of packs before their values: columns of a step, axes by key, dtypes that arrays are carried
    in by name, graph slots of a pack, and the library."""

    ops: Ops
    columns: tuple[TakeColumn, ...]
    followed: tuple[tuple[str, str], ...]
    axes: Mapping[str, TakeAxis]
    carried: Mapping[str, str]
    num_graphs: int
    index_dtype: str


class _Moves(NamedTuple):
    """Where the graphs of a step come from, all of positions. slots: [k, G], through all packs; change: axis key
    -> [k, G], by how much the numbers of its rows grow; owner: axis key -> [k, rows], the slot of each row; pack, row:
    where it comes from."""

    slots: Any
    change: Arrays
    owner: Arrays
    pack: Arrays
    row: Arrays


def take(arrays: Mapping[str, Any], packs: Any, layout: TakeLayout, slots: Any = None) -> Arrays:
    """One step: the packs of these numbers, joined; name -> array as the loaders give it.

    arrays: name -> [P, *shape] in the dtypes of `layout.carried`, as `stored_arrays` makes them; packs: integers [k],
    -1 for the last one, which is the empty pack there. slots: integers [P, G], the slot (pack * G + slot) whose graph
    each slot takes, of the same size; None for packs as they are stored. Time and memory are those of the step.
    """
    ops = layout.ops
    packs = ops.cast(packs, ops.index, ops.index)
    packs = ops.where(packs < 0, packs + arrays["num_real"].shape[0], packs)
    taking = _Taking(arrays, packs, ops.arange(packs.shape[0], packs), layout)
    moves = None if slots is None else taking.moves(slots)
    step = {column.name: taking.column(column, moves) for column in layout.columns}
    for key, axis in layout.followed:
        step[f"{key}_batch"], step[f"{key}_ptr"] = taking.followed(axis)
    return step


class _Taking(NamedTuple):
    """One call: packs and step are the numbers of the packs, there and in the step, [k]."""

    arrays: Mapping[str, Any]
    packs: Any
    step: Any
    layout: TakeLayout

    def positions(self, name: str) -> Any:
        """An array of the packs taken, as positions."""
        ops = self.layout.ops
        return ops.cast(ops.rows(self.arrays[name], self.packs), self.layout.carried[name], ops.index)

    def of_slot(self, values: Any, owner: Any) -> Any:
        """values [k, slots], owner [k, rows] -> the value of each row's slot: [k, rows]."""
        k, slots = values.shape
        return self.layout.ops.rows(values.reshape(k * slots), owner + self.step[:, None] * slots)

    def owner(self, axis: TakeAxis) -> Any:
        """The slot of each row of the packs: [k, rows]."""
        slots = self.positions(axis.batch)
        if not axis.edge_index:
            return slots
        ops = self.layout.ops
        starts = ops.rows(self.arrays[axis.edge_index][:, 0], self.packs)
        return self.of_slot(slots, ops.cast(starts, self.layout.carried[axis.edge_index], ops.index))

    def moves(self, slots: Any) -> _Moves:
        ops, graphs = self.layout.ops, self.layout.num_graphs
        source = ops.cast(ops.rows(slots, self.packs), ops.index, ops.index)
        source_pack = source // graphs
        moves = _Moves(source, {}, {}, {}, {})
        for key, axis in self.layout.axes.items():
            if not axis.first:
                continue
            first = self.positions(axis.first)[:, :-1]
            firsts = self.arrays[axis.first]
            at = ops.rows(firsts.reshape(firsts.shape[0] * (graphs + 1)), source + source_pack)
            change = first - ops.cast(at, self.layout.carried[axis.first], ops.index)
            owner = self.owner(axis)
            rows = ops.arange(axis.rows, self.packs)[None, :]
            moves.change[key], moves.owner[key] = change, owner
            moves.pack[key] = self.of_slot(source_pack, owner)
            moves.row[key] = rows - self.of_slot(change, owner)
        return moves

    def column(self, column: TakeColumn, moves: _Moves | None) -> Any:
        ops, layout, k = self.layout.ops, self.layout, self.packs.shape[0]
        if column.kind == "mask":
            real = ops.rows(self.arrays["num_real"], self.packs)[:, column.real_column]
            slots = ops.arange(column.shape[0], self.packs)
            return (slots[None, :] < real[:, None]).reshape(k * column.shape[0])
        if column.kind == "ptr":
            return self.joined_ptr(column.name, layout.axes[column.axis].rows, column.dtype)
        values = ops.cast(self.values(column, moves), layout.carried[column.name], column.dtype)
        if column.kind == "batch":
            values = values + ops.cast(self.step * layout.num_graphs, ops.index, column.dtype)[:, None]
        if column.targets:
            values = values + self.shift(column, moves)
        if column.last:
            lead, rows = column.shape[:-1], column.shape[-1]
            return ops.moveaxis(values, 0, -2).reshape(*lead, k * rows)
        return values.reshape(k * column.shape[0], *column.shape[1:])

    def values(self, column: TakeColumn, moves: _Moves | None) -> Any:
        """[k, *shape] as carried, the rows of each slot those of the graph that it takes."""
        ops, stored, shape = self.layout.ops, self.arrays[column.name], column.shape
        packs = stored.shape[0]
        if moves is None or column.kind == "batch":
            return ops.rows(stored, self.packs)
        if not column.axis:
            return ops.rows(stored.reshape(packs * shape[0], *shape[1:]), moves.slots)
        if column.axis not in moves.row:
            return ops.rows(stored, self.packs)
        pack, row = moves.pack[column.axis], moves.row[column.axis]
        if not column.last:
            return ops.rows(stored.reshape(packs * shape[0], *shape[1:]), pack * shape[0] + row)
        # Rows are the last dimension: one plane of them for each entry of the others.
        planes = math.prod(shape[:-1])
        plane = pack[:, None, :] * planes + ops.arange(planes, self.packs)[None, :, None]
        values = ops.rows(stored.reshape(packs * planes * shape[-1]), plane * shape[-1] + row[:, None, :])
        return values.reshape(row.shape[0], *shape)

    def shift(self, column: TakeColumn, moves: _Moves | None) -> Any:
        """What is added to numbers of rows: where their pack lies in the step, and their graph in the pack."""
        ops, layout = self.layout.ops, self.layout
        by_entry: list[Any] = []
        for target in column.targets:
            shift = (self.step * layout.axes[target].rows)[:, None]
            if moves is not None and not column.axis:
                shift = shift + moves.change[target]
            elif moves is not None and column.axis in moves.owner:
                shift = shift + self.of_slot(moves.change[target], moves.owner[column.axis])
            by_entry.append(ops.cast(shift, ops.index, column.dtype))
        entries = len(column.shape) - 1
        if not entries:
            return by_entry[0]
        if column.last:  # [k, entries, ..., rows]
            shift = ops.concat([shift[:, None, :] for shift in by_entry], axis=1)
            return shift.reshape(*shift.shape[:2], *[1] * (entries - 1), shift.shape[2])
        shift = ops.concat([shift[:, :, None] for shift in by_entry], axis=2)  # [k, rows, entries, ...]
        return shift.reshape(*shift.shape, *[1] * (entries - 1))

    def joined_ptr(self, name: str, rows: int, dtype: str) -> Any:
        """The pointers of the step: [k * G + 1]. Each pack's begin where the one before it ends."""
        ops, k = self.layout.ops, self.packs.shape[0]
        ptr = ops.cast(self.positions(name) + (self.step * rows)[:, None], ops.index, dtype)
        return ops.concat([ptr[0, :1], ptr[:, 1:].reshape(k * self.layout.num_graphs)])

    def followed(self, key: str) -> tuple[Any, Any]:
        """`NAME_batch` and `NAME_ptr` of a field on this axis, "" for fields of graphs."""
        ops, k, graphs = self.layout.ops, self.packs.shape[0], self.layout.num_graphs
        if not key:
            both = (ops.arange(k * graphs, self.packs), ops.arange(k * graphs + 1, self.packs))
            batch, ptr = (ops.cast(values, ops.index, self.layout.index_dtype) for values in both)
            return batch, ptr
        axis = self.layout.axes[key]
        batch = (self.owner(axis) + (self.step * graphs)[:, None]).reshape(k * axis.rows)
        ptr = self.joined_ptr(axis.first, axis.rows, self.layout.index_dtype)
        return ops.cast(batch, ops.index, self.layout.index_dtype), ptr
