"""Do two places hold the same graphs? A sum of keyed hashes for each block answers it without holding either in memory.

Each graph in a pack becomes one 64-bit number, a hash of (id, pack, slot, sizes); sums of these over a block, modulo
2^64, are equal when the graphs are, whatever their order, and differ all but surely when
they are not.
The key is drawn anew by each `verify`, so that nobody can prepare two sets with equal sums.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def row_hashes(columns: Sequence[np.ndarray], key: int) -> np.ndarray:
    """uint64 [rows]: a keyed hash of each row of int columns [rows]. Source of the mixer: SplitMix64 (Steele 2014)."""
    found = np.full(len(columns[0]), key, dtype=np.uint64)
    for column in columns:
        found ^= column.astype(np.int64).view(np.uint64)
        found += _STEP
        found ^= found >> np.uint64(30)
        found *= _MIX[0]
        found ^= found >> np.uint64(27)
        found *= _MIX[1]
        found ^= found >> np.uint64(31)
    return found


def add_to_blocks(sums: np.ndarray, blocks: np.ndarray, hashes: np.ndarray) -> None:
    """sums[blocks[i]] += hashes[i], modulo 2^64. sums: uint64 [blocks of the data set]."""
    if not len(blocks):
        return
    order = np.argsort(blocks, kind="stable")
    ordered = blocks[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums[ordered[starts]] += np.add.reduceat(hashes[order], starts)
