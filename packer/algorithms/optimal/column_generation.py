"""Column generation: the bound of the pattern LP, and the patterns that its optimum uses.

Gilmore and Gomory 1961; Farley's bound (1990) in every round; prices smoothed towards the best ones so far (Wentges
1997; Pessoa et al. 2018); exchange columns, which let a size stand in for any larger one, keep prices monotone from the
first round on (dual-optimal inequalities, Ben Amor, Desrosiers and Valério de Carvalho 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Sequence

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.columns import Columns
from packer.algorithms.optimal.greedy import single_sizes
from packer.algorithms.optimal.master import Master, MasterError
from packer.algorithms.optimal.params import PARAMS


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
    objective: float
    closed: bool
    progress: bool


def exchanges(instance: Instance) -> np.ndarray:
    """Pairs (smaller, larger), int64 [pairs, 2]: for each size the nearest larger ones, none above another of them."""
    need = instance.need
    weight = (need / np.maximum(instance.capacity, 1)).sum(axis=1)
    order = np.argsort(weight, kind="stable")
    ranked = need[order]
    pairs: list[tuple[int, int]] = []
    for rank, small in enumerate(order.tolist()):
        larger = np.flatnonzero((ranked[rank + 1 :] >= need[small]).all(axis=1)) + rank + 1
        number = 0
        while len(larger) and number < PARAMS.exchanges_a_size:
            nearest = larger[0]
            pairs.append((small, int(order[nearest])))
            number += 1
            larger = larger[(ranked[larger] < ranked[nearest]).any(axis=1)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def total_price(price: np.ndarray, count: np.ndarray) -> int:
    """Sum of price * count as a Python integer."""
    return sum(p * c for p, c in zip(price.tolist(), count.tolist()))


def price_unit(instance: Instance) -> int:
    """What a price of 1 is in whole numbers: as many bits as the items need, if all that fits alone is below 2^60."""
    fits = sum(single_sizes(instance, proper=False).multiplicity.tolist())
    return 1 << max(0, min(max(PARAMS.price_bits, instance.num_items.bit_length() + 8), 58 - fits.bit_length()))


class Pricer(Protocol):
    """Finds patterns whose price sum is large, and a value that none exceeds."""

    def best(self, price: np.ndarray, floor: int, budget: Budget) -> int | None:
        """A value that no pattern exceeds, or None; below `floor` (a price sum, int) it need not look."""
        ...

    def patterns(self, price: np.ndarray, target: np.ndarray, limit: int, seed: int) -> list[np.ndarray]:
        """Size ids of up to `limit` patterns found by the last `best` whose `target` (float64 [sizes]) is above 1."""
        ...


class ColumnGeneration:
    """The LP of one instance with one pricer; `run` may be called again to go further."""

    def __init__(self, instance: Instance, pricer: Pricer, start: Sequence[Patterns], seed: int) -> None:
        """start: plans whose patterns seed the LP (they cover every size). Randomness: `seed` alone."""
        self._instance, self._pricer, self._seed = instance, pricer, seed
        self._columns, self._master = Columns(), Master(instance.count)
        for plan in start:
            self.add(plan)
        self._pairs = exchanges(instance)
        for small, large in self._pairs.tolist():
            self._master.exchange(small, large)
        self._price, self._value = _volume_prices(instance)
        self._total = total_price(self._price, instance.count)
        self._unit = price_unit(instance)

    def add(self, plan: Patterns) -> None:
        """Patterns that the LP may use from now on."""
        for p in range(len(plan)):
            self._add(*plan[p])

    @property
    def bound(self) -> int:
        """What the best prices so far prove."""
        return -(-self._total // self._value)

    def run(self, enough: int, budget: Budget, *, good: float | None = None) -> PatternLP:
        """Go on until the bound, as an integer, is final or reaches `enough` packs, or the budget ends.

        good: go on beyond a final bound, for better patterns, until the LP's value is at most this.
        """
        closed, progress = False, True
        objective, use, swaps = float("inf"), np.zeros(0), np.zeros(len(self._pairs))
        iteration_work = PARAMS.master_work * len(self._instance.count)
        while True:
            try:
                limit = max(500, int(budget.work_left / iteration_work))
                solved = self._master.solve(budget, limit, with_use=not self._master.incremental)
            except MasterError as error:
                budget.spend(error.iterations * iteration_work)
                progress = error.stopped  # by the limit of this turn: the next one has more
                break
            objective, use, swaps = solved.objective, solved.use, solved.swaps
            # The LP's value can only fall: no bound above its ceiling can come.
            goal = math.ceil(objective * (1 - 1e-12) - 1e-6)
            closed = self.bound >= min(enough, goal)
            ended = self.bound >= enough or (closed if good is None else objective <= good + 1e-6)
            if ended or not budget.spend(solved.iterations * iteration_work):
                break
            if not self._round(solved.dual, goal if good is None else 0, budget):
                closed = self.bound >= min(enough, goal)
                progress = budget.spent
                break
        if self._master.incremental:
            try:
                rest = budget.parent or budget  # a turn that is over has columns that no solution knows of
                solved = self._master.solve(rest, max(2000, int(budget.work_left / iteration_work)), with_use=True)
                use, swaps = solved.use, solved.swaps
            except MasterError:
                pass
        use = np.concatenate([use, np.zeros(len(self._columns) - len(use))])
        return PatternLP(
            self._price, self._value, self.bound, self._columns, use, self._pairs, swaps, objective, closed, progress
        )

    def _round(self, dual: np.ndarray, goal: int, budget: Budget) -> int:
        """Price once, or again with less smoothing while nothing is found; how many columns are new."""
        smoothing, new = PARAMS.smoothing, 0
        while True:
            center = self._price / self._value
            unit = self._unit
            price = np.floor(np.clip(smoothing * center + (1 - smoothing) * dual, 0.0, 1.0) * unit).astype(np.int64)
            total = total_price(price, self._instance.count)
            # A pattern below the floor does not improve the LP, or is not in the way of a proof of `goal` packs.
            floor = max(unit, (total - 1) // (goal - 1)) if goal > 1 else unit
            value = self._pricer.best(price, floor, budget)
            if value is not None and total * self._value > self._total * value:
                self._price, self._value, self._total = price, value, total
            self._seed += 1
            for pattern in self._pricer.patterns(price, dual, PARAMS.columns_a_round, self._seed):
                new += self._add(*np.unique(pattern, return_counts=True))
            if new or smoothing <= 0 or budget.spent:
                return new
            smoothing = max(0.0, smoothing - 0.3)

    def _add(self, ids: np.ndarray, times: np.ndarray) -> bool:
        if not self._columns.add(ids, times):
            return False
        self._master.add(ids, times)
        return True


def _volume_prices(instance: Instance) -> tuple[np.ndarray, int]:
    """Prices and value of the best bound from one dimension."""
    totals = [total_price(instance.need[:, d], instance.count) for d in range(len(instance.capacity))]
    best = max(range(len(totals)), key=lambda d: totals[d] / int(instance.capacity[d]))
    return instance.need[:, best].copy(), int(instance.capacity[best])
