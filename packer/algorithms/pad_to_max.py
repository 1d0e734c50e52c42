"""A fixed number of items in every pack: so few that any of them fit together, whatever they are."""

from __future__ import annotations

import numpy as np


def items_per_pack(need: np.ndarray, capacity: np.ndarray, count: np.ndarray) -> int:
    """The largest number of items that fit a pack whichever items they are; at least 1, at most all items.

    need: int64 [sizes, dims], every row at most `capacity`: int64 [dims]; count: int64 [sizes], how many items of each.
    The worst choice of k items in a dimension is the k largest there, so each dimension is summed in falling order.
    Time O(sizes * dims), in exact integers. No randomness.
    """
    most = max(sum(count.tolist()), 1)
    for column, limit in zip(need.T, capacity.tolist()):
        room, items = limit, 0
        for size_id in np.argsort(-column, kind="stable").tolist():
            each, number = int(column[size_id]), int(count[size_id])
            fit = min(number, room // each) if each else number
            items += fit
            room -= fit * each
            if fit < number:
                most = min(most, items)
                break
    return max(most, 1)


def pad_to_max(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Give each pack the next `items_per_pack` items; the last pack takes what is left. Items keep their order.

    size_of_item: integers [items]; need: int64 [sizes, dims]; capacity: int64 [dims]. Returns pack_offsets int64
    [packs+1]: pack p holds items pack_offsets[p] to pack_offsets[p+1]. Time O(items). No randomness.
    """
    items = len(size_of_item)
    count = np.bincount(size_of_item, minlength=len(need))
    return np.append(np.arange(0, items, items_per_pack(need, capacity, count), dtype=np.int64), items)
