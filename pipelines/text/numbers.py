"""The numbers that options take: how they are written and what they may be, on the command line and in job files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from packer.algorithms.checks import SECONDS_MOST, SEED_MOST

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_REAL = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True)
class Range:
    """Numbers from least to most. integer: no fractions; above: more than least."""

    least: float
    most: float
    integer: bool = True
    above: bool = False

    def fault(self, value: Any) -> str | None:
        """What a text, or a value of a job file, must be and is not: "must be a whole number; got ²"; None: it is."""
        number, kind = self._number(value), "a whole number" if self.integer else "a finite number"
        if number is None:
            return f"must be {kind}; got {_shown(value)}"
        if self.above and not number > self.least:
            return f"must be above {self.least:,}; got {_shown(value)}"
        if number < self.least:
            return f"must be {kind} greater than or equal to {self.least:,}; got {_shown(value)}"
        if number > self.most:
            return f"must be at most {self.most:,}; got {_shown(value)}"
        return None

    def read(self, value: Any) -> Any:
        """The number of what has no fault."""
        return self._number(value)

    def _number(self, value: Any) -> int | float | None:
        if isinstance(value, str):
            return whole_of(value) if self.integer else real_of(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        if not self.integer:
            return value
        return int(value) if value % 1 == 0 else None


def _shown(value: Any) -> str:
    """A value in an error, in quotes where one would not see it; cut where it is long."""
    text = str(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return text if text.isprintable() and text.strip() == text and text else repr(text)


def whole_of(text: str) -> int | None:
    """A whole number in ASCII digits, with or without a sign; None for anything else, such as 1_000 or another
    alphabet's digits."""
    return int(text) if _WHOLE.fullmatch(text) else None


def real_of(text: str) -> float | None:
    """A finite number such as 0.95 or 2e-3; None for anything else."""
    number = decimal_of(text)
    return number if number is not None and math.isfinite(number) else None


def decimal_of(text: str) -> float | None:
    """The double next to a number in ASCII digits such as 0.95 or 2e-3, infinite beyond them all; else None."""
    return float(text) if _REAL.fullmatch(text) else None


SLOTS_MOST = 2**31 - 1
_SEED = Range(0, SEED_MOST)
NUMBERS = {
    "num_graphs": Range(1, SLOTS_MOST),
    "seed": _SEED,
    "split_seed": _SEED,
    "time_limit": Range(0, int(SECONDS_MOST), integer=False, above=True),
    "work_limit": Range(0, int(SECONDS_MOST), integer=False, above=True),
    "cutoff": Range(0, 10**6, integer=False, above=True),
    "pad_geometry": Range(0, 10**6, integer=False, above=True),
    "workers": Range(1, 4096),
    "multiple_of": Range(1, SLOTS_MOST),
    "max_nodes": Range(2, SLOTS_MOST),
    "max_bytes": Range(0, 10**18, integer=False, above=True),
    "pack": Range(0, 2**53),
    "epochs": Range(1, 10**6),
    "hidden": Range(1, 65_536),
    "layers": Range(1, 1000),
    "lr": Range(0, 10**6, integer=False, above=True),
    "batch_size": Range(1, 65_536),
}
"""Option -> the numbers that it takes."""
