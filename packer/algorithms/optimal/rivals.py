"""The heuristics that run after the solver has stopped without a proof: it is never worse than they are."""

from __future__ import annotations

from typing import Iterable

from packer.algorithms.budget import Budget
from packer.algorithms.histogram import seconds_of as histogram_seconds
from packer.algorithms.in_order import seconds_of
from packer.algorithms.instance import Patterns
from packer.algorithms.items import Items
from packer.algorithms.registry import ALGORITHMS

RIVAL_SECONDS, RIVAL_SHARE = 0.6, 0.6
"""Heuristics may take so long, or such a share of the time limit."""
MOST_COUNTED = 60.0
"""Seconds of a time limit of which they may take that share."""


def choose_rivals(items: Items, time_limit: float) -> dict[str, float]:
    """Names of heuristics, and about how many seconds each takes: the instance and the time limit alone decide.

    The solver starts from some over reduced sizes; those here break ties otherwise, see the order of the items, or take
    their time.
    """
    instance = items.instance
    needed = {
        "stream": 2e-8 * instance.num_items,
        "first-fit-decreasing": seconds_of(instance, best=False),
        "first-fit": 1.2e-7 * instance.num_items,
        "best-fit-decreasing": seconds_of(instance, best=True),
        "histogram": histogram_seconds(instance),
    }
    left = max(RIVAL_SECONDS, RIVAL_SHARE * min(time_limit, MOST_COUNTED))
    chosen: dict[str, float] = {}
    for name, seconds in needed.items():
        if seconds <= left:
            chosen[name] = seconds
            left -= seconds
    return chosen


def best_of(items: Items, plan: Patterns, rivals: Iterable[str], budget: Budget) -> Patterns:
    """The best of a plan and those of the heuristics of these names, as far as there is time."""
    for name in rivals:
        if budget.spent:
            break
        rival = ALGORITHMS[name].load()(items, budget)
        if rival.num_packs < plan.num_packs:
            plan = rival.patterns
    return plan
