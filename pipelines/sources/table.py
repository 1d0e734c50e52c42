"""Rows of CSV files: the table that is read is the table that is there, or an error says on which line it is not."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, islice
from operator import itemgetter

from packer.errors import SourceError
from pipelines.sources.text import TextFile, text_of

DELIMITERS = ",;\t"
"""What may stand between cells where none is named: that of them which the header shows."""

_ROWS_PER_CHECK = 1024
"""Rows after which a file is looked at again: a block of them is not to be of a file that was written to meanwhile."""

_CELL_MOST = 1 << 26
"""Characters of a cell, 64 Mi: sequences and images fit, and a quote that never closes does not fill the memory."""

_HEADER_LINES = 1000
"""Lines that a header may take up, by line ends within quotes, for its delimiter to be found."""


@dataclass(frozen=True)
class Row:
    """One record: the line it begins on, counted from 1, and the chosen cells."""

    line: int
    cells: tuple[str, ...]


def check_delimiter(delimiter: str) -> str:
    """One character, of what was written ("tab" is the tab); SourceError for what cannot stand between cells."""
    character = "\t" if delimiter in ("tab", "\\t") else delimiter
    if len(character) != 1 or character in '"\r\n\0':
        raise SourceError(f"delimiter must be one character such as ; or tab, no quote or line end; got {delimiter!r}")
    return character


@dataclass(frozen=True)
class Columns:
    """Where in a record of `width` cells the chosen ones stand; delimiter: between its cells."""

    delimiter: str
    width: int
    indices: tuple[int, ...]

    def chooser(self) -> Callable[[list[str]], tuple[str, ...]]:
        """What takes the chosen cells out of a record."""
        if len(self.indices) > 1:
            return itemgetter(*self.indices)
        return lambda record: tuple(record[index] for index in self.indices)


def csv_rows(
    path: TextFile, columns: Sequence[str], sha256: str | None = None, delimiter: str | None = None
) -> Iterator[Row]:
    """The named columns of each record of a CSV file with a header; blank lines are none.

    delimiter: what stands between cells; None: comma, semicolon or tab, that which gives the header the columns (of
    several, the one that gives it most cells). sha256: of the file whose rows these are to be. SourceError at the end,
    at the latest, where it was another one. Cells hold up to 64 Mi characters: the csv module's limit, which is the
    process's, is raised for that.
    """
    with text_of(path, sha256) as (file, check):
        first = _header_lines(path, file)
        used = delimiter or _shown_by(first, columns)
        records = _records(path, chain(first, file), used, check)
        header = _columns(path, next(records)[1], columns, used)
        chosen = header.chooser()
        for line, record in records:
            if len(record) != header.width:
                has = f"{len(record)} cells, but the header names {header.width} columns"
                raise SourceError(f"{path}, line {line}: {has}. Cells that hold {used!r} are put into quotes")
            yield Row(line, chosen(record))


def columns_of(
    path: TextFile, file: io.TextIOWrapper, columns: Sequence[str], delimiter: str | None
) -> tuple[Columns, list[str]] | None:
    """What the header of a CSV file says of these columns, and its lines; None where it is not CSV."""
    first = _header_lines(path, file)
    used = delimiter or _shown_by(first, columns)
    reader = csv.reader(first, delimiter=used, strict=True)
    try:
        header = next(reader)
    except csv.Error:
        return None
    return _columns(path, header, columns, used), first[: reader.line_num]


def _columns(path: TextFile, header: list[str], columns: Sequence[str], delimiter: str) -> Columns:
    return Columns(delimiter, len(header), tuple(column_index(path, header, column, delimiter) for column in columns))


def plain_rows(path: TextFile, width: int, delimiter: str, above: int = 0, sha256: str | None = None) -> Iterator[Row]:
    """All cells of each record of a file without header, `width` of them; above: lines before the first record."""
    with text_of(path, sha256) as (file, check):
        for _ in range(above):
            file.readline()
        for line, record in _records(path, file, delimiter, check, above):
            if len(record) != width:
                raise SourceError(f"{path}, line {line}: {len(record)} cells, not {width}")
            yield Row(line, tuple(record))


def allow_long_cells() -> None:
    """Raise the csv module's limit, which is the process's."""
    if csv.field_size_limit() < _CELL_MOST:
        csv.field_size_limit(_CELL_MOST)


def _records(
    path: TextFile, lines: Iterable[str], delimiter: str, check: Callable[[bool], None], above: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """The line that each record begins on, and its cells; SourceError where a quote is not closed as it should be."""
    allow_long_cells()
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    ended = above  # the line that the record before ends on
    try:
        for number, record in enumerate(reader):
            line, ended = ended + 1, above + reader.line_num
            if not number % _ROWS_PER_CHECK:
                check(False)
            if record:
                yield line, record
    except csv.Error as error:
        raise SourceError(f"{path}, {_fault(path, ended + 1, delimiter, error)}") from error
    check(True)


def _header_lines(path: TextFile, file: io.TextIOWrapper) -> list[str]:
    """The lines of the first record: the first one, and those that go on within its quotes."""
    lines = [file.readline()]
    if not lines[0]:
        raise SourceError(f"{path} is empty: a CSV file starts with a line of column names")
    if not lines[0].strip():
        raise SourceError(f"{path}, line 1 is blank: a CSV file starts with a line of column names")
    quotes = lines[0].count('"')
    while quotes % 2 and len(lines) < _HEADER_LINES and (line := file.readline()):
        lines.append(line)
        quotes += line.count('"')
    return lines


def _shown_by(lines: Sequence[str], columns: Sequence[str]) -> str:
    """The delimiter with which a header names most of the columns and, of several, has most cells."""

    def named(delimiter: str) -> tuple[int, int]:
        try:
            header = next(csv.reader(lines, delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return len({name.strip() for name in columns} & {name.strip() for name in header}), len(header)

    return max(DELIMITERS, key=named)


def column_index(path: TextFile, header: Sequence[str], column: str, delimiter: str | None = None) -> int:
    """Where a column stands; names that differ by blanks around them alone are one name. delimiter: of text."""
    alike = [index for index, name in enumerate(header) if _bare(name) == _bare(column)]
    if len(alike) > 1:
        at = ", ".join(str(index + 1) for index in alike)
        raise SourceError(f"{path} has column {column!r} {len(alike)} times (columns {at}): rename all but one")
    if column in header:
        return header.index(column)
    near = [header[index] for index in alike] or get_close_matches(column, header, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    alone = (
        f" (parted by {delimiter!r}; delimiter (--delimiter) names another)" if delimiter and len(header) == 1 else ""
    )
    raise SourceError(f"{path} has no column {column!r}{hint} Its columns are: {', '.join(header)}{alone}")


def _bare(name: str) -> str:
    return name.strip("\ufeff \t\r\n\v\f\xa0")


def _fault(path: TextFile, start: int, delimiter: str, error: csv.Error) -> str:
    """What is wrong with the record that begins on line `start`, and on which line; the file is read again for it."""
    with text_of(path, None) as (file, _):
        opened, at = _bad_quote(islice(enumerate(file, 1), start - 1, None), delimiter)
    twice = "Quotes that belong to a quoted cell are written twice"
    if opened is None:
        return f"line {start}: not CSV: {error}"
    if "limit" in str(error):
        return f"line {opened}: a cell is longer than {_CELL_MOST:,} characters: does its quote never close? {twice}"
    if at is None:
        return f"line {opened}: a quote begins a cell here and is never closed. Close it, or leave it out. {twice}"
    if at == opened:
        return f"line {at}: text follows the quote that closes a cell. {twice}"
    return f"line {opened}: a quote begins a cell here, and text follows the quote that closes it on line {at}. {twice}"


def _bad_quote(lines: Iterable[tuple[int, str]], delimiter: str) -> tuple[int | None, int | None]:
    """(line of the quote that opens the first bad cell, line of the quote that closes it; None: there is none)."""
    opened: int | None = None
    for number, line in lines:
        at = 0  # where a cell begins or, with a quote open, what is left of it
        while True:
            if opened is None and line.startswith('"', at):
                opened, at = number, at + 1
            elif opened is None:
                position = line.find(delimiter, at)
                if position < 0:
                    break
                at = position + 1
            else:
                position = line.find('"', at)
                if position < 0:
                    break
                after = line[position + 1 : position + 2]
                if after not in ("", '"', delimiter, "\r", "\n"):
                    return opened, number
                if after != '"':
                    opened = None
                at = position + 2
    return opened, None
