"""From the LP's fractions to whole packs: what is certain is fixed, the rest is a small instance of its own."""

from __future__ import annotations

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.columns import to_patterns
from packer.algorithms.optimal.generation import PatternLP

Row = "tuple[np.ndarray, np.ndarray, int]"


def fix_whole(instance: Instance, lp: PatternLP, keep: np.ndarray) -> tuple[Patterns, np.ndarray]:
    """(patterns, left): use each column of the LP floor(use) times, `keep` (float64 [columns], 0..1) of that.

    A place whose size is used up serves the nearest smaller size that is left, as the exchange columns of the LP do; or
    it stays empty. left: int64 [sizes], the items in no pack. Proper: no item is used twice.
    """
    smaller: list[list[int]] = [[] for _ in range(len(instance.need))]
    for small, large in lp.exchanges.tolist():
        smaller[large].append(small)
    left = instance.count.tolist()
    whole = np.floor(np.floor(lp.use + 1e-6) * keep + 1e-9).astype(np.int64)
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for column in np.argsort(-whole, kind="stable").tolist():
        packs = int(whole[column])
        if not packs:
            break
        places = list(zip(lp.columns.ids[column].tolist(), lp.columns.times[column].tolist()))
        while packs:
            held: dict[int, int] = {}
            for size, times in places:
                _serve(size, times, held, left, smaller)
            if not held:
                break
            same = min([packs] + [left[size] // times for size, times in held.items()])
            for size, times in held.items():
                left[size] -= times * same
            ids = sorted(held)
            rows.append((np.array(ids, dtype=np.int64), np.array([held[i] for i in ids], dtype=np.int64), same))
            packs -= same
    return to_patterns(rows), np.array(left, dtype=np.int64)


def _serve(size: int, times: int, held: dict[int, int], left: list[int], smaller: list[list[int]]) -> None:
    """Add `times` items of `size`, or of the nearest smaller sizes where it runs out, to `held`."""
    queue, seen = [size], {size}
    for place in queue:
        free = min(times, left[place] - held.get(place, 0))
        if free > 0:
            held[place] = held.get(place, 0) + free
            times -= free
        if not times:
            return
        for other in smaller[place]:
            if other not in seen:
                seen.add(other)
                queue.append(other)


def rest_of(instance: Instance, left: np.ndarray) -> tuple[Instance, np.ndarray]:
    """The instance of the items that are left, and the size id of each of its sizes."""
    ids = np.flatnonzero(left)
    return Instance(instance.need[ids], instance.capacity, left[ids]), ids
