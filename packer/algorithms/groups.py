"""Partly filled packs in groups: what makes a greedy algorithm cost the same for a thousand graphs and for a billion.

Packs that hold the same items are one group with a number of packs, and all items of one size are placed in one step.
A size splits at most one group and opens at most two, so groups stay fewer than four times the distinct sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.patterns import appended, merged
from packer.algorithms.quick import quick_plan

Score = Callable[[np.ndarray], np.ndarray]
SIZE_WORK, GROUP_WORK = 1e-4, 2e-8
"""Nominal seconds of placing one size, and for each open group."""


@dataclass
class _Trail:
    """What was put where: a step adds `multiplicity` items of `size_id` to the packs of step `parent` (-1: empty)."""

    parent: list[np.ndarray]
    size_id: list[np.ndarray]
    multiplicity: list[np.ndarray]
    length: int = 0

    def add(self, parent: np.ndarray, size_id: int, multiplicity: np.ndarray) -> np.ndarray:
        """Record one step for each entry of `parent`; their numbers, int64 [entries]."""
        self.parent.append(parent)
        self.size_id.append(np.full(len(parent), size_id, dtype=np.int64))
        self.multiplicity.append(multiplicity)
        self.length += len(parent)
        return np.arange(self.length - len(parent), self.length)


def fill_groups(instance: Instance, order: np.ndarray, score: Score | None, budget: Budget) -> Patterns:
    """Place all items, size by size in `order`, each into the open pack of the lowest score that has room.

    order: int64 [sizes], a permutation; score: from the room left after placing, int64 [groups, dims], to int64
    [groups], never increasing when room shrinks; None: all packs alike. Ties go to the pack opened first; a pack is
    opened when no open one has room. This is what placing the items one by one gives: a pack that took an item has less
    room than before, so it stays the best for the next item of that size until it has no room for it. Patterns come in
    the order in which their first packs were opened. Time O(sizes^2 * dims), whatever the counts. No randomness.
    When the budget is spent, its `cut_short` is set, and the sizes left (or all, where that is better) are packed by
    `quick_plan`.
    """
    need, capacity = instance.need, instance.capacity  # int64 [sizes, dims], [dims]
    # `groups` are open; into those in `closed` no size fits that is yet to come: they count again at the end.
    trail = _Trail([], [], [])
    groups = _Groups(np.empty((0, len(capacity)), np.int64), *np.empty((3, 0), np.int64))
    closed: list[_Groups] = []
    num_packs = 0
    # The least need in each dimension from each size on, int64 [sizes, dims]: a pack with less room takes nothing more.
    smallest_left = np.minimum.accumulate(need[order][::-1])[::-1]
    left_out = order[:0]
    for step, size_id in enumerate(order.tolist()):
        row = need[size_id]  # int64 [dims]
        if not budget.spend(SIZE_WORK + GROUP_WORK * len(groups.packs)):
            budget.cut_short, left_out = True, order[step:]
            break
        # First the open packs, in the order of the score; what is left over opens new ones.
        groups, left = _fill_open(groups, row, size_id, int(instance.count[size_id]), score, trail)
        if left:
            groups, opened = _open(groups, capacity, row, size_id, left, num_packs, trail)
            num_packs += opened
        # Close groups that are too full for every size to come, so that `groups` holds what may still be filled.
        if step + 1 < len(order):
            alive = (groups.room >= smallest_left[step + 1]).all(axis=1)
            if not alive.all():
                closed.append(groups.select(~alive))
                groups = groups.select(alive)
    closed.append(groups)
    packs, last, first = (np.concatenate(parts) for parts in zip(*(part[1:] for part in closed)))
    opened_first = np.argsort(first)
    plan = _patterns(trail, last[opened_first], packs[opened_first])
    return _completed(instance, plan, np.sort(left_out)) if len(left_out) else plan


def _completed(instance: Instance, plan: Patterns, ids: np.ndarray) -> Patterns:
    """The plan with quick packs of `ids`, the sizes that it leaves out; or quick packs of all, if these are fewer."""
    quick = quick_plan(instance)
    if len(ids) == len(instance.need):
        return quick
    rest = quick_plan(Instance(instance.need[ids], instance.capacity, instance.count[ids]))
    return min(appended(plan, rest, ids), quick, key=lambda each: each.num_packs)


class _Groups(NamedTuple):
    """Groups of like packs, in the order in which their first packs were opened: room int64 [groups, dims]; int64
    [groups] each: packs, how many; last, the step that filled them last; first, the number of the first of them."""

    room: np.ndarray
    packs: np.ndarray
    last: np.ndarray
    first: np.ndarray

    def select(self, mask: np.ndarray) -> _Groups:
        return _Groups(self.room[mask], self.packs[mask], self.last[mask], self.first[mask])


def _fill_open(
    groups: _Groups, row: np.ndarray, size_id: int, left: int, score: Score | None, trail: _Trail
) -> tuple[_Groups, int]:
    """Put as many of `left` items as have room into open packs (`groups` is changed); (the groups, items left)."""
    room, packs, last, _ = groups
    # Groups that can take at least one item each, the best first: int64 [takers].
    copies = _copies(room, row, left)
    takers = np.flatnonzero(copies)
    if score is not None and len(takers):
        takers = takers[np.argsort(score(room[takers] - row), kind="stable")]
    # Items each taker can hold, cut at `left` (the product alone may not fit in int64).
    takes = np.where(packs[takers] > left // copies[takers], left, packs[takers] * copies[takers])
    # Only those are needed before which items are left: int64 [takers], items placed before each.
    before = np.cumsum(takes) - takes
    takers = takers[before < left]
    if not len(takers):
        return groups, left
    # All of them are filled, but the last perhaps in part: its packs then fall into up to three groups.
    split = int(takers[-1])
    placed_before = int(before[len(takers) - 1])
    pieces = _pieces(int(packs[split]), int(copies[split]), left - placed_before)
    left -= placed_before + sum(number * multiplicity for number, multiplicity in pieces)
    # Groups filled alike throughout stay where they are: a step of the trail, and less room.
    unchanged = pieces == [(int(packs[split]), int(copies[split]))]
    takers = takers if unchanged else takers[:-1]
    last[takers] = trail.add(last[takers], size_id, copies[takers])
    room[takers] -= copies[takers, None] * row
    return (groups if unchanged else _split(groups, split, pieces, size_id, row, trail)), left


def _open(
    groups: _Groups, capacity: np.ndarray, row: np.ndarray, size_id: int, left: int, num_packs: int, trail: _Trail
) -> tuple[_Groups, int]:
    """Open packs for `left` items, the first of them number `num_packs`; (the groups, packs opened)."""
    # So many items fit an empty pack: full packs, and one with the remainder.
    fresh = int(_copies(capacity[None], row, left)[0])
    opened = [piece for piece in ((left // fresh, fresh), (int(left % fresh > 0), left % fresh)) if piece[0]]
    numbers, multiplicity = np.array(opened, dtype=np.int64).T  # int64 [1 or 2] each
    room = np.concatenate([groups.room, capacity - multiplicity[:, None] * row])
    packs = np.concatenate([groups.packs, numbers])
    last = np.concatenate([groups.last, trail.add(np.full(len(opened), -1), size_id, multiplicity)])
    first = np.concatenate([groups.first, num_packs + np.cumsum(numbers) - numbers])
    return _Groups(room, packs, last, first), int(numbers.sum())


def _copies(room: np.ndarray, row: np.ndarray, at_most: int) -> np.ndarray:
    """How many items of need `row` each group's packs can take: int64 [groups], at most `at_most`."""
    copies = np.full(len(room), at_most, dtype=np.int64)
    for dim in np.flatnonzero(row).tolist():
        np.minimum(copies, room[:, dim] // row[dim], out=copies)
    return copies


def _pieces(packs: int, copies: int, items: int) -> list[tuple[int, int]]:
    """(packs, items in each) when `items` go into a group, the first pack filled before the next gets one."""
    full = min(items // copies, packs)
    rest = min(items - full * copies, copies) if full < packs else 0
    pieces = [(full, copies), (int(rest > 0), rest), (packs - full - int(rest > 0), 0)]
    return [piece for piece in pieces if piece[0]]


def _split(
    groups: _Groups, group: int, pieces: list[tuple[int, int]], size_id: int, row: np.ndarray, trail: _Trail
) -> _Groups:
    """Put `pieces` where `group` is, so that groups stay in the order in which their packs were opened."""
    room, packs, last, first = groups
    # Pieces that take nothing keep the group's last step; the others continue it, each by a step of its own.
    numbers, multiplicity = np.array(pieces, dtype=np.int64).T  # int64 [pieces] each
    steps = np.full(len(pieces), last[group])
    used = multiplicity > 0
    steps[used] = trail.add(steps[used], size_id, multiplicity[used])
    # They stand where the group stood: the packs of the first piece were opened before those of the next.
    rooms = room[group] - multiplicity[:, None] * row
    parts = [(room, rooms), (packs, numbers), (last, steps), (first, first[group] + np.cumsum(numbers) - numbers)]
    return _Groups(*(np.concatenate([old[:group], new, old[group + 1 :]]) for old, new in parts))


def _patterns(trail: _Trail, last: np.ndarray, packs: np.ndarray) -> Patterns:
    """Follow each group's steps back to the empty pack and merge groups that hold the same items."""
    if not len(last):
        empty = np.empty(0, dtype=np.int64)
        return Patterns(ptr=np.zeros(1, dtype=np.int64), size_ids=empty, multiplicity=empty, counts=empty)
    parent, size_id, multiplicity = (np.concatenate(x) for x in (trail.parent, trail.size_id, trail.multiplicity))
    # All groups one step back at a time, until each has come to its empty pack: (group, step) pairs, int64 [pairs].
    group, step = np.arange(len(last)), last
    groups: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    while len(step):
        groups.append(group)
        steps.append(step)
        group, step = group[parent[step] >= 0], parent[step][parent[step] >= 0]
    all_groups, all_steps = np.concatenate(groups), np.concatenate(steps)
    # Group by group, sizes ascending: no size has two steps in a group, for each was placed in one go.
    by_group = np.lexsort((size_id[all_steps], all_groups))
    all_steps = all_steps[by_group]
    ptr = np.concatenate([[0], np.cumsum(np.bincount(all_groups, minlength=len(last)))])
    return merged(ptr, size_id[all_steps], multiplicity[all_steps], packs)
