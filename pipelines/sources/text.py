"""Rows of text files, plain or gzipped, in blocks."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

from packer.errors import SourceError
from pipelines.sources.remote import RemoteText

TextFile = Path | RemoteText

_ROWS_PER_CHECK = 1024
"""Rows after which a file is looked at again: a block of them is not to be of a file that was written to meanwhile."""


@dataclass(frozen=True)
class Row:
    """One record: the line it ends on, counted from 1, and the chosen cells."""

    line: int
    cells: tuple[str, ...]


def digest(path: TextFile) -> str:
    """SHA-256 of a file's bytes as they lie on disk, or at its URL."""
    return path.sha256 if isinstance(path, RemoteText) else _digest(path, *_stamp(path))


@lru_cache(maxsize=16)
def _digest(path: Path, *_: int) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    with open_file(path) as file:
        return (*_written(file), os.fstat(file.fileno()).st_ctime_ns)


def _written(file: io.BufferedReader) -> tuple[int, int, int]:
    """What changes when an open file is written to."""
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def has_changed(path: object, found: str, stated: str) -> SourceError:
    """The error that a file is not the one that was hashed when the job began."""
    return SourceError(
        f"{path} has changed while it was read: its SHA-256 is {found}, and was {stated} at the start. Run again when "
        "nothing writes to it"
    )


def open_file(path: TextFile) -> io.BufferedReader:
    """The file's bytes; SourceError where it cannot be opened."""
    if isinstance(path, RemoteText):
        return path.open()
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}. Check the path") from error


def count_lines(path: TextFile) -> int | None:
    """Lines of a plain file; None for a gzipped one (not worth decompressing it twice)."""
    if path.suffix == ".gz":
        return None
    return path.lines if isinstance(path, RemoteText) else _count_lines(path, *_stamp(path))


@lru_cache(maxsize=16)
def _count_lines(path: Path, *_: int) -> int:
    with open_file(path) as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def csv_rows(path: TextFile, columns: Sequence[str], sha256: str | None = None) -> Iterator[Row]:
    """The named columns of each record of a CSV file with a header. Comma, semicolon or tab: what the header shows.

    sha256: of the file whose rows these are to be. SourceError at the end, at the latest, where it was another one.
    """
    with _text(path, sha256) as (file, check):
        first = file.readline()
        if not first:
            raise SourceError(f"{path} is empty: a CSV file starts with a line of column names")
        reader = csv.reader(chain([first], file), delimiter=max(",;\t", key=first.count))
        header: list[str] = []
        try:
            header = next(reader)
            places = [_place(path, header, column) for column in columns]
            for number, record in enumerate(reader, 1):
                if not number % _ROWS_PER_CHECK:
                    check(False)
                if not record:
                    continue
                if len(record) != len(header):
                    has = f"{len(record)} cells, but the header names {len(header)} columns"
                    raise SourceError(f"{path}, line {reader.line_num}: {has}")
                yield Row(reader.line_num, tuple(record[place] for place in places))
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
        check(True)


@contextmanager
def _text(path: TextFile, sha256: str | None) -> Generator[tuple[io.TextIOWrapper, Callable[[bool], None]]]:
    """A text file, decompressed where its name ends in .gz; what is wrong with its bytes is a SourceError.

    With it comes a function that raises where it is not the file of that hash: called with True, all has been read.
    """
    with open_file(path) as opened:
        hashed = _Hashed(opened)
        raw = io.BufferedReader(hashed, 1 << 16)
        file = cast(Any, gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
        known = isinstance(path, RemoteText)  # whose bytes are a copy, from which its hash is too
        start = () if known or sha256 is None else _written(opened)

        def check(whole: bool) -> None:
            if known or sha256 is None:
                return
            if whole:
                while raw.read(1 << 20):
                    pass
            if whole or _written(opened) != start:
                found = hashed.sha256.hexdigest() if whole else digest(path)
                if found != sha256:
                    raise has_changed(path, found, sha256)

        if sha256 is not None and digest(path) != sha256:
            raise has_changed(path, digest(path), sha256)
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            try:
                yield text, check
            except UnicodeDecodeError as error:
                raise SourceError(f"{path} is not UTF-8 text: {error}") from error
            except (EOFError, OSError, zlib.error) as error:
                raise SourceError(f"{path} is damaged: {error}") from error


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self.sha256.update(memoryview(buffer)[:count])
        return count


def _place(path: TextFile, header: list[str], column: str) -> int:
    if column in header:
        return header.index(column)
    near = get_close_matches(column, header, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise SourceError(f"{path} has no column {column!r}{hint} Its columns are: {', '.join(header)}")
