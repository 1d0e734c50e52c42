"""The portfolio: one budget, one incumbent, one bound; every step improves one of the two."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.anneal import anneal
from packer.algorithms.optimal.budget import Budget
from packer.algorithms.optimal.columns import to_patterns
from packer.algorithms.optimal.generation import PatternLP, generate
from packer.algorithms.optimal.greedy import greedy_plans, plan_of, single_sizes, slots_of
from packer.algorithms.optimal.grid import GridPricer
from packer.algorithms.optimal.reduce import Reduced, reduce_instance
from packer.algorithms.optimal.rounding import fix_whole, rest_of
from packer.certificate import Certificate, volume_certificate

Progress = Callable[[int, int, float], None]
MOST_ANNEALED = 60_000
"""Items that are annealed at once; of more, the LP fixes most packs first."""
MOST_CELLS = 6_000_000
"""Cells of the largest grid that is priced exactly."""


class Search:
    """State of one run: the best plan and the best certificate so far. `run` ends by proof or when the budget is spent."""

    def __init__(self, reduced: Reduced, budget: Budget, seed: int, progress: Progress | None) -> None:
        self.instance = reduced.inner
        self.budget = budget
        self.plan: Patterns | None = None
        self.packs = 1 << 62
        self.bound = 0
        self._reduced, self._progress = reduced, progress
        self._random = np.random.default_rng(seed)
        outer = reduced.outer
        self._state(volume_certificate(outer.need, outer.capacity, outer.count))

    @property
    def proven(self) -> bool:
        return self.packs <= self.bound

    def offer(self, plan: Patterns) -> None:
        """Keep the plan if it is the best so far."""
        if plan.num_packs < self.packs:
            self.plan, self.packs = plan, plan.num_packs
            self._tell()

    def _state(self, certificate: Certificate) -> None:
        if certificate.bound > self.bound:
            self.certificate, self.bound = certificate, certificate.bound
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None and self.plan is not None:
            self._progress(self.packs, self.bound, self.budget.seconds)

    def run(self, start: Sequence[Patterns]) -> None:
        for plan in start:
            self.offer(plan)
        plans = greedy_plans(self.instance)
        for plan in plans:
            self.offer(plan)
        few = self.instance.num_items <= MOST_ANNEALED
        if few and not self.proven:
            self._anneal(self.bound, 0.3)
        if self.proven or self.budget.spent:
            return
        relaxed = self._priceable()
        lp: PatternLP | None = None
        if relaxed is not None:
            lp = self._price(relaxed, plans)
            if len(relaxed.dims) < len(self.instance.capacity):
                lp = None
        turn = 0
        while not (self.proven or self.budget.spent):
            work = 0.5 * 2 ** (turn // 2)
            if few:
                self._anneal(self.bound, work)
            if lp is not None and not self.proven:
                self._round(lp, work, turn)
            if few and not self.proven:
                self._anneal((self.bound + self.packs) // 2, work)
            if lp is None and not few:
                return
            turn += 1

    def _seed(self) -> int:
        return int(self._random.integers(1 << 30))

    def _anneal(self, packs: int, work: float) -> None:
        assert self.plan is not None
        if packs >= self.packs:
            return
        found = anneal(self.instance, slots_of(self.plan), packs, self.budget.part(work), self._seed())
        if found is not None:
            self.offer(plan_of(found))

    def _priceable(self) -> Reduced | None:
        """The instance, or a relaxation of it, whose grid is small enough to price exactly."""
        inner = self.instance
        dims = list(range(len(inner.capacity)))
        while dims and GridPricer.cells(inner.capacity[dims]) > MOST_CELLS:
            dims.remove(max(dims, key=lambda d: int(inner.capacity[d])))
        if not dims:
            return None
        if len(dims) == len(inner.capacity):
            return Reduced(inner, inner, np.arange(len(dims)), np.ones(len(dims), np.int64), np.arange(len(inner.need)))
        part = Instance(inner.need[:, dims], inner.capacity[dims], inner.count)
        relaxed = reduce_instance(part)
        return Reduced(inner, relaxed.inner, np.array(dims)[relaxed.dims], relaxed.divisors, relaxed.size_of)

    def _price(self, relaxed: Reduced, plans: Sequence[Patterns]) -> PatternLP:
        inner = relaxed.inner
        if inner is not self.instance:
            plans = greedy_plans(inner)
        lp = generate(inner, GridPricer(inner), [single_sizes(inner), *plans], self.packs, self.budget, self._seed())
        if lp.bound > self.bound:
            outer = self._reduced
            divisors = outer.divisors[relaxed.dims] * relaxed.divisors
            self._state(Certificate(outer.dims[relaxed.dims], divisors, inner.need, lp.price, lp.value, lp.bound))
        return lp

    def _round(self, lp: PatternLP, work: float, turn: int) -> None:
        """Fix the whole part of the LP solution (less of it at each turn) and anneal the rest."""
        keep = np.ones(len(lp.use)) if turn == 0 else 1.0 - 0.1 * min(turn, 5) * self._random.random(len(lp.use))
        fixed, left = fix_whole(self.instance, lp, keep)
        target = self.bound - fixed.num_packs
        if not left.any():
            self.offer(fixed)
            return
        rest, ids = rest_of(self.instance, left)
        plan = greedy_plans(rest)[0]
        self.offer(_joined(fixed, plan, ids))
        for packs in (target, (self.packs - fixed.num_packs + target) // 2):
            if packs < 1 or self.packs <= fixed.num_packs + packs or rest.num_items > 4 * MOST_ANNEALED:
                continue
            found = anneal(rest, slots_of(plan), packs, self.budget.part(work), self._seed())
            if found is not None:
                self.offer(_joined(fixed, plan_of(found), ids))


def _joined(fixed: Patterns, rest: Patterns, ids: np.ndarray) -> Patterns:
    rows = [(*fixed[p], int(fixed.counts[p])) for p in range(len(fixed))]
    rows += [(ids[rest[p][0]], rest[p][1], int(rest.counts[p])) for p in range(len(rest))]
    return to_patterns(rows)
