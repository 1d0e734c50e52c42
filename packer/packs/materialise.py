"""Padded packs from a graph table and a plan, a block of packs at once, and graphs back from packs.

The layout follows from integers alone; rows then move as opaque items, and padding is written over the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np

from packer.errors import LimitsError, PlanError
from packer.graphs.axes import Axis
from packer.graphs.dtypes import pad_item
from packer.graphs.schema import Field, Schema
from packer.graphs.table import GraphTable, empty_table, stored_fields
from packer.limits.pack_limits import PackLimits
from packer.limits.padding import IN_PACKS
from packer.packs.columns import Column, pack_columns


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything lies in some packs: P packs of G graph slots, real graphs first in each.

    real: int64 [P], real graphs of each pack; slots: int64 [k], the graph slot of each real graph (pack * G + slot);
    counts: axis key -> int64 [P, G], rows of each slot, null graphs included: every row of a pack is some slot's;
    ptr: axis key -> int64 [P, G+1], the same accumulated; real_rows: axis key -> int64 [P].
    """

    real: np.ndarray
    slots: np.ndarray
    counts: Mapping[str, np.ndarray]
    ptr: Mapping[str, np.ndarray]
    real_rows: Mapping[str, np.ndarray]

    def first_rows(self, axis_key: str) -> np.ndarray:
        """The first row of each slot; of the first null graph for slots beyond the last row: int64 [P, G]."""
        return first_rows(self.ptr[axis_key], self.real)


def first_rows(ptr: np.ndarray, real: np.ndarray) -> np.ndarray:
    """See `Layout.first_rows`. ptr: int64 [P, G+1]; real: int64 [P]."""
    return np.where(ptr[:, :-1] < ptr[:, -1:], ptr[:, :-1], np.take_along_axis(ptr, real[:, None], axis=1))


def lay_out(
    counts: Mapping[str, np.ndarray], pack_offsets: np.ndarray, axes: tuple[Axis, ...], limits: PackLimits
) -> Layout:
    """Lay real graphs, given their counts in slot order (axis key -> int [k]), and null graphs into packs.

    pack_offsets: int64 [P+1]: pack p holds the graphs pack_offsets[p]:pack_offsets[p+1]. Under "all", padding is spread
    over the null graphs as evenly as possible, the first ones get one more; under "one" and "jraph", the first null
    graph has it all. Raises PlanError for a pack beyond the limits.
    """
    if limits.null_graphs == "none":
        raise LimitsError(f'null_graphs="none" is for planning only: packs need {IN_PACKS}')
    num_slots = limits.num_graphs
    assert num_slots is not None
    real = np.diff(pack_offsets)
    if len(real) and real.max() > num_slots - 1:
        pack = int(real.argmax())
        raise PlanError(
            f"pack {pack} holds {real[pack]} graphs; {num_slots} slots less 1 for padding allow {num_slots - 1}"
        )
    slots = np.arange(int(real.sum())) + np.repeat(np.arange(len(real)) * num_slots - pack_offsets[:-1], real)
    padding = limits.padding
    nulls = (num_slots - real if padding.each else np.ones_like(real))[:, None]
    null_number = np.arange(num_slots) - real[:, None]
    is_null = (null_number >= 0) & (null_number < nulls)
    capacity = limits.slots(axes)
    all_counts: dict[str, np.ndarray] = {}
    real_rows: dict[str, np.ndarray] = {}
    for axis in axes:
        rows = np.zeros(len(real) * num_slots, dtype=np.int64)
        rows[slots] = counts[axis.key]
        rows = rows.reshape(len(real), num_slots)
        real_rows[axis.key] = rows.sum(axis=1)
        spare = capacity[axis.key] - real_rows[axis.key][:, None]
        kept = nulls * padding.reserved(axis.level, 1)
        if (spare < kept).any():
            pack = int((spare < kept).argmax())
            raise PlanError(
                f"pack {pack} holds {real_rows[axis.key][pack]} rows of {axis.key!r}; a pack has {capacity[axis.key]}, "
                f"of which its {nulls[pack, 0]} null graphs need {kept[pack, 0]}"
            )
        rows += is_null * (spare // nulls + (null_number < spare % nulls))
        all_counts[axis.key] = rows
    ptr = {key: _row_pointers(rows) for key, rows in all_counts.items()}
    return Layout(real, slots, all_counts, ptr, real_rows)


def materialise(
    table: GraphTable, graph_ids: np.ndarray, pack_offsets: np.ndarray, limits: PackLimits
) -> dict[str, np.ndarray]:
    """The packs of one block, complete: every column of `pack_columns`, [packs, *column.shape] in its storage dtype.

    graph_ids: int64 [k], rows of the table in slot order; pack_offsets: int64 [packs+1] into it, from 0. The column
    `graph_ids` repeats these numbers, -1 for null graphs. Padding nodes and edges belong to null graphs; every padding
    edge is a self-loop on its null graph's first node. Cost: 10 to 20 microseconds for a pack of 256 nodes.
    Raises PlanError for a pack beyond the limits.
    """
    graph_ids = np.asarray(graph_ids, dtype=np.int64)
    pack_offsets = np.asarray(pack_offsets, dtype=np.int64)
    axes = table.schema.axes
    starts = {axis.key: table.ptr[axis.key][graph_ids] for axis in axes}
    counts = {axis.key: table.ptr[axis.key][graph_ids + 1] - starts[axis.key] for axis in axes}
    layout = lay_out(counts, pack_offsets, axes, limits)
    columns = {column.name: column for column in pack_columns(table.schema, limits)}
    packs: dict[str, np.ndarray] = {}
    fields: dict[str, list[Field]] = {axis.key: [] for axis in axes}
    for field in stored_fields(table.schema):
        if field.axis is not None:
            fields[field.axis.key].append(field)
    for axis in axes:
        axis_fields = fields[axis.key]
        real = slot_mask(layout.real_rows[axis.key], columns[axis.mask_name].shape[0])
        if axis_fields:
            rows = _source_rows(layout, axis.key, starts[axis.key])
            padding = np.flatnonzero(~real)
            shifts: dict[str, np.ndarray] = {}
            for field in axis_fields:
                moved = _move_rows(table.columns[field.key], rows, padding, pad_item(field))
                packs[field.key] = _arrange(moved, field, columns[field.key], layout, shifts)
        packs[axis.mask_name] = real
        if axis.is_pointed:
            for column in (columns[axis.batch_name], columns[axis.ptr_name]):
                packs[column.name] = _batch_or_ptr(layout, axis.key, column)
    for field in stored_fields(table.schema):
        if field.axis is None:
            packs[field.key] = _graph_values(table.columns[field.key][graph_ids], field, columns[field.key], layout)
    slots = columns["graph_ids"].shape[0]
    packs["graphs_mask"] = slot_mask(layout.real, slots)
    packs["num_real"] = np.stack([*layout.real_rows.values(), layout.real], axis=1).astype(np.int32)
    packs["graph_ids"] = np.full((len(layout.real), slots), -1, dtype=np.int64)
    packs["graph_ids"].reshape(-1)[layout.slots] = graph_ids
    return {name: packs[name] for name in columns}


def empty_pack(schema: Schema, limits: PackLimits) -> dict[str, np.ndarray]:
    """One pack of null graphs only, as `materialise` gives it."""
    return materialise(empty_table(schema), np.zeros(0, dtype=np.int64), np.zeros(2, dtype=np.int64), limits)


def slot_mask(real: np.ndarray, slots: int) -> np.ndarray:
    """True for real slots, False for padding: bool [packs, slots]. Real slots come first."""
    return np.arange(slots) < np.asarray(real)[:, None]


def _row_pointers(rows: np.ndarray) -> np.ndarray:
    ptr = np.zeros((len(rows), rows.shape[1] + 1), dtype=np.int64)
    np.cumsum(rows, axis=1, out=ptr[:, 1:])
    return ptr


def _source_rows(layout: Layout, axis_key: str, starts: np.ndarray) -> np.ndarray:
    """The table row that each row of the packs comes from: int64 [packs * rows]; anything for padding."""
    counts = layout.counts[axis_key].reshape(-1)
    shift = np.zeros(len(counts), dtype=np.int64)
    shift[layout.slots] = starts
    shift -= np.cumsum(counts) - counts
    rows = np.repeat(shift, counts)
    rows += np.arange(len(rows))
    return rows


def _move_rows(column: np.ndarray, rows: np.ndarray, padding: np.ndarray, pad: np.ndarray) -> np.ndarray:
    """Rows of a column, one for each entry of `rows`, with the padding value at `padding`: [len(rows), *shape]."""
    if not column.size:
        return np.full((len(rows), *column.shape[1:]), pad, dtype=column.dtype)
    flat = np.ascontiguousarray(column).reshape(len(column), -1)
    items = flat.view(f"V{flat.shape[1] * flat.itemsize}").reshape(-1)
    moved = np.empty(len(rows), dtype=items.dtype)
    np.take(items, rows, out=moved, mode="clip")  # padding points anywhere, also outside
    moved[padding] = np.full(column.shape[1:], pad, dtype=column.dtype).tobytes()
    return moved.view(column.dtype).reshape(len(rows), *column.shape[1:])


def _arrange(
    moved: np.ndarray, field: Field, column: Column, layout: Layout, shifts: dict[str, np.ndarray]
) -> np.ndarray:
    """Rows [packs * rows, *shape] as the pack's column: the joined dimension where it belongs, indices shifted."""
    packs = len(layout.real)
    moved = moved.reshape(packs, column.shape[field.cat_dim], *field.shape)
    arranged = np.moveaxis(moved, 1, -1) if field.cat_dim == -1 else moved
    if field.role != "index":
        return np.ascontiguousarray(arranged)
    assert field.axis is not None
    for target in field.targets:
        if target not in shifts:
            first = layout.first_rows(target).astype(column.storage).reshape(-1)
            shifts[target] = np.repeat(first, layout.counts[field.axis.key].reshape(-1)).reshape(packs, -1)
    return _shifted(arranged, field, column, shifts, 1 if field.cat_dim == -1 else 2)


def _shifted(
    local: np.ndarray, field: Field, column: Column, shifts: Mapping[str, np.ndarray], entry_dim: int
) -> np.ndarray:
    """Numbers of rows local to graphs, made local to packs. shifts: axis key -> [packs, rows]; entry_dim: where the
    first dimension of field.shape is in `local`, before (1) or after (2) the rows."""
    placed = np.empty((len(local), *column.shape), dtype=column.storage)
    if not field.shape:
        return np.add(local, shifts[field.targets[0]], out=placed, casting="unsafe")
    for entry, target in enumerate(field.targets):
        at = (slice(None),) * entry_dim + (entry,)
        inner = (None,) * (len(field.shape) - 1)
        shift = shifts[target]
        shift = shift[(slice(None), *inner, slice(None)) if entry_dim == 1 else (slice(None), slice(None), *inner)]
        np.add(local[at], shift, out=placed[at], casting="unsafe")
    return placed


def _graph_values(values: np.ndarray, field: Field, column: Column, layout: Layout) -> np.ndarray:
    """One row a real graph -> one row a slot."""
    packs = len(layout.real)
    pad = 0 if field.role == "index" else pad_item(field)
    placed = np.full((packs, *column.shape), pad, dtype=values.dtype)
    placed.reshape(packs * column.shape[0], *field.shape)[layout.slots] = values
    if field.role != "index":
        return placed
    return _shifted(placed, field, column, {key: layout.first_rows(key) for key in field.targets}, 2)


def _batch_or_ptr(layout: Layout, axis_key: str, column: Column) -> np.ndarray:
    if column.kind == "ptr":
        return layout.ptr[axis_key].astype(column.storage)
    counts = layout.counts[axis_key]
    slot_numbers = np.tile(np.arange(counts.shape[1], dtype=column.storage), len(counts))
    return np.repeat(slot_numbers, counts.reshape(-1)).reshape(len(counts), *column.shape)
