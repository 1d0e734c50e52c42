"""Best fit: each item goes to the pack in which it leaves the least room."""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.items import Items
from packer.algorithms.jit import kernel
from packer.algorithms.protocol import DEFAULTS, Options
from packer.algorithms.rest import fill_on
from packer.algorithms.shares import SHARE_BITS, spare_bits
from packer.algorithms.solution import Solution

SLICE_STEPS, STEP_WORK = 30_000_000, 1e-9
"""Open packs looked at, in each dimension, between two looks at the clock; the nominal seconds of one."""


def best_fit(items: Items, budget: Budget, options: Options = DEFAULTS) -> Solution:
    """Give each item, in the order given, to the open pack with room that is fullest then; or open one.

    Fullest: the smallest sum over dimensions of the room left as a share of the capacity, in units of 2^-24, rounded
    down; ties go to the pack opened first. The solution is by item: packs as they were opened, items inside a pack in
    the order in which they came. Time O(items * open packs * dims); a pack too full for every item that is yet to come
    is not looked at again. No randomness. When the budget is spent, the items left go to the open packs by next fit,
    and its `cut_short` is set.
    Source: Johnson et al., SIAM J. Comput. 3(4), 1974.
    """
    size_of_item, capacity = items.size_of_item(), items.instance.capacity
    need = np.ascontiguousarray(items.instance.need, dtype=np.int64)
    pack_of_item = np.empty(len(size_of_item), dtype=np.int64)
    smallest_left = np.minimum.accumulate(need[size_of_item][::-1])[::-1] if len(size_of_item) else need
    tables = need, capacity, spare_bits(capacity), SHARE_BITS, smallest_left, pack_of_item
    open_packs = np.empty((len(size_of_item), len(capacity)), np.int64), np.empty(len(size_of_item), np.int64)
    counts = np.zeros(2, np.int64)
    first = 0
    while first < len(size_of_item):
        if budget.spent:
            budget.cut_short = True
            fill_on(size_of_item, need, capacity, *open_packs, int(counts[0]), int(counts[1]), first, pack_of_item)
            break
        first, steps = _insert(size_of_item, *tables, *open_packs, counts, first, SLICE_STEPS)
        budget.spend(STEP_WORK * steps)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(pack_of_item))])
    return Solution(items, by_item=(np.argsort(pack_of_item, kind="stable"), offsets))


@kernel
def _insert(size_of_item, need, capacity, spare, bits, smallest_left, pack_of_item, room, pack, counts, first, most):  # type: ignore[no-untyped-def]
    """Write the pack of each item from `first` on, until `most` steps are done; the next item and the steps.

    smallest_left: int64 [items, dims], the least need from each item on; room [packs, dims], pack [packs]: the open
    packs as they were opened; counts: how many are open, and were ever.
    """
    dims = len(capacity)
    open_packs, packs = counts[0], counts[1]
    item, steps = first, 0
    while item < len(size_of_item) and steps < most:
        size_id = size_of_item[item]
        if item == 0 or size_id != size_of_item[item - 1]:
            kept = 0
            for index in range(open_packs):
                useful = True
                for dim in range(dims):
                    if room[index, dim] < smallest_left[item, dim]:
                        useful = False
                        break
                if useful:
                    for dim in range(dims):
                        room[kept, dim] = room[index, dim]
                    pack[kept] = pack[index]
                    kept += 1
            open_packs = kept
        steps += (1 + open_packs) * dims
        best = -1
        least = 0
        for index in range(open_packs):
            fits = True
            for dim in range(dims):
                if room[index, dim] < need[size_id, dim]:
                    fits = False
                    break
            if fits:
                left = 0
                for dim in range(dims):
                    after = (room[index, dim] - need[size_id, dim]) >> spare[dim]
                    left += (after << bits) // max(capacity[dim] >> spare[dim], 1)
                if best < 0 or left < least:
                    best, least = index, left
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
        item += 1
    counts[0], counts[1] = open_packs, packs
    return item, steps
