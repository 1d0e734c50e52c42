"""Column generation: the bound of the pattern LP, and the patterns that its optimum uses.

Gilmore and Gomory 1961; Farley's bound (1990) in every round; prices smoothed towards the best ones so far (Wentges
1997; Pessoa et al. 2018); exchange columns, which let a size stand in for any larger one, keep prices monotone from the
first round on (dual-optimal inequalities, Ben Amor, Desrosiers and Valério de Carvalho 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.budget import Budget
from packer.algorithms.optimal.columns import Columns
from packer.algorithms.optimal.master import Master, MasterError

PRICE_BITS = 40
COLUMNS_A_ROUND = 40
EXCHANGES_A_SIZE = 3
SMOOTHING = 0.6
MASTER_WORK = 2e-8


@dataclass(frozen=True)
class PatternLP:
    """What column generation found.

    price: int64 [sizes] and value: the best proof: every pattern's prices sum to at most `value`; bound: packs that it
    proves; columns, use: the patterns and how often the last LP solution uses each, float64 [columns]; exchanges: int64
    [pairs, 2], (smaller, larger) sizes that it swaps; closed: nothing better can be proven by this LP.
    """

    price: np.ndarray
    value: int
    bound: int
    columns: Columns
    use: np.ndarray
    exchanges: np.ndarray
    swaps: np.ndarray
    closed: bool


def exchanges(instance: Instance) -> np.ndarray:
    """Pairs (smaller, larger): for each size the nearest larger ones, none of which contains another: int64 [pairs, 2]."""
    need = instance.need
    weight = (need / np.maximum(instance.capacity, 1)).sum(axis=1)
    order = np.argsort(weight, kind="stable")
    ranked = need[order]
    pairs: list[tuple[int, int]] = []
    for place, small in enumerate(order.tolist()):
        larger = np.flatnonzero((ranked[place + 1 :] >= need[small]).all(axis=1)) + place + 1
        found = 0
        while len(larger) and found < EXCHANGES_A_SIZE:
            nearest = larger[0]
            pairs.append((small, int(order[nearest])))
            found += 1
            larger = larger[(ranked[larger] < ranked[nearest]).any(axis=1)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def total_price(price: np.ndarray, count: np.ndarray) -> int:
    """Sum of price * count as a Python integer."""
    return sum(p * c for p, c in zip(price.tolist(), count.tolist()))


def whole_prices(price: np.ndarray, most_items: int) -> tuple[np.ndarray, int]:
    """(prices of 0..1 in units, rounded down; units that are 1): a pack of `most_items` items stays below 2^62."""
    unit = 1 << min(PRICE_BITS, 61 - max(1, most_items).bit_length())
    return np.floor(np.clip(price, 0.0, 1.0) * unit).astype(np.int64), unit


class Pricer(Protocol):
    """Finds patterns whose price sum is large, and a value that none exceeds."""

    def best(self, price: np.ndarray, floor: int, budget: Budget) -> int | None:
        """A value that no pattern exceeds, or None; below `floor` (a price sum, int) it need not look."""
        ...

    def patterns(self, price: np.ndarray, target: np.ndarray, limit: int, seed: int) -> list[np.ndarray]:
        """Size ids of up to `limit` patterns found by the last `best` whose `target` (float64 [sizes]) is above 1."""
        ...


def generate(
    instance: Instance, pricer: Pricer, start: list[Patterns], enough: int, budget: Budget, seed: int
) -> PatternLP:
    """Solve the pattern LP until its bound, as an integer, is final, reaches `enough` packs, or the budget ends.

    start: plans whose patterns seed the LP (they cover every size). Randomness: `seed` alone.
    """
    count, columns = instance.count, Columns()
    master = Master(count)
    for plan in start:
        for p in range(len(plan)):
            if columns.add(*plan[p]):
                master.add(*plan[p])
    pairs = exchanges(instance)
    for small, large in pairs.tolist():
        master.exchange(small, large)
    most_items = min(instance.num_items, 1 << 40)
    price, value = _volume_prices(instance)
    total = total_price(price, count)
    closed = False
    while True:
        bound = -(-total // value)
        try:
            solved = master.solve()
        except MasterError:
            break
        # The LP's value can only fall: no bound above its ceiling can come.
        goal = math.ceil(solved.objective * (1 - 1e-9) - 1e-6)
        closed = bound >= min(enough, goal)
        if closed or not budget.spend(MASTER_WORK * len(columns) * len(count) ** 0.5):
            break
        smoothing, new, found = SMOOTHING, 0, None
        while True:
            priced, unit = whole_prices(smoothing * (price / value) + (1 - smoothing) * solved.dual, most_items)
            worth = total_price(priced, count)
            # A pattern below this value neither improves the LP nor stands in the way of a proof of `goal` packs.
            found = pricer.best(priced, max(unit, (worth - 1) // max(1, goal - 1)), budget)
            if found is not None and worth * value > total * found:
                price, value, total = priced, found, worth
            for pattern in pricer.patterns(priced, solved.dual, COLUMNS_A_ROUND, seed):
                ids, times = np.unique(pattern, return_counts=True)
                if columns.add(ids, times):
                    master.add(ids, times)
                    new += 1
            if new or smoothing <= 0 or budget.spent:
                break
            smoothing = max(0.0, smoothing - 0.3)
        seed += 1
        if not new:
            closed = -(-total // value) >= min(enough, goal)
            break
    try:
        solved = master.solve(with_use=True)
        use, swaps = solved.use, solved.swaps
    except MasterError:
        use, swaps = np.zeros(len(columns)), np.zeros(len(pairs))
    return PatternLP(price, value, -(-total // value), columns, use, pairs, swaps, closed)


def _volume_prices(instance: Instance) -> tuple[np.ndarray, int]:
    """Prices and value of the best bound from one dimension."""
    totals = [total_price(instance.need[:, d], instance.count) for d in range(len(instance.capacity))]
    best = max(range(len(totals)), key=lambda d: totals[d] / int(instance.capacity[d]))
    return instance.need[:, best].copy(), int(instance.capacity[best])
