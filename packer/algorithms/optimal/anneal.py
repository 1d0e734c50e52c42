"""Simulated annealing at a fixed number of packs: sum of relative overflow, moves and swaps of single items.

Where the volume bound is the bound, packs are nearly full and interchangeable; then this closes in a second what
column generation cannot round.
"""

from __future__ import annotations

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.exact import total
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.jit import kernel
from packer.algorithms.optimal.columns import joined
from packer.algorithms.optimal.greedy import greedy_plans, plan_of, slots_of
from packer.algorithms.optimal.params import PARAMS

_CHANCES = -np.log((np.arange(4096) + 0.5) / 4096)
"""Quantiles of the exponential distribution: a rise of the cost by T times one of them is accepted."""


@kernel
def _draw(one, two):  # type: ignore[no-untyped-def]
    """The next states of two small generators, and a whole number from 0 to 2147483561 of both: L'Ecuyer 1988.

    Small enough for the compiler to inline it at each call; without numba the products stay exact.
    """
    one = one * 40014 % 2147483563
    two = two * 40692 % 2147483399
    return one, two, (one + two) % 2147483562


@kernel
def _anneal(need, weight, capacity, size_of, members, held, load, over, overfull, where, state, chances, heat, moves):  # type: ignore[no-untyped-def]
    """Up to `moves` steps; stops when no pack overflows. Returns the steps done.

    need [sizes, dims], capacity [dims], weight float64 [dims]; size_of [items]; members [packs, room]: items of each
    pack, held [packs] of them; load [packs, dims]; over float64 [packs]: overflow of each; overfull [packs]: the
    overflowing packs, where [packs] their indices there, -1 for those with room; state [3]: two random states and how
    many overflow; chances float64 [4096], see `_CHANCES`; heat: the temperature.
    """
    packs, room = members.shape
    dims = need.shape[1]
    one, two = state[0], state[1]
    bad = state[2]
    done = 0
    while done < moves and bad > 0:
        done += 1
        # Pack a, which gives an item: an overflowing one every other time, for only there something can be gained; else
        # any, so that room moves to where it is needed. The lowest bit decides, the others choose.
        one, two, draw = _draw(one, two)
        if draw & 1:
            a = overfull[(draw >> 1) % bad]
        else:
            a = (draw >> 1) % packs
        if held[a] == 0:
            continue
        # Which of its items, and pack b, which takes it.
        one, two, draw = _draw(one, two)
        index_a = draw % held[a]
        one, two, draw = _draw(one, two)
        b = draw % packs
        if b == a:
            continue
        # What b gives in return: one of its items, or, one index beyond the last of them, nothing.
        one, two, draw = _draw(one, two)
        index_b = draw % (held[b] + 1)
        i = size_of[members[a, index_a]]
        swap = index_b < held[b]
        if swap:
            j = size_of[members[b, index_b]]
            if i == j:  # nothing would change
                continue
        else:
            if held[b] == room:
                continue
            j = -1
        # The overflow of both packs after it: what is above capacity in each dimension, as a share of the capacity.
        new_a = 0.0
        new_b = 0.0
        for d in range(dims):
            change = need[i, d]
            if swap:
                change -= need[j, d]
            left = load[a, d] - change - capacity[d]
            right = load[b, d] + change - capacity[d]
            if left > 0:
                new_a += left * weight[d]
            if right > 0:
                new_b += right * weight[d]
        # Metropolis: what lowers the overflow is done, what raises it with probability exp(-rise / heat). A rise is
        # compared with a quantile instead, which takes no logarithm. The last draw serves twice: its remainder chose
        # the index, its bits 8 to 19 choose the quantile.
        rise = new_a + new_b - over[a] - over[b]
        if rise > 0.0 and rise > heat * chances[(draw >> 8) & 4095]:
            continue
        # Do it: loads, then members. A move fills the gap in a with a's last item, so that members stay dense.
        for d in range(dims):
            change = need[i, d]
            if swap:
                change -= need[j, d]
            load[a, d] -= change
            load[b, d] += change
        if swap:
            members[a, index_a], members[b, index_b] = members[b, index_b], members[a, index_a]
        else:
            members[b, held[b]] = members[a, index_a]
            held[b] += 1
            held[a] -= 1
            members[a, index_a] = members[a, held[a]]
        # Keep the list of overflowing packs: append who joins; the last takes the index of who leaves.
        over[a] = new_a
        over[b] = new_b
        for p in (a, b):
            if over[p] > 0.0 and where[p] < 0:
                where[p] = bad
                overfull[bad] = p
                bad += 1
            elif over[p] <= 0.0 and where[p] >= 0:
                bad -= 1
                overfull[where[p]] = overfull[bad]
                where[overfull[bad]] = where[p]
                where[p] = -1
    state[0], state[1], state[2] = one, two, bad
    return done


@kernel
def _insert(need, weight, capacity, size_of, members, held, load, order):  # type: ignore[no-untyped-def]
    """Put the items of `order` (int64 [some]) each into the pack that then overflows least, ties to the fullest.

    The other arrays as in `_anneal`; members, held and load are changed. Time O(items * packs * dims).
    """
    packs, room = members.shape
    for item in order:
        best = -1
        best_over = 0.0
        best_room = 0.0
        for p in range(packs):
            if held[p] == room:
                continue
            # What it would lack and what it would have left there, both as shares of the capacity.
            over = 0.0
            free = 0.0
            for d in range(need.shape[1]):
                left = capacity[d] - load[p, d] - need[size_of[item], d]
                if left < 0:
                    over -= left * weight[d]
                else:
                    free += left * weight[d]
            if best < 0 or over < best_over or (over == best_over and free < best_room):
                best, best_over, best_room = p, over, free
        # Some pack has room for one more item, see `_Packs`: `best` is one.
        members[best, held[best]] = item
        held[best] += 1
        for d in range(need.shape[1]):
            load[best, d] += need[size_of[item], d]


class _Packs:
    """The arrays that the kernels work on: `packs` packs of items, some of them overflowing."""

    def __init__(self, instance: Instance, start: list[np.ndarray], packs: int, budget: Budget) -> None:
        """start: size ids of each pack; items of all but the fullest `packs` are dealt out where they hurt least."""
        # need int64 [sizes, dims], capacity int64 [dims]; weight float64 [dims] turns amounts into shares of a pack.
        self.need, self.capacity = instance.need, instance.capacity
        self.weight = 1.0 / np.maximum(instance.capacity, 1)
        share = instance.need * self.weight
        # The fullest packs come first: they stay as they are, and the items of the others are loose. Items are numbered
        # in this order: size_of [items], held [packs].
        ranked = np.argsort([-float(share[p].sum()) for p in start], kind="stable").tolist()
        self.size_of = np.concatenate([start[p] for p in ranked])
        held = np.array([len(start[p]) for p in ranked[:packs]], dtype=np.int64)
        self.held = np.concatenate([held, np.zeros(packs - len(held), np.int64)])
        # Room for twice as many items as any pack holds, or needs on average, is room enough.
        average = -(-len(self.size_of) // packs)
        self.members = np.zeros((packs, 2 * max(average, int(self.held.max())) + 2), np.int64)
        # Items 0..kept go to their packs, each at its rank there: members [packs, room], load [packs, dims].
        kept = int(held.sum())
        pack = np.repeat(np.arange(packs), self.held)
        self.members[pack, np.arange(kept) - np.repeat(np.cumsum(self.held) - self.held, self.held)] = np.arange(kept)
        self.load = np.zeros((packs, len(self.capacity)), np.int64)
        np.add.at(self.load, pack, self.need[self.size_of[:kept]])
        # The others, largest first, in slices between which the budget is looked at.
        loose = np.arange(kept, len(self.size_of))
        loose = loose[np.argsort(-share[self.size_of[loose]].sum(axis=1), kind="stable")]
        step = max(1, PARAMS.moves_a_slice * 10 // packs)
        for first in range(0, len(loose), step):
            part = loose[first : first + step]
            tables = self.need, self.weight, self.capacity, self.size_of, self.members, self.held, self.load
            if budget.spent:  # so many packs that dealing out is too much already
                break
            _insert(*tables, part)
            budget.spend(1e-9 * len(part) * packs * len(self.capacity))
        # What overflows, and by how much: over float64 [packs]; the list of such packs and its inverse, [packs] each.
        self.whole = int(self.held.sum()) == len(self.size_of)
        self.over = (np.maximum(self.load - self.capacity, 0) * self.weight).sum(axis=1)
        bad = np.flatnonzero(self.over > 0)
        self.overfull, self.where = np.zeros(packs, np.int64), np.full(packs, -1, np.int64)
        self.overfull[: len(bad)] = bad
        self.where[bad] = np.arange(len(bad))
        self.number_over = len(bad)

    def items(self, pack: int) -> np.ndarray:
        """Size ids of the items in a pack."""
        return self.size_of[self.members[pack, : self.held[pack]]]


def anneal(instance: Instance, plan: Patterns, packs: int, budget: Budget, seed: int, hot: float) -> Patterns | None:
    """A plan in `packs` packs, or else in the few more that what still overflows needs; None: that few cannot hold all,
    or the budget ends before all are dealt out.

    plan: where to start; hot: the first temperature, in units of an overflow by one; it falls to `cold` over the
    budget. Randomness: `seed` alone.
    """
    needed = [total(column, instance.count) for column in instance.need.T]
    if any(needs > packs * offered for needs, offered in zip(needed, instance.capacity.tolist())):
        return None
    # From the plan's fullest packs, with the items of the others dealt out over them.
    state = _Packs(instance, slots_of(plan), packs, budget)
    if not state.whole:
        return None
    # States of the two generators are from 1 to their modulus less one.
    random = np.array([1 + seed % 2147483561, 1 + (seed * 7919 + 12345) % 2147483397, state.number_over])
    tables = state.need, state.weight, state.capacity, state.size_of, state.members, state.held, state.load
    # The temperature falls from `hot` to `cold` in equal ratios, one for each slice of the moves.
    unit = float(np.median(state.weight))
    moves = int(min(budget.work_left / PARAMS.move_work, PARAMS.moves_an_item * instance.num_items))
    slices = max(PARAMS.least_slices, moves // PARAMS.moves_a_slice)
    for turn in range(slices):
        if not random[2] or budget.spent:
            break
        heat = unit * hot * (PARAMS.cold / hot) ** (turn / (slices - 1))
        done = _anneal(*tables, state.over, state.overfull, state.where, random, _CHANCES, heat, 1 + moves // slices)
        budget.spend(PARAMS.move_work * done)
    return _repaired(instance, state)


def _repaired(instance: Instance, state: _Packs) -> Patterns:
    """Take from an overflowing pack the smallest item that mends it, or else the largest and so on; pack them anew."""
    share = (instance.need * state.weight).sum(axis=1)
    packs = [state.items(p) for p in range(len(state.held)) if state.held[p]]
    taken: list[int] = []
    for p, slots in enumerate(packs):
        excess = instance.need[slots].sum(axis=0) - instance.capacity  # int64 [dims]
        while (excess > 0).any():
            # The smallest of those that mend it alone; where none does, the largest, and look again.
            mends = (instance.need[slots] >= excess).all(axis=1)
            candidates = np.flatnonzero(mends) if mends.any() else np.arange(len(slots))
            by_share = share[slots[candidates]]
            out = int(candidates[by_share.argmin() if mends.any() else by_share.argmax()])
            taken.append(int(slots[out]))
            slots = packs[p] = np.delete(slots, out)
            excess = instance.need[slots].sum(axis=0) - instance.capacity
    plan = plan_of(packs)
    if not taken:
        return plan
    ids, count = np.unique(np.array(taken, dtype=np.int64), return_counts=True)
    rest = Instance(instance.need[ids], instance.capacity, count)
    return joined(plan, greedy_plans(rest)[0], ids)
