"""Page headers, and the column metadata that some writers repeat after a chunk."""

from __future__ import annotations

from packer.files.parquet.structs import COLUMN_CHUNK, MAX_CHUNK_BYTES, MAX_HEADER_BYTES, PAGE_HEADER
from packer.files.parquet.thrift import Struct, read_struct

_CHUNK_STARTS = 0x26
"""The first byte of a column chunk: field 2, a number of 64 bits. A page header starts with field 1."""


def page_header(data: memoryview, at: int) -> tuple[Struct, int]:
    """The page header at data[at:] and the position after it. Raises FormatError."""
    header, size = read_struct(bytes(data[at : at + MAX_HEADER_BYTES]), 0, PAGE_HEADER)
    return header, at + size


def skip_chunk(data: memoryview, at: int) -> int:
    """The position after a column chunk's metadata, which older pyarrow repeats after its pages; else `at`."""
    if at >= len(data) or data[at] != _CHUNK_STARTS:
        return at
    return at + read_struct(bytes(data[at : at + MAX_CHUNK_BYTES]), 0, COLUMN_CHUNK)[1]
