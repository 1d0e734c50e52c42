"""Amounts as shares of the capacity, in integers: what heuristics order sizes and rank packs by."""

from __future__ import annotations

import numpy as np

SHARE_BITS = 24


def shares(amount: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """`amount` as parts of `capacity` in units of 2^-24, rounded down: int64, exact, never decreasing in `amount`.

    amount: int64 [..., dims], at most `capacity`: int64 [dims]. A dimension without capacity has share 0.
    """
    spare = spare_bits(capacity)
    return ((amount >> spare) << SHARE_BITS) // np.maximum(capacity >> spare, 1)


def spare_bits(capacity: np.ndarray) -> np.ndarray:
    """Lowest bits that capacities of 2^38 and more lose first, so that nothing overflows: int64 [dims]."""
    return np.array([max(0, value.bit_length() - 38) for value in capacity.tolist()], dtype=np.int64)


def largest_first(need: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Size ids by falling `keys` (the first decides), ties by falling need, dimension by dimension: int64 [sizes]."""
    return np.lexsort([-column for column in (*keys, *need.T)][::-1]) if need.size else np.arange(len(need))
