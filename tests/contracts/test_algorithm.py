"""What every algorithm of the registry keeps: `packer.algorithms.protocol.Algorithm`.

Each item in exactly one pack within capacity, the same plan again, a bound that its certificate proves, and a whole
plan however little time or work there is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packings import check_patterns

from packer import GraphSizes, PackLimits, make_plan
from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance
from packer.algorithms.items import Items
from packer.algorithms.protocol import Options
from packer.algorithms.registry import ALGORITHMS
from packer.algorithms.solution import Solution
from packer.certificate import check_certificate
from packer.limits.fit import need_of

SEES_SIZES = [name for name, entry in ALGORITHMS.items() if not entry.sees_order]
GREEDY = [name for name, entry in ALGORITHMS.items() if entry.looks_at_the_clock and not entry.anytime]


def instance_of(need: list[list[int]], capacity: list[int], count: list[int]) -> Instance:
    rows = np.array(need, dtype=np.int64).reshape(-1, len(capacity))
    return Instance(rows, np.array(capacity, dtype=np.int64), np.array(count, dtype=np.int64))


@st.composite
def all_items(draw: st.DrawFn) -> Items:
    """Tiny instances in 1 to 4 dimensions, needs of zero and sizes as large as a pack among them, in any order."""
    capacity = draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    row = st.tuples(*[st.integers(0, limit) for limit in capacity])
    need = draw(st.lists(row, min_size=0, max_size=7, unique=True))
    count = draw(st.lists(st.integers(1, 12), min_size=len(need), max_size=len(need)))
    instance = instance_of([list(size) for size in need], capacity, count)
    if draw(st.booleans()):
        return Items.by_size(instance)
    rows = np.repeat(np.arange(len(need), dtype=np.int32), instance.count)
    return Items(instance, np.array(draw(st.permutations(rows.tolist())), dtype=np.int32))


def pack(name: str, items: Items, budget: Budget | None = None, options: Options | None = None) -> Solution:
    """So little work that `optimal` is quick too; heuristics on tiny instances need less."""
    return ALGORITHMS[name].load()(items, budget or Budget(0.02), options or Options(seed=5))


def check(items: Items, solution: Solution) -> None:
    """The form and the promises of a Solution."""
    instance = items.instance
    assert (solution.by_size is None) != (solution.by_item is None)
    check_patterns(instance, solution.patterns)
    assert all(getattr(solution.patterns, part).dtype == np.int64 for part in ("ptr", "size_ids", "counts"))
    assert solution.num_packs == solution.patterns.num_packs
    item_ids, offsets = solution.assigned(3)
    assert item_ids.dtype == offsets.dtype == np.int64
    assert sorted(item_ids.tolist()) == list(range(instance.num_items))
    assert offsets[0] == 0 and offsets[-1] == instance.num_items and (np.diff(offsets) > 0).all()
    size_of_item = items.size_of_item()
    if len(item_ids):
        held = np.add.reduceat(instance.need[size_of_item[item_ids]], offsets[:-1], axis=0)
        assert (held <= instance.capacity).all()
    bound = check_certificate(solution.certificate, instance.need, instance.capacity, instance.count)
    assert bound == solution.certificate.bound <= solution.num_packs
    assert (solution.status == "optimal") == (bound == solution.num_packs)
    assert solution.stopped_by in ("proof", "done", "work", "time")


def plain(solution: Solution) -> list[list[int]]:
    patterns = solution.patterns
    parts = (patterns.ptr, patterns.size_ids, patterns.multiplicity, patterns.counts, *solution.assigned(1))
    return [part.tolist() for part in parts]


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(deadline=None, max_examples=25)
@given(items=all_items())
def test_each_item_once_within_capacity_and_repeatable(name: str, items: Items) -> None:
    solution = pack(name, items)
    check(items, solution)
    assert plain(pack(name, items)) == plain(solution)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_what_is_said_to_sees_the_order(name: str) -> None:
    random = np.random.default_rng(2)
    instance = instance_of([[3, 1], [7, 4], [5, 1], [2, 6]], [17, 13], [40, 30, 20, 25])
    in_order = Items.by_size(instance)
    shuffled = Items(instance, random.permutation(in_order.size_of_item()))
    # `optimal` may take the plan of a rival that does, so there is work enough here to prove that it need not.
    one, other = (pack(name, items, Budget(5.0)) for items in (in_order, shuffled))
    assert (one.by_item is not None) == ALGORITHMS[name].sees_order
    assert (plain(one)[:4] == plain(other)[:4]) == (not ALGORITHMS[name].sees_order)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_to_pack(name: str) -> None:
    items = Items.by_size(instance_of([], [10, 3], []))
    solution = pack(name, items)
    check(items, solution)
    assert solution.num_packs == len(solution.patterns) == 0
    assert solution.patterns.ptr.tolist() == [0]


@pytest.mark.parametrize("name", SEES_SIZES)
def test_needs_of_zero_and_huge_counts_take_no_time(name: str) -> None:
    # 2^40 items without need fit one pack; 2^40 of (5, 1) go two in a pack of (10, 3). No array of items is made.
    instance = instance_of([[0, 0], [5, 1]], [10, 3], [2**40, 2**40])
    solution = pack(name, Items.by_size(instance))
    check_patterns(instance, solution.patterns)
    assert solution.num_packs == 2**39
    tiny = pack(name, Items.by_size(instance_of([[0]], [0], [3]))).patterns
    assert (tiny.size_ids.tolist(), tiny.multiplicity.tolist(), tiny.counts.tolist()) == ([0], [3], [1])


def some_items(seed: int, sizes: int = 60) -> Items:
    random = np.random.default_rng(seed)
    need = np.unique(random.integers(0, 50, (sizes, 2)), axis=0)
    instance = instance_of(
        np.column_stack([need, np.ones(len(need), int)]).tolist(),
        [99, 120, 9],
        random.integers(1, 5, len(need)).tolist(),
    )
    return Items(instance, random.permutation(Items.by_size(instance).size_of_item()))


@pytest.mark.parametrize("name", GREEDY)
def test_a_plan_cut_anywhere_is_whole_says_so_and_is_the_same_again(name: str) -> None:
    for seed in range(2):
        items, free = some_items(seed), Budget()
        check(items, pack(name, items, free))
        assert not free.cut_short
        for share in (0.0, 0.4, 1.1):
            short, again = Budget(share * free.work), Budget(share * free.work)
            solution = pack(name, items, short)
            check(items, solution)
            assert short.cut_short if share == 0 else short.spent or not short.cut_short
            assert plain(pack(name, items, again)) == plain(solution)


@pytest.mark.parametrize("name", [name for name, entry in ALGORITHMS.items() if entry.anytime])
def test_what_betters_its_plan_has_one_at_hand(name: str) -> None:
    kept: list[Callable[[], Solution | None]] = []
    told: list[tuple[int, int]] = []
    seen: list[Solution | None] = []

    def tell(packs: int, bound: int, _: float) -> None:
        told.append((packs, bound))
        seen.append(kept[-1]())

    items = some_items(0)
    solution = pack(name, items, Budget(0.3), Options(seed=1, progress=tell, keep=kept.append))
    check(items, solution)
    early = [each for each in seen if each is not None]
    assert early, "there is a plan before the end"
    for each in early:
        check(items, each)
        assert each.num_packs >= solution.num_packs
    assert told[-1][1] <= solution.certificate.bound <= solution.num_packs <= told[-1][0]


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_whole_plan_in_no_time(name: str, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    nodes = random.integers(3, 400, 1500)
    sizes, limits = GraphSizes(nodes, random.integers(3, 900, 1500)), PackLimits(1000, 2000, 8, "none")
    make_plan(sizes, limits, name, work_limit=0.1)
    if not loaded:
        monkeypatch.delitem(sys.modules, "numba", raising=False)
    plan = make_plan(sizes, limits, name, time_limit=0.0)
    assert sorted(plan.graph_ids.tolist()) == list(range(1500))
    held = np.add.reduceat(np.column_stack([nodes, sizes.num_edges])[plan.graph_ids], plan.pack_offsets[:-1])
    assert (held <= [1000, 2000]).all() and np.diff(plan.pack_offsets).max() <= 8
    if ALGORITHMS[name].looks_at_the_clock and plan.status != "optimal":
        assert plan.stopped_by == "time"


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("null_graphs", ["all", "one", "none"])
def test_further_axes_and_budgets_are_limits_like_others(name: str, null_graphs: str) -> None:
    """Six dimensions: nodes, edges, two further axes, a budget and graphs."""
    rng = np.random.default_rng(1)
    nodes = rng.integers(1, 9, 80)
    num = {"triplet": 3 * nodes, "label": rng.integers(0, 4, 80)}
    sizes = GraphSizes(nodes, 2 * nodes, num=num, budgets={"built": nodes**2})
    limits = PackLimits(40, 90, 9, null_graphs, {"triplet": 100, "label": 20}, {"built": 120})
    plan = make_plan(sizes, limits, name, work_limit=0.05)
    assert sorted(plan.graph_ids.tolist()) == list(range(80))
    for key, most in {"node": 40, "edge": 90, "triplet": 100, "label": 20, "built": 120}.items():
        held = np.add.reduceat(sizes.columns[key][plan.graph_ids], plan.pack_offsets[:-1])
        assert held.max() <= most, key
    distinct, count, _ = sizes.distinct
    need, capacity = need_of(distinct, sizes.axes, limits)
    assert need.shape[1] == 6
    assert check_certificate(plan.certificate, need, capacity, count) == plan.lower_bound <= plan.num_packs
