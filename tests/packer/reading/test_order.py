"""The order of an epoch: each pack once, the same for every world size, and few blocks in each process."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.errors import StateError
from packer.reading.order import EMPTY, State, epoch_order, num_steps, order_fingerprint, share

GRIDS = [(0, 5), (1, 5), (7, 10), (23, 5), (64, 4), (130, 3)]


@given(st.integers(0, 300), st.integers(1, 40), st.integers(-(2**63), 2**64), st.integers(0, 9), st.integers(1, 11))
def test_each_pack_comes_once(packs: int, per_block: int, seed: int, epoch: int, lanes: int) -> None:
    order = epoch_order(packs, per_block, seed, epoch, lanes)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(packs))


def test_seed_and_epoch_change_the_order_and_nothing_else_does() -> None:
    first = epoch_order(200, 10, seed=0, epoch=0)
    np.testing.assert_array_equal(first, epoch_order(200, 10, seed=0, epoch=0))
    for other in (epoch_order(200, 10, 0, 1), epoch_order(200, 10, 1, 0), epoch_order(200, 10, 0, 0, lanes=4)):
        assert (first != other).mean() > 0.5


def test_the_order_is_pinned() -> None:
    # A saved state names a position, so these numbers must never change, on any platform or numpy version. Blocks of 3:
    # {6,7,8} and {3,4,5} in turn; then {9}, {0,1,2}, of which lane 0 reads the first two and lane 1 the others.
    assert epoch_order(10, 3, seed=0, epoch=0, lanes=2).tolist() == [7, 5, 8, 4, 6, 3, 9, 2, 1, 0]


def test_positions_mix_the_blocks_of_all_lanes() -> None:
    # 16 full blocks of 10 over 4 lanes: positions 0..39 hold exactly 4 whole blocks, in turn.
    blocks = epoch_order(160, 10, seed=3, epoch=0, lanes=4) // 10
    for start in range(0, 160, 40):
        assert len(set(blocks[start : start + 40])) == 4
        np.testing.assert_array_equal(blocks[start : start + 36], blocks[start + 4 : start + 40])


@pytest.mark.parametrize(("packs", "per_block"), [*GRIDS, (1000, 10), (995, 10), (64 * 8, 64)])
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_processes_read_their_own_blocks(packs: int, per_block: int, processes: int) -> None:
    order = epoch_order(packs, per_block, seed=1, epoch=2)
    readers = [set((order[process::processes] // per_block).tolist()) for process in range(processes)]
    num_blocks = -(-packs // per_block)
    # each block once, but for the cuts between neighbours where the last blocks are shared out
    assert num_blocks <= sum(map(len, readers)) <= num_blocks + processes - 1
    if packs % (per_block * 8) == 0:
        assert sum(map(len, readers)) == num_blocks


def test_a_block_is_finished_before_its_lane_opens_the_next() -> None:
    # so that a cache of `lanes` blocks reads every block once
    blocks = epoch_order(995, 10, seed=1, epoch=0) // 10
    for lane in range(8):
        runs = blocks[lane::8]
        assert len(set(runs.tolist())) == 1 + np.count_nonzero(np.diff(runs))


@pytest.mark.parametrize(("packs", "per_block"), GRIDS)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_ranks_share_every_pack_and_as_many_steps(packs: int, per_block: int, world: int, step: int) -> None:
    order = epoch_order(packs, per_block, seed=0, epoch=0)
    shares = [share(order, 0, rank, world, step) for rank in range(world)]
    assert {len(ids) for ids in shares} == {num_steps(packs, world, step) * step}
    for rank, ids in enumerate(shares):
        own = order[rank::world]
        np.testing.assert_array_equal(ids[: len(own)], own)
        assert (ids[len(own) :] == EMPTY).all()


@pytest.mark.parametrize(("packs", "per_block"), GRIDS)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 3])
def test_resuming_at_every_step_gives_exactly_the_rest(packs: int, per_block: int, world: int, step: int) -> None:
    order = epoch_order(packs, per_block, seed=5, epoch=1)
    for rank in range(world):
        whole = share(order, 0, rank, world, step)
        for done in range(len(whole) // step + 1):
            rest = share(order, done * step * world, rank, world, step)
            np.testing.assert_array_equal(rest, whole[done * step :])


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 20), st.integers(1, 3))
def test_another_world_takes_over_without_loss(packs: int, before: int, after: int, done: int, step: int) -> None:
    order = epoch_order(packs, 7, seed=0, epoch=0)
    seen = min(done, num_steps(packs, before, step)) * before * step
    rest = np.concatenate([share(order, seen, rank, after, step) for rank in range(after)])
    np.testing.assert_array_equal(np.sort(rest[rest != EMPTY]), np.sort(order[seen:]))


def test_a_state_is_plain_and_refused_elsewhere() -> None:
    here = order_fingerprint("ab" * 32, shuffle=True)
    state = State(epoch=3, packs_seen=24, seed=7, lanes=8, fingerprint=here)
    assert State.from_dict(state.to_dict(), here) == state
    with pytest.raises(StateError, match="belongs to another data set"):
        State.from_dict(state.to_dict(), order_fingerprint("cd" * 32, shuffle=True))
    with pytest.raises(StateError, match="another shuffle setting"):
        State.from_dict(state.to_dict(), order_fingerprint("ab" * 32, shuffle=False))
    for wrong in ({}, {**state.to_dict(), "epoch": "x"}, {**state.to_dict(), "packs_seen": -1}, None):
        with pytest.raises(StateError, match="not a loader state"):
            State.from_dict(wrong, here)  # type: ignore[arg-type]
