"""Which block lies where in a ring during a pass, and when it may come: settled before the first step."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple, Sequence

import numpy as np

from packer.reading.order import EMPTY, MOST


class Load(NamedTuple):
    """A block of a pass. slot: of the ring; first: the first step that takes packs of it; after: how many steps must
    have been taken before it may come, those that still need what lies in its slot; kept: whether it lies there from
    before the pass."""

    block: int
    slot: int
    first: int
    after: int
    kept: bool = False


class _Uses(NamedTuple):
    """The blocks of a pass in the order of their first use, and the first and the last step that needs each: int64
    [blocks]. rank: int64 [real packs], which of them each pack is of; row: which pack of it."""

    blocks: np.ndarray
    first: np.ndarray
    last: np.ndarray
    rank: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, step: int, per_block: int) -> _Uses:
        at = np.flatnonzero(ids != EMPTY)
        number, row = np.divmod(ids[at], per_block)
        blocks, first, use = np.unique(number, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        use = rank[use.reshape(-1)]
        last = np.zeros(len(blocks), dtype=np.int64)
        last[use] = at // step  # of several the last one stays, as steps only grow
        return cls(blocks[order], at[first[order]] // step, last, use, row)


def blocks_at_once(ids: np.ndarray, step: int, per_block: int) -> int:
    """The most blocks that a step of a pass needs or that later steps need again: no smaller ring will do."""
    uses = _Uses.of(ids, step, per_block)
    change = np.zeros(len(ids) // step + 1, dtype=np.int64)
    np.add.at(change, uses.first, 1)
    np.add.at(change, uses.last + 1, -1)
    return int(np.cumsum(change).max(initial=0))


def least_blocks(num_blocks: int, per_block: int, lanes: int, packs: int, step: int) -> int:
    """So many that `blocks_at_once` is at most that in any epoch. packs: that a step of all ranks takes; step: of one.

    Lanes change blocks together: a step needs the blocks of one round, and those of each round that begins in it.
    """
    rounds = -(-packs // (lanes * per_block))
    return max(1, min(num_blocks, lanes + min(step, lanes * rounds)))


def ring_plan(ids: np.ndarray, step: int, per_block: int, in_ring: Sequence[int]) -> tuple[np.ndarray, list[Load]]:
    """Where each pack of a pass lies in the ring, int64 [steps * step], EMPTY as it is; its blocks by first use.

    ids: int64 [steps * step], packs in the order of their steps; in_ring: the block in each slot of the ring before
    the pass, -1 for none. A block that lies there keeps its slot; others take the slot that is free first, of several
    the one whose block is needed last or not at all. At least `blocks_at_once` slots.
    Time O(blocks log blocks + packs).
    """
    uses = _Uses.of(ids, step, per_block)
    firsts = dict(zip(uses.blocks.tolist(), uses.first.tolist()))
    lies = {block: slot for slot, block in enumerate(in_ring) if block >= 0}
    entries = [(0, -firsts.get(block, MOST), slot) for slot, block in enumerate(in_ring)]
    heap = list(entries)  # an entry counts while `entries` has the same one for its slot
    heapify(heap)
    loads: list[Load] = []
    for (block, first), last in zip(firsts.items(), uses.last.tolist()):
        slot, after = lies.pop(block, -1), 0
        kept = slot >= 0
        if not kept:
            after, _, slot = entry = heappop(heap)
            while entries[slot] != entry:
                after, _, slot = entry = heappop(heap)
            lies.pop(in_ring[slot], None)
        assert after <= first, (block, first, after)
        loads.append(Load(block, slot, first, after, kept))
        entries[slot] = (last + 1, -MOST, slot)
        heappush(heap, entries[slot])
    slots = np.array([load.slot for load in loads], dtype=np.int64)
    positions = np.full(len(ids), EMPTY, dtype=np.int64)
    positions[ids != EMPTY] = slots[uses.rank] * per_block + uses.row
    return positions, loads
