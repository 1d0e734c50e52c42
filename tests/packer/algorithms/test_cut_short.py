"""Greedy algorithms whose budget ends: the plan is whole and valid, says so, and is the algorithm's up to there."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packings import check_patterns

from packer import GraphSizes, PackLimits, make_plan
from packer.algorithms import best_fit as best_fit_module
from packer.algorithms import exact, in_order
from packer.algorithms import first_fit as first_fit_module
from packer.algorithms.best_fit import best_fit
from packer.algorithms.best_fit_decreasing import best_fit_decreasing
from packer.algorithms.budget import Budget
from packer.algorithms.first_fit import first_fit
from packer.algorithms.first_fit_decreasing import first_fit_decreasing
from packer.algorithms.histogram import histogram
from packer.algorithms.instance import Instance
from packer.algorithms.items import Items
from packer.algorithms.jit import NotLoaded, kernel, nothing_loaded, numba_is_here
from packer.algorithms.protocol import Algorithm
from packer.algorithms.registry import Registered
from packer.plan import packing


def instance_of(seed: int, sizes: int = 60) -> Instance:
    random = np.random.default_rng(seed)
    need = np.unique(random.integers(0, 50, (sizes, 2)), axis=0)
    need = np.column_stack([need, np.ones(len(need), np.int64)])
    return Instance(need, np.array([99, 120, 9]), random.integers(1, 5, len(need)))


def pack_of_item(algorithm: Algorithm, size_of_item: np.ndarray, instance: Instance, budget: Budget) -> np.ndarray:
    """Packs as they were opened: integers [items]."""
    given = algorithm(Items(instance, size_of_item), budget).by_item
    assert given is not None
    item_ids, offsets = given
    packs = np.empty(len(item_ids), np.int64)
    packs[item_ids] = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return packs


@pytest.mark.parametrize(("algorithm", "module"), [(best_fit, best_fit_module), (first_fit, first_fit_module)])
def test_items_placed_in_time_stay_and_the_others_go_by_next_fit(
    algorithm: Algorithm, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE_STEPS", 40)
    for seed in range(20):
        instance = instance_of(seed)
        items = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(instance.need)), instance.count))
        free = Budget()
        whole = pack_of_item(algorithm, items, instance, free)
        assert not free.cut_short and free.work > 0
        for share in (0.0, 0.3, 0.7):
            short, again = Budget(share * free.work), Budget(share * free.work)
            packs = pack_of_item(algorithm, items, instance, short)
            assert short.cut_short
            assert (pack_of_item(algorithm, items, instance, again) == packs).all()  # work, not the clock, ended it
            load = np.zeros((packs.max() + 1, 3), np.int64)
            np.add.at(load, packs, instance.need[items])
            assert (load <= instance.capacity).all() and load[:, 2].min() >= 1
            same = int(np.argmax(np.append(packs != whole, True)))
            assert share == 0 or same >= 0.1 * len(items)


@pytest.mark.parametrize(("rest", "packs"), [([3, 4, 2], [0, 1, 2]), ([4, 3, 2], [1, 2, 2]), ([5, 3, 2], [2, 2, 2])])
def test_the_rest_fills_open_packs_before_new_ones(
    rest: list[int], packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Best fit has opened packs of 7 and 6 out of 10, one step and two, when its work is over: room for 3 and for 4.
    # What does not fit the pack at hand closes it.
    monkeypatch.setattr(best_fit_module, "SLICE_STEPS", 2)
    budget = Budget(1e-12, math.inf)
    need = np.array([7, 6, *rest])[:, None]
    instance = Instance(need, np.array([10]), np.ones(5, np.int64))
    assert pack_of_item(best_fit, np.arange(5), instance, budget).tolist() == [0, 1, *packs]
    assert budget.cut_short


@pytest.mark.parametrize("by_item", [False, True])
@pytest.mark.parametrize("algorithm", [first_fit_decreasing, best_fit_decreasing, histogram])
@given(seed=st.integers(0, 999), share=st.floats(0, 1.2))
@settings(max_examples=15, deadline=None)
def test_a_plan_cut_anywhere_is_whole(algorithm: Algorithm, by_item: bool, seed: int, share: float) -> None:
    instance = instance_of(seed, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_order, "_by_item", lambda *_: by_item)
        patch.setattr(best_fit_module, "SLICE_STEPS", 40)
        patch.setattr(first_fit_module, "SLICE_STEPS", 40)
        free, items = Budget(), Items.by_size(instance)
        check_patterns(instance, algorithm(items, free).patterns)
        assert not free.cut_short
        short = Budget(share * free.work)
        check_patterns(instance, algorithm(items, short).patterns)
        assert not short.cut_short or short.spent


def test_a_heuristic_that_never_looks_at_the_clock_does_not_hold_up_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(packing, "COLD_SECONDS", 0.0)
    monkeypatch.setattr(Registered, "load", lambda _: lambda *_: done.wait())
    plan = make_plan(
        GraphSizes(np.arange(1, 9), np.arange(1, 9)), PackLimits(12, 12, 4, "none"), "stream", time_limit=0
    )
    done.set()
    assert plan.stopped_by == "time" and sorted(plan.graph_ids.tolist()) == list(range(8))


@pytest.mark.skipif(not numba_is_here(), reason="needs numba")
def test_nothing_is_loaded_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = kernel(lambda: 1)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    with nothing_loaded(), pytest.raises(NotLoaded):
        fresh()
    assert "numba" not in sys.modules


def test_exact_numbers_on_both_sides_of_what_int64_holds() -> None:
    large = np.array([2**52, 2**52 + 1])
    assert exact.total(large, np.array([3, 5])) == 3 * 2**52 + 5 * (2**52 + 1)
    assert exact.total(large, np.array([2**40, 1])) == 2**92 + 2**52 + 1
    assert exact.total(large[:0], large[:0]) == 0
    assert exact.products_below(np.array([2, 3]), 3, np.array([7, 10]), 1)
    assert not exact.products_below(np.array([2, 3]), 3, np.array([7, 9]), 1)
    assert exact.products_below(large, 2**52, large + 1, 2**52)
    assert not exact.products_below(large, 2**52, large, 2**52)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8), st.booleans())
def test_distinct_rows_are_those_of_numpy(rows: list[tuple[int, int]], ordered: bool) -> None:
    table = np.array(sorted(set(rows)) if ordered else rows, dtype=np.int64).reshape(-1, 2)
    distinct, place = exact.distinct_rows(table)
    assert (distinct == np.unique(table, axis=0)).all() and (distinct[place] == table).all()
