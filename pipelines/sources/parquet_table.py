"""Parquet files as tables of cells: the texts that a CSV file of them would hold, a row group at a time."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from packer.errors import SourceError
from pipelines.sources.remote import RemoteText
from pipelines.sources.table import Row, column_index
from pipelines.sources.text import TextFile, digest, has_changed, open_file

MAGIC = b"PAR1\x15"

_MOST_PARTS = 128
"""Tasks that share a row group, where these have no more than the most rows: each process reads a group once."""


def is_parquet(path: TextFile) -> bool:
    """By what it begins with; SourceError for what is only called so."""
    with open_file(path) as file:
        is_marked = file.peek(len(MAGIC)).startswith(MAGIC)
    if not is_marked and path.name.lower().endswith((".parquet", ".pq")):
        raise SourceError(f"{path} is no Parquet file, whatever its name: it does not begin with PAR1")
    return is_marked


@dataclass(frozen=True)
class Column:
    """A column by its name, as it is written; kind: "text", "number", or "any"."""

    name: str
    kind: str


@dataclass(frozen=True)
class Bytes:
    """Those of some columns of row groups `numbers`: (start, size) of what holds the columns.

    digest: of these bytes; footer: of the file, its (start, size) and digest; sha256: of the file.
    """

    path: TextFile
    sha256: str
    numbers: tuple[int, ...]
    footer: tuple[int, int, bytes]
    spans: tuple[tuple[int, int], ...]
    digest: bytes


@dataclass(frozen=True)
class Group:
    """Rows `start` to `stop` of row groups, which begin with row `first` of the file."""

    held: Bytes
    columns: tuple[Column, ...]
    first: int
    start: int
    stop: int

    @property
    def where(self) -> str:
        return f"rows {self.first + self.start} to {self.first + self.stop - 1}"

    def rows(self) -> tuple[Row, ...]:
        """As `csv_rows` would give them of a CSV file; numbers count from 0."""
        path, first = self.held.path, self.first + self.start
        table = _table(self.held, tuple(column.name for column in self.columns))
        part = table.slice(self.start, self.stop - self.start)
        if part.num_rows < self.stop - self.start:
            raise SourceError(f"{path} is damaged: it has fewer rows than it says. Restore it, or write it again")
        cells = [_cells(path, column, part.column(column.name), first) for column in self.columns]
        return tuple(Row(first + i, row) for i, row in enumerate(zip(*cells, strict=True)))


def num_rows(path: TextFile) -> int:
    with _file(path) as file, _faults(path):
        return _parquet(*_footer(file)).metadata.num_rows


def groups(path: TextFile, columns: Sequence[Column], sha256: str | None, least: int, most: int) -> Iterator[Group]:
    """The rows of a file in parts of `least` rows, or more where a row group is large, up to `most`; small row groups
    are joined, up to `least` rows. No cell is read.

    Raises SourceError for columns that are not there or hold something else, and where the file is not of this hash.
    """
    stated = sha256 or digest(path)
    with _file(path) as file, _faults(path):
        size, tail = _footer(file)
        held = _parquet(size, tail)
        named = tuple(Column(_name_of(path, held.schema_arrow, column), column.kind) for column in columns)
        names, metadata = {column.name for column in named}, held.metadata
        rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        joined = list(_joined(rows, least))
        spans = [
            tuple(span for number in part for span in _spans(metadata.row_group(number), names)) for part in joined
        ]
        digests = [_digest(_read(file, part)) for part in spans]
    if digest(path) != stated:
        raise has_changed(path, digest(path), stated)
    absolute = path.absolute() if isinstance(path, Path) else path
    footer = tail[0], size - tail[0], _digest([tail[1]])
    first = 0
    for part, span, sum_of in zip(joined, spans, digests, strict=True):
        num_rows = sum(rows[number] for number in part)
        step = min(max(least, -(-num_rows // _MOST_PARTS)), most)
        held_bytes = Bytes(absolute, stated, part, footer, span, sum_of)
        for start in range(0, num_rows, step):
            yield Group(held_bytes, named, first, start, min(start + step, num_rows))
        first += num_rows


def _joined(rows: Sequence[int], least: int) -> Iterator[tuple[int, ...]]:
    """Numbers of row groups that follow each other and have no more than `least` rows together, or of one alone."""
    part: list[int] = []
    held = 0
    for number, count in enumerate(rows):
        if part and held + count > least:
            yield tuple(part)
            part, held = [], 0
        part.append(number)
        held += count
    if part:
        yield tuple(part)


def _name_of(path: TextFile, schema: pa.Schema, column: Column) -> str:
    """A column's name as the file has it; SourceError where there is none, or one of another kind."""
    name = schema.names[column_index(path, schema.names, column.name)]
    kind = schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    fits = kind in _TEXTS or pa.types.is_null(kind)
    fits |= column.kind != "text" and (number or pa.types.is_boolean(kind))
    fits |= column.kind == "any" and pa.types.is_temporal(kind)
    if fits:
        return name
    wanted = {"text": "text", "number": "numbers", "any": "text or numbers"}[column.kind]
    raise SourceError(f"{path}: column {column.name!r} holds {kind}, not {wanted}. Its columns are: {_types(schema)}")


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


_TEXTS = [
    getattr(pa, name)()
    for name in ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    if hasattr(pa, name)
]


def _cells(path: TextFile, column: Column, values: pa.ChunkedArray, first: int) -> list[str]:
    """The texts that stand for values in a CSV file; first: the number of the first row."""
    kind = values.type
    try:
        if kind in _TEXTS:
            texts = [value or "" for value in values.cast(pa.large_string()).to_pylist()]
        else:
            if pa.types.is_temporal(kind):
                values = values.cast(pa.string())
            elif pa.types.is_boolean(kind) and column.kind == "number":
                values = values.cast(pa.int8())
            texts = ["" if value is None else str(value) for value in values.to_pylist()]
    except (UnicodeDecodeError, pa.ArrowInvalid) as error:
        where = f"{path}, row {_first_fault(values, first)}"
        raise SourceError(f"{where}: {column.name} is not UTF-8. Write it as UTF-8 text") from error
    if "\0" in "".join(texts):
        row = first + next(i for i, text in enumerate(texts) if "\0" in text)
        raise SourceError(f"{path}, row {row}: {column.name} holds a NUL byte, which no text holds. Restore the file")
    return texts


def _first_fault(values: pa.ChunkedArray, first: int) -> int:
    """The row of the first text that is none."""
    for row, value in enumerate(values.cast(pa.large_binary()).to_pylist(), first):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return row
    return first


@lru_cache(maxsize=1)
def _table(stored: Bytes, names: tuple[str, ...]) -> pa.Table:
    """The columns of row groups, of the very bytes that were hashed. It stays for the tasks of their other rows."""
    with _file(stored.path) as file, _faults(stored.path):
        parts = _read(file, stored.spans)
        if _digest(parts) != stored.digest:
            raise has_changed(stored.path, digest(stored.path), stored.sha256)
        known = [(start, data) for (start, _), data in zip(stored.spans, parts, strict=True)]
        metadata = _metadata(stored.path, stored.sha256, stored.footer)
        held = pq.ParquetFile(pa.PythonFile(_Parts(sum(stored.footer[:2]), known), mode="r"), metadata=metadata)
        table = held.read_row_groups(list(stored.numbers), list(dict.fromkeys(names)), use_threads=False)
        for at, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                table = table.set_column(at, field.name, table.column(at).cast(field.type.value_type))
        return table


@lru_cache(maxsize=4)
def _metadata(path: TextFile, sha256: str, footer: tuple[int, int, bytes]) -> Any:
    """What the footer says, read once by a process: it is of the bytes that were hashed, whatever lies there later."""
    start, size, sum_of = footer
    with _file(path) as file:
        (tail,) = _read(file, ((start, size),))
    if _digest([tail]) != sum_of:
        raise has_changed(path, digest(path), sha256)
    return _parquet(start + size, (start, tail)).metadata


def _spans(group: Any, names: set[str]) -> Iterator[tuple[int, int]]:
    """(start, size) of what pyarrow reads of a row group for these columns: also those whose names begin so."""
    for number in range(group.num_columns):
        column = group.column(number)
        path = column.path_in_schema
        if path in names or any(path.startswith(f"{name}.") for name in names):
            starts = [at for at in (column.dictionary_page_offset, column.data_page_offset) if at]
            yield min(starts), column.total_compressed_size


def _footer(file: Any) -> tuple[int, tuple[int, bytes]]:
    """(size of the file, (where its footer begins, that))."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - 8, 0))
    start = max(size - 8 - int.from_bytes(file.read(4), "little"), 0)
    return size, (start, _read(file, ((start, size - start),))[0])


def _read(file: Any, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    parts: list[bytes] = []
    for start, size in spans:
        file.seek(start)
        parts.append(file.read(size))
    return parts


def _digest(parts: Sequence[bytes]) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


@contextmanager
def _file(path: TextFile) -> Generator[Any]:
    """The open file, of whatever kind."""
    if isinstance(path, RemoteText):
        yield io.BytesIO(path.data)
    else:
        with open_file(path) as file:
            yield file


@contextmanager
def _faults(path: TextFile) -> Generator[None]:
    try:
        yield
    except SourceError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise SourceError(f"{path} is damaged: {error}. Restore it, or write it again") from error


def _parquet(size: int, *parts: tuple[int, bytes]) -> pq.ParquetFile:
    """A file of this size of which some parts are held: (start, bytes)."""
    return pq.ParquetFile(pa.PythonFile(_Parts(size, parts), mode="r"))


class _Parts(io.RawIOBase):
    """Parts of a file, with zeros between them: pyarrow reads a little more than it looks at."""

    def __init__(self, size: int, parts: Sequence[tuple[int, bytes]]) -> None:
        self._size, self._parts, self._at = size, sorted(parts), 0
        self._starts = [start for start, _ in self._parts]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._at), 0)
        buffer[:count] = bytes(count)
        first = max(bisect_right(self._starts, self._at) - 1, 0)
        for start, data in self._parts[first : bisect_left(self._starts, self._at + count)]:
            begin, end = max(start, self._at), min(start + len(data), self._at + count)
            if begin < end:
                buffer[begin - self._at : end - self._at] = memoryview(data)[begin - start : end - start]
        self._at += count
        return count
