"""Do two places hold the same graphs? A sum of keyed hashes for each block answers it without holding either in memory.

Each graph in a pack becomes one 64-bit number, a hash of (id, pack, slot, sizes); sums of these over a block, modulo
2^64, are equal when the graphs are, whatever their order, and differ all but surely when
they are not.
The key is drawn anew by each `verify`, so that nobody can prepare two sets with equal sums.
"""

from __future__ import annotations

import numpy as np


def add_to_blocks(sums: np.ndarray, blocks: np.ndarray, hashes: np.ndarray) -> None:
    """sums[blocks[i]] += hashes[i], modulo 2^64. sums: uint64 [blocks of the data set]."""
    if not len(blocks):
        return
    order = np.argsort(blocks, kind="stable")
    ordered = blocks[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums[ordered[starts]] += np.add.reduceat(hashes[order], starts)
