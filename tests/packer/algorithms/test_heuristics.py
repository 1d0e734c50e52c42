"""The greedy algorithms: each item exactly once, every pack within capacity, and what the written rules say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packings import check_patterns

from packer.algorithms import first_fit as first_fit_module
from packer.algorithms import in_order
from packer.algorithms import stream as stream_module
from packer.algorithms.best_fit_decreasing import best_fit_decreasing
from packer.algorithms.budget import Budget
from packer.algorithms.first_fit import first_fit
from packer.algorithms.first_fit_decreasing import first_fit_decreasing
from packer.algorithms.histogram import histogram
from packer.algorithms.in_order import pack_in_order
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.items import Items
from packer.algorithms.optimal.rivals import RIVAL_SECONDS, choose_rivals
from packer.algorithms.pad_to_max import items_per_pack, pad_to_max
from packer.algorithms.patterns import merged
from packer.algorithms.protocol import Algorithm
from packer.algorithms.shares import largest_first, shares
from packer.algorithms.stream import stream

SIZE_WISE = [first_fit_decreasing, best_fit_decreasing, histogram]
Pack = list[int]


def instance_of(need: list[list[int]], capacity: list[int], count: list[int]) -> Instance:
    rows = np.array(need, dtype=np.int64).reshape(-1, len(capacity))
    return Instance(rows, np.array(capacity, dtype=np.int64), np.array(count, dtype=np.int64))


@st.composite
def instances(draw: st.DrawFn, largest_count: int = 12) -> Instance:
    """Tiny instances in 1 to 4 dimensions, needs of zero and sizes as large as a pack among them."""
    capacity = draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    row = st.tuples(*[st.integers(0, limit) for limit in capacity])
    need = draw(st.lists(row, min_size=0, max_size=7, unique=True))
    count = draw(st.lists(st.integers(1, largest_count), min_size=len(need), max_size=len(need)))
    return instance_of([list(size) for size in need], capacity, count)


@st.composite
def item_lists(draw: st.DrawFn) -> tuple[np.ndarray, Instance]:
    instance = draw(instances())
    items = np.repeat(np.arange(len(instance.need)), instance.count)
    return np.array(draw(st.permutations(items.tolist())), dtype=np.int64), instance


def packs_of(patterns: Patterns) -> list[Pack]:
    """Every pack as its sorted size ids, the packs sorted."""
    packs: list[Pack] = []
    for pattern, number in enumerate(patterns.counts.tolist()):
        packs += [np.repeat(*patterns[pattern]).tolist()] * number
    return sorted(packs)


def by_size(algorithm: Algorithm, instance: Instance) -> Patterns:
    return algorithm(Items.by_size(instance), Budget()).patterns


def by_item(algorithm: Algorithm, size_of_item: np.ndarray, need: np.ndarray, capacity: np.ndarray) -> Any:
    """(item_ids, pack_offsets)."""
    instance = Instance(need, capacity, np.bincount(size_of_item, minlength=len(need)))
    return algorithm(Items(instance, size_of_item), Budget()).by_item


def offsets_to_packs(items: list[int], offsets: np.ndarray) -> list[Pack]:
    bounds = offsets.tolist()
    return [items[begin:end] for begin, end in itertools.pairwise(bounds)]


def largest_first_oracle(instance: Instance) -> list[int]:
    """Items, largest first, by the rule in the docstring of `first_fit_decreasing`, in Python integers."""
    capacity = instance.capacity.tolist()

    def key(size_id: int) -> tuple[int, ...]:
        row = instance.need[size_id].tolist()
        share = [(need << 24) // max(limit, 1) for need, limit in zip(row, capacity, strict=True)]
        return (-max(share), -sum(share), *[-need for need in row])

    order = sorted(range(len(instance.need)), key=key)
    return [size_id for size_id in order for _ in range(int(instance.count[size_id]))]


def item_by_item(items: list[int], instance: Instance, score: Callable[[list[int]], Any]) -> list[Pack]:
    """Each item into the pack with the lowest score of the room it leaves, ties to the first pack; else a new pack."""
    packs: list[Pack] = []
    rooms: list[list[int]] = []
    for item in items:
        row = instance.need[item].tolist()
        after = [[have - need for have, need in zip(room, row, strict=True)] for room in rooms]
        able = [pack for pack in range(len(packs)) if min(after[pack]) >= 0]
        if able:
            pack = min(able, key=lambda number: score(after[number]))  # min takes the first of equals
            packs[pack].append(item)
            rooms[pack] = after[pack]
        else:
            packs.append([item])
            rooms.append([have - need for have, need in zip(instance.capacity.tolist(), row, strict=True)])
    return packs


def sorted_packs(packs: list[Pack]) -> list[Pack]:
    return sorted(sorted(pack) for pack in packs)


# --- item by item -----------------------------------------------------------------------------------------------------


def test_stream_by_hand() -> None:
    # capacity (10, 4). Sizes A (6, 1), B (4, 1), C (1, 3). A B | C A would be 6+4+1 > 10: C opens the second pack with
    # 1+6 = 7 <= 10 and 3+1 = 4 <= 4; the next B has 7+4 > 10: third pack; C then 4+1 <= 10 and 1+3 <= 4.
    need, capacity = np.array([[6, 1], [4, 1], [1, 3]]), np.array([10, 4])
    item_ids, offsets = by_item(stream, np.array([0, 1, 2, 0, 1, 2]), need, capacity)
    assert item_ids.tolist() == list(range(6))
    assert offsets.tolist() == [0, 2, 4, 6]


def test_first_fit_by_hand() -> None:
    # capacity 10, items 6 7 4 3 5: 6 | 7 opens a second pack | 4 joins 6 (10) | 3 joins 7 (10) | 5 opens a third.
    need = np.array([[6], [7], [4], [3], [5]])
    item_ids, offsets = by_item(first_fit, np.arange(5), need, np.array([10]))
    assert item_ids.tolist() == [0, 2, 1, 3, 4]
    assert offsets.tolist() == [0, 2, 4, 5]


def test_pad_to_max_by_hand() -> None:
    # capacity (10, 9), items (4, 1) (3, 1) (3, 8) (1, 1). In the first dimension the largest three take 4+3+3 = 10,
    # four take 11; in the second the largest two take 8+1 = 9, three take 10. So two in each pack.
    need = np.array([[4, 1], [3, 1], [3, 8], [1, 1]])
    assert items_per_pack(need, np.array([10, 9]), np.ones(4, dtype=np.int64)) == 2
    assert by_item(pad_to_max, np.array([3, 2, 1, 0, 3]), need, np.array([10, 9]))[1].tolist() == [0, 2, 4, 5]


def test_pad_to_max_fills_the_limit_of_graphs_where_these_packs_fit() -> None:
    # Capacity (10, 3). The largest three take 6 + 5 + 5, so only one always fits; as they follow each other, three do:
    # 6+1+2, 5+1+4, 5+5.
    need, capacity = np.array([[1, 1], [2, 1], [4, 1], [5, 1], [6, 1]]), np.array([10, 3])
    items = np.array([4, 0, 1, 3, 0, 2, 3, 3])
    assert items_per_pack(need, capacity, np.bincount(items)) == 1
    assert by_item(pad_to_max, items, need, capacity)[1].tolist() == [0, 3, 6, 8]
    # One order further, 6+5 is too much.
    assert by_item(pad_to_max, items[[3, 0, 1, 2, 4, 5, 6, 7]], need, capacity)[1].tolist() == list(range(9))
    # A last pack of few large items counts as well: 6 + 5.
    assert by_item(pad_to_max, np.append(items[:6], [4, 3]), need, capacity)[1].tolist() == list(range(9))
    # Sums that int64 would not hold are left alone.
    huge = np.array([[2**52, 1]])
    assert by_item(pad_to_max, np.zeros(3, int), huge, np.array([2**53, 2**52]))[1].tolist() == [0, 2, 3]


@settings(deadline=None)
@given(instances(largest_count=3))
def test_pad_to_max_takes_as_many_as_always_fit(instance: Instance) -> None:
    items = np.repeat(np.arange(len(instance.need)), instance.count)
    if not len(items):
        assert items_per_pack(instance.need, instance.capacity, instance.count) == 1
        return

    def always_fits(number: int) -> bool:
        largest = np.sort(instance.need[items], axis=0)[::-1][:number].sum(axis=0)
        return bool((largest <= instance.capacity).all())

    most = items_per_pack(instance.need, instance.capacity, instance.count)
    assert always_fits(most)
    assert most == len(items) or not always_fits(most + 1)


@settings(max_examples=200, deadline=None)
@given(item_lists())
def test_first_fit_equals_the_definition(case: tuple[np.ndarray, Instance]) -> None:
    items, instance = case
    item_ids, offsets = by_item(first_fit, items, instance.need, instance.capacity)
    assert sorted(item_ids.tolist()) == list(range(len(items)))
    found = offsets_to_packs(items[item_ids].tolist(), offsets)
    assert found == item_by_item(items.tolist(), instance, lambda room: 0)
    for begin, end in itertools.pairwise(offsets.tolist()):
        assert item_ids[begin:end].tolist() == sorted(item_ids[begin:end].tolist())  # in the order in which they came


@settings(max_examples=200, deadline=None)
@given(item_lists())
def test_stream_equals_the_definition(case: tuple[np.ndarray, Instance]) -> None:
    items, instance = case
    packs: list[Pack] = []
    for item in items.tolist():
        if packs and (instance.need[[*packs[-1], item]].sum(axis=0) <= instance.capacity).all():
            packs[-1].append(item)
        else:
            packs.append([item])
    item_ids, offsets = by_item(stream, items, instance.need, instance.capacity)
    assert item_ids.tolist() == list(range(len(items)))
    assert offsets_to_packs(items.tolist(), offsets) == packs
    again = by_item(stream, items.astype(np.int32), instance.need, instance.capacity)
    assert again[1].tolist() == offsets.tolist()


@settings(deadline=None)
@given(instance=instances(), best=st.booleans())
def test_item_by_item_or_in_groups_is_the_same(instance: Instance, best: bool) -> None:
    order = largest_first(instance.need, shares(instance.need, instance.capacity).sum(axis=1))
    one_by_one = in_order._one_by_one(instance, order, best, Budget())
    in_groups = pack_in_order(instance, order, best=best, budget=Budget())
    assert [part.tolist() for part in astuple(one_by_one)] == [part.tolist() for part in astuple(in_groups)]


def test_many_distinct_sizes_are_placed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    need = np.unique(np.random.default_rng(0).integers(1, 10**6, (8000, 2)), axis=0)
    instance = Instance(need, np.array([3 * 10**6, 3 * 10**6]), np.ones(len(need), np.int64))
    monkeypatch.setattr(in_order, "fill_groups", None)
    for algorithm in (first_fit_decreasing, best_fit_decreasing):
        check_patterns(instance, by_size(algorithm, instance))


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=4), st.integers(0, 3)), max_size=12))
def test_merged_equals_a_dict(rows: list[tuple[list[int], int]]) -> None:
    expected: dict[tuple[int, ...], int] = {}
    for row, number in rows:
        if number:
            expected[tuple(sorted(row))] = expected.get(tuple(sorted(row)), 0) + number
    found = [np.unique(np.array(row, dtype=np.int64), return_counts=True) for row, _ in rows]
    empty = np.zeros(0, np.int64)
    result = merged(
        np.cumsum([0] + [len(ids) for ids, _ in found]),
        np.concatenate([*(ids for ids, _ in found), empty]),
        np.concatenate([*(times for _, times in found), empty]),
        np.array([number for _, number in rows], dtype=np.int64),
    )
    held = [tuple(np.repeat(*result[p]).tolist()) for p in range(len(result))]
    assert list(zip(held, result.counts.tolist(), strict=True)) == list(expected.items())


def test_without_numba_the_packs_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    need, capacity = rng.integers(0, 30, (20, 3)), np.array([60, 70, 80])
    items = rng.integers(0, 20, 400)
    compiled = *by_item(stream, items, need, capacity), *by_item(first_fit, items, need, capacity)
    for module, name in ((stream_module, "_next_fit"), (first_fit_module, "_insert")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    plain = *by_item(stream, items, need, capacity), *by_item(first_fit, items, need, capacity)
    for one, other in zip(compiled, plain, strict=True):
        assert one.tolist() == other.tolist()


# --- by distinct sizes ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(instances())
def test_first_fit_decreasing_equals_item_by_item(instance: Instance) -> None:
    expected = item_by_item(largest_first_oracle(instance), instance, lambda room: 0)
    assert packs_of(by_size(first_fit_decreasing, instance)) == sorted_packs(expected)


@settings(max_examples=200, deadline=None)
@given(instances())
def test_best_fit_decreasing_equals_item_by_item(instance: Instance) -> None:
    capacity = instance.capacity.tolist()

    def room_left(room: list[int]) -> int:
        return sum((have << 24) // max(limit, 1) for have, limit in zip(room, capacity, strict=True))

    expected = item_by_item(largest_first_oracle(instance), instance, room_left)
    assert packs_of(by_size(best_fit_decreasing, instance)) == sorted_packs(expected)


@settings(deadline=None)
@given(instances())
def test_histogram_is_never_worse_than_the_published_method(instance: Instance) -> None:
    def product(row: list[int]) -> int:
        return int(np.prod([value + 1 for value in row], dtype=np.int64))

    def key(size_id: int) -> tuple[int, ...]:
        row = instance.need[size_id].tolist()
        share = [(need << 24) // max(limit, 1) for need, limit in zip(row, instance.capacity.tolist(), strict=True)]
        return (-product(row), -sum(share), *[-need for need in row])

    order = sorted(range(len(instance.need)), key=key)
    items = [size_id for size_id in order for _ in range(int(instance.count[size_id]))]
    published = item_by_item(items, instance, product)
    plan = by_size(histogram, instance)
    assert plan.num_packs <= len(published)
    if plan.num_packs == len(published):  # on a tie the published method's plan is the one returned
        assert packs_of(plan) == sorted_packs(published)


def test_first_and_best_fit_decreasing_by_hand() -> None:
    # capacity 10; falling: 7 6 4 3 3. 7 | 6 | 4 fits only the second (10). 3: first fit and best fit both take the
    # first pack (10). 3: a third pack.
    instance = instance_of([[3], [4], [6], [7]], [10], [2, 1, 1, 1])
    for algorithm in SIZE_WISE:
        assert packs_of(by_size(algorithm, instance)) == [[0], [0, 3], [1, 2]]


def test_best_fit_prefers_the_fuller_pack() -> None:
    # capacity (10, 10); falling by the largest share: (7, 0) (6, 5) (3, 0). The first two leave (3, 10) and (4, 5).
    # (3, 0): first fit takes the first pack; best fit compares (0, 10), 10/10 left, with (1, 5), 6/10: the second.
    instance = instance_of([[6, 5], [7, 0], [3, 0]], [10, 10], [1, 1, 1])
    assert packs_of(by_size(first_fit_decreasing, instance)) == [[0], [1, 2]]
    assert packs_of(by_size(best_fit_decreasing, instance)) == [[0, 2], [1]]


def test_histogram_balances_two_dimensions() -> None:
    # capacity (12, 4): 6 of (4, 1), 10 of (1, 1). Longest first, three (4, 1) fill 12 and leave a slot free: 2 packs,
    # then 10 / 4 in 3 packs: 5. By shape: (4, 1) opens, room (8, 3); (4, 1) again, room (4, 2), of which the shares are
    # (1/3, 1/2): (4, 1) = (1/3, 1/4) scores (1/9 + 1/8)^2 / (1/9 + 1/16) = 0.32, (1, 1) = (1/12, 1/4) scores
    # (1/36 + 1/8)^2 / (1/144 + 1/16) = 0.34: two (1, 1). Three such packs leave 4 (1, 1) for a fourth.
    instance = instance_of([[4, 1], [1, 1]], [12, 4], [6, 10])
    assert by_size(first_fit_decreasing, instance).num_packs == 5
    assert packs_of(by_size(histogram, instance)) == [[0, 0, 1, 1]] * 3 + [[1, 1, 1, 1]]


@pytest.mark.parametrize("algorithm", SIZE_WISE)
def test_the_published_hydronet_histogram(shared_data: Any, algorithm: Algorithm) -> None:
    """2,089,809 packs at 153 nodes is what the authors of the histogram method print for this data set."""
    path = shared_data / "histograms" / "hydronet_4.46M_nodes.csv"
    nodes, count = np.loadtxt(path, delimiter=",", skiprows=2, dtype=np.int64).T
    instance = Instance(nodes[:, None], np.array([153]), count)
    patterns = by_size(algorithm, instance)
    check_patterns(instance, patterns)
    assert patterns.num_packs == 2_089_809
    assert len(patterns) < 4 * len(nodes)  # groups, not packs, are what costs time


def test_shares_are_exact_and_survive_huge_capacities() -> None:
    # 1/3 of 2^24 = 5592405.33; 2^61 of 2^62 is one half of 2^24, although the product of both has 85 bits.
    assert shares(np.array([[1, 2**61, 0]]), np.array([3, 2**62, 0])).tolist() == [[5592405, 2**23, 0]]


def test_merged_joins_equal_rows_and_drops_unused_ones() -> None:
    # rows: {0: 2}, {1: 1}, {0: 2}, {0: 1}, used 3, 0, 4 and 1 times.
    result = merged(np.array([0, 1, 2, 3, 4]), np.array([0, 1, 0, 0]), np.array([2, 1, 2, 1]), np.array([3, 0, 4, 1]))
    assert packs_of(result) == sorted([[0, 0]] * 7 + [[0]])
    assert len(result) == 2


def test_rivals_of_the_solver_take_no_more_than_their_share_of_the_time() -> None:
    need = np.random.default_rng(0).integers(1, 400, (20_000, 3))
    items = Items.from_need(need, np.array([900, 1000, 1100]), np.ones(len(need), dtype=np.int64), np.arange(len(need)))
    some, many = choose_rivals(items, 0.001), choose_rivals(items, 1000.0)
    assert sum(some.values()) <= RIVAL_SECONDS < sum(many.values())
    assert set(some) < set(many) == {"stream", "first-fit", "first-fit-decreasing", "best-fit-decreasing", "histogram"}
