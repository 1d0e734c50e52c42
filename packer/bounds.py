"""Lower bounds on the number of packs, each with its certificate."""

from __future__ import annotations

import math

from packer.algorithms.instance import Instance
from packer.certificate import Certificate


def vector_bound(instance: Instance, *, time_limit: float | None = 60.0, seed: int = 0) -> Certificate:
    """The best lower bound found: the volume bound, or that of the pattern LP where it is higher.

    time_limit: wall seconds, or None for work alone; Ctrl-C gives the best bound so far. Needs ortools for the LP.
    Randomness: `seed` alone.
    Source: Gilmore and Gomory 1961 for the LP, Farley 1990 for a bound from prices that are not optimal.
    """
    from packer.algorithms.budget import DEFAULT_WORK, Budget
    from packer.algorithms.optimal.reduce import reduce_instance
    from packer.algorithms.optimal.search import Search

    budget = Budget(DEFAULT_WORK, math.inf if time_limit is None else time_limit)
    search = Search(reduce_instance(instance), budget, seed, None)
    with budget.interrupt:
        search.find_bound()
    return search.certificate
