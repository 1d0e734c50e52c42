"""Redraws: other companions for every graph in each epoch, without a byte more to read.

Graphs of one size class (equal counts on every axis) may change places: no `ptr`, mask or count of a pack changes, only
which graph's rows stand there. A redraw permutes the graphs of one block inside their size classes, by a key alone, so
that any process that holds the block knows where each graph went.
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple

import numpy as np

from packer.errors import FormatError
from packer.graphs.axes import Axis
from packer.graphs.schema import Field, Schema
from packer.graphs.table import stored_fields
from packer.hashing import id_hashes, key_of

_PURPOSE = 3  # the order of an epoch has the keys of purposes 1 and 2
_KEYS = (1 << 31) - 1
_ROWS_AT_ONCE = 1 << 16


def redraw_key(seed: int, epoch: int) -> int:
    """The key of an epoch's redraws, 1..2^31 - 1: it travels with the number of a pack in one 64-bit integer."""
    return 1 + key_of(seed, epoch, _PURPOSE) % _KEYS


def needed_columns(schema: Schema) -> list[str]:
    """The columns that tell the sizes of all graphs of a pack: a redraw takes them whatever else is read."""
    names = [name for axis in schema.axes if axis.is_pointed for name in (axis.batch_name, axis.ptr_name)]
    names += [field.key for field in schema.edge_fields.values()]
    return [*names, *schema.budgets, "num_real"]


def redrawn(columns: Mapping[str, np.ndarray], schema: Schema, block: int, key: int) -> dict[str, np.ndarray]:
    """A block's packs with their graphs redrawn: the same names, shapes and storage dtypes; inputs stay as they are.

    columns: name -> [packs, *shape] as stored, `needed_columns` among them; block: its number in the data set; key:
    see `redraw_key`. Node numbers are shifted to where their graph now lies. Columns of the layout (batch, ptr, masks,
    num_real) are the same arrays. Randomness: (key, block) alone. Cost: about that of decoding the block.
    Raises FormatError for packs that contradict themselves.
    """
    slots = _Slots.of(columns, schema, block, key)
    found = dict(columns)
    fields = [field for field in stored_fields(schema) if field.key in columns and columns[field.key].size]
    for field in fields:
        if field.axis is None:
            found[field.key] = _graph_values(columns[field.key], field, slots)
    for axis in schema.axes:
        own = [field for field in fields if field.axis == axis]
        if own and slots.axes[axis.key][0].any():  # of a type without edges all is padding, which stays
            found.update({field.key: np.empty_like(columns[field.key]) for field in own})
            _move_rows(columns, found, own, slots, axis.key)
    if "graph_ids" in columns:
        found["graph_ids"] = columns["graph_ids"].reshape(-1)[slots.source].reshape(columns["graph_ids"].shape)
    return found


class _Slots(NamedTuple):
    """The graph slots of a block, pack after pack. source: int64 [slots], the slot whose graph each one takes; null
    slots take their own. axes: axis key -> (int64 [slots] rows of each slot, int64 [slots] its first row in its pack).
    """

    packs: int
    source: np.ndarray
    axes: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], schema: Schema, block: int, key: int) -> _Slots:
        packs, axes, real = _sizes(columns, schema)
        sizes = [*(count for count, _ in axes.values()), *_budgets(columns, schema)]
        return cls(packs, source_slots(sizes, real, key_of(key, block)), axes)

    def first_change(self, axis_key: str) -> np.ndarray:
        """int64 [slots]: by how much a slot's first row lies behind that of the slot that its graph comes from."""
        _, first = self.axes[axis_key]
        return first - first[self.source]


class SizeClasses(NamedTuple):
    """All that redraws of a block need to know of it: 4 bytes a graph in place of its columns.

    packs: of the block; real: bool [slots]; classes: uint32 [real slots], the same for graphs of one size.
    """

    packs: int
    real: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], schema: Schema) -> SizeClasses:
        """columns: as for `redrawn`, with its errors."""
        packs, axes, real = _sizes(columns, schema)
        sizes = [*(count for count, _ in axes.values()), *_budgets(columns, schema)]
        return cls(packs, real, _classes([size[real] for size in sizes]).astype(np.uint32))

    def slots(self, block: int, key: int) -> np.ndarray:
        """What `slots_of_block` gives: int64 [packs, G]."""
        found = _drawn(self.classes.astype(np.uint64), self.real, key_of(key, block))
        return found.reshape(self.packs, -1)


def _sizes(
    columns: Mapping[str, np.ndarray], schema: Schema
) -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Packs; axis key -> (int64 [slots] rows of each slot, int64 [slots] its first row); real: bool [slots]."""
    packs = len(columns["num_real"])
    axes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for axis in schema.axes:
        if axis.is_pointed:
            ptr = columns[axis.ptr_name].astype(np.int64)
            count = _checked(np.diff(ptr, axis=1), columns[axis.batch_name].shape[1], axis)
            axes[axis.key] = count, ptr[:, :-1].reshape(-1)
    slots = len(next(iter(axes.values()))[0])
    for axis in schema.axes:
        if axis.level == "edge":
            index = columns.get(axis.column("edge_index"))
            count = _edges_of_slots(columns[axis.batch_name], index, slots // max(packs, 1))
            first = np.cumsum(count, axis=1) - count
            axes[axis.key] = _checked(count, int(count[:1].sum()), axis), first.reshape(-1)
    real = np.arange(slots // max(packs, 1)) < columns["num_real"][:, -1:]
    return packs, axes, real.reshape(-1)


def _budgets(columns: Mapping[str, np.ndarray], schema: Schema) -> list[np.ndarray]:
    """What each slot takes of each budget: int64 [slots]."""
    found = [columns[key].astype(np.int64).reshape(-1) for key in schema.budgets]
    for key, values in zip(schema.budgets, found):
        if values.min(initial=0) < 0 or values.max(initial=0) >= 2**31:
            raise FormatError(
                f"{key!r}, which has a budget, is below 0 or too large. Run graph-pack verify on the data set"
            )
    return found


def slots_of_block(columns: Mapping[str, np.ndarray], schema: Schema, block: int, key: int) -> np.ndarray:
    """The slot (pack * G + slot) whose graph each slot of a block takes under a key: int64 [packs, G]. Arguments and
    errors are those of `redrawn`, which moves the rows; `take` moves them by this table."""
    slots = _Slots.of(columns, schema, block, key)
    return slots.source.reshape(slots.packs, -1)


def edge_pointers(batch: np.ndarray, index: np.ndarray, num_slots: int) -> np.ndarray:
    """The first edge of each slot of some packs, and the end: int32 [packs, slots + 1]. batch: [packs, nodes], the slot
    of each node that edges start from; index: [packs, 2, edges] as stored."""
    found = np.zeros((len(batch), num_slots + 1), dtype=np.int32)
    np.cumsum(_edges_of_slots(batch, index, num_slots), axis=1, out=found[:, 1:])
    return found


def _checked(count: np.ndarray, rows: int, axis: Axis) -> np.ndarray:
    """int64 [slots], from [packs, slots]: how many of a pack's `rows` are each slot's. Nothing is sized by more."""
    if (count < 0).any() or (count.sum(axis=1) != rows).any():
        raise FormatError(
            f"a pack contradicts itself: its graph slots do not share its {rows} rows of {axis.key!r}. "
            "Run graph-pack verify on the data set"
        )
    return count.reshape(-1)


def source_slots(counts: list[np.ndarray], real: np.ndarray, key: int) -> np.ndarray:
    """The slot whose graph each slot takes, a permutation inside size classes: int64 [slots].

    counts: int64 [slots] for each axis; real: bool [slots], other slots take their own.
    """
    return _drawn(_classes([count[real] for count in counts]), real, key)


def _drawn(classes: np.ndarray, real: np.ndarray, key: int) -> np.ndarray:
    """The same for classes, uint64 [real slots], which it changes."""
    slots = np.flatnonzero(real).astype(np.uint64)
    low = max(1, int(len(real) - 1).bit_length())  # bits of a slot's number
    high = max(1, int(classes.max(initial=0)).bit_length())
    classes <<= np.uint64(64 - high)
    # One sort of whole numbers each, which is several times faster than an argsort: class, then draw, then slot.
    drawn = classes | id_hashes(slots, key) >> np.uint64(high + low) << np.uint64(low) | slots
    drawn.sort()
    in_order = classes | slots
    in_order.sort()
    mask = np.uint64((1 << low) - 1)
    source = np.arange(len(real))
    source[(in_order & mask).astype(np.intp)] = drawn & mask
    return source


def _classes(columns: list[np.ndarray]) -> np.ndarray:
    """One number below 2^28 (or the number of rows) for each row of some columns of integers >= 0, the same for equal
    rows only: uint64 [rows]."""
    joint = np.zeros(len(columns[0]), dtype=np.int64)
    span = 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        joint = joint * width + column
        span *= width
        if span > 1 << 28:  # a width is below 2^31: the next product would still fit, the one after it not
            joint = np.unique(joint, return_inverse=True)[1].reshape(-1)
            span = len(joint)
    return joint.astype(np.uint64)


def _edges_of_slots(batch: np.ndarray, index: np.ndarray | None, num_slots: int) -> np.ndarray:
    """How many edges each slot has: int64 [packs, slots]. An edge is its source node's slot's, and the edges of a slot
    stand together. batch: [packs, nodes]; index: [packs, 2, edges], None where there is none."""
    packs = len(batch)
    found = np.zeros((packs, num_slots), dtype=np.int64)
    if index is None or not index.size:
        return found
    num_rows, num_nodes = index.shape[2], batch.shape[1]
    step = max(1, _ROWS_AT_ONCE // num_rows)
    for first in range(0, packs, step):
        source = np.minimum(index[first : first + step, 0], num_nodes - 1, dtype=np.intp)
        source += np.arange(len(source))[:, None] * num_nodes
        owner = batch[first : first + step].reshape(-1).take(source)
        begins = np.ones(owner.shape, dtype=bool)
        np.not_equal(owner[:, 1:], owner[:, :-1], out=begins[:, 1:])
        at = np.flatnonzero(begins)
        pack, slot = first + at // num_rows, owner.reshape(-1)[at]
        known = slot < num_slots
        found[pack[known], slot[known]] = np.diff(at, append=owner.size)[known]
    return found


def _graph_values(values: np.ndarray, field: Field, slots: _Slots) -> np.ndarray:
    """A field of graphs, redrawn."""
    found = np.take(_items(values, len(slots.source)), slots.source).view(values.dtype)
    found = found.reshape(len(slots.source), *field.shape)
    for entry, target in enumerate(field.targets if field.role == "index" else ()):
        _add(found[:, entry] if field.shape else found, slots.first_change(target))
    return found.reshape(values.shape)


def _move_rows(
    columns: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], fields: list[Field], slots: _Slots, key: str
) -> None:
    """Fill the columns of some fields of one axis, some packs at a time: what is written is still in the cache."""
    count, first = slots.axes[key]
    num_rows, num_slots = int(count.sum()) // slots.packs, len(count) // slots.packs
    moved = first[slots.source] - first
    from_pack = slots.source // num_slots * num_rows
    changes = {target: slots.first_change(target) for field in fields for target in field.targets}
    # A field with its rows last is as many planes a pack as its other dimensions have entries; others are one.
    planes = {field.key: math.prod(field.shape) if field.cat_dim == -1 else 1 for field in fields}
    items = {field.key: _items(columns[field.key], slots.packs * planes[field.key] * num_rows) for field in fields}
    step = max(1, _ROWS_AT_ONCE // num_rows)
    for pack in range(0, slots.packs, step):
        stop = min(pack + step, slots.packs)
        part = slice(pack * num_slots, stop * num_slots)
        in_pack = np.tile(np.arange(num_rows), stop - pack)
        rows = {
            number: np.repeat(from_pack[part] * number + moved[part], count[part]) + in_pack
            for number in set(planes.values())
        }
        shifts = {target: np.repeat(change[part], count[part]) for target, change in changes.items()}
        for field in fields:
            number, values = planes[field.key], found[field.key][pack:stop]
            if number == 1:
                np.take(items[field.key], rows[1], out=_items(values, len(rows[1])), mode="clip")
            for plane in range(number if number > 1 else 0):
                taken = np.take(items[field.key], rows[number] + plane * num_rows, mode="clip")
                values.reshape(stop - pack, number, num_rows)[:, plane] = taken.view(values.dtype).reshape(-1, num_rows)
            if field.role == "index":
                _shift(values, field, shifts)


def _items(values: np.ndarray, rows: int) -> np.ndarray:
    """An array as so many opaque items, one a row."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(f"V{flat.nbytes // rows}")


def _shift(values: np.ndarray, field: Field, shifts: Mapping[str, np.ndarray]) -> None:
    """Node numbers, [packs, *shape, rows] or [packs, rows, *shape], moved with their graphs. shifts: int64
    [packs * rows] for each target."""
    packs = len(values)
    for entry, target in enumerate(field.targets):
        by_row = np.moveaxis(values, -1, 1) if field.cat_dim == -1 and field.shape else values  # [packs, rows, *shape]
        _add(by_row[:, :, entry] if field.shape else by_row, shifts[target].reshape(packs, -1))


def _add(values: np.ndarray, change: np.ndarray) -> None:
    """values += change, along the leading dimensions. Storage is unsigned and as narrow as the limits allow: a change
    below 0 wraps around to the right number."""
    values += change.astype(values.dtype).reshape(*change.shape, *[1] * (values.ndim - change.ndim))
