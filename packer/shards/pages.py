"""The bytes of one block: a data page a column, one after the other, and nothing else.

Our files are plain Parquet, but of the narrowest kind: required fixed-size-binary columns, plain encoding, one page a
column and row group. So a block's pages follow from the columns alone, a decompressed page is the array itself, and
reading needs neither the Parquet footer nor a parser that trusts the numbers it finds.
"""

from __future__ import annotations

import zlib
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.files.parquet.headers import page_header, skip_chunk
from packer.files.parquet.thrift import Bytes
from packer.packs.columns import Column

CODECS = {"none": None, "lz4": "lz4_raw", "zstd": "zstd"}
"""Compression by our name -> pyarrow's name of the codec that reads it."""

_PLAIN, _DATA_PAGE = 0, 0


class StoredColumn(NamedTuple):
    """What decoding needs of a column. width: bytes of one pack; compressed: by the data set's codec, if it has one."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    width: int
    compressed: bool


class BlockFormat(NamedTuple):
    """What is the same for all blocks of a data set."""

    columns: tuple[StoredColumn, ...]
    packs_per_block: int
    compression: str


class Page(NamedTuple):
    """Where the payload of a column lies in its block, and the checksum that its header states."""

    column: StoredColumn
    header: int
    start: int
    stop: int
    crc32: int | None


def block_format(
    columns: Iterable[Column], packs_per_block: int, compression: str, uncompressed: Sequence[str] = ()
) -> BlockFormat:
    """The format of blocks with these pack columns; uncompressed: names of those that the codec would hardly shrink."""
    stored = (StoredColumn(c.name, np.dtype(c.storage), c.shape, c.width, c.name not in uncompressed) for c in columns)
    return BlockFormat(tuple(stored), packs_per_block, compression)


def walk_pages(data: Bytes, start: int, rows: int, columns: Sequence[StoredColumn]) -> Iterator[Page]:
    """The pages of a block's columns, in order, from data[start:] to its end; columns of zero bytes have none.

    Every header must say what `columns` and `rows` demand. Raises FormatError naming the column.
    """
    view = memoryview(data)
    at, end = start, len(data)
    for column in columns:
        if column.width == 0:
            continue
        at = skip_chunk(view, at)
        header = at
        page_head, at = page_header(view, at)
        page: Any = page_head.get(5)
        size: int = page_head[3]
        layout = (page_head[1], page_head[2], page[1], page[2]) if page is not None and 7 not in page_head else None
        if layout != (_DATA_PAGE, rows * column.width, rows, _PLAIN):
            raise FormatError(f"column {column.name}: not a plain data page of {rows} rows of {column.width} bytes")
        if not 0 <= size <= end - at:
            raise FormatError(f"column {column.name}: its page of {size} bytes goes on after the block's end")
        crc: int | None = page_head.get(4)
        yield Page(column, header, at, at + size, None if crc is None else crc & 0xFFFFFFFF)
        at += size
    if skip_chunk(view, at) != end:
        raise FormatError("more bytes follow the block's last column")


def decode_page(data: Bytes, page: Page, rows: int, codec: pa.Codec | None) -> np.ndarray:
    """[rows, *column.shape] in storage dtype. Without a codec it is a view of `data` (where aligned).

    No more memory is taken than the array's own. Raises FormatError.
    """
    column = page.column
    size = rows * column.width
    if codec is None or not column.compressed:
        if page.stop - page.start != size:
            raise FormatError(f"column {column.name}: {page.stop - page.start} bytes stored, {size} expected")
        flat = np.frombuffer(data, column.dtype, size // column.dtype.itemsize, page.start)
        flat = flat if flat.flags.aligned else flat.copy()
    else:
        try:
            raw = codec.decompress(memoryview(data)[page.start : page.stop], decompressed_size=size)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise FormatError(f"column {column.name}: its page does not decompress: {error}") from error
        flat = np.frombuffer(raw, column.dtype)
    return flat.reshape(rows, *column.shape)


def check_page(data: Bytes, page: Page, rows: int, codec: pa.Codec | None) -> str | None:
    """What is wrong with a page's checksum or its length, else None."""
    crc32 = zlib.crc32(memoryview(data)[page.start : page.stop])
    if page.crc32 is None:
        return "its page has no checksum"
    if crc32 != page.crc32:
        return f"page checksum is {crc32:08x}, its header says {page.crc32:08x}"
    if codec is not None and page.column.compressed and codec.name != "zstd":
        # LZ4 does not say how much it decompresses to: it must not fit into one byte less.
        try:
            codec.decompress(memoryview(data)[page.start : page.stop], decompressed_size=rows * page.column.width - 1)
        except (OSError, ValueError, pa.ArrowException):
            return None
        return f"its page decompresses to less than {rows * page.column.width} bytes"
    return None


def empty_column(column: StoredColumn, rows: int) -> np.ndarray:
    """The array of a column without bytes."""
    return np.zeros((rows, *column.shape), dtype=column.dtype)
