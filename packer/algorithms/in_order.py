"""Sizes placed in a given order: in groups of equal packs, or one item at a time where hardly two graphs are alike."""

from __future__ import annotations

import numpy as np

from packer.algorithms.best_fit import best_fit
from packer.algorithms.budget import Budget
from packer.algorithms.first_fit import first_fit
from packer.algorithms.groups import fill_groups
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.items import Items
from packer.algorithms.jit import numba_is_here
from packer.algorithms.shares import shares

GROUP_SECONDS = (1e-4, 6e-9)
"""Of a size, and of a squared number of sizes."""
FIRST_SECONDS, BEST_SECONDS = 2e-7, 1e-9
"""Of an item; of an item, a pack and a dimension."""
WORTH_COMPILING = 0.2


def pack_in_order(instance: Instance, order: np.ndarray, *, best: bool, budget: Budget) -> Patterns:
    """Each item, size by size in `order` (int64 [sizes], a permutation), by first fit or by best fit.

    Both ways give the same packs; the cheaper one is taken. See `fill_groups`, `first_fit` and `best_fit`, also for
    what becomes of the items left when the budget is spent.
    """
    if _by_item(instance, best):
        return _one_by_one(instance, order, best, budget)

    def room_left(room: np.ndarray) -> np.ndarray:
        return shares(room, instance.capacity).sum(axis=1)

    return fill_groups(instance, order, room_left if best else None, budget)


def seconds_of(instance: Instance, *, best: bool) -> float:
    """About how long `pack_in_order` takes once compiled: a function of the instance alone."""
    return min(_group_seconds(instance), _item_seconds(instance, best) if numba_is_here() else np.inf)


def _by_item(instance: Instance, best: bool) -> bool:
    groups = _group_seconds(instance)
    return groups > WORTH_COMPILING and _item_seconds(instance, best) < groups and numba_is_here()


def _group_seconds(instance: Instance) -> float:
    sizes = len(instance.need)
    return GROUP_SECONDS[0] * sizes + GROUP_SECONDS[1] * sizes * sizes


def _item_seconds(instance: Instance, best: bool) -> float:
    items = float(instance.num_items)
    volume = (instance.need.astype(np.float64).T @ instance.count.astype(np.float64)) / np.maximum(instance.capacity, 1)
    packs = float(volume.max(initial=0.0))
    return BEST_SECONDS * items * packs * len(volume) if best else FIRST_SECONDS * items


def _one_by_one(instance: Instance, order: np.ndarray, best: bool, budget: Budget) -> Patterns:
    items = Items(instance, np.repeat(order, instance.count[order]))
    return (best_fit if best else first_fit)(items, budget).patterns
