"""Good patterns for very many items: a sample in the same proportions is annealed, and its packs are columns.

Where packs can be filled to the last slot, as most real sets of graphs allow, the patterns of a thousand annealed
packs take the LP to its optimum or nearly so, whatever the number of items: pricing would find them one by one.
"""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.anneal import anneal
from packer.algorithms.optimal.columns import joined, to_patterns
from packer.algorithms.optimal.greedy import greedy_plans
from packer.algorithms.optimal.params import PARAMS
from packer.algorithms.optimal.rounding import rest_of


def sampled_patterns(instance: Instance, bound: int, budget: Budget, seed: int, hot: float) -> Patterns:
    """Patterns over the sizes of `instance`: of as many packs as a sample of about `sampled` items needs, or few more.

    A pattern may hold more of a rare size than there is. The same for counts many times as large.
    bound: packs that all the items need at least; hot: the first temperature. Randomness: `seed` alone.
    """
    sample, ids, packs = _drawn(instance, bound, np.random.default_rng(seed))
    plan = greedy_plans(sample, 0.0)[0]
    if packs < plan.num_packs:
        plan = anneal(sample, plan, packs, budget, seed, hot) or plan
    return Patterns(plan.ptr, ids[plan.size_ids], plan.multiplicity, plan.counts)


def repeated(instance: Instance, plan: Patterns) -> Patterns:
    """A plan for all items: the packs of the sample's `plan` in proportion, as far as there are items; then greedily.

    The proportions are never met exactly, but this is a good plan long before the LP has a better one.
    """
    sampled = int((plan.multiplicity * np.repeat(plan.counts, np.diff(plan.ptr))).sum())
    items, left = instance.num_items, instance.count.copy()
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for p in range(len(plan)):
        ids, times = plan[p]
        packs = min(int(plan.counts[p]) * items // sampled, int((left[ids] // times).min()))
        left[ids] -= packs * times
        rows.append((ids, times, packs))
    fixed = to_patterns(rows)
    rest, ids = rest_of(instance, left)
    return joined(fixed, greedy_plans(rest, 0.0)[0], ids) if len(ids) else fixed


def _drawn(instance: Instance, bound: int, random: np.random.Generator) -> tuple[Instance, np.ndarray, int]:
    """(sample, size id of each of its sizes, packs): items in proportion that fill so many packs with nothing to spare.

    What the packs of a sample waste, the LP would waste everywhere, and whether it wastes less than a pack in all
    decides whether it meets the bound.
    """
    share = min(1.0, PARAMS.sampled / instance.num_items)
    of_each = min(PARAMS.sampled_of_each, PARAMS.sampled // (4 * len(instance.count)))
    number = np.maximum(np.floor(instance.count * share + random.random(len(instance.count))), of_each)
    items = random.permutation(np.repeat(np.arange(len(number)), number.astype(np.int64)))
    # In packs, for the first so many items: the volume of each dimension, and what the bound, not rounded up, is above.
    filled = np.cumsum(instance.need[items], axis=0) / instance.capacity
    most = np.maximum(filled.max(axis=1), np.arange(1, len(items) + 1) * ((bound - 1) / instance.num_items))
    packs = max(1, int(most[-1]))
    number = np.bincount(items[: int(np.searchsorted(most, packs, side="right"))], minlength=len(number))
    return *rest_of(instance, number), packs
