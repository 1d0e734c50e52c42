"""Bounds from items that waste space: the volume bound, raised by what no pack with such an item can fill."""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance
from packer.algorithms.optimal.params import PARAMS
from packer.algorithms.optimal.presolve import Presolved, presolve
from packer.certificate import Certificate, check_certificate
from packer.errors import PlanError

SCALE, MOST_PRODUCT = 1 << 20, 1 << 60
"""Of prices, so that rounding them down costs nothing; and what products of them may come to."""


def lifted_bound(reduced: Presolved, bound: int, budget: Budget) -> Certificate | None:
    """The best certificate of more than `bound` packs from two dimensions: one is priced, the other keeps it unfilled.

    Time O(dims^2 * most_lifted * sizes * log(sizes)), and the check. No randomness.
    Source: sequential lifting of a valid inequality, Padberg, Operations Research 23(5), 1975.
    """
    best: Certificate | None = None
    dims = range(len(reduced.inner.capacity) if len(reduced.inner.need) <= PARAMS.most_sizes else 0)
    for priced, other in ((p, o) for p in dims for o in dims if p != o):
        part = _part(reduced, priced, other)
        if part is None or budget.spent:
            continue
        price, value = lifted_prices(part.inner)
        budget.spend(PARAMS.lift_work * PARAMS.most_lifted * len(price))
        total = sum(p * c for p, c in zip(price.tolist(), part.inner.count.tolist()))
        proven = -(-total // value)
        if proven <= (bound if best is None else best.bound):
            continue
        # Any value up to this one proves the same, and the largest is the easiest to check.
        value = max(value, (total - 1) // (proven - 1))
        certificate = Certificate(part.dims, part.divisors, part.inner.need, price, value, proven)
        outer, effort = reduced.outer, min(PARAMS.check_effort, max(0.01, budget.seconds_left / 20))
        try:
            check_certificate(certificate, outer.need, outer.capacity, outer.count, effort=effort)
        except PlanError:  # too much to check
            continue
        best = certificate
    return best


def lifted_prices(instance: Instance) -> tuple[np.ndarray, int]:
    """(price int64 [sizes], value): no pack holds more than `value`. The first of two dimensions is priced.

    A pack with an item that takes much of the second dimension and little of the first cannot be filled in the first:
    that item's price may grow by what stays empty at least, one item after the other, each by the prices so far.
    """
    need, capacity = instance.need, instance.capacity.tolist()
    most = np.full(need.shape, np.iinfo(np.int64).max)
    np.floor_divide(instance.capacity, need, out=most, where=need > 0)
    count = np.minimum(instance.count, most.min(axis=1))  # more are in no pack, and sums stay small
    scale = min(SCALE, MOST_PRODUCT // (capacity[0] * max(len(need), capacity[1])))
    price, value = need[:, 0] * scale, capacity[0] * scale
    second = need[:, 1]
    empty = value - price - _most_worth(price, second, count, capacity[1] - second)
    for i in np.argsort(-empty, kind="stable")[: PARAMS.most_lifted].tolist():
        if empty[i] <= 0:
            break
        rest = count.copy()
        rest[i] = 0
        copies = np.arange(1, 1 + int(count[i]))
        around = value - _most_worth(price, second, rest, capacity[1] - copies * second[i])
        price[i] = max(int(price[i]), int((around // copies).min()))
    return price, value


def _most_worth(price: np.ndarray, need: np.ndarray, count: np.ndarray, rooms: np.ndarray) -> np.ndarray:
    """What items in each room (int64 [rooms]) are worth at most: the knapsack in fractions, of one dimension."""
    order = np.argsort(-price / np.maximum(need, 1e-9), kind="stable")
    order = order[count[order] > 0]
    filled = np.cumsum(np.append(0, need[order] * count[order]))
    worth = np.cumsum(np.append(0, price[order] * count[order]))
    full = np.searchsorted(filled, rooms, side="right") - 1
    part = np.minimum(full, len(order) - 1)
    left = np.where(full < len(order), rooms - filled[full], 0)
    return worth[full] + left * price[order[part]] // np.maximum(need[order[part]], 1)


def _part(reduced: Presolved, priced: int, other: int) -> Presolved | None:
    """The instance in two of its dimensions, in this order; None where one of them does not bind beside the other, or
    where products of prices could pass 2^63."""
    inner, dims = reduced.inner, [priced, other]
    part = presolve(Instance(inner.need[:, dims], inner.capacity[dims], inner.count))
    if len(part.dims) < 2 or MOST_PRODUCT // int(part.inner.capacity[0]) < max(len(inner.need), part.inner.capacity[1]):
        return None
    kept = np.array(dims, dtype=np.int64)[part.dims]
    divisors = reduced.divisors[kept] * part.divisors
    return Presolved(reduced.outer, part.inner, reduced.dims[kept], divisors, part.size_of)
