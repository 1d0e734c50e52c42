"""`graphs.parquet`: one row a source graph, whether it is in a pack or not."""

from __future__ import annotations

import os
from typing import Any, Collection, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packer.errors import CONTRADICTION, FormatError, StoreError
from packer.files.atomic import AtomicFile, FileEntry
from packer.files.parquet.checks import MAX_GROUP_BYTES
from packer.files.parquet.flat_file import FlatParquet, WholeFile
from packer.files.parquet.structs import MAX_FOOTER_BYTES
from packer.files.protocol import Where
from packer.graphs.axes import BUDGET, Axis
from packer.graphs.schema import Schema
from packer.shards.manifest import GRAPHS, Manifest

STATUSES = ("packed", "trimmed", "skipped")
TOO_LARGE, TRIMMED = "larger than the limits", "trimmed to the limits"
"""Reasons: of a graph that fits no pack, and of one that was made to."""
_GROUP_ROWS = 1 << 16
_FIXED = {"id": pa.int64(), "pack": pa.int64(), "slot": pa.int32()}
_TEXTS = ("status", "reason")


def size_column(axis: Axis) -> str:
    """Column of a graph's size on an axis: num_nodes, num_triplets, "author/num_nodes", "budget/n_edges"."""
    return f"{BUDGET}/{axis.key}" if axis.level == BUDGET else axis.column(f"num_{axis.level}s")


def lost_column(axis: Axis) -> str:
    """Column of the rows that trimming took from a graph: lost_nodes, lost_edges, or "author/lost_nodes"."""
    return axis.column(f"lost_{axis.level}s")


def string_columns(schema: Schema) -> dict[str, str]:
    """String attribute -> its column: its own name, or "string/NAME" where another column is called so."""
    taken = {*_FIXED, *_TEXTS, *_number_columns(schema)}
    return {name: f"string/{name}" if name in taken or name.startswith("string/") else name for name in schema.strings}


def graphs_schema(schema: Schema) -> pa.Schema:
    """id, pack and slot (-1: in no pack), sizes as packed, what trimming took, status, reason ("": none), strings."""
    fields = [pa.field(name, dtype, nullable=False) for name, dtype in _FIXED.items()]
    fields += [pa.field(name, pa.int64(), nullable=False) for name in _number_columns(schema)]
    fields += [pa.field(name, pa.string(), nullable=False) for name in _TEXTS]
    fields += [pa.field(column, pa.string()) for column in string_columns(schema).values()]
    return pa.schema(fields)


def _number_columns(schema: Schema) -> list[str]:
    return [*map(size_column, schema.sized), *map(lost_column, schema.axes)]


def write_graphs(folder: str | os.PathLike[str], parts: Iterable[Mapping[str, Any]], schema: Schema) -> FileEntry:
    """Write graphs.parquet and give its manifest entry; on any error the folder is as it was.

    parts: column of `graphs_schema` -> numpy or Arrow array, for consecutive graphs, ids ascending over all parts.
    The bytes depend on the rows alone, not on how they are cut into parts. Raises FormatError, OSError.
    """
    target = graphs_schema(schema)
    file = AtomicFile(folder, GRAPHS)
    try:
        writer = pq.ParquetWriter(
            file,
            target,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
            data_page_version="1.0",
            version="2.6",
        )
        try:
            for group in _groups(_tables(parts, target)):
                writer.write_table(group, row_group_size=group.num_rows)
        finally:
            data = file.position
            writer.close()
        if file.position - data > MAX_FOOTER_BYTES:
            raise FormatError(
                f"{GRAPHS}: its footer takes {file.position - data} bytes; at most {MAX_FOOTER_BYTES} are read: too "
                f"many graphs of {len(target)} columns for one data set. Split it"
            )
    except BaseException:
        file.discard()
        raise
    return file.commit()


def _tables(parts: Iterable[Mapping[str, Any]], target: pa.Schema) -> Iterator[pa.Table]:
    last = -1
    for part in parts:
        if set(part) != set(target.names):
            raise FormatError(f"{GRAPHS} has columns {target.names}; got {sorted(part)}")
        columns = [_array(part[field.name], field) for field in target]
        ids = np.append(last, columns[0].to_numpy())
        if (np.diff(ids) <= 0).any():
            raise FormatError(f"{GRAPHS}: graph ids must ascend; {ids[:-1][np.diff(ids) <= 0][0]} is not the last")
        last = int(ids[-1])
        yield pa.Table.from_arrays(columns, schema=target)


def _array(values: Any, field: pa.Field) -> Any:
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, type=field.type)
    array = array.cast(field.type) if array.type != field.type else array
    if not field.nullable and array.null_count:
        raise FormatError(f"{GRAPHS}: column {field.name} has {array.null_count} rows without a value")
    return array


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Row groups of _GROUP_ROWS rows, fewer where these would hold too many bytes; independent of the parts."""
    held = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows > _GROUP_ROWS:
            yield from _split(held.slice(0, _GROUP_ROWS))
            held = held.slice(_GROUP_ROWS)
    if held is not None and held.num_rows:
        yield from _split(held)


def _split(group: pa.Table) -> Iterator[pa.Table]:
    group = group.combine_chunks()
    # Parquet adds 4 bytes a text; values count 8 more in the check on reading.
    if group.nbytes + 16 * group.num_rows * group.num_columns <= MAX_GROUP_BYTES // 4:
        yield group
    elif group.num_rows == 1:
        raise FormatError(f"{GRAPHS}: graph {group.column('id')[0].as_py()} has strings of {group.nbytes} bytes")
    else:
        half = group.num_rows // 2
        yield from _split(group.slice(0, half))
        yield from _split(group.slice(half))


def iter_graphs(
    where: Where,
    manifest: Manifest,
    columns: Collection[str] | None = None,
    verify: bool = True,
) -> Iterator[pa.RecordBatch]:
    """The rows of graphs.parquet, a row group at a time: bounded memory whatever its length.

    verify: compare the file's SHA-256 with the manifest's before the first row, and its numbers with the manifest's as
    they come: ids ascend, a graph is in a pack that there is or in none, sizes are those of what fits into a pack.
    Size, structure and number of rows are always checked. Raises FormatError.
    """
    target = graphs_schema(manifest.schema)
    checked = _Checked(manifest) if verify else None
    with WholeFile(where, GRAPHS, manifest.files[GRAPHS]) as checked_file:
        try:
            if verify:
                checked_file.check_sha256()
            file = FlatParquet(checked_file.file)
            if not file.schema.equals(target):
                raise FormatError(f"it has columns {file.schema.names[:20]}, not {target.names[:20]}")
            if file.rows != manifest.counts.graphs:
                raise FormatError(f"it has {file.rows} graphs, the manifest says {manifest.counts.graphs}")
            for table in file.tables(columns):
                for batch in table.combine_chunks().to_batches():
                    if checked is not None:
                        checked.check(batch)
                    yield batch
        except StoreError:
            raise
        except (FormatError, pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(f"{GRAPHS} is damaged: {error}") from error


class _Checked:
    """What readers of graphs.parquet index by, compared with the manifest, batch after batch."""

    def __init__(self, manifest: Manifest) -> None:
        slots = manifest.limits.slots(manifest.schema.sized)
        self._slots = {size_column(axis): slots[axis.key] for axis in manifest.schema.sized}
        self._packs, self._graphs = manifest.num_packs, int(manifest.limits.num_graphs or 1) - 1
        self._last = -1

    def check(self, batch: pa.RecordBatch) -> None:
        """Raises FormatError for the first number that contradicts the manifest."""
        column = {name: batch.column(name).to_numpy() for name in batch.schema.names if name in _FIXED}
        if "id" in column:
            ids = np.append(self._last, column["id"])
            if (np.diff(ids) <= 0).any():
                raise FormatError(f"graph {ids[1:][np.diff(ids) <= 0][0]} comes after {self._last}{CONTRADICTION}")
            self._last = int(ids[-1])
        for name, number in (("pack", self._packs), ("slot", self._graphs)):
            if name in column:
                self._compare(name, column[name], -1, number - 1)
        if "pack" not in column:
            return
        packed = column["pack"] >= 0
        if "slot" in column and ((column["slot"] >= 0) != packed).any():
            raise FormatError(f"a graph has a pack without a slot, or a slot without a pack{CONTRADICTION}")
        for name, number in self._slots.items():  # a graph in no pack may be of any size
            if name in batch.schema.names:
                self._compare(name, batch.column(name).to_numpy()[packed], 0, number)

    def _compare(self, name: str, values: np.ndarray, least: int, most: int) -> None:
        if len(values) and (values.min() < least or values.max() > most):
            bad = values[(values < least) | (values > most)][0]
            raise FormatError(f"{name} is {bad}, not from {least} to {most}{CONTRADICTION}")
