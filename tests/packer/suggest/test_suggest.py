"""suggest_limits: what it proposes is true, keeps what was asked, and is the same every time."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer import GraphSizes, PackLimits, make_plan, suggest_limits
from packer.errors import LimitsError
from packer.suggest.sweep import SweepRules, prices_of, sweep


def molecules(graphs=100, seed=0):
    """Sizes like those of small molecules: 4 to 20 nodes, about two directed edges a node; 18 distinct ones."""
    random = np.random.default_rng(seed)
    nodes = 4 + 2 * random.integers(0, 9, graphs)
    return GraphSizes(nodes, 2 * (nodes - 1 + random.integers(0, 2, graphs)))


SIZES = molecules()


@pytest.fixture(scope="module")
def quick():
    return suggest_limits(SIZES, work_limit=0)


def real_bytes(sizes):
    return 64 * int(np.sum(sizes.num_nodes)) + 32 * int(np.sum(sizes.num_edges)) + 16 * sizes.num_graphs


def test_worked_example():
    """100 graphs of 4 nodes and 6 edges, null_graphs="none", 10 slots wanted: 40/60/10 holds exactly ten of them."""
    same = GraphSizes(np.full(100, 4), np.full(100, 6))
    best = suggest_limits(same, null_graphs="none", num_graphs=10).best
    assert best.limits == PackLimits(40, 60, 10, "none")
    assert (best.num_packs, best.lower_bound, best.status) == (10, 10, "optimal")
    assert best.padding_share == 0.0
    assert best.fill == {"node": 1.0, "edge": 1.0, "graph": 1.0}
    assert best.bytes_per_pack == 40 * 64 + 60 * 32 + 10 * 16


def test_every_candidate_is_what_a_plan_gives(quick):
    for candidate in quick.front:
        plan = make_plan(SIZES, candidate.limits, "best-fit-decreasing")
        assert plan.num_packs == candidate.num_packs
        assert candidate.lower_bound == plan.lower_bound
        assert candidate.fill == pytest.approx(plan.fill)
        shown = candidate.num_packs * candidate.bytes_per_pack * (1 - candidate.padding_share)
        assert shown == pytest.approx(real_bytes(SIZES))
        assert 0 <= candidate.least_padding_share <= candidate.padding_share < 1


def test_no_candidate_beats_another(quick):
    numbers = [(c.padding_share, c.bytes_per_pack, c.num_packs) for c in quick.front]
    for one in numbers:
        assert not any(other != one and all(np.array(other) <= one) for other in numbers)
    sizes_of_packs = [c.bytes_per_pack for c in quick.front]
    assert sizes_of_packs == sorted(sizes_of_packs)
    assert len(numbers) >= 5


def test_best_is_the_smallest_within_half_a_percent(quick):
    least = min(c.padding_share for c in quick.front)
    good = [c for c in quick.front if c.padding_share <= least + 0.005]
    assert quick.best is good[0]
    assert f"{100 * (1 - quick.best.padding_share):.1f} % of the tensor bytes are real" in quick.reason
    assert "\n" not in quick.reason


def test_solving_proves_and_never_packs_worse():
    solved = suggest_limits(molecules(120), max_nodes=80, num_graphs=(3, 8), work_limit=0.3)
    packed = suggest_limits(molecules(120), max_nodes=80, num_graphs=(3, 8), work_limit=0)
    assert solved.num_solved > 0
    assert packed.num_solved == 0
    assert min(c.padding_share for c in solved.front) <= min(c.padding_share for c in packed.front)
    proven = [c for c in solved.front if c.status == "optimal"]
    assert proven
    for candidate in proven:
        plan = make_plan(molecules(120), candidate.limits)
        assert plan.num_packs == candidate.num_packs == candidate.lower_bound


def test_no_limits_of_the_sweep_beat_the_front():
    """All limits of a small sweep are solved here, one by one: in each class of packs the front pads as little, up to
    what is not worth a try (0.2 % of the bytes)."""
    from packer.interrupt import Interrupt
    from packer.suggest.search import LimitSearch, _class_of

    graphs, prices = molecules(40), prices_of(SIZES.axes, 64, 32, 16)
    front = suggest_limits(graphs, max_nodes=72, multiple_of=8, num_graphs=(3, 8), time_limit=None).front
    search = LimitSearch(graphs, SweepRules("all", 8, 72, (3, 8)), prices, None, 0, None, Interrupt())
    assert len(search.entries) > 40
    totals = {}
    for entry in search.entries:
        plan = make_plan(graphs, entry.limits, work_limit=0.5)
        totals.setdefault(_class_of(entry), {})[entry.limits] = plan.num_packs * entry.bytes
    for candidate in front:
        [alike] = [found for found in totals.values() if candidate.limits in found]
        assert candidate.num_packs * candidate.bytes_per_pack <= min(alike.values()) / 0.998


def test_limits_whose_heuristic_plans_are_poor_are_found(shared_data):
    """Best fit packs MUTAG 6 to 9 % worse than the optimum; 212/467/13 hold it with 0.6 % padding."""
    stored = np.load(shared_data / "sizes" / "tu_MUTAG.npz")
    sizes = GraphSizes(stored["num_nodes"], stored["num_edges"])
    best = suggest_limits(sizes, num_graphs=(10, 16), time_limit=None).best
    assert best.padding_share < 0.01 and best.status == "optimal"


def test_a_sample_gives_a_plan_of_all_graphs():
    """50,000 graphs: plans come from one graph in twelve or in three, so their counts must add up again."""
    random = np.random.default_rng(1)
    nodes = np.array([5, 8, 9, 12, 14])
    sizes = GraphSizes.from_histogram(nodes, 2 * nodes + 2, random.integers(9000, 11000, len(nodes)))
    from packer.interrupt import Interrupt
    from packer.suggest.search import LimitSearch

    search = LimitSearch(
        sizes,
        SweepRules(num_graphs=(8, 8), max_nodes=96, multiple_of=32),
        prices_of(sizes.axes, 64, 32, 16),
        None,
        0,
        None,
        Interrupt(),
    )
    search.pack()
    search.solve(1.0)
    sampled = [entry for entry in search.entries if entry.plan is not None]
    assert search.num_solved > 0
    for entry in sampled:
        plan, instance = entry.plan, search.instance(entry)
        pattern = np.repeat(np.arange(len(plan)), np.diff(plan.ptr))
        held = np.zeros(len(instance.need), dtype=np.int64)
        np.add.at(held, plan.size_ids, plan.multiplicity * plan.counts[pattern])
        np.testing.assert_array_equal(held, instance.count)
        used = np.zeros((len(plan), len(instance.capacity)), dtype=np.int64)
        np.add.at(used, pattern, instance.need[plan.size_ids] * plan.multiplicity[:, None])
        assert (used <= instance.capacity).all()
        assert entry.bound <= plan.num_packs == entry.packs


def test_the_same_arguments_give_the_same_answer(quick):
    again = suggest_limits(SIZES, work_limit=0)
    assert (again.front, again.best, again.reason) == (quick.front, quick.best, quick.reason)
    first, second = (suggest_limits(SIZES, num_graphs=6, time_limit=None, seed=3, work_limit=0.1) for _ in range(2))
    assert (first.front, first.reason) == (second.front, second.reason)
    assert first.num_solved == second.num_solved > 0
    assert first.stopped_by == "done"


def test_order_of_the_graphs_does_not_matter(quick):
    shuffled = np.random.default_rng(5).permutation(SIZES.num_graphs)
    other = suggest_limits(GraphSizes(SIZES.num_nodes[shuffled], SIZES.num_edges[shuffled]), work_limit=0)
    assert other.front == quick.front


@pytest.mark.parametrize("multiple", [8, 64, 128])
def test_multiples(multiple):
    found = suggest_limits(SIZES, multiple_of=multiple, work_limit=0)
    assert all(c.limits.num_nodes % multiple == c.limits.num_edges % multiple == 0 for c in found.front)


def test_caps_are_kept():
    for candidate in suggest_limits(SIZES, max_nodes=60, work_limit=0).front:
        assert candidate.limits.num_nodes <= 60
    for candidate in suggest_limits(SIZES, memory_bytes_per_pack=6_000, work_limit=0).front:
        assert candidate.bytes_per_pack <= 6_000
    for wanted in ((6, 12), range(6, 13)):
        for candidate in suggest_limits(SIZES, num_graphs=wanted, multiple_of=8, work_limit=0).front:
            assert 6 <= candidate.limits.num_graphs <= 12
    assert all(c.limits.num_graphs == 9 for c in suggest_limits(SIZES, num_graphs=9, work_limit=0).front)


def test_the_smallest_limits_that_are_allowed_are_found():
    """The very caps that the error names leave one choice."""
    for caps in ({"max_nodes": 21}, {"memory_bytes_per_pack": 2688}):
        found = suggest_limits(SIZES, work_limit=0, **caps)
        assert found.best.limits == PackLimits(21, 41, 2)
    # With three slots the largest graph, of 20 nodes, takes 19 + 3.
    assert suggest_limits(SIZES, work_limit=0, max_nodes=22).best.limits.num_nodes == 22
    assert suggest_limits(SIZES, work_limit=0, num_graphs=np.int64(5)).best.limits.num_graphs == 5
    assert suggest_limits(SIZES, work_limit=0, max_nodes=24, multiple_of=8).best.limits.num_nodes == 24


def test_bytes_count_what_they_are_told():
    best = suggest_limits(SIZES, bytes_per_node=10, bytes_per_edge=1, bytes_per_graph=100, work_limit=0).best
    limits = best.limits
    assert best.bytes_per_pack == 10 * limits.num_nodes + limits.num_edges + 100 * limits.num_graphs


def test_impossible_wishes_name_what_stands_in_the_way():
    # The largest graph has 20 nodes and 40 edges: with one more slot, a node and an edge more.
    smallest = r"the smallest that hold every graph are 21 nodes, 41 edges and 2 graphs, 2,688 bytes a pack\."
    with pytest.raises(LimitsError, match=f"no limits keep max_nodes=20: {smallest}"):
        suggest_limits(SIZES, max_nodes=20)
    with pytest.raises(LimitsError, match=f"no limits keep memory_bytes_per_pack=2687: {smallest}"):
        suggest_limits(SIZES, memory_bytes_per_pack=2687)
    with pytest.raises(LimitsError, match=r"multiple_of=8, max_nodes=23: .* 24 nodes, 48 edges and 2 graphs"):
        suggest_limits(SIZES, max_nodes=23, multiple_of=8)
    for wanted in ((5, 2), range(0), 3.5, "3", True):
        with pytest.raises(LimitsError, match="num_graphs"):
            suggest_limits(SIZES, num_graphs=wanted)
    for budget in (0, -5, float("nan")):
        with pytest.raises(LimitsError, match="memory_bytes_per_pack must be a number above 0"):
            suggest_limits(SIZES, memory_bytes_per_pack=budget)
    with pytest.raises(LimitsError, match=r"at least 2; got \(1, 1\)"):
        suggest_limits(SIZES, num_graphs=1)
    with pytest.raises(LimitsError, match="multiple_of must be a whole number above 0; got 0"):
        suggest_limits(SIZES, multiple_of=0)
    with pytest.raises(LimitsError, match="null_graphs must be one of"):
        suggest_limits(SIZES, null_graphs="some")
    with pytest.raises(LimitsError, match="bytes_per_node has no entry for 'node'"):
        suggest_limits(SIZES, bytes_per_node={"paper": 1})


def test_time_is_a_cap():
    found = suggest_limits(SIZES, time_limit=0)
    assert found.stopped_by == "time"
    assert found.num_packed == 1
    assert found.best.num_packs >= found.best.lower_bound


def test_a_single_graph_and_graphs_that_share_no_pack():
    one = suggest_limits(GraphSizes(np.array([5]), np.array([8])))
    # Two slots: a node and an edge for the null graph.
    assert (one.best.limits, one.best.num_packs, one.best.status) == (PackLimits(6, 9, 2), 1, "optimal")
    assert "in 1 pack (" in one.reason
    edgeless = suggest_limits(GraphSizes(np.array([5]), np.array([0])))
    assert edgeless.best.limits == PackLimits(6, 2, 2)
    # Two slots under "all" hold one graph each.
    pairs = suggest_limits(GraphSizes(np.array([5, 7, 6]), np.array([8, 9, 10])), num_graphs=2)
    assert {candidate.num_packs for candidate in pairs.front} == {3}


def test_heterogeneous_graphs():
    random = np.random.default_rng(2)
    sizes = GraphSizes(
        {"author": random.integers(1, 6, 80), "paper": random.integers(2, 15, 80)},
        {("author", "writes", "paper"): random.integers(0, 30, 80)},
    )
    best = suggest_limits(sizes, work_limit=0).best
    assert set(best.limits.num_nodes) == {"author", "paper"}
    assert make_plan(sizes, best.limits, "best-fit-decreasing").num_packs == best.num_packs


def test_without_ortools_the_bounds_are_those_of_volumes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ortools.math_opt.python", None)
    monkeypatch.setitem(sys.modules, "ortools", None)
    found = suggest_limits(molecules(60), num_graphs=5)
    assert found.best.num_packs >= found.best.lower_bound > 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 90)), min_size=1, max_size=30),
    st.sampled_from(["all", "one", "jraph", "none"]),
    st.sampled_from([1, 8]),
)
def test_every_graph_fits_every_limit_of_the_sweep(graphs, null_graphs, multiple):
    nodes, edges = (np.array(column) for column in zip(*graphs, strict=True))
    sizes = GraphSizes(nodes, edges)
    distinct, count, _ = sizes.distinct
    prices = prices_of(sizes.axes, 1, 1, 1)
    found = sweep(distinct, count, sizes.axes, SweepRules(null_graphs, multiple), prices)
    assert found
    for limits in {found[0], found[len(found) // 2], found[-1]}:
        make_plan(sizes, limits, "first-fit-decreasing")  # raises where a graph does not fit


def test_moses_sweep_has_hundreds_of_limits(shared_data):
    stored = np.load(shared_data / "sizes" / "moses_test.npz")
    real = stored["num_nodes"] > 0
    sizes = GraphSizes(stored["num_nodes"][real], stored["num_edges"][real])
    distinct, count, _ = sizes.distinct
    assert len(sweep(distinct, count, sizes.axes, SweepRules(), prices_of(sizes.axes, 64, 32, 16))) >= 500
    found = suggest_limits(sizes, num_graphs=range(10, 14), work_limit=0)  # a part, for all of it takes its time
    assert found.num_triples >= 30 and found.best.padding_share < 0.05
