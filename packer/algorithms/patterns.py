"""Patterns from packs: what is filled alike becomes one row with a count. Exact, and without a loop over packs."""

from __future__ import annotations

import numpy as np

from packer.algorithms.instance import Patterns


def merged(ptr: np.ndarray, size_ids: np.ndarray, multiplicity: np.ndarray, counts: np.ndarray) -> Patterns:
    """Patterns from rows that may repeat or have count 0: equal rows become one, in the order of their first.

    ptr: int64 [rows+1]; size_ids, multiplicity: int64 [entries], size ids ascending in a row; counts: int64 [rows].
    """
    used = np.flatnonzero(counts)
    starts, lengths = ptr[:-1][used], np.diff(ptr)[used]
    labels = _labels(starts, lengths, _codes(size_ids, multiplicity))
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    total = np.zeros(len(first), np.int64)
    np.add.at(total, inverse.reshape(-1), counts[used])
    kept = first[order]
    new_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[kept])])
    entries = np.repeat(starts[kept] - new_ptr[:-1], lengths[kept]) + np.arange(new_ptr[-1])
    return Patterns(new_ptr, size_ids[entries], multiplicity[entries], total[order])


def appended(plan: Patterns, rest: Patterns, ids: np.ndarray) -> Patterns:
    """Both plans in one; `ids` (int64 [sizes of rest], ascending) are the sizes of `rest` in terms of `plan`."""
    ptr = np.append(plan.ptr, plan.ptr[-1] + rest.ptr[1:])
    size_ids = np.append(plan.size_ids, ids[rest.size_ids])
    return merged(ptr, size_ids, np.append(plan.multiplicity, rest.multiplicity), np.append(plan.counts, rest.counts))


def patterns_of(size_of_slot: np.ndarray, pack_offsets: np.ndarray) -> Patterns:
    """The distinct fillings of given packs, in the order of their first.

    size_of_slot: integers [items] in pack order; pack_offsets: int64 [packs+1], no pack empty. Time O(items log items).
    """
    held = np.diff(pack_offsets)
    sizes = int(size_of_slot.max(initial=0)) + 1
    key = np.sort(np.repeat(np.arange(len(held)) * sizes, held) + size_of_slot)  # by pack, then by size
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    pack, size_ids = np.divmod(key[starts], sizes)
    ptr = np.searchsorted(pack, np.arange(len(held) + 1))
    return merged(ptr, size_ids, np.diff(starts, append=len(key)), np.ones(len(held), np.int64))


def _codes(size_ids: np.ndarray, multiplicity: np.ndarray) -> np.ndarray:
    """A number for each (size, multiplicity) that occurs: int64 [entries]."""
    most = int(multiplicity.max(initial=0)) + 1
    if most < 1 << 31:
        return size_ids * most + multiplicity
    return np.unique(np.stack([size_ids, multiplicity], axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _labels(starts: np.ndarray, lengths: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The same number for rows with the same codes, and for no others: int64 [rows].

    Rows alike so far are told apart by their next entry. A row that has ended keeps its label, which none gets later.
    """
    labels = np.zeros(len(starts), np.int64)
    active, entry, free = np.arange(len(starts)), 0, 1
    while True:
        active = active[lengths[active] > entry]
        if not len(active):
            return labels
        distinct, first = np.unique(codes[starts[active] + entry], return_inverse=True)
        pairs, inverse = np.unique(labels[active] * len(distinct) + first.reshape(-1), return_inverse=True)
        labels[active] = free + inverse.reshape(-1)
        free += len(pairs)
        if len(pairs) == len(active):
            return labels
        entry += 1
