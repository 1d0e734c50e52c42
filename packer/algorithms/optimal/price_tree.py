"""Exact pricing by branch and bound: proper patterns, in any number of dimensions, where the grid is too large.

Items are chosen in the order of falling gain. The bound is surrogate relaxation: for weights w with sum(w) <= W in
every pattern, a pattern is worth at most W - w(chosen) + the positive gains price - w of what may still be chosen.
Weights are floor(multipliers . need), which keeps every bound exact in integers.
"""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance
from packer.algorithms.jit import kernel
from packer.algorithms.optimal.master import Master
from packer.algorithms.optimal.params import PARAMS


@kernel
def _search(need, price, most, weight, tail, chosen, state, residual, used, floor, patterns, lengths, nodes):  # type: ignore[no-untyped-def]
    """Visit up to `nodes` patterns in depth-first order; write those worth more than `floor` to `patterns`.

    need [sizes, dims], price, most (copies) [sizes], weight [bounds, sizes], tail [bounds, sizes + 1] (positive gains
    from there on), chosen [depth] (sizes), state: (depth, next size, value, number found), residual [dims],
    used [bounds] (weight left); patterns [patterns, depth], lengths [patterns]. Returns the nodes used, negative when
    the tree is finished.
    """
    sizes, dims = need.shape
    bounds = len(used)
    depth, j, value, number = state[0], state[1], state[2], state[3]
    # Taken up again in the middle of the tree: how many copies of the next size are chosen already.
    copies = 0
    for t in range(depth):
        if chosen[t] == j:
            copies += 1
    visited = 0
    finished = False
    while visited < nodes and number < len(patterns):
        visited += 1
        # Bound: the value so far, the weight that is left, and the gains of all sizes from j on. Each of the bounds
        # holds, so one at or below the floor cuts the branch.
        alive = j < sizes
        if alive:
            for b in range(bounds):
                if value + used[b] + tail[b, j] <= floor:
                    alive = False
                    break
        if not alive:
            # Back: take the last item out again, and go on without a further copy of it.
            if depth == 0:
                finished = True
                break
            depth -= 1
            last = chosen[depth]
            for d in range(dims):
                residual[d] += need[last, d]
            for b in range(bounds):
                used[b] += weight[b, last]
            value -= price[last]
            j = last + 1
            copies = 0
            continue
        # Forward: one more copy of size j where it fits, else the next size.
        fits = copies < most[j]
        if fits:
            for d in range(dims):
                if need[j, d] > residual[d]:
                    fits = False
                    break
        if not fits:
            j += 1
            copies = 0
            continue
        for d in range(dims):
            residual[d] -= need[j, d]
        for b in range(bounds):
            used[b] -= weight[b, j]
        value += price[j]
        chosen[depth] = j
        depth += 1
        copies += 1
        # Every node of the tree is a pattern, not the leaves alone.
        if value > floor:
            for t in range(depth):
                patterns[number, t] = chosen[t]
            lengths[number] = depth
            number += 1
    state[0], state[1], state[2], state[3] = depth, j, value, number
    return -visited if finished else visited


class TreePricer:
    """Proper patterns: at most `count` items of each size."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        held = np.full(instance.need.shape, np.iinfo(np.int64).max)
        np.floor_divide(instance.capacity, instance.need, out=held, where=instance.need > 0)
        self._most = np.minimum(held.min(axis=1), instance.count)
        smallest = np.maximum(instance.need.min(axis=0), 0)
        limits = [int(c) // int(s) for c, s in zip(instance.capacity, smallest) if s]
        self._depth = min([instance.num_items, *limits])
        self._found: list[np.ndarray] = []

    def best(self, price: np.ndarray, floor: int, budget: Budget) -> int | None:
        """A value that no pattern exceeds, `floor` if that can be shown; None: unknown, but see `patterns`.

        price: int64 [sizes]. First patterns far above `floor` are looked for, then all; the search ends when it has
        found `patterns_a_search` or when its work is spent.
        """
        need, capacity = self._instance.need, self._instance.capacity
        self._found = []
        useful = np.flatnonzero((price > 0) & (self._most > 0))
        if not len(useful):
            return floor
        multipliers = surrogate_multipliers(need[useful], price[useful], self._most[useful], capacity)
        weight, total = whole_weights(multipliers, need[useful], capacity)
        order = np.argsort(-(price[useful] - weight[0]), kind="stable")
        useful, weight = useful[order], np.ascontiguousarray(weight[:, order])
        gain = np.maximum(price[useful] - weight, 0) * self._most[useful]
        tail = np.zeros((len(weight), len(useful) + 1), np.int64)
        tail[:, :-1] = np.cumsum(gain[:, ::-1], axis=1)[:, ::-1]
        arrays = need[useful], price[useful], self._most[useful], weight, tail
        root = int((total + tail[:, 0]).min())
        shown = root if root > floor else floor
        for share, work in PARAMS.levels:
            part = budget.part(work)
            level = floor + int(max(0, root - floor) * share)
            state, chosen = np.zeros(4, np.int64), np.zeros(self._depth, np.int64)
            patterns = np.zeros((PARAMS.patterns_a_search, self._depth), np.int64)
            lengths = np.zeros(PARAMS.patterns_a_search, np.int64)
            residual, left = capacity.copy(), total.copy()
            finished = False
            while not finished and state[3] < PARAMS.patterns_a_search:
                nodes = int(
                    _search(*arrays, chosen, state, residual, left, level, patterns, lengths, PARAMS.nodes_a_slice)
                )
                finished = nodes < 0
                if not part.spend(PARAMS.node_work * abs(nodes)):
                    break
            number = int(state[3])
            self._found += [np.sort(useful[patterns[i, : lengths[i]]]) for i in range(number)]
            if finished:
                shown = max([level] + [int(price[pattern].sum()) for pattern in self._found])
            if number or budget.spent:
                break
        return shown if shown < root or root <= floor else None

    def patterns(self, price: np.ndarray, target: np.ndarray, limit: int, seed: int) -> list[np.ndarray]:
        """What the last `best` found that beats `target` (float64 [sizes]): size ids, the best first."""
        worth = np.array([float(target[pattern].sum()) for pattern in self._found])
        return [self._found[i] for i in np.argsort(-worth, kind="stable")[:limit].tolist() if worth[i] > 1 + 1e-9]


def whole_weights(multipliers: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight [bounds, sizes], total [bounds]), int64: floor(multipliers . need), so no pattern weighs above total.

    multipliers: float64 [bounds, dims], not negative, in price units: products with capacity stay below 2^62.
    """
    exact = np.array([[int(m * 2.0**30) for m in row] for row in multipliers.tolist()], dtype=object)
    weight = (exact @ need.T.astype(object)) >> 30
    total = (exact @ capacity.astype(object)) >> 30
    return weight.astype(np.int64), total.astype(np.int64)


def surrogate_multipliers(need: np.ndarray, price: np.ndarray, most: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """float64 [bounds, dims]: duals of the fractional knapsack, then the best multiplier of each dimension alone."""
    scale = float(price.max())
    rows = [np.maximum(Master.knapsack(need, price / scale, most, capacity), 0.0)]
    for d, offered in enumerate(capacity.tolist()):
        ratio = price / scale / np.maximum(need[:, d], 1e-9)
        order = np.argsort(-ratio, kind="stable")
        last = min(int(np.searchsorted(np.cumsum(need[order, d] * most[order]), offered)), len(order) - 1)
        alone = np.zeros(len(capacity))
        # A size without need in this dimension has no finite ratio: no multiplier so large that sums could overflow.
        alone[d] = min(float(ratio[order[last]]), 4.0 * len(order) / max(1, offered))
        rows.append(alone)
    return np.array(rows) * scale
