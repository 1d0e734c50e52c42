"""Second stage: the same items in the same number of packs, but the number of items in a pack varies less.

Plans with few packs mix packs of many small items with packs of few large ones. Training wants steps that are alike.
"""

from __future__ import annotations

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.jit import kernel
from packer.algorithms.patterns import merged

MOST_ROWS = 1 << 16
MOST_CELLS = 1 << 23
"""Patterns times twice the sizes in the longest: above that the plan stays as it is, for it would cost gigabytes."""
STEPS_PER_PAIR = 300


def reduce_spread(instance: Instance, patterns: Patterns, seed: int = 0, work: int = 3_000_000) -> Patterns:
    """Lower the sum of squares of items per pack by sharing out the items of two patterns anew, pair after pair.

    A longer and a shorter pattern (by two items or more) are joined and searched depth first, in random order and with
    a bounded number of steps, for a division that fits and is more even. It is applied in as many packs at once as the
    rarer pattern has. So the result covers the same items within capacity with as many packs, and the sum of squares
    never grows; patterns may become up to 8 times as many.
    work: pairs and steps in all, about 20 ns each once compiled. Time does not depend on the counts. Random choices
    follow from the seed (any integer) alone: same arguments, same result.
    """
    pattern = np.repeat(np.arange(len(patterns)), np.diff(patterns.ptr))
    length = np.zeros(len(patterns), dtype=np.int64)
    np.add.at(length, pattern, patterns.multiplicity)
    if not len(length) or length.max() - length.min() < 2:
        return patterns
    rows = min(patterns.num_packs, max(len(patterns), min(8 * len(patterns), MOST_ROWS)))
    width = 2 * int(np.diff(patterns.ptr).max())
    if rows * width > MOST_CELLS:
        return patterns
    size_ids, multiplicity = np.zeros((2, rows, width), dtype=np.int64)
    column = np.arange(len(pattern)) - patterns.ptr[pattern]
    size_ids[pattern, column], multiplicity[pattern, column] = patterns.size_ids, patterns.multiplicity
    lengths, packs = np.zeros((2, rows), dtype=np.int64)
    lengths[: len(patterns)], packs[: len(patterns)] = length, patterns.counts
    capacity = np.ascontiguousarray(instance.capacity)
    need = np.ascontiguousarray(instance.need)
    _pair_up(need, capacity, size_ids, multiplicity, lengths, packs, len(patterns), seed % (1 << 31), work)
    order = np.argsort(np.where(multiplicity > 0, size_ids, len(need)), axis=1)
    size_ids, multiplicity = np.take_along_axis(size_ids, order, 1), np.take_along_axis(multiplicity, order, 1)
    filled = multiplicity > 0
    ptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(filled.sum(axis=1))])
    return merged(ptr, size_ids[filled], multiplicity[filled], packs)


@kernel
def _pair_up(
    need: np.ndarray,
    capacity: np.ndarray,
    size_ids: np.ndarray,
    multiplicity: np.ndarray,
    lengths: np.ndarray,
    packs: np.ndarray,
    live: int,
    state: int,
    work: int,
) -> None:
    """Improve the first `live` rows in place, using more rows as patterns split. A row ends at multiplicity 0."""
    rows, width = size_ids.shape
    joint = np.zeros((3, 2 * width), dtype=np.int64)
    while work > 0:
        work -= 1
        state = _random(state)
        long = (state >> 8) % live
        state = _random(state)
        short = (state >> 8) % live
        if lengths[long] < lengths[short]:
            long, short = short, long
        gap = lengths[long] - lengths[short]
        if gap < 2 or (packs[long] != packs[short] and live == rows):
            continue
        state = _random(state)
        goal = lengths[long] - 1 - (state >> 8) % (gap // 2)
        state, entries = _join(size_ids, multiplicity, long, short, state, joint)
        if entries > width:
            continue
        state, steps, divided = _divide(need, capacity, joint, entries, goal, state)
        work -= steps
        if not divided:
            continue
        if packs[long] != packs[short]:
            # The more frequent pattern stays as it is in the packs that find no partner.
            kept = long if packs[long] > packs[short] else short
            number = min(packs[long], packs[short])
            for entry in range(width):
                size_ids[live, entry] = size_ids[kept, entry]
                multiplicity[live, entry] = multiplicity[kept, entry]
            lengths[live] = lengths[kept]
            packs[live] = packs[kept] - number
            packs[kept] = number
            live += 1
        lengths[short] += lengths[long] - goal
        lengths[long] = goal
        _set_rows(size_ids, multiplicity, long, short, joint, entries)


@kernel
def _random(state: int) -> int:
    """The next state of a linear congruential generator of 31 bits; its upper bits are the random ones."""
    return (state * 1103515245 + 12345) % 2147483648


@kernel
def _join(
    size_ids: np.ndarray, multiplicity: np.ndarray, long: int, short: int, state: int, joint: np.ndarray
) -> tuple[int, int]:
    """Write the items of two rows as (size id, number) in random order into joint[:2]; state and number of entries."""
    entries = 0
    for turn in range(2):
        row = short if turn else long
        for entry in range(size_ids.shape[1]):
            if multiplicity[row, entry] == 0:
                break
            index = 0
            while index < entries and joint[0, index] != size_ids[row, entry]:
                index += 1
            if index == entries:
                joint[0, index], joint[1, index] = size_ids[row, entry], 0
                entries += 1
            joint[1, index] += multiplicity[row, entry]
    for index in range(entries - 1, 0, -1):
        state = _random(state)
        other = (state >> 8) % (index + 1)
        joint[0, index], joint[0, other] = joint[0, other], joint[0, index]
        joint[1, index], joint[1, other] = joint[1, other], joint[1, index]
    return state, entries


@kernel
def _divide(
    need: np.ndarray, capacity: np.ndarray, joint: np.ndarray, entries: int, goal: int, state: int
) -> tuple[int, int, bool]:
    """Choose how many items of each entry go to the first pack, joint[2], so that it holds `goal` and both packs fit.

    Depth first: at each entry the numbers that the sums still allow, from a random one upwards and around.
    Returns (state, steps, found).
    """
    dims = len(capacity)
    # What the first pack holds before an entry, and what the entries from here on hold; the last column counts items.
    used = np.zeros((entries + 1, dims + 1), dtype=np.int64)
    rest = np.zeros((entries + 1, dims + 1), dtype=np.int64)
    for entry in range(entries - 1, -1, -1):
        for dim in range(dims):
            rest[entry, dim] = rest[entry + 1, dim] + joint[1, entry] * need[joint[0, entry], dim]
        rest[entry, dims] = rest[entry + 1, dims] + joint[1, entry]
    least, choices = np.zeros(entries, dtype=np.int64), np.zeros(entries, dtype=np.int64)
    start, tried = np.zeros(entries, dtype=np.int64), np.zeros(entries, dtype=np.int64)
    entry = 0
    for steps in range(STEPS_PER_PAIR):
        if tried[entry] == 0:
            low = max(0, goal - used[entry, dims] - rest[entry + 1, dims])
            high = min(joint[1, entry], goal - used[entry, dims])
            for dim in range(dims):
                each = need[joint[0, entry], dim]
                room = capacity[dim] - used[entry, dim]
                lacking = rest[0, dim] - capacity[dim] - used[entry, dim] - rest[entry + 1, dim]
                if each > 0:
                    high = min(high, room // each)
                    low = max(low, -(-lacking // each))
                elif lacking > 0:
                    high = -1
            state = _random(state)
            least[entry], choices[entry] = low, high - low + 1
            start[entry] = (state >> 8) % max(high - low + 1, 1)
        if tried[entry] >= choices[entry]:
            tried[entry] = 0
            entry -= 1
            if entry < 0:
                return state, steps, False
            continue
        number = least[entry] + (start[entry] + tried[entry]) % choices[entry]
        tried[entry] += 1
        joint[2, entry] = number
        for dim in range(dims):
            used[entry + 1, dim] = used[entry, dim] + number * need[joint[0, entry], dim]
        used[entry + 1, dims] = used[entry, dims] + number
        entry += 1
        if entry == entries:
            return state, steps, True
    return state, STEPS_PER_PAIR, False


@kernel
def _set_rows(
    size_ids: np.ndarray, multiplicity: np.ndarray, long: int, short: int, joint: np.ndarray, entries: int
) -> None:
    """Give joint[2] of the joint items to the row `long` and the others to `short`."""
    filled = np.zeros(2, dtype=np.int64)
    for entry in range(entries):
        for first in range(2):
            row = long if first else short
            number = joint[2, entry] if first else joint[1, entry] - joint[2, entry]
            if number > 0:
                size_ids[row, filled[first]] = joint[0, entry]
                multiplicity[row, filled[first]] = number
                filled[first] += 1
    for entry in range(filled[0], size_ids.shape[1]):
        multiplicity[short, entry] = 0
    for entry in range(filled[1], size_ids.shape[1]):
        multiplicity[long, entry] = 0
