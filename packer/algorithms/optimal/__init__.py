"""`optimal`: column generation with a proven bound, annealing and rounding, in any number of dimensions."""

from __future__ import annotations

import math
from typing import Callable, Sequence

from packer.algorithms.instance import Instance, Patterns, Solution
from packer.algorithms.optimal.budget import DEFAULT_WORK, Budget
from packer.algorithms.optimal.reduce import merge_sizes, reduce_instance, restore
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
    reduced = reduce_instance(instance)
    search = Search(reduced, budget, seed, progress)
    search.run([merge_sizes(reduced, plan) for plan in start])
    assert search.plan is not None
    stopped_by = "work"
    if search.proven:
        stopped_by = "proof"
    elif budget.interrupt.requested:
        stopped_by = "interrupt"
    elif budget.out_of_time:
        stopped_by = "time"
    patterns = restore(reduced, search.plan)
    status = "optimal" if search.proven else "feasible"
    return Solution(patterns, search.certificate, status, stopped_by, budget.seconds)
