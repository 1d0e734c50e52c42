"""`optimal`, the algorithm: the solver, heuristics that may do better where it proved nothing, and evening out."""

from __future__ import annotations

import math
from dataclasses import replace

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Patterns
from packer.algorithms.items import Items
from packer.algorithms.jit import loading_is_refused
from packer.algorithms.optimal.rivals import best_of, choose_rivals
from packer.algorithms.protocol import DEFAULTS, Options
from packer.algorithms.quick import quick_plan
from packer.algorithms.solution import Solution

EVEN_SECONDS = 0.1
"""What the evening out may take."""
PLAIN_SIZES = 1500
"""Up to so many sizes, heuristics need nothing compiled."""


def optimal(items: Items, budget: Budget, options: Options = DEFAULTS) -> Solution:
    """The fewest packs found, and a proof of how few there can be: column generation, annealing and rounding.

    Works on distinct sizes; only heuristics that come after it may look at the order of the items. Where nothing may be
    loaded, a quick plan comes back. Its best so far can be had at any time, see `Options.keep`.
    Cost: grows with distinct sizes and capacities, not with counts. Randomness: the seed alone. Source: Gilmore and
    Gomory, Operations Research 9(6), 1961, for the LP over patterns; see `docs/algorithms.md` for the others.
    """
    # What comes after the solver may use the grace beyond the time limit; what it needs beyond that the solver spares.
    after = Budget(math.inf, budget.time_limit + budget.grace, started=budget.started, interrupt=budget.interrupt)
    if loading_is_refused():
        return _plain(items, after)
    from packer.algorithms.optimal.solver import Solver
    from packer.algorithms.spread import reduce_spread

    rivals = choose_rivals(items, budget.time_limit)
    seconds = budget.time_limit
    if seconds < math.inf:
        seconds = max(0.0, seconds - max(0.0, sum(rivals.values()) + EVEN_SECONDS - budget.grace))
    part = Budget(budget.work_limit, seconds, started=budget.started, parent=budget, interrupt=budget.interrupt)

    def tell(packs: int, bound: int, seconds: float) -> None:
        if options.progress is not None and not budget.interrupt.late:
            options.progress(packs, bound, seconds)

    solver = Solver(items, part, options.seed, tell)
    better: list[Patterns] = []

    def so_far() -> Solution | None:
        solved = solver.best()
        return replace(solved, by_size=better[-1]) if solved is not None and better else solved

    options.keep(so_far)
    solver.run()
    solved = solver.best()
    assert solved is not None
    better.append(solved.patterns)
    if solved.stopped_by not in ("proof", "interrupt"):
        better.append(best_of(items, better[-1], rivals, after))
    if options.even and not budget.interrupt.late:
        better.append(reduce_spread(items.instance, better[-1], seed=options.seed))
    best = so_far()
    assert best is not None
    return best


def _plain(items: Items, budget: Budget) -> Solution:
    """What needs nothing loaded: loading keeps every thread waiting."""
    plan = quick_plan(items.instance)
    if len(items.instance.need) <= PLAIN_SIZES:
        plan = best_of(items, plan, ("first-fit-decreasing", "best-fit-decreasing"), budget)
    return Solution(items, plan, stopped_by="time")
