"""Graphs on their way to a shard: rows of a graph table, with the position of each graph in its pack, as plain bytes.

A block of graphs is cut into one segment a shard; the shard's writer joins its segments of all blocks.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from packer.errors import FormatError
from packer.graphs.ragged import pointers
from packer.graphs.schema import Schema
from packer.graphs.table import GraphTable, stored_fields

Array = np.ndarray


class Routed(NamedTuple):
    """Graphs, and where each belongs. packs, positions: int64 [graphs], the pack in the data set and the slot in it."""

    table: GraphTable
    packs: np.ndarray
    positions: np.ndarray

    def in_pack_order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows of the table, pack after pack; offsets [packs+1] into them; number of each pack), int64."""
        rows = np.lexsort((self.positions, self.packs))
        first = np.flatnonzero(np.diff(self.packs[rows], prepend=-1))
        return rows, np.append(first, len(rows)), self.packs[rows[first]]


def cut(routed: Routed, shards: np.ndarray, num_shards: int) -> list[bytes]:
    """The graphs of each shard as bytes. shards: int64 [graphs], the shard of each; strings are left behind."""
    order = np.argsort(shards, kind="stable")
    bounds = np.searchsorted(shards[order], np.arange(num_shards + 1)).tolist()
    table = routed.table.select(order)
    by_graph = [routed.packs[order], routed.positions[order], table.source_ids]
    by_graph += [table.counts(axis.key) for axis in table.schema.axes]
    segments: list[bytes] = []
    for first, last in zip(bounds[:-1], bounds[1:]):
        ends = {key: (int(ptr[first]), int(ptr[last])) for key, ptr in table.ptr.items()}
        arrays = [np.array([last - first, *(stop - start for start, stop in ends.values())], dtype=np.int64)]
        arrays += [values[first:last] for values in by_graph]
        for field in stored_fields(table.schema):
            start, stop = (first, last) if field.axis is None else ends[field.axis.key]
            arrays.append(table.columns[field.key][start:stop])
        segments.append(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays) if last > first else b"")
    return segments


def read_segments(segments: Sequence[bytes], schema: Schema) -> Routed:
    """The graphs of some segments, in their order. Raises FormatError for what `cut` did not write."""
    axes, fields = schema.axes, stored_fields(schema)
    parts: list[list[Array]] = [[] for _ in range(3 + len(axes) + len(fields))]
    for segment in segments:
        if segment:
            for column, array in zip(parts, _arrays(segment, schema)):
                column.append(array)
    empty = [np.zeros(0, np.int64)] * (3 + len(axes)) + [np.zeros((0, *f.shape), dtype=f.storage) for f in fields]
    joined = [np.concatenate([*column, none]) for column, none in zip(parts, empty)]
    packs, positions, source_ids = joined[:3]
    ptr = {axis.key: pointers(count) for axis, count in zip(axes, joined[3:])}
    columns = {field.key: values for field, values in zip(fields, joined[3 + len(axes) :])}
    return Routed(GraphTable(schema, ptr, columns, {}, source_ids), packs, positions)


def _arrays(segment: bytes, schema: Schema) -> list[Array]:
    axes = schema.axes
    head = np.frombuffer(segment, np.int64, 1 + len(axes)).tolist()
    rows = {axis.key: total for axis, total in zip(axes, head[1:])}
    shapes = [((head[0],), np.dtype(np.int64))] * (3 + len(axes))
    shapes += [
        ((head[0] if field.axis is None else rows[field.axis.key], *field.shape), np.dtype(field.storage))
        for field in stored_fields(schema)
    ]
    at, arrays = 8 * len(head), []
    for shape, dtype in shapes:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if at + size > len(segment):
            raise FormatError(f"a segment of {len(segment)} bytes is cut short")
        arrays.append(np.frombuffer(segment, dtype, size // dtype.itemsize, at).reshape(shape))
        at += size
    return arrays
