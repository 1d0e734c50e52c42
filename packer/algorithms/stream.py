"""Next fit: one open pack; an item that does not fit closes it."""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.items import Items
from packer.algorithms.jit import kernel
from packer.algorithms.protocol import DEFAULTS, Options
from packer.algorithms.solution import Solution


def stream(items: Items, budget: Budget, options: Options = DEFAULTS) -> Solution:
    """Fill one pack after the other with the items in their order; an item without room opens the next pack.

    Runs to its end whatever the budget. Time O(items * dims). No randomness.
    Source: next fit, D. S. Johnson, Near-optimal bin packing algorithms, 1973; here it must fit in every dimension.
    """
    size_of_item, instance = items.size_of_item(), items.instance
    offsets = np.empty(len(size_of_item) + 1, dtype=np.int64)
    packs = _next_fit(size_of_item, np.ascontiguousarray(instance.need, dtype=np.int64), instance.capacity, offsets)
    return Solution(items, by_item=(np.arange(len(size_of_item), dtype=np.int64), offsets[: packs + 1].copy()))


@kernel
def _next_fit(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray, offsets: np.ndarray) -> int:
    """Write where packs begin and end; the number of packs."""
    room = capacity.copy()
    dims = len(room)
    packs = 0
    offsets[0] = 0
    for item in range(len(size_of_item)):
        size_id = size_of_item[item]
        fits = True
        for dim in range(dims):
            room[dim] -= need[size_id, dim]
            if room[dim] < 0:
                fits = False
        if not fits:
            packs += 1
            offsets[packs] = item
            for dim in range(dims):
                room[dim] = capacity[dim] - need[size_id, dim]
    if len(size_of_item) > 0:
        packs += 1
        offsets[packs] = len(size_of_item)
    return packs
