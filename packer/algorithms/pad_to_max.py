"""A fixed number of items in every pack: as many as may be, or so few that any of them fit together."""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.items import Items
from packer.algorithms.protocol import DEFAULTS, Options
from packer.algorithms.solution import Solution


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


def pad_to_max(items: Items, budget: Budget, options: Options = DEFAULTS) -> Solution:
    """Give each pack the next k items; the last pack takes what is left. Items keep their order.

    k is the number that the limit of graphs allows (any dimension that all items need alike), where all these very
    packs fit, as they do under limits that are the largest of such batches; else `items_per_pack`, whatever the order.

    Runs to its end whatever the budget. Time O(items). No randomness.
    """
    size_of_item, need, capacity = items.size_of_item(), items.instance.need, items.instance.capacity
    count = np.bincount(size_of_item, minlength=len(need))
    number = _allowed(need[count > 0], capacity)
    if not number or not _fit_in_order(size_of_item, need, capacity, number):
        number = items_per_pack(need, capacity, count)
    offsets = np.append(np.arange(0, len(size_of_item), number, dtype=np.int64), len(size_of_item))
    return Solution(items, by_item=(np.arange(len(size_of_item), dtype=np.int64), offsets))


def _allowed(need: np.ndarray, capacity: np.ndarray) -> int:
    """Items that the dimensions allow in which all need the same; 0 where there is none."""
    if not len(need):
        return 0
    alike = (need == need[0]).all(axis=0) & (need[0] > 0)
    return int((capacity[alike] // need[0, alike]).min()) if alike.any() else 0


def _fit_in_order(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray, number: int) -> bool:
    """Whether each `number` items, as they follow each other, fit a pack; False where int64 might not hold the sums."""
    starts = np.arange(0, len(size_of_item), number)
    for column, limit in zip(need.T, capacity.tolist()):
        if int(column.max()) * min(number, len(size_of_item)) >= 2**63:
            return False
        if (np.add.reduceat(column[size_of_item], starts) > limit).any():
            return False
    return True
