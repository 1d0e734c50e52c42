"""A smaller instance with the same plans: dimensions that cannot bind go, common divisors go, equal sizes merge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packer.algorithms.exact import distinct_rows, products_below, total
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.columns import to_patterns


@dataclass(frozen=True)
class Presolved:
    """The instance that is solved, and the way back.

    inner: the reduced instance; dims, divisors: int64 [k], `inner.need` = need[:, dims] // divisors, exactly;
    size_of: int64 [sizes], the inner size of each original one; -1: it needs nothing that matters and fits anywhere.
    """

    outer: Instance
    inner: Instance
    dims: np.ndarray
    divisors: np.ndarray
    size_of: np.ndarray


def presolve(instance: Instance) -> Presolved:
    """Drop what cannot matter. Every plan of the inner instance is one of the outer, and the other way round."""
    dims = _binding_dims(instance)
    divisors = np.array([int(np.gcd.reduce(instance.need[:, d])) for d in dims.tolist()], dtype=np.int64)
    reduced = instance.need[:, dims] // divisors
    some = np.flatnonzero(reduced.any(axis=1))
    size_of = np.full(len(reduced), -1)
    if not len(some):
        nothing = Instance(reduced[:0], instance.capacity[dims] // divisors, instance.count[:0])
        return Presolved(instance, nothing, dims, divisors, size_of)
    need, size_of[some] = distinct_rows(reduced[some])
    count = np.zeros(len(need), np.int64)
    np.add.at(count, size_of[some], instance.count[some])
    return Presolved(instance, Instance(need, instance.capacity[dims] // divisors, count), dims, divisors, size_of)


def _binding_dims(instance: Instance) -> np.ndarray:
    """Dimensions that some pack, full in the others, could overflow (or might: the test is one-sided)."""
    need, capacity = instance.need, instance.capacity.tolist()
    dims = list(range(need.shape[1]))
    for d in range(need.shape[1] - 1, -1, -1):
        column = need[:, d]
        others = [o for o in dims if o != d]
        implied = (_implied(column, capacity[d], need[:, o], capacity[o]) for o in others)
        if total(column, instance.count) <= capacity[d] or any(implied):
            dims.remove(d)
    return np.array(dims, dtype=np.int64)


def _implied(column: np.ndarray, offered: int, other: np.ndarray, other_offered: int) -> bool:
    """True when sum(other) <= other_offered implies sum(column) <= offered, whatever the items."""
    if ((column > 0) & (other == 0)).any():
        return False
    some = column > 0
    # column <= ratio * other for all sizes, ratio the largest a / b, so the sum is at most ratio * other_offered.
    return products_below(column[some], other_offered, other[some], offered + 1)


def merge_sizes(reduced: Presolved, plan: Patterns) -> Patterns:
    """A plan of the outer instance as one of the inner."""
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for p in range(len(plan)):
        ids, times = plan[p]
        times = times[reduced.size_of[ids] >= 0]
        ids = ids[reduced.size_of[ids] >= 0]
        inner, inverse = np.unique(reduced.size_of[ids], return_inverse=True)
        merged = np.zeros(len(inner), np.int64)
        np.add.at(merged, inverse.reshape(-1), times)
        rows.append((inner, merged, int(plan.counts[p])))
    return to_patterns(rows)


def restore(reduced: Presolved, plan: Patterns) -> Patterns:
    """The inverse: items of an inner size are dealt out to the outer ones that it stands for, lowest id first.

    plan: holds every item exactly once. A pattern is split where a size is used up.
    """
    if len(reduced.inner.need) == len(reduced.size_of) and (reduced.size_of >= 0).all():
        return _renamed(plan, np.argsort(reduced.size_of))
    members: list[list[int]] = [[] for _ in range(len(reduced.inner.need))]
    for outer, inner in reversed(list(enumerate(reduced.size_of.tolist()))):
        if inner >= 0:
            members[inner].append(outer)
    anywhere = [(outer, left) for outer, left in enumerate(reduced.outer.count.tolist()) if reduced.size_of[outer] < 0]
    left = reduced.outer.count.tolist()
    if not len(plan) and anywhere:
        ids, times = np.array(anywhere, dtype=np.int64).T
        return to_patterns([(np.ascontiguousarray(ids), np.ascontiguousarray(times), 1)])
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for p in range(len(plan)):
        entries = list(zip(*(part.tolist() for part in plan[p])))
        packs = int(plan.counts[p])
        while packs:
            held: list[tuple[int, int]] = []
            for inner, times in entries:
                stack = members[inner]
                while not left[stack[-1]]:
                    stack.pop()
                index = -1
                while times:
                    use = min(times, left[stack[index]])
                    if use:
                        held.append((stack[index], use))
                    times -= use
                    index -= 1
            same = min([packs] + [left[outer] // times for outer, times in held])
            if anywhere:
                held, anywhere, same = held + anywhere, [], 1
            for outer, times in held:
                left[outer] -= times * same
            held.sort()
            ids, used = np.array(held, dtype=np.int64).T
            rows.append((np.ascontiguousarray(ids), np.ascontiguousarray(used), same))
            packs -= same
    return to_patterns(rows)


def _renamed(plan: Patterns, outer_of: np.ndarray) -> Patterns:
    """The plan with size i called outer_of[i]: int64 [sizes], a permutation."""
    size_ids = outer_of[plan.size_ids]
    order = np.lexsort((size_ids, np.repeat(np.arange(len(plan)), np.diff(plan.ptr))))
    return Patterns(plan.ptr, size_ids[order], plan.multiplicity[order], plan.counts)
