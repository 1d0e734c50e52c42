"""The portfolio: one budget, one incumbent, one bound; every step improves one of the two."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.anneal import anneal
from packer.algorithms.optimal.budget import Budget
from packer.algorithms.optimal.columns import to_patterns
from packer.algorithms.optimal.dive import dive
from packer.algorithms.optimal.finish import choose_whole
from packer.algorithms.optimal.generation import ColumnGeneration, PatternLP, Pricer, total_price
from packer.algorithms.optimal.greedy import greedy_plans, plan_of, single_sizes, slots_of
from packer.algorithms.optimal.grid import GridPricer
from packer.algorithms.optimal.reduce import Reduced, reduce_instance
from packer.algorithms.optimal.rounding import fix_whole, rest_of
from packer.algorithms.optimal.tree import TreePricer
from packer.certificate import Certificate, check_certificate, volume_certificate
from packer.errors import PlanError

Progress = Callable[[int, int, float], None]
MOST_ANNEALED = 60_000
"""Items that are annealed at once; of more, the LP fixes most packs first."""
MOST_CHOSEN = 1_000
"""Items of the largest instance that is given to CP-SAT whole."""
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
        if few:
            self._anneal(self.bound, 0.3)
        lp = self._solve_lp(plans) if not self.done else None
        turn = 0
        while not self.done:
            work = 0.5 * 2.0 ** (turn // 2)
            if lp is not None and self.instance.num_items <= MOST_CHOSEN:
                self._dive(lp, self.bound, work)
            if few:
                self._anneal(self.bound, work)
            if lp is not None:
                self._round(lp, work, turn)
            if lp is not None and self.instance.num_items <= MOST_CHOSEN:
                self._dive(lp, self.packs - 1, work)
                self._choose(lp, work)
            if few and self.packs > self.bound + 1:
                self._anneal((self.bound + self.packs) // 2, work)
            turn += 1

    @property
    def done(self) -> bool:
        return self.proven or self.budget.spent

    def _solve_lp(self, plans: Sequence[Patterns]) -> PatternLP | None:
        """The LP by the pricers that suit the instance; the one whose patterns are the plan's, None if there is none."""
        relaxed = self._priceable()
        exact = relaxed is not None and len(relaxed.dims) == len(self.instance.capacity)
        lp: PatternLP | None = None
        if relaxed is not None and exact:
            lp = self._price(relaxed, plans)
            if not self.done:
                self._round(lp, 0.5, 0)
            if not self.done and self.instance.num_items <= MOST_ANNEALED:
                self._anneal(self.bound, 1.0)
        if not self.done and self._proper_differs():
            proper = self._price_tree(plans)
            lp = proper if lp is None or proper.closed else lp
        if not self.done and relaxed is not None and not exact and not (lp and lp.closed):
            self._price(relaxed, plans)
        return lp

    def _proper_differs(self) -> bool:
        """True when some pattern of the grid would hold more of a size than there are."""
        held = single_sizes(self.instance)
        doubled = self.instance.need * (held.multiplicity + 1)[:, None]
        return bool((doubled <= self.instance.capacity).all(axis=1).any()) or self._priceable() is None

    def _price_tree(self, plans: Sequence[Patterns]) -> PatternLP:
        inner, outer = self.instance, self._reduced
        budget = self.budget.part(max(1.0, 0.25 * self.budget.work_left))
        generation = ColumnGeneration(inner, TreePricer(inner), [single_sizes(inner), *plans], self._seed())
        lp = generation.run(self.packs, budget)
        if lp.closed and lp.bound < self.packs:
            lp = generation.run(self.packs, self.budget.part(1.0), good=0.0)  # better patterns for the rounding
        if lp.bound > self.bound:
            # Any value up to this one proves the same bound, and the largest is the easiest to check.
            value = max(lp.value, (total_price(lp.price, inner.count) - 1) // max(1, lp.bound - 1))
            stated = Certificate(outer.dims, outer.divisors, inner.need, lp.price, value, lp.bound)
            try:
                effort = min(0.3, max(0.01, self.budget.seconds_left / 20))
                check_certificate(stated, outer.outer.need, outer.outer.capacity, outer.outer.count, effort=effort)
                self._state(stated)
            except PlanError:
                pass  # too much to check: a bound that cannot be checked is not stated
        return lp

    def _seed(self) -> int:
        return int(self._random.integers(1 << 30))

    def _anneal(self, packs: int, work: float) -> None:
        assert self.plan is not None
        if packs >= self.packs or self.done:
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
        generation = ColumnGeneration(inner, GridPricer(inner), [single_sizes(inner), *plans], self._seed())
        lp = generation.run(self.packs, self.budget)
        if lp.bound > self.bound:
            outer = self._reduced
            divisors = outer.divisors[relaxed.dims] * relaxed.divisors
            self._state(Certificate(outer.dims[relaxed.dims], divisors, inner.need, lp.price, lp.value, lp.bound))
        return lp

    def _round(self, lp: PatternLP, work: float, turn: int) -> None:
        """Fix the whole part of the LP solution (less of it at each turn) and anneal the rest."""
        if self.done:
            return
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

    def _dive(self, lp: PatternLP, packs: int, work: float) -> None:
        if packs < self.packs and not self.done:
            found = dive(self.instance, lp, TreePricer, packs, self.budget.part(work), self._seed())
            if found is not None:
                self.offer(found)

    def _choose(self, lp: PatternLP, work: float) -> None:
        if not self.done:
            whole = choose_whole(self.instance, lp, self.packs - 1, self.budget.part(work), self._seed())
            if whole is not None:
                plan, left = fix_whole(self.instance, whole, np.ones(len(whole.use)))
                if not left.any():
                    self.offer(plan)


def _joined(fixed: Patterns, rest: Patterns, ids: np.ndarray) -> Patterns:
    rows = [(*fixed[p], int(fixed.counts[p])) for p in range(len(fixed))]
    rows += [(ids[rest[p][0]], rest[p][1], int(rest.counts[p])) for p in range(len(rest))]
    return to_patterns(rows)
