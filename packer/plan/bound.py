"""Lower bounds on the number of packs, each with its certificate."""

from __future__ import annotations

import math

from packer.algorithms.instance import Instance
from packer.certificate import Certificate
from packer.plan.packing import DEFAULT_SECONDS


def vector_bound(instance: Instance, *, time_limit: float | None = None, seed: int = 0) -> Certificate:
    """The best lower bound found: the volume bound, or that of the pattern LP where it is higher.

    time_limit: wall seconds, used to the end unless the bound is final before; None: 40 nominal seconds of work and 60
    of the clock at most. Ctrl-C gives the best bound so far. Needs ortools for the LP.
    Randomness: `seed` alone.
    Source: Gilmore and Gomory 1961 for the LP, Farley 1990 for a bound from prices that are not optimal.
    """
    from packer.algorithms.budget import DEFAULT_WORK, Budget
    from packer.algorithms.optimal.presolve import presolve
    from packer.algorithms.optimal.search import Search
    from packer.certificate import volume_certificate

    work, seconds = (DEFAULT_WORK, DEFAULT_SECONDS) if time_limit is None else (math.inf, time_limit)
    budget = Budget(work, seconds)
    end = budget.started + seconds + budget.grace
    searches: list[Search] = []

    def work_on() -> None:
        searches.append(Search(presolve(instance), budget, seed, None))
        searches[0].find_bound()

    with budget.interrupt:
        if math.isinf(end):
            work_on()
        else:
            budget.interrupt.run_until(work_on, end, lambda: None)
    if searches:
        return searches[0].certificate
    return volume_certificate(instance.need, instance.capacity, instance.count)
