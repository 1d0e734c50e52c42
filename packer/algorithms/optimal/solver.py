"""The solver over distinct sizes: its best plan and bound, at the end or at any time before."""

from __future__ import annotations

import math
from typing import Sequence

from packer.algorithms.budget import DEFAULT_WORK, Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.items import Items
from packer.algorithms.optimal.presolve import Presolved, merge_sizes, presolve, restore
from packer.algorithms.optimal.search import Search
from packer.algorithms.protocol import Progress
from packer.algorithms.solution import Solution
from packer.interrupt import Interrupt


def solve(
    instance: Instance,
    *,
    seed: int = 0,
    time_limit: float | None = 60.0,
    work_limit: float | None = None,
    progress: Progress | None = None,
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
    solver = Solver(Items.by_size(instance), budget, seed, progress)
    solver.run(start)
    solution = solver.best()
    assert solution is not None
    return solution


class Solver:
    """A run of the solver, whose best plan so far can be taken at any time, from another thread too."""

    def __init__(self, items: Items, budget: Budget, seed: int, progress: Progress | None) -> None:
        self._items, self._budget, self._seed, self._progress = items, budget, seed, progress
        self._started: tuple[Presolved, Search] | None = None

    def run(self, start: Sequence[Patterns] = ()) -> None:
        """Until the proof, or until the budget is spent. start: plans to start from."""
        reduced = presolve(self._items.instance)
        search = Search(reduced, self._budget, self._seed, self._progress)
        self._started = reduced, search
        search.run([merge_sizes(reduced, plan) for plan in start])

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
        return Solution(self._items, restore(reduced, plan), proof=certificate, stopped_by=stopped_by)
