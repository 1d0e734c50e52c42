"""Ways to a bound: the pattern LP over the instance or over a relaxation of it, priced by grid or by tree."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.column_generation import ColumnGeneration, PatternLP, total_price
from packer.algorithms.optimal.columns import proper
from packer.algorithms.optimal.greedy import greedy_plans, single_sizes
from packer.algorithms.optimal.params import PARAMS
from packer.algorithms.optimal.presolve import Presolved, presolve
from packer.algorithms.optimal.price_dp import GridPricer
from packer.algorithms.optimal.price_tree import TreePricer
from packer.certificate import Certificate, check_certificate
from packer.errors import PlanError


class Proof:
    """One LP and what it proves about the outer instance.

    plans_alike: its patterns are patterns of the inner instance, so that plans can be made of them; open: it may still
    prove more; alone: later proofs wait until it is closed; first_turn: when to begin; slow: it finds its patterns at a
    price.
    """

    def __init__(
        self,
        problem: Presolved,
        plans: Sequence[Patterns],
        seed: int,
        *,
        by_tree: bool,
        alike: bool = True,
        alone: bool = False,
        first_turn: int = 0,
    ) -> None:
        self.plans_alike, self.open, self.alone, self.first_turn = alike, True, alone, first_turn
        self.lp = None
        cells = len(problem.inner.need) * GridPricer.cells(problem.inner.capacity)
        self.slow = by_tree or cells * PARAMS.cell_work > PARAMS.slow_round
        self._problem, self._plans, self._seed, self._by_tree = problem, plans, seed, by_tree
        self._generation: ColumnGeneration | None = None
        self._refused = 0

    lp: PatternLP | None

    @property
    def closed(self) -> bool:
        """Nothing better can be proven by this LP."""
        return self.lp is not None and self.lp.closed

    def add(self, plan: Patterns) -> None:
        """More patterns for the LP, over the inner instance; what a tree could not find would spoil its bound."""
        if self._by_tree:
            plan = proper(plan, self._problem.inner.count)
        if self._generation is None:
            self._plans = [*self._plans, plan]
        else:
            self._generation.add(plan)
            self.open = not self.closed

    def run(self, enough: int, budget: Budget) -> Certificate | None:
        """Go on until the bound is final, reaches `enough` or the budget ends; what is proven by then."""
        if not self.open:
            return None
        inner = self._problem.inner
        if self._generation is None:
            pricer = TreePricer(inner) if self._by_tree else GridPricer(inner)
            plans = self._plans or greedy_plans(inner)
            self._generation = ColumnGeneration(inner, pricer, [single_sizes(inner, self._by_tree), *plans], self._seed)
        lp = self._generation.run(enough, budget)
        if lp.closed and self.plans_alike and lp.bound < enough and self._by_tree:
            # Better patterns for the rounding: the LP's value may be near the bound still.
            lp = self._generation.run(enough, budget.part(1.0), good=0.0)
        self.lp = lp
        self.open = not lp.closed and lp.progress
        return self._certificate(lp, budget)

    def _certificate(self, lp: PatternLP, budget: Budget) -> Certificate | None:
        """What the LP proves, if that can be checked."""
        problem, value = self._problem, lp.value
        if lp.bound <= self._refused:
            return None
        if self._by_tree:
            # Any value up to this one proves the same bound, and the largest is the easiest to check.
            value = max(value, (total_price(lp.price, problem.inner.count) - 1) // max(1, lp.bound - 1))
        certificate = Certificate(problem.dims, problem.divisors, problem.inner.need, lp.price, value, lp.bound)
        if self._by_tree or GridPricer.cells(problem.inner.capacity) > PARAMS.most_cells // 10:
            outer = problem.outer
            effort = min(PARAMS.check_effort, max(0.01, budget.seconds_left / 20))
            try:
                check_certificate(certificate, outer.need, outer.capacity, outer.count, effort=effort)
            except PlanError:
                self._refused = lp.bound
                return None
        return certificate


def proofs_of(reduced: Presolved, plans: Sequence[Patterns], seed: int) -> list[Proof]:
    """The proofs to try on an instance, the cheapest first. plans: of the inner instance, to start from."""
    inner = reduced.inner
    proofs: list[Proof] = []
    relaxed = _relaxed(reduced)
    exact = relaxed is reduced
    if len(inner.need) <= PARAMS.most_sizes:
        if exact:
            proofs.append(Proof(reduced, plans, seed, by_tree=False, alone=True))
        if not exact or _counts_bind(inner):
            proofs.append(Proof(reduced, plans, seed, by_tree=True, first_turn=4 if exact else 0))
    if relaxed is not None and not exact and len(relaxed.inner.need) <= PARAMS.most_sizes:
        proofs.append(Proof(relaxed, (), seed, by_tree=False, alike=False))
    return proofs


def _counts_bind(instance: Instance) -> bool:
    """True when some pack could hold more of a size than there are: then proper patterns are fewer."""
    one_more = instance.need * (single_sizes(instance).multiplicity + 1)[:, None]
    return bool((one_more <= instance.capacity).all(axis=1).any())


def _relaxed(reduced: Presolved) -> Presolved | None:
    """The instance without its largest dimensions, as far as needed for a grid that can be priced exactly."""
    inner = reduced.inner
    dims = list(range(len(inner.capacity)))
    while dims and GridPricer.cells(inner.capacity[dims]) > PARAMS.most_cells:
        dims.remove(max(dims, key=lambda d: int(inner.capacity[d])))
    if len(dims) == len(inner.capacity):
        return reduced
    part = presolve(Instance(inner.need[:, dims], inner.capacity[dims], inner.count)) if dims else None
    if part is None or not len(part.dims):
        return None
    kept = np.array(dims, dtype=np.int64)[part.dims]
    divisors = reduced.divisors[kept] * part.divisors
    return Presolved(reduced.outer, part.inner, reduced.dims[kept], divisors, part.size_of)
