"""Redraws: other companions for every graph in each epoch, without a byte more to read.

Graphs of one size class (equal counts on every axis) may change places: no `ptr`, mask or count of a pack changes, only
which graph's rows stand there. A redraw permutes the graphs of one block inside their size classes, by a key alone, so
that any process that holds the block knows where each graph went.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import numpy as np

from packer.errors import FormatError
from packer.fields import Axis, Field, Schema
from packer.graph_table import stored_fields
from packer.hashing import id_hashes, key_of

_PURPOSE = 3  # the order of an epoch has the keys of purposes 1 and 2
_KEYS = (1 << 31) - 1
_ROWS_AT_ONCE = 1 << 14


def redraw_key(seed: int, epoch: int) -> int:
    """The key of an epoch's redraws, 1..2^31 - 1: it travels with the number of a pack in one 64-bit integer."""
    return 1 + key_of(seed, epoch, _PURPOSE) % _KEYS


def needed_columns(schema: Schema) -> list[str]:
    """The columns that tell the sizes of all graphs of a pack: a redraw takes them whatever else is read."""
    names = [axis.column(name) for axis in schema.axes if axis.level == "node" for name in ("batch", "ptr")]
    known = {field.key for field in schema.fields}
    names += [axis.column("edge_index") for axis in schema.axes if axis.level == "edge"]
    return [name for name in names if name in known or not name.endswith("edge_index")] + ["num_real"]


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
        packs = len(columns["num_real"])
        axes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for axis in schema.axes:
            if axis.level == "node":
                ptr = columns[axis.column("ptr")].astype(np.int64)
                count = _checked(np.diff(ptr, axis=1), columns[axis.column("batch")].shape[1], axis)
                axes[axis.key] = count, ptr[:, :-1].reshape(-1)
        slots = len(next(iter(axes.values()))[0])
        for axis in schema.axes:
            if axis.level == "edge":
                count = _edges_of_slots(columns, axis, packs, slots // max(packs, 1))
                first = np.cumsum(count, axis=1) - count
                axes[axis.key] = _checked(count, int(count[:1].sum()), axis), first.reshape(-1)
        real = np.arange(slots // max(packs, 1)) < columns["num_real"][:, -1:]
        source = source_slots([count for count, _ in axes.values()], real.reshape(-1), key_of(key, block))
        return cls(packs, source, axes)

    def first_change(self, axis_key: str) -> np.ndarray:
        """int64 [slots]: by how much a slot's first row lies behind that of the slot that its graph comes from."""
        _, first = self.axes[axis_key]
        return first - first[self.source]


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
    slots = np.flatnonzero(real)
    sizes = _joint([count[slots] for count in counts])
    drawn = np.argsort(id_hashes(slots, key))  # hashes differ pairwise: any sort gives the same
    drawn = drawn[np.argsort(sizes[drawn], kind="stable")]
    in_order = np.argsort(sizes, kind="stable")
    source = np.arange(len(real))
    source[slots[in_order]] = slots[drawn]
    return source


def _joint(columns: list[np.ndarray]) -> np.ndarray:
    """One integer for each row of some columns of integers >= 0, the same for equal rows only: int64 [rows]."""
    joint = np.zeros(len(columns[0]), dtype=np.int64)
    span = 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        if span * width >= 1 << 62:
            joint = np.unique(joint, return_inverse=True)[1].reshape(-1)
            span = len(joint)
        joint = joint * width + column
        span *= width
    return joint


def _edges_of_slots(columns: Mapping[str, np.ndarray], axis: Axis, packs: int, num_slots: int) -> np.ndarray:
    """How many edges each slot has: int64 [packs, slots]. An edge is its source node's slot's, and the edges of a slot
    stand together."""
    found = np.zeros((packs, num_slots), dtype=np.int64)
    index = columns.get(axis.column("edge_index"))
    if index is None or not index.size:
        return found
    batch = columns["batch" if axis.type is None else f"{axis.ends[0]}/batch"]
    owner = np.take_along_axis(batch, np.minimum(index[:, 0], batch.shape[1] - 1, dtype=np.intp), axis=1)
    begins = np.ones(owner.shape, dtype=bool)
    np.not_equal(owner[:, 1:], owner[:, :-1], out=begins[:, 1:])
    at = np.flatnonzero(begins)
    pack, slot = at // owner.shape[1], owner.reshape(-1)[at]
    known = slot < num_slots
    found[pack[known], slot[known]] = np.diff(at, append=owner.size)[known]
    return found


def _graph_values(values: np.ndarray, field: Field, slots: _Slots) -> np.ndarray:
    """A field of graphs, redrawn."""
    found = _taken(_items(values), slots.source, field, values.dtype)
    if field.role == "index":
        _shift(found, field, {target: slots.first_change(target).astype(found.dtype) for target in field.targets})
    return found.reshape(values.shape)


def _move_rows(
    columns: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], fields: list[Field], slots: _Slots, key: str
) -> None:
    """Fill the columns of some fields of one axis, some packs at a time: what is written is still in the cache."""
    count, first = slots.axes[key]
    num_rows, num_slots = int(count.sum()) // slots.packs, len(count) // slots.packs
    start = first + np.repeat(np.arange(slots.packs) * num_rows, num_slots)
    from_rows = start[slots.source] - start
    items = {field.key: _items(_rows_first(columns[field.key], field)) for field in fields}
    changes = {target: slots.first_change(target) for field in fields for target in field.targets}
    step = max(1, _ROWS_AT_ONCE // num_rows)
    for pack in range(0, slots.packs, step):
        stop = min(pack + step, slots.packs)
        part = slice(pack * num_slots, stop * num_slots)
        rows = np.repeat(from_rows[part], count[part])
        rows += np.arange(pack * num_rows, stop * num_rows)
        for field in fields:
            moved = _taken(items[field.key], rows, field, columns[field.key].dtype)
            if field.role == "index":
                _shift(
                    moved,
                    field,
                    {
                        target: np.repeat(changes[target][part].astype(moved.dtype), count[part])
                        for target in set(field.targets)
                    },
                )
            packs = _rows_first(found[field.key][pack:stop], field)
            packs[...] = moved.reshape(packs.shape)


def _rows_first(values: np.ndarray, field: Field) -> np.ndarray:
    """[packs, *shape, rows] as [packs, rows, *shape], a view; what has rows in front already as it is."""
    return np.moveaxis(values, -1, 1) if field.cat_dim == -1 and values.ndim > 2 else values


def _items(values: np.ndarray) -> np.ndarray:
    """[packs, rows, *shape] as one opaque item a row, [packs * rows]."""
    flat = np.ascontiguousarray(values)
    rows = flat.shape[0] * flat.shape[1]
    return flat.reshape(-1).view(f"V{flat.nbytes // rows}")


def _taken(items: np.ndarray, rows: np.ndarray, field: Field, dtype: np.dtype[Any]) -> np.ndarray:
    """[rows, *shape]"""
    return np.take(items, rows).view(dtype).reshape(len(rows), *field.shape)


def _shift(values: np.ndarray, field: Field, changes: Mapping[str, np.ndarray]) -> None:
    """Add to node numbers [rows, *shape] how far their graph's first node has moved, [rows] for each target.

    Storage is unsigned and as narrow as the limits allow: a shift back wraps around to the right number.
    """
    for entry, target in enumerate(field.targets):
        part = values[:, entry] if field.shape else values
        part += changes[target].reshape(-1, *[1] * (part.ndim - 1))
