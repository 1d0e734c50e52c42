"""A Parquet file that is not made of fixed-size pages (graphs, plan), looked through before a decoder may trust it."""

from __future__ import annotations

from typing import Any

from packer.errors import FormatError
from packer.shards.thrift import Bytes, Struct, read_struct

MAX_GROUP_BYTES = 256 << 20
"""Decoded bytes of one row group: written files keep to a quarter, larger ones are refused."""
_MAGIC = b"PAR1"
_CODECS = (0, 6, 7)  # none, zstd, LZ4_RAW
_PLAIN = 0
_BYTE_ARRAY = 6
_NUMBERS = (0, 1, 2, 4, 5)  # bool, int32, int64, float, double


def check_parquet(data: Bytes, max_rows: int) -> None:
    """Refuse a file that a decoder would need more than MAX_GROUP_BYTES a row group for, or more than max_rows rows.

    Flat columns only. Every page header is read; every number in it must fit the file. Raises FormatError.
    """
    footer, start = read_footer(data)
    elements, groups = footer.get(2), footer.get(4, [])
    if not isinstance(elements, list) or not isinstance(groups, list) or not elements:
        raise FormatError("its footer has no schema")
    flat = all(isinstance(e, dict) and not e.get(5) and e.get(3) in (0, 1) for e in elements[1:])
    if not flat or not isinstance(elements[0], dict) or elements[0].get(5) != len(elements) - 1:
        raise FormatError("its columns are nested")
    total = 0
    for group in groups:
        rows = group.get(3) if isinstance(group, dict) else None
        chunks = group.get(1) if isinstance(group, dict) else None
        if not isinstance(rows, int) or not isinstance(chunks, list) or len(chunks) != len(elements) - 1 or rows < 0:
            raise FormatError("a row group does not hold the schema's columns")
        total += rows
        if sum(_chunk_bytes(data, chunk, rows, start) for chunk in chunks) > MAX_GROUP_BYTES:
            raise FormatError(f"a row group decodes to more than {MAX_GROUP_BYTES} bytes")
    if total != footer.get(3) or total > max_rows:
        raise FormatError(f"its row groups hold {total} rows, its footer says {footer.get(3)}, at most {max_rows} fit")


def read_footer(data: Bytes) -> tuple[Struct, int]:
    """The footer's struct, and where it starts. Raises FormatError."""
    size = len(data)
    tail = bytes(data[size - 8 :])
    length = int.from_bytes(tail[:4], "little")
    if size < 12 or bytes(data[:4]) != _MAGIC or tail[4:] != _MAGIC or length > size - 12:
        raise FormatError("it is not a Parquet file")
    start = size - 8 - length
    footer, stop = read_struct(data, start, size - 8)
    if stop != size - 8:
        raise FormatError("its footer is followed by other bytes")
    return footer, start


def _chunk_bytes(data: Bytes, chunk: Any, rows: int, end: int) -> int:
    """Decoded bytes of a column chunk, by its page headers."""
    about = chunk.get(3) if isinstance(chunk, dict) and 1 not in chunk else None
    if not isinstance(about, dict) or about.get(4) not in _CODECS:
        raise FormatError("a column chunk lies in another file, or its codec is not one that is written")
    kind = about.get(1)
    if kind != _BYTE_ARRAY and kind not in _NUMBERS:
        raise FormatError(f"a column's physical type {kind} is not one that is written")
    first, size = about.get(11, about.get(9)), about.get(7)
    if not isinstance(first, int) or not isinstance(size, int) or not (4 <= first <= end and 0 <= size <= end - first):
        raise FormatError("a column chunk lies outside the file")
    at, stop, decoded, values = first, first + size, 0, 0
    while at < stop:
        page, at = read_struct(data, at, stop)
        raw, stored = page.get(2), page.get(3)
        if not isinstance(raw, int) or not isinstance(stored, int) or not (0 <= stored <= stop - at and raw >= 0):
            raise FormatError(f"a page of {stored} bytes goes on after its column chunk")
        head = page.get(5, page.get(7))
        number = head.get(1) if isinstance(head, dict) else None
        if page.get(1) not in (0, 2) or not isinstance(number, int) or not 0 <= number <= rows:
            raise FormatError(f"a page is of a kind that is not written, or holds {number} values of {rows} rows")
        if kind == _BYTE_ARRAY and (page.get(1) != 0 or not isinstance(head, dict) or head.get(2) != _PLAIN):
            raise FormatError("texts are not in plain encoding: a few bytes could stand for any number of them")
        values += number if page.get(1) == 0 else 0
        # A number from a dictionary or a run takes hardly a byte of its page, yet up to 8 once decoded.
        decoded += max(raw, 8 * number)
        at += stored
    if values != rows or about.get(5) != rows:
        raise FormatError(f"a column chunk holds {values} values for {rows} rows")
    return decoded
