"""`optimal`: column generation with a proven bound, annealing and rounding, in any number of dimensions."""

from __future__ import annotations

import math
from typing import Callable, Sequence

from packer.algorithms.instance import Instance, Patterns, Solution
from packer.algorithms.optimal.budget import DEFAULT_WORK, Budget
from packer.algorithms.optimal.reduce import merge_sizes, reduce_instance, restore
from packer.algorithms.optimal.search import Search


def solve(
    instance: Instance,
    *,
    seed: int = 0,
    time_limit: float | None = 60.0,
    work_limit: float | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    start: Sequence[Patterns] = (),
) -> Solution:
    """The fewest packs found, and a certificate of how few there can be.

    time_limit: wall seconds or None; work_limit: nominal seconds of deterministic work, 40 unless given: the same seed
    and work give the same plan unless the clock stopped first. progress: called with (packs, bound, seconds) whenever
    one of them improves. start: plans to start from. Ctrl-C returns the best plan so far, stopped_by "interrupt".
    Cost: grows with distinct sizes and capacities, not with counts. Randomness: `seed` alone.
    """
    budget = Budget(DEFAULT_WORK if work_limit is None else work_limit, math.inf if time_limit is None else time_limit)
    reduced = reduce_instance(instance)
    search = Search(reduced, budget, seed, progress)
    stopped_by = "work"
    try:
        search.run([merge_sizes(reduced, plan) for plan in start])
    except KeyboardInterrupt:
        stopped_by = "interrupt"
    if search.plan is None:
        raise KeyboardInterrupt  # before there was any plan to give back
    if search.proven:
        stopped_by = "proof"
    elif stopped_by == "work" and budget.out_of_time:
        stopped_by = "time"
    patterns = restore(reduced, search.plan)
    status = "optimal" if search.proven else "feasible"
    return Solution(patterns, search.certificate, status, stopped_by, budget.seconds)
