"""What scanning some consecutive graphs gives: flat arrays and statistics; and how blocks become a graph table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

import numpy as np
import pyarrow as pa

from packer.files.arrays import pack_arrays, unpack_arrays
from packer.graphs.dtypes import pad_item
from packer.graphs.ragged import pointers
from packer.graphs.schema import Field, Schema
from packer.graphs.table import GraphTable, TableWriter, concatenate, stored_fields
from packer.scan.statistics import Statistics


@dataclass(frozen=True, eq=False)
class RawBlock:
    """Some graphs of the source, in order, before anything is decided for the whole data set.

    ids: int64 [graphs], the graphs' numbers in the source; counts: axis key -> int64 [graphs]; columns: field key ->
    the values of the graphs that have the field, one after the other with the joined dimension first, in the block's
    own narrowest lossless dtype; present: field key -> bool [graphs], for fields that some graph of the block lacks;
    strings: key -> string array [graphs]; skipped: source id -> why the graph is not here (it has no nodes).
    """

    ids: np.ndarray
    counts: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    strings: Mapping[str, pa.Array]
    skipped: Mapping[int, str]
    statistics: Statistics

    def to_bytes(self) -> bytes:
        """The content of its file; equal blocks give equal bytes."""
        arrays: dict[str, np.ndarray] = {"ids": self.ids}
        for kind in ("counts", "columns", "present"):
            arrays.update((f"{kind}:{key}", values) for key, values in getattr(self, kind).items())
        for key, values in self.strings.items():
            arrays[f"strings:{key}"] = _packed_strings(values)
        plain = {"statistics": self.statistics.to_dict(), "skipped": [[i, self.skipped[i]] for i in self.skipped]}
        return pack_arrays(plain, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> RawBlock:
        """The inverse of to_bytes; its arrays are views of `data`. Raises FormatError for anything else."""
        head, arrays = unpack_arrays(data)
        parts: dict[str, dict[str, Any]] = {"counts": {}, "columns": {}, "present": {}, "strings": {}}
        for name, values in arrays.items():
            kind, _, key = name.partition(":")
            if key:
                parts[kind][key] = _unpacked_strings(values) if kind == "strings" else values
        skipped = dict(head["skipped"])
        return cls(arrays["ids"], skipped=skipped, statistics=Statistics.from_dict(head["statistics"]), **parts)


def narrowed(block: RawBlock, schema: Schema) -> GraphTable:
    """The block's graphs as a table of the data set's schema."""
    graphs = len(block.ids)
    counts = {axis.key: block.counts.get(axis.key, np.zeros(graphs, dtype=np.int64)) for axis in schema.axes}
    columns = {field.key: _column(block, field, counts) for field in stored_fields(schema)}
    missing = pa.nulls(graphs, pa.string())
    strings = {name: pa.chunked_array([block.strings.get(name, missing)], type=pa.string()) for name in schema.strings}
    return GraphTable(schema, {key: pointers(counts[key]) for key in counts}, columns, strings, block.ids)


def join_blocks(blocks: Iterable[RawBlock], schema: Schema, folder: Path | str | None = None) -> GraphTable:
    """The graphs of all blocks as one table: memory-mapped in `folder`, a block in memory at a time; or in memory."""
    if folder is None:
        return concatenate([narrowed(block, schema) for block in blocks])
    with TableWriter(folder, schema) as writer:
        for block in blocks:
            writer.append(narrowed(block, schema))
    return GraphTable.open(folder)


def _column(block: RawBlock, field: Field, counts: Mapping[str, np.ndarray]) -> np.ndarray:
    """One field of a block as [rows, *field.shape] in storage dtype; padding stands where a graph lacks the field."""
    graphs = len(block.ids)
    if field.role == "present":
        key = field.key[: -len("_present")]
        return block.present.get(key, np.full(graphs, key in block.columns))
    rows = counts[field.axis.key] if field.axis else np.ones(graphs, dtype=np.int64)
    present = block.present.get(field.key)
    values = block.columns.get(field.key)
    if values is None:
        present, values = np.zeros(graphs, dtype=bool), np.zeros((0, *field.shape), dtype=field.storage)
    elif field.form == "value" and field.shape:
        shape = field.shape
        number = graphs if present is None else int(present.sum())
        if field.cat_dim == -1:
            values = np.moveaxis(values.reshape(number, shape[-1], *shape[:-1]), 1, -1)
        values = values.reshape(number, *shape)
    if present is None:
        return values.astype(field.storage, copy=False)
    filled = np.full((int(rows.sum()), *field.shape), pad_item(field), dtype=field.storage)
    filled[np.repeat(present, rows)] = values
    return filled


def _packed_strings(values: pa.Array) -> np.ndarray:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([values], names=["s"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _unpacked_strings(packed: np.ndarray) -> pa.Array:
    return pa.ipc.open_stream(pa.py_buffer(packed)).read_all().column(0).combine_chunks()
