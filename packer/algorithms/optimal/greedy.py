"""First plans: the decreasing heuristics over distinct sizes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.in_order import pack_in_order, seconds_of
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.columns import to_patterns
from packer.algorithms.shares import largest_first, shares


def greedy_plans(instance: Instance, seconds: float = math.inf, clock: Budget | None = None) -> list[Patterns]:
    """First fit and best fit decreasing by sum of shares, best fit by largest share, the fewest packs first.

    Best fit is left out where it takes longer than `seconds`, which the instance alone decides. clock: when it is
    spent, what is left is packed by next fit.
    """
    clock = clock or Budget()
    share = shares(instance.need, instance.capacity)
    by_sum, by_largest = (largest_first(instance.need, key) for key in (share.sum(axis=1), share.max(axis=1)))
    plans = [pack_in_order(instance, by_sum, best=False, budget=clock)]
    if seconds_of(instance, best=True) <= seconds:
        plans += [pack_in_order(instance, order, best=True, budget=clock) for order in (by_sum, by_largest)]
    return sorted(plans, key=lambda plan: plan.num_packs)


def repeated_plans(instance: Instance, seconds: float = math.inf, clock: Budget | None = None) -> list[Patterns]:
    """The greedy plans of the counts in lowest terms, as often as these are in the instance: alike at any scale."""
    times = int(np.gcd.reduce(instance.count))
    plans = greedy_plans(Instance(instance.need, instance.capacity, instance.count // times), seconds, clock)
    return [replace(plan, counts=plan.counts * times) for plan in plans]


def single_sizes(instance: Instance, proper: bool = True) -> Patterns:
    """As many items of one size as fit, for each size: seeds of the LP, not a plan. proper: and as there are."""
    held = np.full(instance.need.shape, np.iinfo(np.int64).max)
    np.floor_divide(instance.capacity, instance.need, out=held, where=instance.need > 0)
    times = held.min(axis=1)
    if proper:
        times = np.minimum(times, instance.count)
    ids = np.arange(len(times))
    return Patterns(np.arange(len(times) + 1), ids, times, np.ones(len(times), np.int64))


def slots_of(plan: Patterns) -> list[np.ndarray]:
    """The size ids of each pack, one entry an item."""
    packs: list[np.ndarray] = []
    for p in range(len(plan)):
        ids, times = plan[p]
        packs += [np.repeat(ids, times)] * int(plan.counts[p])
    return packs


def plan_of(packs: list[np.ndarray]) -> Patterns:
    """The inverse of `slots_of`."""
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for slots in packs:
        ids, times = np.unique(slots, return_counts=True)
        rows.append((ids.astype(np.int64), times.astype(np.int64), 1))
    return to_patterns(rows)
