"""Exact pricing by dynamic programming over the grid of capacities: the pattern of the largest price sum.

Gilmore and Gomory, Operations Research 9(6), 1961, in integers and in several dimensions.
"""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance
from packer.algorithms.jit import kernel
from packer.algorithms.optimal.params import PARAMS


@kernel
def _undominated(need, price, order, kept):  # type: ignore[no-untyped-def]
    """Write the sizes of `order` (falling price) that no cheaper-to-hold one replaces to `kept`; how many."""
    number = 0
    dims = need.shape[1]
    for i in order:
        if price[i] <= 0:
            break
        # Dearer sizes came before: one of them that takes no more in any dimension is at least as good in any pattern.
        covered = False
        for j in range(number):
            fits = True
            for d in range(dims):
                if need[kept[j], d] > need[i, d]:
                    fits = False
                    break
            if fits:
                covered = True
                break
        if not covered:
            kept[number] = i
            number += 1
    return number


@kernel
def _fill_grid(value, outer_coords, outer_need, offset, last_need, price, first, stop):  # type: ignore[no-untyped-def]
    """Steps first..stop: row by row, size by size: value[o, e] = the largest price sum of items that fit (o, e)."""
    width = value.shape[1]
    axes = outer_coords.shape[1]
    sizes = len(price)
    for step in range(first, stop):
        o = step // sizes
        i = step % sizes
        fits = True
        for a in range(axes):
            if outer_need[i, a] > outer_coords[o, a]:
                fits = False
                break
        if fits:
            # One item more of size i. Rising e reads what this step wrote: any number of copies (unbounded knapsack).
            # `offset` is the distance between rows that the outer dimensions of the item are worth.
            shift = last_need[i]
            add = price[i]
            into = value[o]
            source = value[o - offset[i]]
            for e in range(shift, width):
                candidate = source[e - shift] + add
                if candidate > into[e]:
                    into[e] = candidate


@kernel
def _trace(value, offset, last_need, outer_coords, outer_need, price, row, column, start, slots):  # type: ignore[no-untyped-def]
    """Follow the table from a cell back to 0; the items on the way go to `slots`. How many; -1: too many."""
    number = 0
    sizes = len(price)
    axes = outer_coords.shape[1]
    turn = start
    while value[row, column] > 0:
        explained = False
        # Any size whose price explains the cell will do; beginning at the last one, runs of copies come cheaply, and
        # other starts give other patterns of the same value.
        for k in range(sizes):
            i = (k + turn) % sizes
            if last_need[i] > column:
                continue
            fits = True
            for a in range(axes):
                if outer_need[i, a] > outer_coords[row, a]:
                    fits = False
                    break
            if fits and value[row - offset[i], column - last_need[i]] + price[i] == value[row, column]:
                if number == len(slots):
                    return -1
                slots[number] = i
                number += 1
                row -= offset[i]
                column -= last_need[i]
                turn = i
                explained = True
                break
        if not explained:
            return -1
    return number


class GridPricer:
    """The table of one instance, filled anew for each set of prices."""

    def __init__(self, instance: Instance) -> None:
        room = instance.capacity
        axes = np.argsort(room, kind="stable")  # the longest axis last: the inner loop
        outer = axes[:-1]
        extent = room[outer] + 1
        self._instance = instance
        self._strides = np.array([int(np.prod(extent[a + 1 :])) for a in range(len(outer))], dtype=np.int64)
        rows = int(np.prod(extent))
        index = np.arange(rows, dtype=np.int64)
        self._coords = np.stack(
            [index // s % x for s, x in zip(self._strides, extent)] or [np.zeros(rows, np.int64)], axis=1
        )
        self._outer_need = np.ascontiguousarray(instance.need[:, outer])
        if not len(outer):
            self._outer_need = np.zeros((len(instance.need), 1), np.int64)
        self._offset = instance.need[:, outer] @ self._strides if len(outer) else np.zeros(len(instance.need), np.int64)
        self._last_need = np.ascontiguousarray(instance.need[:, axes[-1]])
        self._value = np.zeros((rows, int(room[axes[-1]]) + 1), np.int64)
        self._kept = np.zeros(0, np.int64)

    @staticmethod
    def cells(room: np.ndarray) -> int:
        cells = 1
        for extent in room.tolist():
            cells *= extent + 1
        return cells

    def best(self, price: np.ndarray, floor: int, budget: Budget) -> int | None:
        """The largest price sum of a pattern (any number of any size), whatever the floor; None: the budget ended.

        price: int64 [sizes], not negative; sums of a pack stay below 2^62.
        """
        order = np.lexsort((self._instance.need.sum(axis=1), -price))
        kept = np.zeros(len(price), np.int64)
        kept = kept[: _undominated(self._instance.need, price, order, kept)]
        rows, width = self._value.shape
        self._value[:] = 0
        arrays = self._outer_need[kept], self._offset[kept], self._last_need[kept], price[kept]
        step = max(1, PARAMS.cells_a_slice // width)
        for first in range(0, rows * len(kept), step):
            stop = min(rows * len(kept), first + step)
            _fill_grid(self._value, self._coords, *arrays, first, stop)
            if not budget.spend(PARAMS.cell_work * (stop - first) * width):
                return None
        self._kept = kept
        return int(self._value[-1, -1])

    def patterns(self, price: np.ndarray, target: np.ndarray, limit: int, seed: int) -> list[np.ndarray]:
        """The best pattern through each size (after `best(price)`): lists of size ids, the best by `target` first.

        target: float64 [sizes], prices by which they are ranked and which they must beat: sum above 1.
        """
        kept, instance = self._kept, self._instance
        rows, width = self._value.shape
        row = rows - 1 - self._offset
        column = width - 1 - self._last_need
        through = self._value[row, column] + price
        ranked = np.argsort(-through, kind="stable")
        ranked = ranked[: 4 * limit]
        slots = np.zeros(int(min(100_000, instance.count.sum())) + 64, np.int64)
        arrays = (self._offset[kept], self._last_need[kept], self._coords, self._outer_need[kept], price[kept])
        distinct: dict[bytes, np.ndarray] = {}
        values: list[float] = []
        for turn, i in enumerate(ranked.tolist()):
            start = (seed + 7919 * turn) % max(1, len(kept))
            number = _trace(self._value, *arrays, int(row[i]), int(column[i]), start, slots)
            if number < 0:
                continue
            pattern = np.sort(np.append(kept[slots[:number]], i))
            worth = float(target[pattern].sum())
            if worth > 1 + 1e-9 and distinct.setdefault(pattern.tobytes(), pattern) is pattern:
                values.append(worth)
        patterns = list(distinct.values())
        return [patterns[i] for i in np.argsort(-np.array(values), kind="stable")[:limit].tolist()] if values else []
