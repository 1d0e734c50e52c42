"""The numbers that options take: how they are written and what they may be, on the command line and in job files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from packer.budget import SECONDS_MOST, SEED_MOST

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_REAL = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True)
class Range:
    """Numbers from least to most. whole: no fractions; above: more than least."""

    least: float
    most: float
    whole: bool = True
    above: bool = False

    def __str__(self) -> str:
        """ "a whole number from 1 to 4,096", "a number above 0"; limits beyond a million are left out."""
        kind = "a whole number" if self.whole else "a number"
        least = f"above {self.least:,}" if self.above else f"at least {self.least:,}"
        if self.most > 1e6:
            return f"{kind}, {least} and at most {self.most:.2g}"
        return f"{kind}, {least} and at most {self.most:,}"

    def read(self, given: Any) -> int | float | None:
        """The number that a text, or a value of a job file, stands for; None where it is none of these."""
        if isinstance(given, str):
            number = whole_of(given) if self.whole else real_of(given)
        elif isinstance(given, bool) or not isinstance(given, (int, float)) or (self.whole and given % 1 != 0):
            number = None
        else:
            number = given
        if number is None or not self.least <= number <= self.most or (self.above and number == self.least):
            return None
        return int(number) if self.whole else number


def whole_of(text: str) -> int | None:
    """A whole number in ASCII digits, with or without a sign; None for anything else, such as 1_000 or another
    alphabet's digits."""
    return int(text) if _WHOLE.fullmatch(text) else None


def real_of(text: str) -> float | None:
    """A finite number such as 0.95 or 2e-3; None for anything else."""
    number = float(text) if _REAL.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


SLOTS_MOST = 2**31 - 1
_SEED = Range(0, SEED_MOST)
NUMBERS = {
    "num_graphs": Range(1, SLOTS_MOST),
    "seed": _SEED,
    "split_seed": _SEED,
    "time_limit": Range(0, SECONDS_MOST, whole=False, above=True),
    "workers": Range(1, 4096),
    "multiple_of": Range(1, SLOTS_MOST),
    "max_nodes": Range(2, SLOTS_MOST),
    "max_bytes": Range(0, 1e18, whole=False, above=True),
    "pack": Range(0, 2**53),
    "epochs": Range(1, 10**6),
    "hidden": Range(1, 65_536),
    "layers": Range(1, 1000),
    "lr": Range(0, 1e6, whole=False, above=True),
    "batch_size": Range(1, 65_536),
}
"""Option -> the numbers that it takes."""
