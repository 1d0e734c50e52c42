"""A plan in no time: next fit over falling sizes, for when there is no time for anything better."""

from __future__ import annotations

import numpy as np

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.patterns import merged, patterns_of
from packer.algorithms.shares import largest_first, shares

MANY_SIZES, FEW_EACH = 1_000, 20
"""So many sizes, of so few items each in the mean, are placed item by item."""


def quick_plan(instance: Instance) -> Patterns:
    """Fill one pack after the other, largest share first: nothing is compiled, nothing is searched.

    Time O(sizes + packs), or O(items * dims) where hardly two items are alike. No randomness.
    Source: next fit decreasing, Baker and Coffman, SIAM J. Alg. Disc. Meth. 2(2), 1981.
    """
    share = shares(instance.need, instance.capacity)
    order = largest_first(instance.need, share.max(axis=1, initial=0), share.sum(axis=1))
    if len(order) > MANY_SIZES and instance.num_items <= FEW_EACH * len(order):
        return _by_item(instance, order)
    return _by_size(instance, order)


def _by_item(instance: Instance, order: np.ndarray) -> Patterns:
    items = np.repeat(order, instance.count[order])
    after = np.full(len(items), len(items), np.int64)  # where the pack ends that begins with each item
    for amount, offered in zip(instance.need.T, instance.capacity.tolist()):
        filled = np.cumsum(amount[items])
        before = filled - amount[items]
        np.minimum(after, np.searchsorted(filled, before + offered, side="right"), out=after)
    ends, offsets = after.tolist(), [0]
    while offsets[-1] < len(items):
        offsets.append(ends[offsets[-1]])
    return patterns_of(items, np.array(offsets, dtype=np.int64))


def _by_size(instance: Instance, order: np.ndarray) -> Patterns:
    capacity, needs, counts = instance.capacity.tolist(), instance.need.tolist(), instance.count.tolist()
    packs: list[tuple[list[int], list[int], int]] = []
    held: dict[int, int] = {}
    room = list(capacity)
    for size in order.tolist():
        need, left = needs[size], counts[size]
        while left:
            fits = min([r // n for r, n in zip(room, need) if n], default=left)
            if fits and held:
                held[size] = placed = min(fits, left)
                room = [r - placed * n for r, n in zip(room, need)]
                left -= placed
            elif held:
                packs.append((sorted(held), [held[i] for i in sorted(held)], 1))
                held, room = {}, list(capacity)
            else:
                alike = (left - 1) // fits  # the last pack stays open
                if alike:
                    packs.append(([size], [fits], alike))
                held = {size: left - alike * fits}
                room = [r - held[size] * n for r, n in zip(room, need)]
                left = 0
    if held:
        packs.append((sorted(held), [held[i] for i in sorted(held)], 1))
    ptr = np.cumsum([0] + [len(ids) for ids, _, _ in packs])
    ids = np.array([size for sizes, _, _ in packs for size in sizes], dtype=np.int64)
    times = np.array([number for _, numbers, _ in packs for number in numbers], dtype=np.int64)
    return merged(ptr, ids, times, np.array([number for _, _, number in packs], dtype=np.int64))
