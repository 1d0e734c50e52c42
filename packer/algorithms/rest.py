"""What a greedy algorithm does with the items left when its budget is spent: next fit, over open packs first."""

from __future__ import annotations

import numpy as np

from packer.algorithms.jit import kernel


@kernel
def fill_on(
    size_of_item: np.ndarray,
    need: np.ndarray,
    capacity: np.ndarray,
    room: np.ndarray,
    pack: np.ndarray,
    open_packs: int,
    packs: int,
    first: int,
    pack_of_item: np.ndarray,
) -> int:
    """Give the items from `first` on to the open packs, one after the other, and then to new ones; how many packs.

    An item that does not fit the pack at hand closes it. room: int64 [open, dims], changed; pack: int64 [open], the
    number of each; of both the first `open_packs` count, in this order; packs: numbers given so far. Writes the pack of
    each item. Time O((items + open packs) * dims). No randomness.
    """
    dims = len(capacity)
    free = capacity.copy()
    index, number = 0, -1
    if open_packs > 0:
        number = pack[0]
        free[:] = room[0]
    for item in range(first, len(size_of_item)):
        size_id = size_of_item[item]
        while True:
            fits = number >= 0
            for dim in range(dims):
                if free[dim] < need[size_id, dim]:
                    fits = False
                    break
            if fits:
                break
            index += 1
            if index < open_packs:
                number = pack[index]
                free[:] = room[index]
            else:
                number = packs
                packs += 1
                free[:] = capacity
        for dim in range(dims):
            free[dim] -= need[size_id, dim]
        pack_of_item[item] = number
    return packs
