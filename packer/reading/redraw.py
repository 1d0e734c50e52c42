"""Redraws: other companions for every graph in each epoch, without a byte more to read.

Graphs of one size class (equal counts on every axis) may change places: no `ptr`, mask or count of a pack changes, only
which graph's rows stand there. A redraw permutes the graphs of one block inside their size classes, by a key alone, so
that any process that holds the block knows where each graph went. Under a key of swaps graphs of any sizes change
places (`packer.reading.swaps`), and packs are laid out anew.
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple

import numpy as np

from packer.errors import CONTRADICTION, FormatError
from packer.graphs.axes import Axis
from packer.graphs.schema import Field, Schema
from packer.graphs.table import stored_fields
from packer.hashing import id_hashes, key_of
from packer.limits.fit import need_of
from packer.limits.pack_limits import PackLimits
from packer.packs.materialise import Layout, first_rows, lay_out, slot_mask
from packer.reading.order import SWAPS, Redraw
from packer.reading.swaps import swapped_slots

_PURPOSE = 3  # the order of an epoch has the keys of purposes 1 and 2
_KEYS = (1 << 31) - 1
_SWAPPING = 1 << 31  # the bit that keys of swaps have
_ROWS_AT_ONCE = 1 << 15


def is_swapping(key: int) -> bool:
    """Whether a key of redraws is one of swaps."""
    return bool(key & _SWAPPING)


def redraw_key(seed: int, epoch: int, redraw: Redraw = True) -> int:
    """The key of an epoch's redraws, 1..2^32 - 1: it travels with the number of a pack in one 64-bit integer, and says
    whether they are swaps. 0 for no redraws."""
    if not redraw:
        return 0
    return 1 + key_of(seed, epoch, _PURPOSE) % _KEYS + (_SWAPPING if redraw == SWAPS else 0)


def needed_columns(schema: Schema) -> list[str]:
    """The columns that tell the sizes of all graphs of a pack: a redraw takes them whatever else is read."""
    names = [name for axis in schema.axes if axis.is_pointed for name in (axis.batch_name, axis.ptr_name)]
    names += [field.key for field in schema.edge_fields.values()]
    return [*names, *schema.budgets, "num_real"]


def redrawn(
    columns: Mapping[str, np.ndarray],
    schema: Schema,
    limits: PackLimits,
    block: int,
    key: int,
    into: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """A block's packs with their graphs redrawn: the same names, shapes and storage dtypes; inputs stay as they are.

    columns: name -> [packs, *shape] as stored, `needed_columns` among them; block: its number in the data set; key:
    see `redraw_key`. Node numbers are shifted to where their graph now lies. Columns of the layout (batch, ptr, masks,
    num_real) are the same arrays, or under a key of swaps those of the packs as they now are: what `materialise` makes
    of the same graphs. into: arrays that nobody needs any more, written to where they fit: memory that the process has
    already is faster than new. Randomness: (key, block) alone. Cost: about that of decoding the block.
    Raises FormatError for packs that contradict themselves.
    """
    slots = (_Slots.swapped if is_swapping(key) else _Slots.of)(columns, schema, limits, block, key)
    result = {**columns, **slots.layout}
    fields = [field for field in stored_fields(schema) if field.key in columns and columns[field.key].size]
    for field in fields:
        if field.axis is None:
            result[field.key] = _graph_values(columns[field.key], field, slots)
    for axis in schema.axes:
        row_fields = [field for field in fields if field.axis == axis]
        if row_fields and axis.key in slots.axes:  # of a type without edges all is padding, which stays
            result.update({field.key: _like(columns[field.key], (into or {}).get(field.key)) for field in row_fields})
            _move_rows(columns, result, row_fields, slots, axis.key)
    if "graph_ids" in columns:
        result["graph_ids"] = columns["graph_ids"].reshape(-1)[slots.source].reshape(columns["graph_ids"].shape)
    return result


def _like(values: np.ndarray, spare: np.ndarray | None) -> np.ndarray:
    fits = spare is not None and (spare.shape, spare.dtype) == (values.shape, values.dtype)
    return spare if spare is not None and fits and spare.flags.writeable else np.empty_like(values)


class _Rows(NamedTuple):
    """The rows of one axis. counts: int64 [slots], of each slot; origin: int64 [slots], the slot that its rows come
    from; moved: int64 [slots], how much farther those lie in their pack than its own. real: int64 [packs], the rows
    that are not padding, where padding moves too: every row of it is then that of `padding`, (pack, row)."""

    counts: np.ndarray
    origin: np.ndarray
    moved: np.ndarray
    real: np.ndarray | None = None
    padding: tuple[int, int] = (0, 0)


class _Slots(NamedTuple):
    """The graph slots of a block, pack after pack. source: int64 [slots], the slot whose graph each one takes; null
    slots take their own. axes: axis key -> rows, of axes that have any. firsts: axis key -> (int64 [slots] the
    first row of each slot in its pack, the same as it is stored). layout: columns of the layout that change.
    """

    packs: int
    source: np.ndarray
    axes: dict[str, _Rows]
    firsts: dict[str, tuple[np.ndarray, np.ndarray]]
    layout: dict[str, np.ndarray]

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], schema: Schema, limits: PackLimits, block: int, key: int) -> _Slots:
        """Graphs of one size change places."""
        packs, axes, real = _sizes(columns, schema)
        sizes = [*(count for count, _ in axes.values()), *_budgets(columns, schema)]
        source = source_slots(sizes, real, key_of(key, block))
        rows = {
            name: _Rows(count, source, first[source] - first) for name, (count, first) in axes.items() if count.any()
        }
        return cls(packs, source, rows, {name: (first, first) for name, (_, first) in axes.items()}, {})

    @classmethod
    def swapped(
        cls, columns: Mapping[str, np.ndarray], schema: Schema, limits: PackLimits, block: int, key: int
    ) -> _Slots:
        """Graphs of any sizes do."""
        packs, axes, is_real = _sizes(columns, schema)
        counts = {name: np.where(is_real, count, 0) for name, (count, _) in axes.items()}
        real = _real_rows(counts, is_real, packs)
        if not np.array_equal(real, columns["num_real"]):
            raise FormatError(f"num_real of a pack is not what its slots hold{CONTRADICTION}")
        sizes = np.stack([*counts.values(), *_budgets(columns, schema)], axis=1)
        source = _swapped(sizes, is_real.reshape(packs, -1), schema, limits, key_of(key, block))
        taken = {name: count[source[is_real]] for name, count in counts.items()}
        laid = lay_out(taken, np.concatenate([[0], np.cumsum(real[:, -1])]), schema.axes, limits)
        rows: dict[str, _Rows] = {}
        firsts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        layout = {"num_real": np.stack([*laid.real_rows.values(), laid.real], axis=1).astype(np.int32)}
        for axis in schema.axes:
            count, first = axes[axis.key]
            if axis.mask_name in columns:
                layout[axis.mask_name] = slot_mask(laid.real_rows[axis.key], columns[axis.mask_name].shape[1])
            if count.any():
                rows[axis.key] = _laid_rows(count, first, is_real, source, laid, axis.key)
            now = laid.first_rows(axis.key).reshape(-1)
            # Where nothing tells whose rows are whose all of them are padding, which stays.
            stored = first_rows(_pointers(count.reshape(packs, -1)), laid.real).reshape(-1) if count.any() else now
            firsts[axis.key] = now, stored
            if axis.is_pointed:
                batch, ptr = axis.batch_name, axis.ptr_name
                layout[ptr] = laid.ptr[axis.key].astype(columns[ptr].dtype)
                slots = np.tile(np.arange(len(count) // max(packs, 1), dtype=columns[batch].dtype), packs)
                layout[batch] = np.repeat(slots, laid.counts[axis.key].reshape(-1)).reshape(columns[batch].shape)
        return cls(packs, source, rows, firsts, layout)

    def change(self, target: str, origin: np.ndarray) -> np.ndarray:
        """int64 [slots]: by how much a slot's first row lies behind that of the slot `origin`, as it is stored."""
        first, stored = self.firsts[target]
        return first - stored[origin]


def _pointers(count: np.ndarray) -> np.ndarray:
    """int64 [packs, slots + 1], from [packs, slots]."""
    return np.concatenate([np.zeros((len(count), 1), dtype=np.int64), np.cumsum(count, axis=1)], axis=1)


def _real_rows(counts: Mapping[str, np.ndarray], is_real: np.ndarray, packs: int) -> np.ndarray:
    """What num_real says of packs: int64 [packs, axes + 1]."""
    return np.stack([rows.reshape(packs, -1).sum(axis=1) for rows in (*counts.values(), is_real)], axis=1)


def _swapped(sizes: np.ndarray, is_real: np.ndarray, schema: Schema, limits: PackLimits, key: int) -> np.ndarray:
    """`swapped_slots` of packs as they are stored: int64 [slots]. sizes: int64 [slots, sizes]; is_real: bool [packs,
    slots]."""
    need, capacity = need_of(sizes, schema.sized, limits)
    need = need.reshape(*is_real.shape, -1) * is_real[..., None]
    slack = capacity - need.sum(axis=1)
    if (slack < 0).any():
        raise FormatError(f"the graphs of a pack do not fit {limits}{CONTRADICTION}")
    # The last dimension counts graphs: as many stay in each pack.
    return swapped_slots(need[..., :-1], slack[:, :-1], np.count_nonzero(is_real, axis=1), key).reshape(-1)


def _laid_rows(
    count: np.ndarray, first: np.ndarray, is_real: np.ndarray, source: np.ndarray, laid: Layout, axis_key: str
) -> _Rows:
    """Rows of packs that are laid out anew. count, first: as they are stored."""
    padding = int((~is_real & (count > 0)).argmax())  # any will do; where there is none, none is wanted
    origin = np.where(is_real, source, padding)
    begins = laid.ptr[axis_key][:, :-1].reshape(-1)
    where = padding // laid.counts[axis_key].shape[1], int(first[padding])
    return _Rows(laid.counts[axis_key].reshape(-1), origin, first[origin] - begins, laid.real_rows[axis_key], where)


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

    @classmethod
    def of_sizes(cls, counts: list[np.ndarray], held: np.ndarray, num_slots: int) -> SizeClasses:
        """counts: int64 [graphs] for each axis with pointers, then edge axis (all 0 where nothing assigns its edges to
        graphs), then budget, pack after pack and slot after slot; held: int64 [packs], graphs of each; num_slots: of
        a pack."""
        real = (np.arange(num_slots) < held[:, None]).reshape(-1)
        return cls(len(held), real, _classes(counts).astype(np.uint32))

    def slots(self, block: int, key: int) -> np.ndarray:
        """The slot (pack * G + slot) whose graph each slot of a block takes under a key: int64 [packs, G]. Arguments
        are those of `redrawn`, which moves the rows; `take` moves them by this table."""
        drawn = _drawn(self.classes.astype(np.uint64), self.real, key_of(key, block))
        return drawn.reshape(self.packs, -1)


def _sizes(
    columns: Mapping[str, np.ndarray], schema: Schema
) -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Packs; axis key, in their order -> (int64 [slots] rows of each slot, int64 [slots] its first row); real: bool
    [slots]."""
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
    return packs, {axis.key: axes[axis.key] for axis in schema.axes}, real.reshape(-1)


def _budgets(columns: Mapping[str, np.ndarray], schema: Schema) -> list[np.ndarray]:
    """What each slot takes of each budget: int64 [slots]."""
    amounts = [columns[key].astype(np.int64).reshape(-1) for key in schema.budgets]
    for key, values in zip(schema.budgets, amounts):
        if values.min(initial=0) < 0 or values.max(initial=0) >= 2**31:
            raise FormatError(
                f"{key!r}, which has a budget, is below 0 or too large. Run graph-pack verify on the data set"
            )
    return amounts


def edge_pointers(batch: np.ndarray, index: np.ndarray, num_slots: int) -> np.ndarray:
    """The first edge of each slot of some packs, and the end: int32 [packs, slots + 1]. batch: [packs, nodes], the slot
    of each node that edges start from; index: [packs, 2, edges] as stored."""
    ptr = np.zeros((len(batch), num_slots + 1), dtype=np.int32)
    np.cumsum(_edges_of_slots(batch, index, num_slots), axis=1, out=ptr[:, 1:])
    return ptr


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
    counts = np.zeros((packs, num_slots), dtype=np.int64)
    if index is None or not index.size:
        return counts
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
        counts[pack[known], slot[known]] = np.diff(at, append=owner.size)[known]
    return counts


def _graph_values(values: np.ndarray, field: Field, slots: _Slots) -> np.ndarray:
    """A field of graphs, redrawn."""
    moved = np.take(_items(values, len(slots.source)), slots.source).view(values.dtype)
    moved = moved.reshape(len(slots.source), *field.shape)
    for entry, target in enumerate(field.targets if field.role == "index" else ()):
        _add(moved[:, entry] if field.shape else moved, slots.change(target, slots.source))
    return moved.reshape(values.shape)


def _move_rows(
    columns: Mapping[str, np.ndarray], into: Mapping[str, np.ndarray], fields: list[Field], slots: _Slots, key: str
) -> None:
    """Fill the columns of some fields of one axis, some packs at a time: what is written is still in the cache."""
    axis = slots.axes[key]
    num_rows, num_slots = int(axis.counts.sum()) // slots.packs, len(axis.counts) // slots.packs
    # By how much the row that a row comes from, among those of the block, lies behind its own place in its pack.
    moved = axis.origin // num_slots * num_rows + axis.moved
    changes = {target: slots.change(target, axis.origin) for field in fields for target in field.targets}
    planes = {field.key: _planes(columns[field.key], field, slots.packs * num_rows) for field in fields}
    step = max(1, _ROWS_AT_ONCE // num_rows)
    in_pack = np.arange(num_rows)
    for pack in range(0, slots.packs, step):
        stop = min(pack + step, slots.packs)
        part = slice(pack * num_slots, stop * num_slots)
        rows = np.repeat(moved[part], axis.counts[part]).reshape(-1, num_rows)
        rows += in_pack
        if axis.real is not None:
            rows[in_pack >= axis.real[pack:stop, None]] = axis.padding[0] * num_rows + axis.padding[1]
        shifts: dict[tuple[str, str], np.ndarray] = {}
        for field in fields:
            values = into[field.key][pack:stop]
            for target in field.targets:
                if (target, values.dtype.str) not in shifts:
                    change = changes[target][part].astype(values.dtype)
                    shifts[target, values.dtype.str] = np.repeat(change, axis.counts[part]).reshape(-1, num_rows)
            _move_field(values, planes[field.key], rows, [shifts[target, values.dtype.str] for target in field.targets])


def _move_field(values: np.ndarray, planes: list[np.ndarray], rows: np.ndarray, shifts: list[np.ndarray]) -> None:
    """Fill `values`, some packs of one field, from the rows [packs, rows] of its planes. shifts: of an index, one array
    like `rows` for each entry of its first dimension. Storage is unsigned and as narrow as the limits allow: a change
    below 0 wraps around to the right number."""
    if len(planes) == 1:
        np.take(planes[0], rows.reshape(-1), out=_items(values, rows.size), mode="clip")
        by_entry = values.reshape(*rows.shape, max(1, len(shifts)), -1)
        for entry, shift in enumerate(shifts):
            by_entry[:, :, entry] += shift[:, :, None]
        return
    by_plane = values.reshape(len(values), len(planes), -1)
    for number, plane in enumerate(planes):
        taken = np.take(plane, rows, mode="clip").view(values.dtype)
        if shifts:
            np.add(taken, shifts[number * len(shifts) // len(planes)], out=by_plane[:, number])
        else:
            by_plane[:, number] = taken


def _planes(values: np.ndarray, field: Field, rows: int) -> list[np.ndarray]:
    """A column as opaque items, one a row of all packs; of a field with its rows last, such a plane for each entry of
    its other dimensions."""
    number = math.prod(field.shape) if field.cat_dim == -1 else 1
    if number == 1:
        return [_items(values, rows)]
    by_entry = values.reshape(len(values), number, -1)
    return [_items(by_entry[:, entry], rows) for entry in range(number)]


def _items(values: np.ndarray, rows: int) -> np.ndarray:
    """An array as so many opaque items, one a row."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(f"V{flat.nbytes // rows}")


def _add(values: np.ndarray, change: np.ndarray) -> None:
    """values += change, along the leading dimensions. Storage is unsigned and as narrow as the limits allow: a change
    below 0 wraps around to the right number."""
    values += change.astype(values.dtype).reshape(*change.shape, *[1] * (values.ndim - change.ndim))
