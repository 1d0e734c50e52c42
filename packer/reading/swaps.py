"""Swaps: graphs of any sizes change places between packs that still hold them.

Where nearly every size is a graph's own, as of proteins and social networks, no two graphs are of one size class. Yet
packs have room to spare on each axis, and sets of graphs differ by little: a few of one pack fit in the place of as
many of another. Pairs of packs drawn by a key exchange such sets, round after round. Packs keep their number of graphs.
"""

from __future__ import annotations

import numpy as np

from packer.hashing import id_hashes, key_of

ROUNDS = 8
PARTS = 10
"""Into so many parts the slots of a pair of packs are dealt: 2^PARTS sets to choose from."""
_AT_ONCE = 1 << 17  # sums in the cache


def swapped_slots(need: np.ndarray, slack: np.ndarray, real: np.ndarray, key: int) -> np.ndarray:
    """The slot whose graph each slot takes: int64 [packs, slots], a permutation of real slots; others take their own.

    need: int64 [packs, slots, dims], what the graph of each slot takes; slack: int64 [packs, dims] >= 0, what is left
    of each pack; real: int64 [packs], so many first slots hold graphs. All sums below 2^31.
    In a round every pack has a partner. Their graphs are put into random orders and paired; of all sets of pairs
    (taken in up to PARTS parts) that both packs can exchange, one of those nearest to half of them is. Every pack stays
    within its limits after each round. Time O(ROUNDS * packs * dims * 2^PARTS). Randomness: key alone.
    """
    packs, slots, dims = need.shape
    source = np.arange(packs * slots).reshape(packs, slots)
    wide = int(real.max(initial=0))
    pairs = packs // 2
    parts = min(PARTS, wide)
    if not pairs or parts < 2:
        return source
    filled = np.arange(wide) < real[:, None]
    lies = source[:, :wide].copy()
    flat, slack = need.reshape(-1, dims).astype(np.int32), slack.astype(np.int32)
    part_of_slot = np.arange(wide) * parts // wide
    starts = np.searchsorted(part_of_slot, np.arange(parts))
    sets = np.arange(1 << parts)
    size = np.count_nonzero(sets[:, None] >> np.arange(parts) & 1, axis=1)
    worth = np.minimum(size, parts - size).astype(np.int8)
    step = max(1, _AT_ONCE // (dims << parts))
    for turn in range(ROUNDS):
        draws = id_hashes(np.arange(packs * (wide + 1)), key_of(key, turn)).reshape(packs, wide + 1)
        order = np.where(filled, draws[:, 1:] >> np.uint64(1), draws[:, 1:] | np.uint64(1 << 63)).argsort(axis=1)
        lies = np.take_along_axis(lies, order, axis=1)
        partners = draws[:, 0].argsort()
        for begin in range(0, pairs, step):
            one = partners[begin : min(begin + step, pairs)]
            other = partners[pairs + begin : pairs + begin + len(one)]
            both = filled[one] & filled[other]
            grows = np.where(both[..., None], flat[lies[other]] - flat[lies[one]], 0).transpose(2, 0, 1)
            # From what `other` has to spare upwards: what one spares at most and no less than 0 is one comparison.
            least = slack[other].T[..., None]
            sums = np.empty((dims, len(one), len(sets)), dtype=np.int32)
            sums[..., :1] = least
            for part, by in enumerate(np.moveaxis(np.add.reduceat(grows, starts, axis=2), 2, 0)):
                np.add(sums[..., : 1 << part], by[..., None], out=sums[..., 1 << part : 2 << part])
            span = least.astype(np.uint32) + slack[one].T[..., None].astype(np.uint32)
            fits = np.logical_and.reduce(sums.view(np.uint32) <= span, axis=0)
            best = (fits * worth).argmax(axis=1)  # the empty set fits and is worth nothing
            swap = both & (best[:, None] >> part_of_slot & 1).astype(bool)
            lies[one], lies[other] = (
                np.where(swap, lies[other], lies[one]),
                np.where(swap, lies[one], lies[other]),
            )
            change = (sums[:, np.arange(len(one)), best] - least[..., 0]).T
            slack[one] -= change
            slack[other] += change
    source[:, :wide] = np.where(filled, lies, source[:, :wide])
    return source
