"""Diving: fix the LP's surest patterns, price the rest anew with what is left, and so on to a whole plan.

The patterns of the rest are proper: none holds more of a size than is left. (Improper ones get stuck at the end.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.column_generation import ColumnGeneration, PatternLP, Pricer
from packer.algorithms.optimal.columns import Columns, to_patterns
from packer.algorithms.optimal.greedy import greedy_plans, single_sizes
from packer.algorithms.optimal.params import PARAMS
from packer.algorithms.optimal.rounding import fix_whole, rest_of


def dive(
    instance: Instance, lp: PatternLP, pricer_of: Callable[[Instance], Pricer], packs: int, budget: Budget, seed: int
) -> Patterns | None:
    """All items in at most `packs` packs, or None where the dive fails or the budget ends.

    lp: solved over `instance`. Randomness: `seed` alone, which shakes the choice of what is fixed.
    """
    random = np.random.default_rng(seed)
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    all_ids = np.arange(len(instance.need))
    rest, remaining = instance, packs
    while True:
        fixed, left = fix_whole(rest, _surest(lp, remaining, random), np.ones(len(lp.use)))
        rows += [(all_ids[fixed[p][0]], fixed[p][1], int(fixed.counts[p])) for p in range(len(fixed))]
        remaining -= fixed.num_packs
        if not left.any():
            return to_patterns(rows) if remaining >= 0 else None
        if remaining <= 0 or budget.spent:
            return None
        seeds = _proper_columns(lp, left)
        rest, ids = rest_of(rest, left)
        all_ids = all_ids[ids]
        plans = greedy_plans(rest)
        if plans[0].num_packs <= remaining:
            rows += [(all_ids[plans[0][p][0]], plans[0][p][1], int(plans[0].counts[p])) for p in range(len(plans[0]))]
            return to_patterns(rows)
        generation = ColumnGeneration(rest, pricer_of(rest), [single_sizes(rest), *plans, seeds], seed)
        lp = generation.run(remaining + 1, budget, good=0.0)
        if lp.bound > remaining or lp.objective > remaining + 1e-6:
            return None


def _surest(lp: PatternLP, packs: int, random: np.random.Generator) -> PatternLP:
    """The LP with whole use: what is whole already, or else its largest fractions, shaken a little, rounded up."""
    integral = np.floor(lp.use + 1e-6)
    if not integral.any():
        rank = lp.use - integral + 0.2 * random.random(len(lp.use)) * (lp.use > 0)
        number = max(1, int(PARAMS.fixed_a_step * packs))
        integral[np.argsort(-rank, kind="stable")[:number]] = 1
    return replace(lp, use=integral)


def _proper_columns(lp: PatternLP, left: np.ndarray) -> Patterns:
    """The columns of least reduced cost, cut to what is left, over the sizes that are left."""
    new_id = np.cumsum(left > 0) - 1
    cost = np.array([lp.value - int((lp.price[i] * t).sum()) for i, t in zip(lp.columns.ids, lp.columns.times)])
    columns = Columns()
    for column in np.argsort(cost, kind="stable")[: PARAMS.seeds_a_step].tolist():
        ids = lp.columns.ids[column]
        times = np.minimum(lp.columns.times[column], left[ids])
        if times.any():
            columns.add(new_id[ids[times > 0]], times[times > 0])
    return to_patterns((i, t, 1) for i, t in zip(columns.ids, columns.times))
