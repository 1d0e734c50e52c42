"""The time limit: no step keeps the caller waiting, a named limit is used, heuristics end early. Nothing is timed."""

import math
import subprocess
import sys
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from packer import GraphSizes, PackLimits, lower_bound, make_plan, suggest_limits
from packer.algorithms import histogram as histogram_module
from packer.algorithms.budget import DEFAULT_WORK, Budget
from packer.algorithms.histogram import histogram
from packer.algorithms.instance import Instance
from packer.algorithms.items import Items
from packer.algorithms.optimal import solver
from packer.algorithms.quick import _by_item, _by_size
from packer.certificate import check_certificate
from packer.errors import AlgorithmError
from packer.interrupt import Interrupt
from packer.plan import packing

SIZES = GraphSizes(np.arange(1, 9), np.arange(1, 9))
LIMITS = PackLimits(12, 12, 4, "none")


def test_a_step_that_never_looks_at_the_clock_does_not_hold_up_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    class Stuck:
        def __init__(self, *_: object) -> None: ...

        def run(self) -> None:
            done.wait()

        def best(self) -> None:
            return None

    monkeypatch.setattr(solver, "Solver", Stuck)
    monkeypatch.setattr(packing, "COLD_SECONDS", 0.0)
    plan = make_plan(SIZES, LIMITS, time_limit=0.01)  # ends though nothing sets `done`
    done.set()
    assert plan.stopped_by == "time"
    assert sorted(plan.graph_ids.tolist()) == list(range(8))
    instance = plan.packing.items.instance
    assert check_certificate(plan.certificate, instance.need, instance.capacity, instance.count) == plan.lower_bound


def test_what_is_late_is_told_to_end() -> None:
    done = threading.Event()
    interrupt = Interrupt()
    assert interrupt.run_until(done.wait, 0.0, lambda: None) is None
    assert interrupt.late and Budget(1.0, math.inf, interrupt=interrupt).spent
    done.set()


def test_whoever_names_a_limit_wants_it_used() -> None:
    assert packing._limits(None, None) == (60.0, DEFAULT_WORK)
    assert packing._limits(300.0, None) == (300.0, math.inf)
    assert packing._limits(None, 100.0) == (math.inf, 100.0)
    assert packing._limits(5.0, 100.0) == (5.0, 100.0)


@pytest.mark.parametrize("limit", [math.nan, -1.0])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(AlgorithmError, match="time_limit must be seconds, from 0 to 1e9, or None for no limit; got"):
        make_plan(SIZES, LIMITS, time_limit=limit)


@pytest.mark.parametrize("limit", [np.float32(1.5), np.int64(2), Fraction(3, 2)])
def test_numbers_of_any_library_are_taken(limit: Any) -> None:
    seed = np.int64(3)
    plan = make_plan(SIZES, LIMITS, seed=seed, time_limit=limit, work_limit=limit)
    assert plan.status == "optimal" and type(plan.packing.seed) is int
    assert lower_bound(SIZES, LIMITS, seed=seed, time_limit=limit).bound == plan.lower_bound
    assert suggest_limits(SIZES, seed=seed, time_limit=limit, work_limit=limit).front
    with pytest.raises(AlgorithmError, match="work_limit must be seconds here"):
        suggest_limits(SIZES, work_limit=None)


def test_histogram_ends_when_its_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    need = np.unique(np.random.default_rng(0).integers(1, 60, (300, 2)), axis=0)
    instance = Instance(need, np.array([200, 200]), np.full(len(need), 3))
    items, free = Items.by_size(instance), Budget()
    assert histogram(items, free).num_packs and not free.cut_short
    monkeypatch.setattr(histogram_module, "MOST_WORK", 0.03)
    first, second = (histogram(items, Budget()) for _ in range(2))
    short = Budget()
    plan = histogram(items, short).patterns
    assert short.cut_short and plan.num_packs == first.num_packs == second.num_packs  # work, not the clock, ended it
    held = np.bincount(plan.size_ids, plan.multiplicity * np.repeat(plan.counts, np.diff(plan.ptr)), len(need))
    assert (held == instance.count).all()


def test_the_quick_plan_is_the_same_by_item_and_by_size() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        need = np.unique(random.integers(1, 9, (12, 2)), axis=0)
        instance = Instance(need, np.array([9, 11]), random.integers(1, 30, len(need)))
        order = np.argsort(-need.sum(axis=1), kind="stable")
        by_item, by_size = _by_item(instance, order), _by_size(instance, order)
        assert by_item.num_packs == by_size.num_packs
        for plan in (by_item, by_size):
            held = np.bincount(plan.size_ids, plan.multiplicity * np.repeat(plan.counts, np.diff(plan.ptr)), len(need))
            assert (held == instance.count).all()
            assert all((plan[p][1] @ need[plan[p][0]] <= instance.capacity).all() for p in range(len(plan)))


def test_nothing_is_loaded_for_a_plan_in_no_time() -> None:
    code = (
        "import sys, numpy as np; from packer import GraphSizes, PackLimits, make_plan\n"
        "make_plan(GraphSizes(np.arange(1, 9), np.arange(1, 9)), PackLimits(12, 12, 4, 'none'), time_limit=0.0)\n"
        "print([name for name in ('numba', 'ortools', 'numpy.ma') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
