"""Rows of different lengths, one after the other: pointers, and places in them."""

from __future__ import annotations

import numpy as np


def pointers(counts: np.ndarray) -> np.ndarray:
    """int64 [graphs+1]: where each graph's rows begin, and the total."""
    ptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=ptr[1:])
    return ptr


def segments(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers starts[i] .. starts[i]+counts[i]-1, i ascending, one after the other: int64 [sum(counts)]."""
    ends = np.cumsum(counts)
    rows = np.repeat(starts - (ends - counts), counts)
    rows += np.arange(len(rows))
    return rows


def flat_rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), int(np.prod(values.shape[1:])))
