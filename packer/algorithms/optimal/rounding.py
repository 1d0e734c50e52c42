"""From the LP's fractions to whole packs: what is certain is fixed, the rest is a small instance of its own."""

from __future__ import annotations

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.column_generation import PatternLP
from packer.algorithms.optimal.columns import to_patterns
from packer.algorithms.shares import largest_first, shares


def fix_whole(instance: Instance, lp: PatternLP, keep: np.ndarray) -> tuple[Patterns, np.ndarray]:
    """(patterns, left): use each column of the LP floor(use) times, `keep` (float64 [columns], 0..1) of that.

    A slot whose size is used up serves a smaller one, as often as the exchanges of the LP do; or it stays empty.
    left: int64 [sizes], the items in no pack. Proper: no item is used twice.
    """
    left = instance.count.tolist()
    exchange = _Exchange(lp)
    times_used = np.floor(np.floor(lp.use + 1e-6) * keep + 1e-9).astype(np.int64)
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for column in np.argsort(-times_used, kind="stable").tolist():
        packs = int(times_used[column])
        slots = np.repeat(lp.columns.ids[column], lp.columns.times[column]).tolist() if packs else []
        while packs:
            pattern: dict[int, int] = {}
            used: dict[int, int] = {}
            for size in slots:
                exchange.serve(size, left, pattern, used)
            if not pattern:
                break
            same = min([packs] + [left[size] // times for size, times in pattern.items()])
            same = min([same] + [exchange.quota[pair] // times for pair, times in used.items()])
            for size, times in pattern.items():
                left[size] -= times * same
            for pair, times in used.items():
                exchange.quota[pair] -= times * same
            ids = sorted(pattern)
            rows.append((np.array(ids, dtype=np.int64), np.array([pattern[i] for i in ids], dtype=np.int64), same))
            packs -= same
    return to_patterns(rows), np.array(left, dtype=np.int64)


def fill_up(instance: Instance, plan: Patterns, left: np.ndarray) -> tuple[Patterns, np.ndarray]:
    """(patterns, left): items of `left` (int64 [sizes]) put where the plan's packs have room, largest share first."""
    left = left.copy()
    by_share = largest_first(instance.need, shares(instance.need, instance.capacity).sum(axis=1))
    by_share = by_share[left[by_share] > 0]
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for p in range(len(plan)):
        ids, times = plan[p]
        room = instance.capacity - times @ instance.need[ids]
        packs = int(plan.counts[p])
        while packs:
            pattern: dict[int, int] = dict(zip(ids.tolist(), times.tolist()))
            free = room.copy()
            added: dict[int, int] = {}
            for size in by_share[(left[by_share] > 0) & (instance.need[by_share] <= room).all(axis=1)].tolist():
                while left[size] > added.get(size, 0) and (instance.need[size] <= free).all():
                    free -= instance.need[size]
                    added[size] = added.get(size, 0) + 1
            same = min([packs] + [int(left[size]) // times for size, times in added.items()])
            for size, number in added.items():
                left[size] -= number * same
                pattern[size] = pattern.get(size, 0) + number
            order = sorted(pattern)
            rows.append((np.array(order, dtype=np.int64), np.array([pattern[i] for i in order], dtype=np.int64), same))
            packs -= same
    return to_patterns(rows), left


class _Exchange:
    """quota: how many slots may still pass from the larger size of each pair to the smaller one."""

    def __init__(self, lp: PatternLP) -> None:
        self.quota = np.floor(lp.swaps + 1e-6).astype(np.int64).tolist()
        self._small = lp.exchanges[:, 0].tolist()
        self._pairs: dict[int, list[int]] = {}
        for pair in np.flatnonzero(lp.swaps + 1e-6 >= 1).tolist():
            self._pairs.setdefault(int(lp.exchanges[pair, 1]), []).append(pair)

    def serve(self, size: int, left: list[int], pattern: dict[int, int], used: dict[int, int]) -> None:
        """Put an item of `size` into `pattern`, or one of a smaller size (then the way there into `used`), or none."""
        way: list[int] = []
        while left[size] <= pattern.get(size, 0):
            open_pairs = [p for p in self._pairs.get(size, ()) if self.quota[p] > used.get(p, 0) + way.count(p)]
            if not open_pairs:
                return
            way.append(open_pairs[0])
            size = self._small[open_pairs[0]]
        pattern[size] = pattern.get(size, 0) + 1
        for pair in way:
            used[pair] = used.get(pair, 0) + 1


def rest_of(instance: Instance, left: np.ndarray) -> tuple[Instance, np.ndarray]:
    """The instance of the items that are left, and the size id of each of its sizes."""
    ids = np.flatnonzero(left)
    return Instance(instance.need[ids], instance.capacity, left[ids]), ids
