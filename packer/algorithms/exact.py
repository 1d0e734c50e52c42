"""Exact work on tables of whole numbers, at numpy's speed wherever int64 is enough."""

from __future__ import annotations

import numpy as np


def total(amount: np.ndarray, count: np.ndarray) -> int:
    """The sum of amount * count, int64 [rows] each and not negative, in exact integers."""
    # Python's own take a hundred times as long.
    if int(amount.max(initial=0)) * sum(count.tolist()) < 2**63:
        return int(amount @ count)
    return sum(each * number for each, number in zip(amount.tolist(), count.tolist()))


def products_below(a: np.ndarray, times_a: int, b: np.ndarray, times_b: int) -> bool:
    """Whether a * times_a < b * times_b in every row, int64 [rows] each and not negative, in exact integers."""
    if max(int(a.max(initial=0)) * times_a, int(b.max(initial=0)) * times_b) < 2**63:
        return bool((a * times_a < b * times_b).all())
    return all(x * times_a < y * times_b for x, y in zip(a.tolist(), b.tolist()))


def distinct_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the distinct rows in lexicographic order, int64 [rows]: which of them each row is), as np.unique(axis=0) does.

    table: int64 [rows, columns]. Tables that are so already, as most are, are not sorted anew, which would be slow.
    """
    step = np.diff(table, axis=0)
    if step.size:
        first = np.take_along_axis(step, (step != 0).argmax(axis=1)[:, None], axis=1)
        if (first > 0).all():
            return table, np.arange(len(table))
    distinct, inverse = np.unique(table, axis=0, return_inverse=True)
    return distinct, inverse.reshape(-1)
