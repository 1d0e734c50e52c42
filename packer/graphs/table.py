"""Graphs as columns: pointers and flat arrays in storage dtype, in memory or memory-mapped from flat files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Mapping, Sequence, cast

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.files.checked import CheckedFolder
from packer.graphs.ragged import pointers, segments
from packer.graphs.schema import Schema
from packer.graphs.sizes import GraphSizes, with_columns

HASH_GRAPHS = 4096
"""Graphs a block of the content hash: fixed, so that the hash does not depend on how the work was divided."""

_FORMAT = "graph-packer table/1"


@dataclass(frozen=True, eq=False)
class GraphTable:
    """The graphs of a data set, in source order, as one array a field.

    ptr: axis key -> int64 [graphs+1]: graph i owns rows ptr[i]:ptr[i+1] of the fields on that axis. columns: field key
    -> [rows, *field.shape] in storage dtype, rows along the field's axis or one a graph; index fields hold numbers
    local to the graph, the joined dimension first (`edge_index` as [edges, 2]). strings: key -> string array [graphs],
    null where a graph has none. source_ids: int64 [graphs], the graphs' numbers in the source. Arrays may be mapped.
    """

    schema: Schema
    ptr: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray]
    strings: Mapping[str, pa.ChunkedArray]
    source_ids: np.ndarray

    @cached_property
    def num_graphs(self) -> int:
        return len(self.source_ids)

    def counts(self, axis_key: str) -> np.ndarray:
        """The size of each graph on an axis: int64 [graphs]."""
        if axis_key in self.ptr:
            return np.diff(self.ptr[axis_key])
        return self.columns[axis_key].astype(np.int64)  # a budget

    def sizes(self) -> GraphSizes:
        """What a plan looks at. Raises SizesError for a graph without nodes."""
        return with_columns(self.schema.sized, {axis.key: self.counts(axis.key) for axis in self.schema.sized})

    def select(self, graph_ids: np.ndarray) -> GraphTable:
        """The graphs `graph_ids` (int [k], repeats allowed) of this table, in that order, copied."""
        graph_ids = np.asarray(graph_ids, dtype=np.int64)
        counts = {axis.key: self.counts(axis.key)[graph_ids] for axis in self.schema.axes}
        rows = {key: segments(self.ptr[key][graph_ids], counts[key]) for key in counts}
        columns = {
            field.key: self.columns[field.key][graph_ids if field.axis is None else rows[field.axis.key]]
            for field in stored_fields(self.schema)
        }
        strings = {key: values.take(pa.array(graph_ids)) for key, values in self.strings.items()}
        return GraphTable(
            self.schema, {key: pointers(counts[key]) for key in counts}, columns, strings, self.source_ids[graph_ids]
        )

    def save(self, folder: Path | str) -> GraphTable:
        """Write to a folder, one flat file a column; gives the table as memory-mapped from there."""
        with TableWriter(folder, self.schema) as writer:
            writer.append(self)
        return GraphTable.open(folder)

    @classmethod
    def open(cls, folder: Path | str) -> GraphTable:
        """Memory-map a saved table. Raises FormatError for anything else."""
        folder = Path(folder)
        try:
            plain = json.loads((folder / "table.json").read_bytes())
            if plain["format"] != _FORMAT:
                raise FormatError(f"{folder} holds {plain['format']!r}, not {_FORMAT!r}")
            schema = Schema.from_dict(plain["schema"])
            arrays = {
                name: _mapped(folder / entry["file"], entry["dtype"], tuple(entry["shape"]))
                for name, entry in plain["arrays"].items()
            }
            with pa.memory_map(str(folder / "strings.arrow")) as source:
                strings = pa.ipc.open_file(source).read_all()
            return _assemble(schema, arrays, {name: strings.column(name) for name in schema.strings})
        except (OSError, KeyError, TypeError, json.JSONDecodeError, pa.ArrowInvalid) as error:
            raise FormatError(f"{folder} holds no complete graph table: {error}") from error

    def content_hash(self) -> str:
        """SHA-256, hexadecimal, of what the graphs are: independent of storage dtypes, padding values and workers."""
        return combine_hashes(
            self.schema, (self.block_hash(start) for start in range(0, max(self.num_graphs, 1), HASH_GRAPHS))
        )

    def block_hash(self, start: int) -> bytes:
        """SHA-256 digest of the columns, in logical dtype, of the graphs from `start` (a multiple of HASH_GRAPHS)."""
        stop = min(start + HASH_GRAPHS, self.num_graphs)
        digest = hashlib.sha256()
        for axis in self.schema.axes:
            digest.update(np.diff(self.ptr[axis.key][start : stop + 1]).astype("<i8").data)
        for field in stored_fields(self.schema):
            ptr = None if field.axis is None else self.ptr[field.axis.key]
            first, last = (start, stop) if ptr is None else (ptr[start], ptr[stop])
            logical = "<u2" if field.dtype == "bfloat16" else np.dtype(field.dtype).newbyteorder("<")
            rows = np.ascontiguousarray(self.columns[field.key][first:last], dtype=logical)
            digest.update(rows.reshape(-1).view(np.uint8).data)
        for name in self.schema.strings:
            for text in self.strings[name].slice(start, stop - start).to_pylist():
                encoded = b"" if text is None else text.encode()
                digest.update(b"-" if text is None else b"%d:" % len(encoded))
                digest.update(encoded)
        return digest.digest()


def combine_hashes(schema: Schema, block_hashes: Any) -> str:
    """The content hash from the block hashes, in the order of the graphs."""
    plain = schema.to_dict()
    for field in plain["fields"]:
        del field["storage"], field["pad"]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for block_hash in block_hashes:
        digest.update(block_hash)
    return digest.hexdigest()


def stored_fields(schema: Schema) -> list[Any]:
    """The fields that have a column."""
    return [field for field in schema.fields if field.role != "count"]


def empty_table(schema: Schema) -> GraphTable:
    """A table of no graph."""
    columns = {field.key: np.zeros((0, *field.shape), dtype=field.storage) for field in stored_fields(schema)}
    strings = {name: pa.chunked_array([], type=pa.string()) for name in schema.strings}
    ptr = {axis.key: np.zeros(1, dtype=np.int64) for axis in schema.axes}
    return GraphTable(schema, ptr, columns, strings, np.zeros(0, dtype=np.int64))


def concatenate(tables: Sequence[GraphTable]) -> GraphTable:
    """The graphs of tables of one schema, one after the other, in memory."""
    first = tables[0]
    counts = {key: np.concatenate([table.counts(key) for table in tables]) for key in first.ptr}
    columns = {key: np.concatenate([table.columns[key] for table in tables]) for key in first.columns}
    strings = {
        key: pa.chunked_array([chunk for table in tables for chunk in table.strings[key].chunks], type=pa.string())
        for key in first.strings
    }
    ids = np.concatenate([table.source_ids for table in tables])
    return replace(
        first, ptr={key: pointers(counts[key]) for key in counts}, columns=columns, strings=strings, source_ids=ids
    )


class TableWriter:
    """Appends tables of one schema to a folder; `table.json` comes when `with` ends without an error, and then the sums
    of all files (see `checked_files`), which `sums` names: all is on disk by then."""

    def __init__(self, folder: Path | str, schema: Schema) -> None:
        self.folder = Path(folder)
        self.schema = schema
        self.sums = 0
        self._into = CheckedFolder(self.folder)
        (self.folder / "table.json").unlink(missing_ok=True)
        names = ["source_ids"] + [f"ptr:{axis.key}" for axis in schema.axes]
        names += [f"column:{field.key}" for field in stored_fields(schema)]
        self._arrays: dict[str, dict[str, Any]] = {
            name: {"file": f"{number:03}.bin", "dtype": "int64", "shape": [0]} for number, name in enumerate(names)
        }
        for field in stored_fields(schema):
            self._arrays[f"column:{field.key}"].update(dtype=field.storage, shape=[0, *field.shape])
        self._files = {name: self._into.create(entry["file"]) for name, entry in self._arrays.items()}
        self._ends = {axis.key: 0 for axis in schema.axes}
        self._string_type = pa.schema([(name, pa.string()) for name in schema.strings])
        self._strings = pa.ipc.new_file(self._into.create("strings.arrow"), self._string_type)
        for axis in schema.axes:
            self._append(f"ptr:{axis.key}", np.zeros(1, dtype=np.int64))

    def append(self, table: GraphTable) -> None:
        """Add the graphs of `table` after those already there."""
        self._append("source_ids", table.source_ids)
        for key, ptr in table.ptr.items():
            self._append(f"ptr:{key}", ptr[1:] + self._ends[key])
            self._ends[key] += int(ptr[-1])
        for key, column in table.columns.items():
            self._append(f"column:{key}", column)
        if self.schema.strings and table.num_graphs:
            columns = [table.strings[name].combine_chunks() for name in self.schema.strings]
            self._strings.write_table(pa.Table.from_arrays(columns, schema=self._string_type))

    def put(self, name: str, values: np.ndarray) -> None:
        """Keep an array beside the table, as a .npy file under its sums."""
        np.save(cast(Any, self._into.create(name)), values)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is not None:
            self._into.discard()
            return
        self._strings.close()
        plain = {"format": _FORMAT, "schema": self.schema.to_dict(), "arrays": self._arrays}
        self._into.put("table.json", json.dumps(plain, indent=1).encode())
        self.sums = self._into.finish()

    def _append(self, name: str, values: np.ndarray) -> None:
        entry = self._arrays[name]
        assert list(values.shape[1:]) == entry["shape"][1:], name
        entry["shape"][0] += len(values)
        data = np.ascontiguousarray(values, dtype=entry["dtype"])
        self._files[name].write(data.reshape(-1).view(np.uint8))


def _assemble(schema: Schema, arrays: Mapping[str, np.ndarray], strings: Mapping[str, Any]) -> GraphTable:
    ptr = {axis.key: arrays[f"ptr:{axis.key}"] for axis in schema.axes}
    columns = {field.key: arrays[f"column:{field.key}"] for field in stored_fields(schema)}
    return GraphTable(schema, ptr, columns, strings, arrays["source_ids"])


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """A read-only view of a flat file; the map lives as long as the array."""
    expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if path.stat().st_size != expected:
        raise FormatError(f"{path} has {path.stat().st_size} bytes; its table says {expected}")
    if not expected:
        return np.zeros(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape).view(np.ndarray)
