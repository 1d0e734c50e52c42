"""A Parquet file that is not made of fixed-size pages (graphs, plan), looked through before a decoder may trust it."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple, Sequence

from packer.errors import FormatError
from packer.files.parquet.headers import page_header, skip_chunk
from packer.files.parquet.structs import FOOTER, MAX_CHUNK_BYTES, MAX_FOOTER_BYTES
from packer.files.parquet.thrift import Bytes, EachEntry, Struct, read_struct

MAX_GROUP_BYTES = 256 << 20
"""Decoded bytes of one row group: written files keep to a quarter, larger ones are refused."""
TAIL_BYTES = 8
MAGIC = b"PAR1"

_CODECS = (0, 1, 6, 7)  # none, snappy (other tools' choice), zstd, LZ4_RAW
_PLAIN, _RUNS, _DICTIONARIES = 0, 3, (2, 8)
_BOOL, _BYTE_ARRAY = 0, 6
_NUMBERS = (_BOOL, 1, 2, 4, 5)  # bool, int32, int64, float, double
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2


class Chunk(NamedTuple):
    """One column of a row group: its pages lie from `start` to `stop`, and what is its own goes on to `end`."""

    name: bytes
    kind: int
    rows: int
    start: int
    stop: int
    end: int


class Footer(NamedTuple):
    """columns: their names; groups: the chunks of each row group; metadata: of the schema."""

    columns: tuple[bytes, ...]
    rows: int
    groups: tuple[tuple[Chunk, ...], ...]
    metadata: dict[bytes, bytes]


def footer_bytes(tail: bytes, size: int) -> int:
    """Bytes of the footer of a file of `size` bytes that ends with `tail`, the tail included. Raises FormatError."""
    length = int.from_bytes(tail[:4], "little") + TAIL_BYTES
    if tail[4:] != MAGIC or length > size - len(MAGIC):
        raise FormatError("it is not a Parquet file")
    if length > MAX_FOOTER_BYTES:
        raise FormatError(f"its footer takes {length} bytes; at most {MAX_FOOTER_BYTES} are read")
    return length


def read_footer(footer: bytes, each: EachEntry | None = None) -> Struct:
    """The struct of a footer, tail included; see `read_struct` for `each`. Raises FormatError."""
    if len(footer) < TAIL_BYTES or footer_bytes(footer[-TAIL_BYTES:], 1 << 63) != len(footer):
        raise FormatError("it is not a Parquet footer of that length")
    struct, stop = read_struct(footer[:-TAIL_BYTES], 0, FOOTER, each)
    if stop != len(footer) - TAIL_BYTES:
        raise FormatError("its footer is followed by other bytes")
    keys = [pair[1] for pair in struct.get(5, ())]
    if len(set(keys)) < len(keys):
        raise FormatError("its metadata has a key twice")
    return struct


def flat_footer(footer: bytes, size: int, most_rows: int) -> Footer:
    """The footer of a file of `size` bytes with flat columns of numbers and texts, whose parts fill the file.

    Raises FormatError.
    """
    parts = _Parts(size, size - len(footer), most_rows)
    struct = read_footer(footer, {4: parts.add})
    elements = struct[2]
    flat = bool(elements) and all(not e.get(5) and e.get(3) in (0, 1) and 1 in e for e in elements[1:])
    if not flat or elements[0].get(5) != len(elements) - 1 or 1 in elements[0]:
        raise FormatError("its columns are nested")
    columns = [(e[4], e[1]) for e in elements[1:]]
    if parts.rows != struct[3]:
        raise FormatError(f"its row groups hold {parts.rows} rows, its footer says {struct[3]}")
    groups = parts.groups()
    if any([(chunk.name, chunk.kind) for chunk in group] != columns for group in groups):
        raise FormatError("a row group does not hold the schema's columns")
    metadata = {pair[1]: pair.get(2, b"") for pair in struct.get(5, ())}
    return Footer(tuple(name for name, _ in columns), parts.rows, groups, metadata)


class _Parts:
    """The row groups of a file of `size` bytes whose column chunks fill it up to byte `end`, taken one after the other.

    A footer that names the same bytes or rows again and again is refused at the first repeat, not after all of it.
    """

    def __init__(self, size: int, end: int, most_rows: int) -> None:
        self.rows = 0
        self._size, self._end, self._most = size, end, most_rows
        self._chunks: list[Chunk] = []
        self._columns: list[int] = []  # of each row group

    def add(self, group: Struct) -> None:
        """The next row group. Raises FormatError."""
        self.rows += group[3]
        if not 0 <= group[3] <= self.rows <= self._most:
            raise FormatError(
                f"its row groups hold {self.rows} rows or more; at most {self._most} fit into {self._size} bytes"
            )
        if not group[1]:
            raise FormatError("a row group does not hold the schema's columns")
        for about in group[1]:
            chunk = _chunk(about, group[3], self._end)
            self._end_last(chunk.start)
            self._chunks.append(chunk)
        self._columns.append(len(group[1]))

    def groups(self) -> tuple[tuple[Chunk, ...], ...]:
        """All of them, when all are added. Raises FormatError."""
        self._end_last(self._end)
        chunks = iter(self._chunks)
        return tuple(tuple(islice(chunks, number)) for number in self._columns)

    def _end_last(self, end: int) -> None:
        """The last chunk goes on to `end`: its pages, and what may repeat its metadata after them."""
        if self._chunks:
            last = self._chunks[-1]
            if not last.stop <= end <= last.stop + MAX_CHUNK_BYTES:
                raise FormatError(f"bytes {last.start} to {end} are not those of one column chunk")
            self._chunks[-1] = last._replace(end=end)
        elif end != len(MAGIC):
            raise FormatError(f"bytes {len(MAGIC)} to {end} belong to no column")


def _chunk(chunk: Struct, rows: int, end: int) -> Chunk:
    about = chunk[3]
    kind, path, data_at, dictionary_at = about[1], about[3], about[9], about.get(11)
    if len(path) != 1:
        raise FormatError("its columns are nested")
    if about[4] not in _CODECS:
        raise FormatError("a column's codec is not one that is written")
    if kind != _BYTE_ARRAY and kind not in _NUMBERS:
        raise FormatError(f"a column's physical type {kind} is not one that is written")
    start = data_at if dictionary_at is None else dictionary_at
    # Arrow passes over a dictionary that does not come first.
    if not len(MAGIC) <= start <= data_at < end or start + (dictionary_at is not None) > data_at:
        raise FormatError("a column chunk lies outside the file")
    if not data_at - start < about[7] <= end - start:
        raise FormatError("a column chunk lies outside the file")
    if about[5] != rows or rows < 1:
        raise FormatError(f"a column chunk holds {about[5]} values for {rows} rows")
    return Chunk(path[0], kind, rows, start, start + about[7], 0)


def check_chunks(chunks: Sequence[Chunk], held: Sequence[Bytes]) -> None:
    """Look through the pages of some columns of a row group; held[i]: bytes start to end of chunks[i].

    Every number in every page header must fit, and all together must not decode to more than MAX_GROUP_BYTES.
    Raises FormatError.
    """
    decoded = 0
    for chunk, data in zip(chunks, held):
        decoded += _decoded_bytes(chunk, data)
        if decoded > MAX_GROUP_BYTES:
            raise FormatError(f"a row group decodes to more than {MAX_GROUP_BYTES} bytes")


def _decoded_bytes(chunk: Chunk, data: Bytes) -> int:
    """Decoded bytes of a column chunk, by its page headers."""
    view = memoryview(data)
    at, stop, decoded, values = 0, chunk.stop - chunk.start, 0, 0
    while at < stop:
        first = at == 0
        page, at = page_header(view, at)
        kind, raw, stored = page[1], page[2], page[3]
        if not (0 <= stored <= stop - at and raw >= 0):
            raise FormatError(f"a page of {stored} bytes goes on after its column chunk")
        head: Struct | None = page.get({_DATA_PAGE: 5, _DICTIONARY_PAGE: 7}.get(kind, 0))
        if head is None or (5 in page and 7 in page) or not 0 <= head[1] <= chunk.rows:
            raise FormatError(f"a page is of a kind that is not written, or holds more values than {chunk.rows} rows")
        _check_encoding(chunk.kind, kind, head[2], first)
        values += head[1] if kind == _DATA_PAGE else 0
        # A number from a dictionary or a run takes hardly a byte of its page, yet up to 8 once decoded.
        decoded += max(raw, 8 * head[1])
        if decoded > MAX_GROUP_BYTES or values > chunk.rows:
            break
        at += stored
    if decoded <= MAX_GROUP_BYTES and values != chunk.rows:
        raise FormatError(f"a column chunk holds {values} values for {chunk.rows} rows")
    if decoded <= MAX_GROUP_BYTES and skip_chunk(view, at) != len(data):
        raise FormatError("a column chunk is followed by other bytes")
    return decoded


def _check_encoding(kind: int, page: int, encoding: int, first: bool) -> None:
    if kind == _BYTE_ARRAY:
        if page != _DATA_PAGE or encoding != _PLAIN:
            raise FormatError("texts are not in plain encoding: a few bytes could stand for any number of them")
    elif page == _DICTIONARY_PAGE:
        if not first or encoding not in (_PLAIN, _DICTIONARIES[0]):
            raise FormatError("a dictionary does not come first in its column, or is encoded itself")
    elif encoding not in (_PLAIN, *_DICTIONARIES) and not (encoding == _RUNS and kind == _BOOL):
        raise FormatError(f"a column's encoding {encoding} is not one that is written")
