"""The graphs that packs hold, as a table again."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping

import numpy as np

from packer.graphs.axes import Axis
from packer.graphs.ragged import pointers
from packer.graphs.schema import Field, Schema
from packer.graphs.table import GraphTable, stored_fields
from packer.limits.pack_limits import PackLimits
from packer.packs.materialise import slot_mask


def unpack_table(packs: Mapping[str, np.ndarray], schema: Schema, limits: PackLimits) -> tuple[GraphTable, np.ndarray]:
    """The inverse of `materialise`: the real graphs of some packs in slot order, and their graph_ids int64 [k].

    packs: column name -> [packs, *column.shape], in storage or logical dtype (bfloat16 as uint16). The packs are
    trusted. Strings are not in packs: the table has none.
    """
    num_slots = limits.num_graphs
    assert num_slots is not None
    real = np.asarray(packs["num_real"]).astype(np.int64)
    slots = np.flatnonzero(slot_mask(real[:, -1], num_slots))
    capacity = limits.slots(schema.axes)
    masks = {axis.key: slot_mask(real[:, i], capacity[axis.key]) for i, axis in enumerate(schema.axes)}
    ptr: dict[str, np.ndarray] = {}
    owner: dict[str, np.ndarray] = {}
    for axis in schema.axes:
        if axis.is_pointed:
            ptr[axis.key] = np.asarray(packs[axis.ptr_name]).astype(np.int64)
            counts = np.diff(ptr[axis.key], axis=1)
            pack_slots = np.arange(counts.size)
            owner[axis.key] = np.repeat(pack_slots, counts.reshape(-1))[masks[axis.key].reshape(-1)]
        else:
            owner[axis.key] = _edge_owners(packs, axis, masks[axis.key], num_slots)
            counts = np.bincount(owner[axis.key], minlength=len(real) * num_slots).reshape(len(real), num_slots)
            ptr[axis.key] = np.cumsum(np.pad(counts, ((0, 0), (1, 0))), axis=1)
    counts = {key: np.bincount(owner[key], minlength=len(real) * num_slots)[slots] for key in owner}
    columns: dict[str, np.ndarray] = {}
    for field in stored_fields(schema):
        values = np.asarray(packs[field.key])
        if field.axis is None:
            values, of_slot = values.reshape(len(real) * num_slots, *field.shape)[slots], slots
        else:
            values = np.moveaxis(values, -1, 1) if field.cat_dim == -1 else values
            values, of_slot = values[masks[field.axis.key]], owner[field.axis.key]
        if field.role == "index":
            first = _per_target(field, {key: ptr[key][:, :-1].reshape(-1)[of_slot] for key in field.targets})
            values = values.astype(np.int64) - first
        columns[field.key] = values.astype(field.storage, copy=False)
    graph_ids = np.asarray(packs["graph_ids"]).reshape(-1)[slots].astype(np.int64)
    pointer = {axis.key: pointers(counts[axis.key]) for axis in schema.axes}
    return GraphTable(replace(schema, strings=()), pointer, columns, {}, graph_ids), graph_ids


def _edge_owners(packs: Mapping[str, np.ndarray], axis: Axis, mask: np.ndarray, num_slots: int) -> np.ndarray:
    """The graph slot (pack * G + slot) of each real edge: that of its source node."""
    key = axis.column("edge_index")
    if key not in packs:
        return np.zeros(0, dtype=np.int64)
    batch = np.asarray(packs[axis.batch_name])
    pack = np.repeat(np.arange(len(mask)), mask.sum(axis=1))
    return pack * num_slots + batch[pack, np.asarray(packs[key])[:, 0][mask]]


def _per_target(field: Field, firsts: Mapping[str, np.ndarray]) -> np.ndarray:
    """First rows [rows] by target axis -> what to subtract from index values [rows, *field.shape]."""
    if not field.shape:
        return firsts[field.targets[0]]
    stacked = np.stack([firsts[key] for key in field.targets], axis=1)
    return stacked.reshape(*stacked.shape, *(1,) * (len(field.shape) - 1))
