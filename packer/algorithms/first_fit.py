"""First fit: each item goes to the first pack that has room for it."""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.exact import total
from packer.algorithms.items import Items
from packer.algorithms.jit import kernel
from packer.algorithms.protocol import DEFAULTS, Options
from packer.algorithms.rest import fill_on
from packer.algorithms.solution import Solution

SLICE_STEPS, STEP_WORK = 20_000_000, 5e-9
"""Nodes of the tree looked at between two looks at the clock; the nominal seconds of one."""


def first_fit(items: Items, budget: Budget, options: Options = DEFAULTS) -> Solution:
    """Give each item, in the order given, to the first open pack with room; open a pack when there is none.

    The solution is by item: packs as they were opened, items inside a pack in the order in which they came.
    Time O(items * log(packs) * dims) in practice: a tree holds the largest room of each dimension over ranges of packs,
    and a size never looks again at packs that had no room for it. No randomness.
    When the budget is spent, the items left go to the packs by next fit, and its `cut_short` is set.
    Source: Johnson et al., SIAM J. Comput. 3(4), 1974; here it must fit in every dimension.
    """
    size_of_item, capacity = items.size_of_item(), items.instance.capacity
    need = np.ascontiguousarray(items.instance.need, dtype=np.int64)
    leaves = 1 << max(_most_packs(size_of_item, need, capacity) - 1, 0).bit_length()
    pack_of_item = np.empty(len(size_of_item), dtype=np.int32 if leaves < 1 << 31 else np.int64)
    room = np.empty((2 * leaves, len(capacity)), dtype=np.int64)
    room[:] = capacity
    # Packs before start[s] have no room for size s, and never will: room only shrinks.
    start = np.zeros(len(need), dtype=np.int64)
    packs = first = 0
    while first < len(size_of_item):
        if budget.spent:
            budget.cut_short = True
            left = room[leaves : leaves + packs], np.arange(packs), packs, packs
            packs = fill_on(size_of_item, need, capacity, *left, first, pack_of_item)
            break
        first, packs, steps = _insert(size_of_item, need, room, start, leaves, packs, first, SLICE_STEPS, pack_of_item)
        budget.spend(STEP_WORK * steps)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pack_of_item, minlength=packs))]).astype(np.int64)
    return Solution(items, by_item=(np.argsort(pack_of_item, kind="stable"), offsets))


def _most_packs(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> int:
    """A number of packs that first fit cannot exceed.

    The first item of a pack did not fit the pack before, so two packs in a row hold more than one capacity in some
    dimension: half the packs, rounded down, are fewer than the sum over dimensions of what all items need in packs.
    """
    count = np.bincount(size_of_item, minlength=len(need))
    volume = 0
    for column, limit in zip(need.T, capacity.tolist()):
        volume += -(-total(column, count) // max(limit, 1))
    return max(min(len(size_of_item), 2 * volume + 1), 1)


@kernel
def _insert(size_of_item, need, room, start, leaves, packs, first, most, pack_of_item):  # type: ignore[no-untyped-def]
    """Write the pack of each item from `first` on, until `most` steps are done; next item, number of packs, steps.

    `leaves`: a power of two, enough for all packs; room: int64 [2 * leaves, dims], of the nodes of the tree; start:
    int64 [sizes], where to look from.

    Node v has the children 2v and 2v+1; leaf `leaves + p` is pack p. A node may promise room that no single pack below
    it has (its maxima may be of different packs): then the walk goes on to the right of it.
    """
    dims = need.shape[1]
    item, steps = first, 0
    while item < len(size_of_item) and steps < most:
        size_id = size_of_item[item]
        node = leaves + start[size_id]
        while True:
            steps += 1
            fits = True
            for dim in range(dims):
                if room[node, dim] < need[size_id, dim]:
                    fits = False
                    break
            if fits:
                if node >= leaves:
                    break
                node = 2 * node
            else:
                while node & 1:
                    node >>= 1
                node += 1
        pack = node - leaves
        start[size_id] = pack
        pack_of_item[item] = pack
        item += 1
        if pack >= packs:
            packs = pack + 1
        for dim in range(dims):
            room[node, dim] -= need[size_id, dim]
        changed = True
        while changed and node > 1:
            node >>= 1
            changed = False
            for dim in range(dims):
                largest = max(room[2 * node, dim], room[2 * node + 1, dim])
                if largest != room[node, dim]:
                    room[node, dim] = largest
                    changed = True
    return item, packs, steps
