"""What a plan may take, checked where it is asked for: seed, seconds, work."""

from __future__ import annotations

import math
from typing import Any, cast

from packer.errors import AlgorithmError

SEED_MOST = 2**63 - 1
SECONDS_MOST = 1e9
"""Thirty years: what clocks and solvers can still count."""


def check_budget(seed: Any, time_limit: Any, work_limit: Any = None) -> tuple[int, float | None, float | None]:
    """The three as numbers of Python, which clocks, solvers and JSON take: numpy's and others' become such.

    Raises AlgorithmError unless seed is a whole number from 0 to 2**63 - 1, and both are numbers of seconds from 0 to
    1e9, or None for no limit.
    """
    plain_seed = check_seed("seed", seed)
    for name, limit in (("time_limit", time_limit), ("work_limit", work_limit)):
        if limit is not None and not 0 <= _number(limit) <= SECONDS_MOST:
            raise AlgorithmError(f"{name} must be seconds, from 0 to 1e9, or None for no limit; got {limit!r}")
    return plain_seed, _plain(time_limit), _plain(work_limit)


def _plain(limit: Any) -> float | None:
    return limit if limit is None or type(limit) in (int, float) else float(limit)


def check_seed(name: str, seed: Any) -> int:
    """The seed as a number of Python; AlgorithmError unless it is a whole number from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() <= SEED_MOST:
        raise AlgorithmError(f"{name} must be a whole number from 0 to 2**63 - 1; got {seed!r}")
    return seed.__index__()


def _number(value: Any) -> float:
    """NaN for what is no number."""
    if isinstance(value, (bool, str, bytes)):
        return math.nan
    try:
        return float(cast("float", value))
    except (TypeError, ValueError, OverflowError):
        return math.nan
