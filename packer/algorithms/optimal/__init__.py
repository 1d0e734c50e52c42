"""`optimal`: column generation with a proven bound, annealing and rounding, in any number of dimensions."""

from __future__ import annotations

import math
from typing import Callable, Sequence

from packer.algorithms.budget import DEFAULT_WORK, Budget
from packer.algorithms.instance import Instance, Patterns, Solution
from packer.algorithms.optimal.presolve import Reduced, merge_sizes, reduce_instance, restore
from packer.algorithms.optimal.search import Search
from packer.interrupt import Interrupt


def solve(
    instance: Instance,
    *,
    seed: int = 0,
    time_limit: float | None = 60.0,
    work_limit: float | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    start: Sequence[Patterns] = (),
    interrupt: Interrupt | None = None,
) -> Solution:
    """The fewest packs found, and a certificate of how few there can be.

    time_limit: wall seconds or None; work_limit: nominal seconds of deterministic work, 40 unless given: the same seed
    and work give the same plan unless the clock stopped first. progress: called with (packs, bound, seconds) whenever
    one of them improves, and about once a second. start: plans to start from. interrupt: when it is requested, the
    best plan so far comes back, stopped_by "interrupt".
    Cost: grows with distinct sizes and capacities, not with counts. Randomness: `seed` alone.
    """
    budget = Budget(
        DEFAULT_WORK if work_limit is None else work_limit,
        math.inf if time_limit is None else time_limit,
        interrupt=interrupt or Interrupt(),
    )
    run = Run(instance, budget, seed, progress)
    run.go(start)
    found = run.best()
    assert found is not None
    return found


class Run:
    """A run of the solver, whose best plan so far can be taken at any time, from another thread too."""

    def __init__(
        self, instance: Instance, budget: Budget, seed: int, progress: Callable[[int, int, float], None] | None
    ) -> None:
        self._instance, self._budget, self._seed, self._progress = instance, budget, seed, progress
        self._started: tuple[Reduced, Search] | None = None

    def go(self, start: Sequence[Patterns]) -> None:
        """Until the proof, or until the budget is spent. start: plans to start from."""
        reduced = reduce_instance(self._instance)
        search = Search(reduced, self._budget, self._seed, self._progress)
        self._started = reduced, search
        search.run([merge_sizes(reduced, plan) for plan in start])

    @property
    def has_plan(self) -> bool:
        return self._started is not None and self._started[1].plan is not None

    def best(self) -> Solution | None:
        """The best so far; None before there is a plan."""
        if self._started is None or self._started[1].plan is None:
            return None
        reduced, search = self._started
        plan, certificate = search.plan, search.certificate
        assert plan is not None
        proven = plan.num_packs <= certificate.bound
        stopped_by = "work"
        if proven:
            stopped_by = "proof"
        elif self._budget.interrupt.requested:
            stopped_by = "interrupt"
        elif self._budget.out_of_time or self._budget.interrupt.late:
            stopped_by = "time"
        status = "optimal" if proven else "feasible"
        return Solution(restore(reduced, plan), certificate, status, stopped_by, self._budget.seconds)
