"""Best fit: each item goes to the pack in which it leaves the least room."""

from __future__ import annotations

import numpy as np

from packer.algorithms.jit import kernel
from packer.algorithms.shares import SHARE_BITS, spare_bits


def best_fit(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Give each item, in the order given, to the open pack with room that is fullest then; or open one.

    size_of_item: integers [items], row of `need` of each item; need: int64 [sizes, dims]; capacity: int64 [dims]; every
    item fits an empty pack (the caller has checked). Fullest: the smallest sum over dimensions of the room left as a
    share of the capacity, in units of 2^-24, rounded down; ties go to the pack opened first. Returns int64 [items], the
    pack of each item, numbered as opened. Time O(items * open packs * dims); a pack too full for every item that is yet
    to come is not looked at again. No randomness. Source: Johnson et al., SIAM J. Comput. 3(4), 1974.
    """
    need = np.ascontiguousarray(need, dtype=np.int64)
    pack_of_item = np.empty(len(size_of_item), dtype=np.int64)
    smallest_left = np.minimum.accumulate(need[size_of_item][::-1])[::-1] if len(size_of_item) else need
    _place(size_of_item, need, capacity, spare_bits(capacity), SHARE_BITS, smallest_left, pack_of_item)
    return pack_of_item


@kernel
def _place(size_of_item, need, capacity, spare, bits, smallest_left, pack_of_item):  # type: ignore[no-untyped-def]
    """Write the pack of each item. smallest_left: int64 [items, dims], the least need from each item on."""
    dims = len(capacity)
    room = np.empty((len(size_of_item), dims), dtype=np.int64)  # of the open packs, as they were opened
    pack = np.empty(len(size_of_item), dtype=np.int64)
    open_packs = packs = 0
    for item in range(len(size_of_item)):
        size_id = size_of_item[item]
        if item == 0 or size_id != size_of_item[item - 1]:
            kept = 0
            for place in range(open_packs):
                useful = True
                for dim in range(dims):
                    if room[place, dim] < smallest_left[item, dim]:
                        useful = False
                        break
                if useful:
                    for dim in range(dims):
                        room[kept, dim] = room[place, dim]
                    pack[kept] = pack[place]
                    kept += 1
            open_packs = kept
        best = -1
        least = 0
        for place in range(open_packs):
            fits = True
            for dim in range(dims):
                if room[place, dim] < need[size_id, dim]:
                    fits = False
                    break
            if fits:
                left = 0
                for dim in range(dims):
                    after = (room[place, dim] - need[size_id, dim]) >> spare[dim]
                    left += (after << bits) // max(capacity[dim] >> spare[dim], 1)
                if best < 0 or left < least:
                    best, least = place, left
        if best < 0:
            best = open_packs
            for dim in range(dims):
                room[best, dim] = capacity[dim]
            pack[best] = packs
            open_packs += 1
            packs += 1
        for dim in range(dims):
            room[best, dim] -= need[size_id, dim]
        pack_of_item[item] = pack[best]
