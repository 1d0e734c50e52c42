"""Simulated annealing at a fixed number of packs: sum of relative overflow, moves and swaps of single items.

Where the volume bound is the bound, packs are nearly full and interchangeable; then this closes in a second what
column generation cannot round.
"""

from __future__ import annotations

import numpy as np

from packer.algorithms.instance import Instance
from packer.algorithms.jit import kernel
from packer.algorithms.optimal.budget import Budget

SLICE_MOVES = 1_000_000
"""Moves between two looks at the clock: about 0.1 s."""
MOVE_WORK = 1e-7
COLD = 0.02
_CHANCES = -np.log((np.arange(4096) + 0.5) / 4096)
"""Quantiles of the exponential distribution: a rise of the cost by T times one of them is accepted."""


@kernel
def _anneal(need, weight, capacity, size_of, members, held, load, over, overfull, where, state, chances, heat, moves):  # type: ignore[no-untyped-def]
    """Up to `moves` steps; stops when no pack overflows. Returns the steps done.

    need [sizes, dims], capacity [dims], weight float64 [dims]; size_of [items]; members [packs, room]: items of each
    pack, held [packs] of them; load [packs, dims]; over float64 [packs]: overflow of each; overfull [packs]: the
    overflowing packs, where [packs] their places there; state [3]: two random states and how many overflow.
    """
    packs, room = members.shape
    dims = need.shape[1]
    one, two = state[0], state[1]
    bad = state[2]
    done = 0
    while done < moves and bad > 0:
        done += 1
        one = one * 40014 % 2147483563
        two = two * 40692 % 2147483399
        draw = (one + two) % 2147483562
        # From an overflowing pack every other time, else from any.
        if draw & 1:
            a = overfull[(draw >> 1) % bad]
        else:
            a = (draw >> 1) % packs
        if held[a] == 0:
            continue
        one = one * 40014 % 2147483563
        two = two * 40692 % 2147483399
        draw = (one + two) % 2147483562
        place_a = draw % held[a]
        one = one * 40014 % 2147483563
        two = two * 40692 % 2147483399
        draw = (one + two) % 2147483562
        b = draw % packs
        if b == a:
            continue
        one = one * 40014 % 2147483563
        two = two * 40692 % 2147483399
        draw = (one + two) % 2147483562
        # One more place than there are items: the last stands for a move without return.
        place_b = draw % (held[b] + 1)
        i = size_of[members[a, place_a]]
        swap = place_b < held[b]
        if swap:
            j = size_of[members[b, place_b]]
            if i == j:
                continue
        else:
            if held[b] == room:
                continue
            j = -1
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
        rise = new_a + new_b - over[a] - over[b]
        if rise > 0.0 and rise > heat * chances[(draw >> 8) & 4095]:
            continue
        for d in range(dims):
            change = need[i, d]
            if swap:
                change -= need[j, d]
            load[a, d] -= change
            load[b, d] += change
        if swap:
            members[a, place_a], members[b, place_b] = members[b, place_b], members[a, place_a]
        else:
            members[b, held[b]] = members[a, place_a]
            held[b] += 1
            held[a] -= 1
            members[a, place_a] = members[a, held[a]]
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
    """Put the items of `order` each into the pack that then overflows least, ties to the fullest."""
    packs, room = members.shape
    for item in order:
        best = -1
        best_over = 0.0
        best_room = 0.0
        for p in range(packs):
            if held[p] == room:
                continue
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
        members[best, held[best]] = item
        held[best] += 1
        for d in range(need.shape[1]):
            load[best, d] += need[size_of[item], d]


def anneal(
    instance: Instance, start: list[np.ndarray], packs: int, budget: Budget, seed: int, hot: float = 0.3
) -> list[np.ndarray] | None:
    """All items in `packs` packs, or None where the budget ended first.

    start: size ids of each pack, one entry an item; items of packs beyond the fullest `packs` are dealt out again.
    hot: the first temperature, in units of the overflow by one; it falls to 0.02 over the budget. Randomness: `seed`.
    """
    need, capacity = instance.need, instance.capacity
    if any(int(held) > packs * int(offered) for held, offered in zip(instance.count @ need, capacity)):
        return None
    weight = 1.0 / np.maximum(capacity, 1)
    fill = np.array([float((need[p] * weight).sum()) for p in start])
    ranked = np.argsort(-fill, kind="stable")
    kept, rest = ranked[:packs], ranked[packs:]
    size_of = np.concatenate([start[p] for p in np.concatenate([kept, rest]).tolist()])
    held = np.zeros(packs, np.int64)
    held[: len(kept)] = [len(start[p]) for p in kept.tolist()]
    smallest = need.min(axis=0)
    most = min([int(c) // int(s) for c, s in zip(capacity, smallest) if s] + [len(size_of)])
    most = max(most, int(held.max()), -(-len(size_of) // packs))
    members = np.zeros((packs, most + 2), np.int64)
    load = np.zeros((packs, len(capacity)), np.int64)
    first = 0
    for p in range(len(kept)):
        members[p, : held[p]] = np.arange(first, first + held[p])
        load[p] = need[size_of[first : first + held[p]]].sum(axis=0)
        first += held[p]
    loose = np.arange(first, len(size_of))
    loose = loose[np.argsort(-(need[size_of[loose]] * weight).sum(axis=1), kind="stable")]
    _insert(need, weight, capacity, size_of, members, held, load, loose)
    if not budget.spend(1e-9 * len(loose) * packs):
        return None
    over = (np.maximum(load - capacity, 0) * weight).sum(axis=1)
    overfull, where = np.zeros(packs, np.int64), np.full(packs, -1, np.int64)
    bad = np.flatnonzero(over > 0)
    overfull[: len(bad)] = bad
    where[bad] = np.arange(len(bad))
    state = np.array([1 + seed % 2147483561, 1 + (seed * 7919 + 12345) % 2147483397, len(bad)])
    arrays = (need, weight, capacity, size_of, members, held, load, over, overfull, where, state, _CHANCES)
    unit = float(np.median(weight))
    slices = max(1, int(budget.work_left / (MOVE_WORK * SLICE_MOVES)))
    for turn in range(slices):
        heat = unit * hot * (COLD / hot) ** (turn / max(1, slices - 1))
        _anneal(*arrays, heat, SLICE_MOVES)
        if not state[2]:
            return [np.sort(size_of[members[p, : held[p]]]) for p in range(packs) if held[p]]
        if not budget.spend(MOVE_WORK * SLICE_MOVES):
            return None
    return None
