"""Blocks of packs in, one Parquet shard out: the same blocks give the same bytes."""

from __future__ import annotations

import os
import zlib
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packer.errors import FormatError
from packer.files import canonical
from packer.files.atomic import AtomicFile
from packer.files.parquet.structs import MAX_FOOTER_BYTES
from packer.graphs.schema import Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import Column, pack_columns
from packer.shards.layout import MAX_BLOCK_BYTES, MAX_BLOCK_PACKS, ZSTD_LEVEL
from packer.shards.manifest import FORMAT, ShardEntry
from packer.shards.pages import CODECS
from packer.shards.schema import check_schema

METADATA_KEY = b"graph-packer"

Block = Mapping[str, np.ndarray]


def shard_schema(schema: Schema, limits: PackLimits) -> pa.Schema:
    """The Arrow schema of every shard: a required binary column of fixed width a pack column that has bytes.

    Its metadata (JSON under "graph-packer") holds format, schema, limits and, for each pack column in order, name,
    kind, dtype, storage dtype and shape: enough to rebuild every tensor from the shard alone.
    """
    columns = pack_columns(schema, limits)
    about = {
        "format": FORMAT,
        "schema": schema.to_dict(),
        "limits": limits.to_dict(),
        "columns": [
            {"name": c.name, "kind": c.kind, "dtype": c.dtype, "storage": c.storage, "shape": list(c.shape)}
            for c in columns
        ],
    }
    fields = [pa.field(c.name, pa.binary(c.width), nullable=False) for c in columns if c.width]
    return pa.schema(fields, metadata={METADATA_KEY: canonical.dumps(about).encode()})


def write_shard(
    folder: str | os.PathLike[str],
    name: str,
    blocks: Iterable[Block],
    schema: Schema,
    limits: PackLimits,
    compression: str = "zstd",
    uncompressed: Sequence[str] = (),
) -> ShardEntry:
    """Write one shard and give its manifest entry; on any error the folder is as it was.

    blocks: column name -> [packs, *shape] in storage dtype; all as long as the first, the last may be shorter. They are
    taken one at a time. uncompressed: columns that are stored as they are. Raises FormatError for arrays that are not
    the columns of `schema` under `limits`, OSError.
    """
    columns = check_schema(schema, limits)
    if compression not in CODECS:
        raise FormatError(f"compression must be one of {', '.join(CODECS)}; got {compression!r}")
    file = AtomicFile(folder, name)
    sink = _Checked(file)
    try:
        codecs = {c.name: "none" if c.name in uncompressed else compression for c in columns if c.width}
        packs = _write_blocks(sink, blocks, columns, shard_schema(schema, limits), codecs)
        if not packs:
            raise FormatError(f"{name}: a shard holds at least one block")
        footer = file.position - sum(size for size, _ in sink.blocks)
        if footer > MAX_FOOTER_BYTES:
            raise FormatError(
                f"{name}: the footer of {len(sink.blocks)} blocks of {len(columns)} columns takes {footer} bytes; at "
                f"most {MAX_FOOTER_BYTES} are read. Make smaller shards"
            )
    except BaseException:
        file.discard()
        raise
    entry = file.commit()
    sizes, checksums = zip(*sink.blocks)
    return ShardEntry(name, packs, entry.bytes, entry.sha256, sizes, checksums, sink.crc32)


def _write_blocks(
    sink: _Checked, blocks: Iterable[Block], columns: Sequence[Column], schema: pa.Schema, codecs: Mapping[str, str]
) -> int:
    packs, full, last = 0, 0, 0
    by_column: Any = dict(codecs)
    levels: Any = {name: ZSTD_LEVEL for name, codec in codecs.items() if codec == "zstd"} or None
    writer = pq.ParquetWriter(
        sink,
        schema,
        compression=by_column,
        compression_level=levels,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        # One page a column and block, whatever their size.
        data_page_size=2**31 - 1,
        write_batch_size=MAX_BLOCK_PACKS,
        data_page_version="1.0",
        version="2.6",
    )
    try:
        for number, block in enumerate(blocks):
            table, rows = _table(block, columns, schema, number)
            full = full or rows
            if rows > full or last not in (0, full):
                raise FormatError(f"block {number} holds {rows} packs after blocks of {full} and {last}")
            writer.write_table(table, row_group_size=rows)
            sink.end_block()
            packs, last = packs + rows, rows
    finally:
        writer.close()
    return packs


def _table(block: Block, columns: Sequence[Column], schema: pa.Schema, number: int) -> tuple[pa.Table, int]:
    if set(block) != {column.name for column in columns}:
        raise FormatError(f"block {number} has columns {sorted(block)}, not {sorted(c.name for c in columns)}")
    rows = len(block[columns[0].name])
    if not 1 <= rows <= MAX_BLOCK_PACKS or rows * sum(c.width for c in columns) > MAX_BLOCK_BYTES:
        raise FormatError(
            f"block {number} has {rows} packs of {sum(c.width for c in columns)} bytes; "
            f"a block holds 1 to {MAX_BLOCK_PACKS} packs and at most {MAX_BLOCK_BYTES} bytes"
        )
    arrays: list[Any] = []
    for column in columns:
        values = np.asarray(block[column.name])
        if values.dtype != np.dtype(column.storage) or values.shape != (rows, *column.shape):
            raise FormatError(
                f"block {number}, column {column.name}: got {values.dtype} {list(values.shape)}, "
                f"not {column.storage} {[rows, *column.shape]}"
            )
        if column.width:
            data = pa.py_buffer(np.ascontiguousarray(values))
            arrays.append(pa.FixedSizeBinaryArray.from_buffers(pa.binary(column.width), rows, [None, data]))
    return pa.Table.from_arrays(arrays, schema=schema), rows


class _Checked:
    """A sink that also keeps the CRC-32 of each block, and of what follows the last one."""

    def __init__(self, file: AtomicFile) -> None:
        self._file = file
        self.blocks: list[tuple[int, int]] = []
        self.crc32 = 0
        self._start = 0

    def write(self, data: Any) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        return self._file.write(data)

    def end_block(self) -> None:
        self.blocks.append((self._file.position - self._start, self.crc32))
        self._start, self.crc32 = self._file.position, 0

    def tell(self) -> int:
        return self._file.position

    def flush(self) -> None:
        """Nothing is buffered here."""

    def close(self) -> None:
        """pyarrow's end of writing; `commit` finishes the file."""

    @property
    def closed(self) -> bool:
        return self._file.closed
