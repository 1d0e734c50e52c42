"""Which block lies where in the ring: by hand, and against a walk through the steps."""

from __future__ import annotations

import numpy as np
import pytest

from packer.reading.order import EMPTY, epoch_order, share
from packer.reading.ring_plan import Load, blocks_at_once, least_blocks, ring_plan


def test_by_hand() -> None:
    # Blocks of 2 packs, steps of 2: step 0 takes of blocks 0 and 1, step 1 the rest of them, step 2 block 2 alone.
    ids = np.array([0, 2, 1, 3, 5, EMPTY])
    assert blocks_at_once(ids, 2, 2) == 2
    positions, loads = ring_plan(ids, 2, 2, [-1, -1])
    assert loads == [Load(0, 0, 0, 0), Load(1, 1, 0, 0), Load(2, 0, 2, 2)]  # block 2 may come after steps 0 and 1
    assert positions.tolist() == [0, 2, 1, 3, 1, EMPTY]


def test_blocks_that_lie_there_stay() -> None:
    ids = np.array([4, 0, 5, 1])  # blocks 2, 0, 2, 0
    positions, loads = ring_plan(ids, 1, 2, [1, 2, 0])
    assert loads == [Load(2, 1, 0, 0, True), Load(0, 2, 1, 0, True)]
    assert positions.tolist() == [2, 4, 3, 5]
    # Block 3 is new: it takes the place of block 1, which nobody needs, and not of block 0, needed at step 1.
    _, loads = ring_plan(np.array([6, 0]), 1, 2, [0, 1])
    assert loads == [Load(3, 1, 0, 0), Load(0, 0, 1, 0, True)]


def walked(ids: np.ndarray, step: int, per_block: int, held: list[int], loads: list[Load], at: np.ndarray) -> list[int]:
    """Take the steps one by one, every load as early as it may come: each pack must lie where it was said to."""
    ring, todo = list(held), list(loads)
    for number in range(len(ids) // step):
        while todo and todo[0].after <= number:
            load = todo.pop(0)
            assert not load.kept or ring[load.slot] == load.block
            ring[load.slot] = load.block
        assert all(load.first > number for load in todo)
        for place, pack in zip(at[number * step :][:step], ids[number * step :][:step], strict=True):
            if pack == EMPTY:
                assert place == EMPTY
            else:
                assert ring[place // per_block] == pack // per_block and place % per_block == pack % per_block
    return ring


@pytest.mark.parametrize("seed", range(60))
def test_any_pass_in_the_least_ring(seed: int) -> None:
    """Three epochs of a rank, the second resumed; the ring as small as a loader would make it, then a larger one."""
    rng = np.random.default_rng(seed)
    packs, per_block = int(rng.integers(1, 90)), int(rng.integers(1, 8))
    lanes, step, world = int(rng.integers(1, 10)), int(rng.integers(1, 12)), int(rng.integers(1, 4))
    least = least_blocks(-(-packs // per_block), per_block, lanes, step * world, step)
    for slots in (least, least + int(rng.integers(1, 9))):
        held = [-1] * slots
        for epoch in range(3):
            order = epoch_order(packs, per_block, seed, epoch, lanes)
            seen = int(rng.integers(0, packs)) if epoch == 1 else 0
            ids = share(order, seen, int(rng.integers(world)), world, step)
            assert blocks_at_once(ids, step, per_block) <= least
            positions, loads = ring_plan(ids, step, per_block, held)
            assert len({load.block for load in loads}) == len(loads)
            held = walked(ids, step, per_block, held, loads, positions)
            used = [block for block in held if block >= 0]
            assert len(set(used)) == len(used)


def test_a_resident_ring_reads_each_block_once() -> None:
    held = [-1] * 6
    for epoch in range(3):
        ids = share(epoch_order(23, 4, 1, epoch, 2), 0, 0, 1, 3)
        _, loads = ring_plan(ids, 3, 4, held)
        assert {load.kept for load in loads} == {epoch > 0}
        for load in loads:
            held[load.slot] = load.block
        assert sorted(held) == [0, 1, 2, 3, 4, 5]
