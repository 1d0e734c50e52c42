"""Target columns: cells in, numbers out that are those of the cells, or an error that names line, column and cell."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from packer.errors import SourceError
from pipelines.sources.table import Row
from pipelines.text.numbers import decimal_of, whole_of

DTYPES = ("float32", "float64")
MISSING = ("nan", "NaN", "NAN", "")
"""Cells that are no number and no fault, where none are named."""

_EXACT = 2.0**53  # every whole number below is a double
_ODD = re.compile(r"[^0-9+\-.eE]")
_ZERO = re.compile(r"[+-]?0*\.?0*(?:[eE].*)?")


@dataclass(frozen=True)
class Targets:
    """Columns of numbers. dtype: float32 or float64; missing: cells, but for blanks around them, that become NaN."""

    names: tuple[str, ...] = ()
    dtype: str = "float32"
    missing: tuple[str, ...] = MISSING

    def read(self, rows: Sequence[Row], file: str, unit: str = "line") -> np.ndarray:
        """[rows, targets] of rows whose first cell is something else and whose next ones are these columns'.

        unit: what the rows' numbers count, in errors.

        Raises SourceError for what is no number, and for a number that the dtype cannot hold: one that becomes infinite
        or zero, and a whole number that becomes another (above 2**53 where it is written in digits alone).
        """
        cells = [cell for row in rows for cell in row.cells[1 : 1 + len(self.names)]]
        texts = list(dict.fromkeys(cells))  # labels are few texts; in the order of their first cells
        values = _numbers(texts, self.missing)

        def where(text: str) -> str:
            row, column = divmod(cells.index(text), len(self.names))
            return f"{file}, {unit} {rows[row].line}: {self.names[column]} is {text[:60]!r}"

        if isinstance(values, int):
            how = "Correct it, or name it in missing (--missing) where it stands for none"
            raise SourceError(f"{where(texts[values])}, not a number. {how}")
        with np.errstate(over="ignore", under="ignore"):
            cast = values.astype(self.dtype)
        lost = _lost(texts, values, cast)
        if lost is not None:
            wide = _lost([texts[lost]], values[lost : lost + 1], values[lost : lost + 1]) is None
            how = (
                "Pass target_dtype='float64' (--target-dtype), or round it" if wide else "Round it, or scale the column"
            )
            raise SourceError(f"{where(texts[lost])}, of which {self.dtype} makes {cast[lost]:.17g}. {how}")
        number = {text: at for at, text in enumerate(texts)}
        ids = np.fromiter(map(number.__getitem__, cells), np.int64, len(cells))
        return cast[ids].reshape(len(rows), len(self.names))


def check_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise SourceError(f"target_dtype must be {' or '.join(DTYPES)}; got {dtype!r}")
    return dtype


def missing_of(missing: str | Sequence[str]) -> tuple[str, ...]:
    """ "NA,nan," or several such texts -> ("NA", "nan", ""): each name once, without blanks around it."""
    texts = [missing] if isinstance(missing, str) else missing
    names = tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",")))
    if not names:
        raise SourceError('missing names no cells: give them as "NA,nan,", an empty name for empty cells')
    return names


def _numbers(cells: Sequence[str], missing: Sequence[str]) -> np.ndarray | int:
    """float64 [cells], NaN for those that are missing; the index of the first cell that is neither."""
    none = frozenset(missing)
    values: list[float] = []
    # Of these signs alone `float` reads the numbers that the rules allow, and no others.
    if not _ODD.search("".join([cell for cell in cells if cell not in none])):
        try:
            values = [math.nan if cell in none else float(cell) for cell in cells]
        except ValueError:
            values = []
    if not values:
        for at, cell in enumerate(cells):
            text = cell.strip()
            number = math.nan if text in none else decimal_of(text)
            if number is None:
                return at
            values.append(number)
    numbers = np.array(values, dtype=np.float64)
    named = [number for number in map(decimal_of, missing) if number is not None]
    if named:  # -999 names -999.0, too
        numbers[np.isin(numbers, named)] = math.nan
    return numbers


def is_lost(values: np.ndarray, cast: np.ndarray) -> np.ndarray:
    """bool [values]: which numbers became infinite or zero, or are whole and became others."""
    with np.errstate(invalid="ignore"):
        whole = (np.abs(values) < _EXACT) & (np.trunc(values) == values)
        return np.isinf(cast) | (whole & (cast != values)) | ((cast == 0) & (values != 0))


def _lost(cells: Sequence[str], values: np.ndarray, cast: np.ndarray) -> int | None:
    """The index of the first number that the cast turned into one that it must not become."""
    with np.errstate(invalid="ignore"):
        size, lost = np.abs(values), is_lost(values, cast)
        for at in np.flatnonzero(values == 0).tolist():  # 1e-400 is zero as a double already
            lost[at] |= not _ZERO.fullmatch(cells[at].strip())
        for at in np.flatnonzero((size >= _EXACT) & ~lost).tolist():
            number = whole_of(cells[at].strip())
            lost[at] = number is not None and number != int(cast[at])
    return int(np.argmax(lost)) if lost.any() else None
