"""First fit: each item goes to the first pack that has room for it."""

from __future__ import annotations

import numpy as np

from packer.algorithms.jit import kernel


def first_fit(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each item, in the order given, to the first open pack with room; open a pack when there is none.

    size_of_item: integers [items], row of `need` of each item; need: int64 [sizes, dims]; capacity: int64 [dims]; every
    item fits an empty pack (the caller has checked). Returns (item_ids int64 [items], pack_offsets int64 [packs+1]):
    pack p holds item_ids[pack_offsets[p]:pack_offsets[p+1]], in the order in which they came.
    Time O(items * log(packs) * dims) in practice: a tree holds the largest room of each dimension over ranges of packs,
    and a size never looks again at packs that had no room for it. No randomness.
    Source: Johnson et al., SIAM J. Comput. 3(4), 1974; here it must fit in every dimension.
    """
    need = np.ascontiguousarray(need, dtype=np.int64)
    leaves = 1 << max(_most_packs(size_of_item, need, capacity) - 1, 0).bit_length()
    pack_of_item = np.empty(len(size_of_item), dtype=np.int32 if leaves < 1 << 31 else np.int64)
    packs = _place(size_of_item, need, capacity, leaves, pack_of_item)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pack_of_item, minlength=packs))]).astype(np.int64)
    return np.argsort(pack_of_item, kind="stable"), offsets


def _most_packs(size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> int:
    """A number of packs that first fit cannot exceed.

    The first item of a pack did not fit the pack before, so two packs in a row hold more than one capacity in some
    dimension: half the packs, rounded down, are fewer than the sum over dimensions of what all items need in packs.
    """
    count = np.bincount(size_of_item, minlength=len(need)).tolist()
    volume = 0
    for column, limit in zip(need.T.tolist(), capacity.tolist()):
        volume += -(-sum(each * number for each, number in zip(column, count)) // max(limit, 1))
    return max(min(len(size_of_item), 2 * volume + 1), 1)


@kernel
def _place(
    size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray, leaves: int, pack_of_item: np.ndarray
) -> int:
    """Write the pack of each item; the number of packs. `leaves`: a power of two, enough for all packs.

    Node v has the children 2v and 2v+1; leaf `leaves + p` is pack p. A node may promise room that no single pack below
    it has (its maxima may be of different packs): then the walk goes on to the right of it.
    """
    dims = len(capacity)
    room = np.empty((2 * leaves, dims), dtype=np.int64)
    for node in range(2 * leaves):
        for dim in range(dims):
            room[node, dim] = capacity[dim]
    # Packs before start[s] have no room for size s, and never will: room only shrinks.
    start = np.zeros(len(need), dtype=np.int64)
    packs = 0
    for item in range(len(size_of_item)):
        size_id = size_of_item[item]
        node = leaves + start[size_id]
        while True:
            fits = True
            for dim in range(dims):
                if room[node, dim] < need[size_id, dim]:
                    fits = False
                    break
            if fits:
                if node >= leaves:
                    break
                node = 2 * node
            else:
                while node & 1:
                    node >>= 1
                node += 1
        pack = node - leaves
        start[size_id] = pack
        pack_of_item[item] = pack
        if pack >= packs:
            packs = pack + 1
        for dim in range(dims):
            room[node, dim] -= need[size_id, dim]
        changed = True
        while changed and node > 1:
            node >>= 1
            changed = False
            for dim in range(dims):
                largest = max(room[2 * node, dim], room[2 * node + 1, dim])
                if largest != room[node, dim]:
                    room[node, dim] = largest
                    changed = True
    return int(packs)
