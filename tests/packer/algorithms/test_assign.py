"""Ids in slots: a pure function of (size, rank, seed), the same with and without numba, and in no order of size."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer import hashing
from packer.algorithms import assign
from packer.algorithms.assign import Runs, assign_ids, make_slots, pack_offsets, slot_of
from packer.algorithms.instance import Patterns
from packer.errors import PlanError


def patterns_of(*rows: tuple[dict[int, int], int]) -> Patterns:
    """Patterns from ({size id: multiplicity}, packs) pairs."""
    contents = [sorted(sizes.items()) for sizes, _ in rows]
    entries = np.array([pair for row in contents for pair in row], dtype=np.int64).reshape(-1, 2)
    return Patterns(
        ptr=np.cumsum([0] + [len(row) for row in contents]).astype(np.int64),
        size_ids=entries[:, 0],
        multiplicity=entries[:, 1],
        counts=np.array([packs for _, packs in rows], dtype=np.int64),
    )


def size_counts(patterns: Patterns) -> np.ndarray:
    times = np.repeat(patterns.counts, np.diff(patterns.ptr)) * patterns.multiplicity
    counts = np.zeros(patterns.size_ids.max(initial=-1) + 1, dtype=np.int64)
    np.add.at(counts, patterns.size_ids, times)
    return counts


def ranks_of(size_of_item: list[int]) -> np.ndarray:
    """How many earlier items have the same size, counted one by one."""
    seen: dict[int, int] = {}
    ranks = []
    for size in size_of_item:
        ranks.append(seen.get(size, 0))
        seen[size] = ranks[-1] + 1
    return np.array(ranks, dtype=np.int64)


@st.composite
def plans(draw: st.DrawFn) -> tuple[np.ndarray, Patterns]:
    """Distinct patterns over at most 6 sizes, and the items that they hold in any order."""
    contents = st.dictionaries(st.integers(0, 5), st.integers(1, 4), min_size=1, max_size=4)
    rows = draw(
        st.lists(st.tuples(contents, st.integers(1, 9)), max_size=5, unique_by=lambda row: frozenset(row[0].items()))
    )
    patterns = patterns_of(*rows)
    items = np.repeat(np.arange(len(size_counts(patterns))), size_counts(patterns))
    shuffled = np.random.default_rng(draw(st.integers(0, 99))).permutation(items)
    return shuffled.astype(draw(st.sampled_from([np.uint16, np.int32, np.int64]))), patterns


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(-5, 2**70))
def test_every_item_once_in_packs_that_are_the_patterns(plan: tuple[np.ndarray, Patterns], seed: int) -> None:
    items, patterns = plan
    item_ids, offsets = assign_ids(items, patterns, seed)
    assert item_ids.dtype == offsets.dtype == np.int64
    assert sorted(item_ids.tolist()) == list(range(len(items)))
    found = sorted(sorted(items[item_ids[a:b]].tolist()) for a, b in itertools.pairwise(offsets.tolist()))
    wanted = [np.repeat(*patterns[k]).tolist() for k in range(len(patterns)) for _ in range(int(patterns.counts[k]))]
    assert found == sorted(wanted)


@settings(max_examples=100, deadline=None)
@given(plans(), st.integers(0, 2**64))
def test_slot_of_knows_where_each_item_is(plan: tuple[np.ndarray, Patterns], seed: int) -> None:
    items, patterns = plan
    item_ids, offsets = assign_ids(items, patterns, seed)
    slots = make_slots(patterns, seed)
    assert pack_offsets(slots).tolist() == offsets.tolist()
    packs, positions = slot_of(slots, items, ranks_of(items.tolist()))
    assert item_ids[offsets[packs] + positions].tolist() == list(range(len(items)))
    some = np.arange(len(items))[::-3]  # a worker's share, in another order
    packs, positions = slot_of(slots, items[some], ranks_of(items.tolist())[some])
    assert item_ids[offsets[packs] + positions].tolist() == some.tolist()


def molecules(packs: int = 4000) -> tuple[np.ndarray, Patterns]:
    """About 10 items a pack, 40 sizes, 60 patterns; items in the order of their sizes: the worst order."""
    rng = np.random.default_rng(1)
    rows = [({int(size): int(rng.integers(1, 5)) for size in rng.choice(40, 4)}, packs // 60) for _ in range(60)]
    patterns = patterns_of(*rows)
    counts = size_counts(patterns)
    return np.repeat(np.arange(len(counts)), counts), patterns


def test_numpy_and_numba_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    items, patterns = molecules()
    rows = Runs(np.arange(len(size_counts(patterns))), size_counts(patterns))
    ranks = ranks_of(items.tolist())
    wanted = *assign_ids(items, patterns, 7), *slot_of(make_slots(patterns, 7), items, ranks)
    monkeypatch.setattr(assign, "numba_is_here", lambda: False)
    found = *assign_ids(items, patterns, 7), *slot_of(make_slots(patterns, 7), items, ranks)
    monkeypatch.setattr(assign, "BLOCK", 1000)  # the size of a block is no part of the result
    for other in (found, (*assign_ids(items, patterns, 7), *found[2:]), (*assign_ids(rows, patterns, 7), *found[2:])):
        for one, same in zip(wanted, other, strict=True):
            assert one.tobytes() == same.tobytes()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=8))
def test_runs_are_the_items_they_stand_for(runs: list[tuple[int, int]]) -> None:
    size_ids, lengths = np.array(runs, dtype=np.int64).reshape(-1, 2).T
    items = np.repeat(size_ids, lengths)
    counts = np.bincount(items)
    patterns = patterns_of(*[({size: 1}, int(counts[size])) for size in np.flatnonzero(counts).tolist()])
    for one, same in zip(assign_ids(items, patterns, 3), assign_ids(Runs(size_ids, lengths), patterns, 3), strict=True):
        assert one.tolist() == same.tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 33, 1000])
def test_each_key_gives_a_permutation_and_all_of_them_together_no_preference(size: int) -> None:
    keys = np.arange(4000, dtype=np.uint64)
    rows = hashing.permutations(np.full(len(keys), size), hashing.mixed(keys))
    for row in rows[:20]:
        assert sorted(hashing.permuted(np.arange(size, dtype=np.uint64), row[None]).tolist()) == list(range(size))
    if size <= 33:
        first = np.bincount(
            hashing.permuted(np.zeros(len(keys), dtype=np.uint64), rows).astype(np.int64), minlength=size
        )
        # 4000 keys over `size` places: each place is hit 4000 / size times, sd below the root of that; allow 5 of them.
        assert np.abs(first - 4000 / size).max() <= 5 * (4000 / size) ** 0.5


def test_the_output_is_in_no_order_of_size() -> None:
    items, patterns = molecules()
    item_ids, offsets = assign_ids(items, patterns, 0)
    # By slot: sizes ascend with the id here, so sorted packs would have sorted ids.
    same_pack = np.ones(len(items) - 1, dtype=bool)
    same_pack[offsets[1:-1] - 1] = False
    rising = (np.diff(item_ids) > 0)[same_pack].mean()
    assert 0.48 < rising < 0.52  # 30,000 pairs: sd of a fair coin is 0.003
    # By pack: neighbours share their pattern as often as chance, 1 in 60 (4,000 pairs: sd 0.002).
    kinds = np.array([hash(tuple(sorted(items[item_ids[a:b]].tolist()))) for a, b in itertools.pairwise(offsets)])
    assert (kinds[1:] == kinds[:-1]).mean() < 0.03
    # By rank: the first quarter of a size's items lies in packs from all over the output.
    pack_of_item = np.empty(len(items), dtype=np.int64)
    pack_of_item[item_ids] = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    quarter = pack_of_item[: np.flatnonzero(np.diff(items))[0] // 4]
    assert 0.4 < quarter.mean() / (len(offsets) - 1) < 0.6


def test_the_seed_decides() -> None:
    items, patterns = molecules()
    one, again, other = (assign_ids(items, patterns, seed)[0] for seed in (5, 5, 6))
    assert one.tobytes() == again.tobytes()
    assert (one == other).mean() < 0.01


def test_counts_of_a_million_million_cost_nothing() -> None:
    # 2^40 packs of {0: 3, 1: 1}, one pack of 2^40 items of size 2, and 2^20 packs of {0: 1}.
    patterns = patterns_of(({0: 3, 1: 1}, 2**40), ({2: 2**40}, 1), ({0: 1}, 2**20))
    slots = make_slots(patterns, 11)
    assert slots.size_counts.tolist() == [3 * 2**40 + 2**20, 2**40, 2**40]
    ranks = np.concatenate([np.arange(5000), 3 * 2**40 + 2**20 - 1 - np.arange(5000)])
    packs, positions = slot_of(slots, np.zeros(10_000, dtype=np.int64), ranks)
    assert len(set(zip(packs.tolist(), positions.tolist(), strict=True))) == 10_000
    assert packs.min() >= 0 and packs.max() < 2**40 + 1 + 2**20
    assert set(positions.tolist()) == {0, 1, 2, 3}
    packs, positions = slot_of(slots, np.full(4, 2), np.array([0, 1, 2, 2**40 - 1]))
    assert len(set(packs.tolist())) == 1 and len(set(positions.tolist())) == 4


def test_nothing_to_assign() -> None:
    for items in (np.empty(0, dtype=np.int64), Runs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))):
        item_ids, offsets = assign_ids(items, patterns_of(), 0)
        assert item_ids.tolist() == [] and offsets.tolist() == [0]


def test_other_items_than_the_patterns_hold_are_refused() -> None:
    patterns = patterns_of(({0: 2, 1: 1}, 3))  # 6 of size 0, 3 of size 1
    with pytest.raises(PlanError, match=r"offer 3 slots for size 1, but there are 4 items of it \(1 sizes differ\)"):
        assign_ids(np.repeat([0, 1], [6, 4]), patterns, 0)
    with pytest.raises(PlanError, match="offer 0 slots for size 2, but there are 5 items of it"):
        assign_ids(Runs(np.array([0, 1, 2]), np.array([6, 3, 5])), patterns, 0)
    slots = make_slots(patterns, 0)
    for size, rank in ((1, 3), (2, 0), (-1, 0), (0, -1)):
        with pytest.raises(PlanError, match=f"graph 1 of those asked for has rank {rank} in size {size}"):
            slot_of(slots, np.array([0, size]), np.array([5, rank]))


def test_memory_stays_below_40_bytes_an_item() -> None:
    items, patterns = molecules(packs=120_000)
    items = items.astype(np.int32)
    assign_ids(items[:0], patterns_of(), 0)
    tracemalloc.start()
    try:
        assign_ids(items, patterns, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(items)


@given(st.integers(1, 5000), st.integers(-(2**70), 2**70))
def test_shuffled_is_a_permutation_of_which_any_part_can_be_had(size: int, seed: int) -> None:
    whole = hashing.shuffled(np.arange(size), size, seed)
    assert sorted(whole.tolist()) == list(range(size))
    part = np.arange(size)[:: max(1, size // 7)]
    assert hashing.shuffled(part, size, seed).tolist() == whole[part].tolist()
