"""Plans: published figures, every graph once, plans on disk."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packer import GraphSizes, PackLimits, PackPlan, check_certificate, lower_bound, make_plan, pack_vectors
from packer.algorithms.patterns import patterns_of
from packer.algorithms.registry import ALGORITHMS
from packer.errors import AlgorithmError, FormatError, PlanError, SizesError
from packer.limits.fit import need_of


@pytest.fixture(scope="module")
def mutag_train(shared_data):
    """The sizes of the tutorial's 150 training graphs: torch.manual_seed(12345), then shuffle()."""
    torch = pytest.importorskip("torch")
    sizes = np.load(shared_data / "sizes" / "tu_MUTAG.npz")
    torch.manual_seed(12345)
    order = torch.randperm(188).numpy()[:150]
    return GraphSizes(sizes["num_nodes"][order], sizes["num_edges"][order])


def held(plan):
    return np.diff(plan.pack_offsets).tolist()


def test_the_published_tutorial(mutag_train):
    wide = make_plan(mutag_train, PackLimits(400, 800, 10), algorithm="stream")
    assert round(100 * wide.fill["node"], 2) == 39.91
    narrow = make_plan(mutag_train, PackLimits(179, 395, 10), algorithm="stream")
    assert round(100 * narrow.fill["node"], 2) == 84.23
    assert held(narrow) == [9, 8, 9, 9, 8, 9, 9, 8, 8, 9, 9, 9, 9, 8, 9, 9, 9, 2]
    best = make_plan(mutag_train, PackLimits(179, 395, 10))
    assert (best.num_packs, best.lower_bound, best.status, best.stopped_by) == (17, 17, "optimal", "proof")


@pytest.mark.parametrize("null_graphs", ["all", "one", "jraph", "none"])
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_every_graph_is_in_exactly_one_pack_within_the_limits(algorithm, null_graphs):
    rng = np.random.default_rng(1)
    nodes, edges = rng.integers(1, 20, 300), rng.integers(0, 45, 300)
    sizes, limits = GraphSizes(nodes, edges), PackLimits(64, 128, 8, null_graphs)
    plan = make_plan(sizes, limits, algorithm=algorithm, seed=3, time_limit=5)
    ids, offsets = plan.graph_ids, plan.pack_offsets
    assert sorted(ids.tolist()) == list(range(300))
    assert ids.dtype == offsets.dtype == np.int64
    assert len(offsets) == plan.num_packs + 1
    assert offsets[-1] == 300
    need, capacity = need_of(np.stack([nodes, edges], 1), sizes.axes, limits)
    assert (np.add.reduceat(need[ids], offsets[:-1]) <= capacity).all()
    assert check_certificate(plan.certificate, need, capacity, np.ones(300, dtype=np.int64)) == plan.lower_bound
    assert plan.lower_bound <= plan.num_packs == plan.pattern_counts.sum()
    again = make_plan(sizes, limits, algorithm=algorithm, seed=3, time_limit=5)
    assert again.graph_ids.tolist() == ids.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_optimal_is_never_worse_than_a_heuristic_even_without_time(seed):
    rng = np.random.default_rng(seed)
    need, capacity = rng.integers(1, 40, (150, 3)), np.full(3, 100)
    packs = {name: pack_vectors(need, capacity, name, time_limit=0.0).num_packs for name in ALGORITHMS}
    assert packs["optimal"] == min(packs.values()), packs


def test_optimal_is_never_worse_than_a_heuristic_on_many_graphs_without_work(shared_data):
    # 1.58 million: first-fit, which sees their order, beats every heuristic over distinct sizes here.
    stored = np.load(shared_data / "sizes" / "moses_train.npz")
    sizes, limits = GraphSizes(stored["num_nodes"], stored["num_edges"]), PackLimits(256, 552, 16)
    packs = {name: make_plan(sizes, limits, name, work_limit=1e-9).num_packs for name in ALGORITHMS}
    assert packs["first-fit"] < min(packs["histogram"], packs["best-fit-decreasing"])
    assert packs["optimal"] <= packs["first-fit"]


def test_a_histogram_gives_the_plan_of_the_graphs_it_counts():
    nodes, edges, count = np.array([3, 4, 9]), np.array([4, 4, 16]), np.array([40, 30, 20])
    limits = PackLimits(20, 40, 5)
    short = make_plan(GraphSizes.from_histogram(nodes, edges, count), limits)
    long = make_plan(GraphSizes(np.repeat(nodes, count), np.repeat(edges, count)), limits)
    assert short.graph_ids.tolist() == long.graph_ids.tolist()
    assert short.pack_offsets.tolist() == long.pack_offsets.tolist()
    assert short.fill == long.fill


def test_fill_is_the_real_share_of_all_slots():
    sizes = GraphSizes(np.array([3, 4, 5]), np.array([2, 2, 6]))
    plan = make_plan(sizes, PackLimits(9, 8, 4, "none"), algorithm="stream")
    # 3 + 4 <= 9, then 5: two packs. 12 of 18 nodes, 10 of 16 edges, 3 of 8 graphs.
    assert held(plan) == [2, 1]
    assert plan.fill == {"node": 12 / 18, "edge": 10 / 16, "graph": 3 / 8}


def test_a_plan_survives_the_disk(tmp_path):
    sizes = GraphSizes(np.array([3, 4, 5, 6]), np.array([2, 2, 6, 0]))
    plan = make_plan(sizes, PackLimits(16, 16, 4), seed=5)
    plan.save(tmp_path / "plan.parquet")
    back = PackPlan.load(tmp_path / "plan.parquet")
    assert back.graph_ids.tolist() == plan.graph_ids.tolist()
    assert back.pack_offsets.tolist() == plan.pack_offsets.tolist()
    assert (back.limits, back.algorithm, back.seed) == (plan.limits, "optimal", 5)
    assert (back.num_packs, back.lower_bound, back.status) == (plan.num_packs, plan.lower_bound, plan.status)
    assert back.sizes.columns["edge"].tolist() == [2, 2, 6, 0]
    plan.save(tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "plan.parquet").read_bytes()


@pytest.mark.parametrize("algorithm", ["optimal", "best-fit-decreasing", "stream"])
def test_a_plan_by_patterns_gives_the_same_ids_to_the_same_graphs(tmp_path, algorithm):
    rng = np.random.default_rng(3)
    nodes, edges = rng.integers(1, 9, 200), rng.integers(0, 17, 200)  # edgeless ones need what those of one edge need
    sizes, limits = GraphSizes(nodes, edges), PackLimits(40, 60, 6)
    plan = make_plan(sizes, limits, algorithm=algorithm, seed=5)
    plan.save(tmp_path / "plan.parquet", by_graph=False)
    back = PackPlan.load(tmp_path / "plan.parquet")
    assert (back.num_packs, back.lower_bound, back.status) == (plan.num_packs, plan.lower_bound, plan.status)
    again = back.of(GraphSizes(nodes, edges))
    assert again.graph_ids.tolist() == plan.graph_ids.tolist()
    assert again.pack_offsets.tolist() == plan.pack_offsets.tolist()
    with pytest.raises(PlanError, match="made for 200 graphs of other sizes; here are 199"):
        back.of(GraphSizes(nodes[1:], edges[1:]))


def test_patterns_that_contradict_their_sizes_are_refused(tmp_path):
    plan = make_plan(GraphSizes(np.array([3, 4, 4]), np.array([2, 2, 2])), PackLimits(16, 16, 4))
    path = tmp_path / "plan.parquet"
    plan.save(path, by_graph=False)
    table = pq.read_table(path)
    for column, text in (("packs", "the 1 packs"), ("graphs", "each graph once"), ("size_id", "index 9")):
        wrong = {"packs": 2, "graphs": 1, "size_id": 9}[column]
        rows = pa.array([wrong] * table.num_rows, pa.int64())
        pq.write_table(table.set_column(table.column_names.index(column), column, rows), path)
        with pytest.raises(FormatError, match=text):
            PackPlan.load(path)


def test_a_damaged_or_foreign_plan_is_refused(tmp_path):
    plan = make_plan(GraphSizes(np.array([3, 4]), np.array([2, 2])), PackLimits(16, 16, 4))
    path = tmp_path / "plan.parquet"
    plan.save(path)
    whole = bytearray(path.read_bytes())
    whole[60] ^= 4
    path.write_bytes(whole)
    with pytest.raises(FormatError):
        PackPlan.load(path)
    path.write_bytes(b"PAR1 nothing else")
    with pytest.raises(FormatError, match=r"plan\.parquet is not a plan"):
        PackPlan.load(path)


def test_an_unknown_algorithm_lists_the_known_and_the_nearest():
    sizes = GraphSizes(np.array([3]), np.array([2]))
    with pytest.raises(AlgorithmError, match=r"pad-to-max, stream.*optimal\. Did you mean 'histogram'\?"):
        make_plan(sizes, PackLimits(16, 16, 4), algorithm="histogramm")


def test_lower_bound_is_a_certificate():
    # Graphs of 6 of 10 nodes: no two share a pack, though the volume bound says ceil(30 / 10) = 3.
    sizes = GraphSizes(np.full(5, 6), np.zeros(5, dtype=int))
    certificate = lower_bound(sizes, PackLimits(10, None, None, "none"))
    assert certificate.bound == 5
    assert check_certificate(certificate, np.full((5, 1), 6), np.array([10]), np.ones(5, dtype=int)) == 5


def test_vectors():
    # (5, 1) goes with (4, 8); (6, 6) with (2, 4); both packs of (10, 10): 9 + 9 and 8 + 10.
    packing = pack_vectors(np.array([[6, 6], [5, 1], [2, 4], [4, 8]]), np.array([10, 10]))
    assert (packing.num_packs, packing.lower_bound, packing.status) == (2, 2, "optimal")
    packs = {frozenset(p.tolist()) for p in np.split(packing.item_ids, packing.pack_offsets[1:-1])}
    assert packs == {frozenset({0, 2}), frozenset({1, 3})}
    with pytest.raises(SizesError, match="item 1 needs 11 in dimension 0; a pack offers 10"):
        pack_vectors(np.array([[6, 6], [11, 1]]), np.array([10, 10]))
    with pytest.raises(SizesError, match="must not be negative"):
        pack_vectors(np.array([[-1]]), np.array([10]))


def test_patterns_of_packs_given_item_by_item():
    # Packs [0 0 1], [2], [1 0 0], [0 1 2]: the first and third hold the same sizes.
    patterns = patterns_of(np.array([0, 0, 1, 2, 1, 0, 0, 0, 1, 2]), np.array([0, 3, 4, 7, 10]))
    found = {
        tuple(zip(*map(np.ndarray.tolist, patterns[p]), strict=True)): int(patterns.counts[p])
        for p in range(len(patterns))
    }
    assert found == {((0, 2), (1, 1)): 2, ((2, 1),): 1, ((0, 1), (1, 1), (2, 1)): 1}
