"""CSV files that tasks read for themselves: one pass over the bytes finds where records begin, and parses none."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.sources.remote import parts_of
from pipelines.sources.table import Columns, Row, allow_long_cells, columns_of, csv_rows
from pipelines.sources.text import digest, has_changed, is_gzipped, open_file, text_of

_LONGEST = 1 << 26
"""Bytes without an end of a record that the pass holds."""

_QUOTE, _RETURN, _FEED = 34, 13, 10
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Stretch:
    """Bytes `start` to `stop` of a CSV file: whole records. line, last: those that the first and the last one begin on.

    digest: of these bytes; sha256: of the file; names, delimiter: as `csv_rows` takes them; columns: what they came to.
    """

    path: Path
    names: tuple[str, ...]
    delimiter: str | None
    columns: Columns
    sha256: str
    start: int
    stop: int
    line: int
    last: int
    digest: bytes

    @property
    def where(self) -> str:
        return f"lines {self.line} to {self.last}"

    def rows(self) -> tuple[Row, ...]:
        """The rows of `csv_rows`; what it raises."""
        with open_file(self.path) as file:
            file.seek(self.start)
            data = file.read(self.stop - self.start)
        hasher = _hasher()
        hasher.update(data)
        if hasher.digest() != self.digest:
            raise has_changed(self.path, digest(self.path), self.sha256)
        try:
            return self._parsed(data)
        except (csv.Error, ValueError):
            for _ in csv_rows(self.path, self.names, self.sha256, self.delimiter):
                pass  # what is wrong, and where, is said by what reads the file from its start
            raise

    def _parsed(self, data: bytes) -> tuple[Row, ...]:
        allow_long_cells()
        lines = io.StringIO(data.decode(), newline="")
        reader = csv.reader(lines, delimiter=self.columns.delimiter, strict=True)
        chosen, rows = self.columns.chooser(), list[Row]()
        ended = self.line - 1
        for record in reader:
            line, ended = ended + 1, self.line - 1 + reader.line_num
            if len(record) == self.columns.width:
                rows.append(Row(line, chosen(record)))
            elif record:
                raise ValueError
        return tuple(rows)


def stretches(
    path: Path, names: tuple[str, ...], rows: int, sha256: str | None, delimiter: str | None
) -> Iterator[Stretch] | None:
    """The records of a file, so many rows at a time; None where they are to be read one after the other.

    They are where the file is gzipped, holds a NUL byte, or a quote within an unquoted cell: such quotes count for
    nothing, and it takes a parser to tell them. Raises SourceError as `csv_rows` does for its header, and where the
    file is not that of the hash. Time: a few operations over all bytes. Memory: some 200 bytes for each stretch.
    """
    if is_gzipped(path):
        return None
    with text_of(path, sha256) as (text, _):
        header = columns_of(path, text, names, delimiter)
    if header is None or len(header[0].delimiter.encode()) > 1:
        return None
    columns, lines = header
    with open_file(path) as file:
        mark = len(_MARK) if file.peek(len(_MARK)).startswith(_MARK) else 0
        head = file.read(mark + sum(len(line.encode()) for line in lines))
        index = _Index(rows, len(head), len(lines), ord(columns.delimiter))
        whole, held = hashlib.sha256(head), b""
        for part in parts_of(file):
            whole.update(part)
            held += part
            end = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
            if not index.add(held[:end]) or len(held) - end > _LONGEST:
                return None
            held = held[end:]
        if not index.add(held, last=True):
            return None
    if sha256 is not None and whole.hexdigest() != sha256:
        raise has_changed(path, whole.hexdigest(), sha256)
    made = partial(Stretch, path.absolute(), names, delimiter, columns, whole.hexdigest())
    return map(made, index.starts, [*index.starts[1:], index.at], index.lines, index.lasts, index.digests)


class _Index:
    """Where every so many records begin.

    starts: bytes; lines, lasts: those on which the first and the last of the records begin; digests: of the bytes.
    """

    def __init__(self, rows: int, at: int, lines: int, delimiter: int) -> None:
        self.starts: list[int] = []
        self.lines: list[int] = []
        self.lasts: list[int] = []
        self.digests: list[bytes] = []
        self.at = at
        """Bytes that have been looked at."""
        self._rows, self._delimiter, self._num_lines = rows, delimiter, lines
        self._records, self._open, self._last, self._hash = 0, 0, 0, _hasher()

    def add(self, data: bytes, last: bool = False) -> bool:
        """Whole lines, those that come next; last: all that are left, the last one with or without an end.

        False: quotes or NUL bytes stand among them that defy counting.
        """
        records = self._records_in(data + b"\n" if last and data else data)
        if records is None:
            return False
        begins, lines = records
        view, cut = memoryview(data), 0
        for i in range(-self._records % self._rows, len(begins), self._rows):
            begin = int(begins[i])
            self._hash.update(view[cut:begin])
            self._close(int(lines[i - 1]) if i else self._last)
            self.starts.append(self.at + begin)
            self.lines.append(int(lines[i]))
            cut = begin
        self._hash.update(view[cut:])
        self._records += len(begins)
        self._last = int(lines[-1]) if len(lines) else self._last
        self.at += len(data)
        if last:
            self._close(self._last)
        return not (last and self._open)

    def _close(self, last: int) -> None:
        """What stands before the first record is part of no stretch."""
        if self.starts:
            self.lasts.append(last)
            self.digests.append(self._hash.digest())
        self._hash = _hasher()

    def _records_in(self, data: bytes) -> tuple[np.ndarray, np.ndarray] | None:
        """Of the records in whole lines the offsets where they begin, and the lines; None: they defy counting."""
        if b"\0" in data:
            return None
        byte = np.frombuffer(data, dtype=np.uint8)
        is_end = byte == _FEED
        if b"\r" in data:
            alone = byte == _RETURN
            alone[:-1] &= ~is_end[1:]
            is_end |= alone
        ends = np.flatnonzero(is_end)
        begins = np.concatenate([[0], ends + 1])[: len(ends)]
        counts = (byte[begins] != _FEED) & (byte[begins] != _RETURN)  # blank lines are none
        if self._open or b'"' in data:
            quotes = np.flatnonzero(byte == _QUOTE)
            opens = (np.arange(len(quotes)) + self._open) % 2 == 0
            before = np.where(quotes > 0, byte[quotes - 1], _FEED)
            beside = np.where(opens, before, byte[np.minimum(quotes + 1, len(byte) - 1)])
            if not np.isin(beside, (self._delimiter, _FEED, _RETURN, _QUOTE)).all():
                return None
            counts &= (np.searchsorted(quotes, begins) + self._open) % 2 == 0
            self._open = (self._open + len(quotes)) % 2
        records = np.flatnonzero(counts)
        lines = self._num_lines + 1 + records
        self._num_lines += len(ends)
        return begins[records], lines


def _hasher() -> Any:
    return hashlib.blake2b(digest_size=16)
