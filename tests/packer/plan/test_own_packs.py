"""Plans of packs that were decided elsewhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, SequentialSampler
from torch_geometric.data import Data

from packer import GraphSizes, PackDataset, PackLimits, PackPlan, check_certificate, make_plan, verify_shards
from packer.errors import BuildError, PlanError, SizesError
from packer.plan.items import items_of
from pipelines import build
from pipelines.entry import main

SIZES = GraphSizes(np.array([4, 4, 2, 7]), np.array([4, 4, 0, 6]))
LIMITS = PackLimits(16, 15, 4)


def test_packs_stay_as_they_are_given() -> None:
    plan = PackPlan.from_packs(SIZES, LIMITS, [[3, 1], (2, 0)])
    assert plan.graph_ids.tolist() == [3, 1, 2, 0] and plan.pack_offsets.tolist() == [0, 2, 4]
    assert (plan.num_packs, plan.algorithm, plan.stopped_by, plan.seed) == (2, "given", "done", 0)
    # Nodes less one each: 3 + 3 + 1 + 6 = 13 of 16 - 4 in a pack: two at least.
    assert plan.lower_bound == 2 and plan.status == "optimal"
    instance = items_of(SIZES, LIMITS).instance
    assert check_certificate(plan.certificate, instance.need, instance.capacity, instance.count) == 2
    apart = PackPlan.from_packs(SIZES, LIMITS, [[0], [1], [2], [3]])
    assert (apart.num_packs, apart.status) == (4, "feasible")


@pytest.mark.parametrize(
    "packs",
    [
        [np.array([0, 1]), np.array([2, 3], dtype=np.uint8)],
        [torch.tensor([0, 1]), torch.tensor([2, 3])],
        ([i, i + 1] for i in (0, 2)),
        BatchSampler(SequentialSampler(range(4)), 2, drop_last=False),
        np.array([[0, 1], [2, 3]]),
    ],
)
def test_what_packs_may_be(packs: Any) -> None:
    assert PackPlan.from_packs(SIZES, LIMITS, packs).graph_ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("packs", "message"),
    [
        ([], "no packs were given for 4 graphs"),
        ([[0, 1], [], [2, 3]], "pack 1 is empty, of 3: leave such packs out"),
        ([[0, 1], [2, 4]], "pack 1 names graph 4, of graphs 0 to 3"),
        ([[0, -1], [2, 3]], "pack 0 names graph -1, of graphs 0 to 3"),
        ([[0, 1], [2, 1]], "graph 1 stands in packs 0 and 1: a graph belongs to one pack; 1 repeat"),
        ([[0, 1], [2, 3, 2]], "graph 2 stands twice in pack 1"),
        ([[0], [3]], "graph 1 is in no pack, as are 2 of 4 in all: give them packs, or plan and build from a source"),
        ([[0, 1], [2.0, 3]], "pack 1 must hold graph ids, which are whole numbers; got 2.0"),
        ([[0, 1], ["2", 3]], "pack 1 must hold graph ids, which are whole numbers; got '2'"),
        ([[True]], "pack 0 must hold graph ids, which are whole numbers; got True"),
        ([[[0, 1], [2, 3]]], r"pack 0 must hold graph ids, which are whole numbers; got \[0, 1\]"),
        ([[0, 1], [2, True]], "pack 1 must hold graph ids, which are whole numbers; got True"),
        (4, "packs must be sequences of graph ids, one a pack; got 4"),
        ([0, 1, 2, 3], "pack 0 must be a sequence of graph ids; got 0"),
        (["01", "23"], "pack 0 must be a sequence of graph ids; got '01'"),
        (
            [[0, 1, 2, 3]],
            r"pack 0 holds 4 graphs; a pack offers 3 \(4, less 1 for padding\)\. Raise num_graphs",
        ),
    ],
)
def test_what_is_wrong_is_named(packs: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        PackPlan.from_packs(SIZES, LIMITS, packs)


def test_a_pack_that_is_too_full_is_named_with_what_it_takes() -> None:
    packs = [[2], [0, 1, 3]]
    # 4 + 4 + 7 nodes are 15 = 16 - 1; 4 + 4 + 6 edges are 14 = 15 - 1
    assert PackPlan.from_packs(SIZES, LIMITS, packs).num_packs == 2
    with pytest.raises(
        PlanError, match=r"pack 1 holds 15 nodes, in 3 graphs; a pack offers 14 \(15, less 1 for padding\)"
    ):
        PackPlan.from_packs(SIZES, PackLimits(15, 15, 4), packs)
    with pytest.raises(
        PlanError, match=r"pack 1 holds 14 edges.* Raise num_edges \(--num-edges\) to 15 or more, or move"
    ):
        PackPlan.from_packs(SIZES, PackLimits(16, 14, 4), packs)
    # An edgeless graph takes an edge: 4 + 1 + 6; a slot stays free beside it and the padding.
    with pytest.raises(
        PlanError, match=r"pack 1 holds 11 edges, in 3 graphs; a pack offers 9 \(10, less 1 for padding\)"
    ):
        PackPlan.from_packs(SIZES, PackLimits(99, 10, 4), [[1], [0, 2, 3]])
    two = r"pack 0 holds 8 nodes, in 2 graphs; a pack offers 7 \(8, less 1 for padding\); 2 packs are too full in all"
    with pytest.raises(PlanError, match=two):
        PackPlan.from_packs(SIZES, PackLimits(8, 99, 4, "one"), [[0, 1], [3, 2]])
    with pytest.raises(PlanError, match=r"pack 0 holds 8 nodes, in 2 graphs; a pack offers 7\. Raise num_nodes"):
        PackPlan.from_packs(SIZES, PackLimits(7, None, None, "none"), [[0, 1], [2], [3]])
    with pytest.raises(SizesError, match="graph 3 needs 7 nodes"):
        PackPlan.from_packs(SIZES, PackLimits(9, 15, 4), packs)
    authors = GraphSizes({"a": np.array([2, 3]), "p": np.array([2, 2])}, {("a", "w", "p"): np.array([3, 3])})
    with pytest.raises(PlanError, match=r"pack 0 holds 5 a nodes.*Raise num_nodes\['a'\].* to 6"):
        PackPlan.from_packs(authors, PackLimits({"a": 5, "p": 9}, 9, 3), [[0, 1]])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_packs_are_taken_exactly_where_the_limits_allow_them(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 7))
    nodes = data.draw(st.lists(st.integers(1, 5), min_size=number, max_size=number))
    edges = data.draw(st.lists(st.integers(0, 6), min_size=number, max_size=number))
    rule, slots = data.draw(st.sampled_from(["all", "one", "jraph", "none"])), data.draw(st.integers(2, 5))
    most_nodes, most_edges = data.draw(st.integers(5, 14)) + slots, data.draw(st.integers(6, 14)) + slots
    limits = PackLimits(most_nodes, most_edges, slots, rule)
    owner = data.draw(st.lists(st.integers(0, number - 1), min_size=number, max_size=number))
    packs = [[graph for graph in range(number) if owner[graph] == pack] for pack in sorted(set(owner))]

    def fits(pack: list[int]) -> bool:
        r, n = len(pack), sum(nodes[graph] for graph in pack)
        if rule == "all":
            e = sum(max(edges[graph], 1) for graph in pack)
            return r <= slots - 1 and n <= most_nodes - (slots - r) and e <= most_edges - (slots - r)
        less = rule != "none"
        e = sum(edges[graph] for graph in pack)
        return r <= slots - less and n <= most_nodes - less and e <= most_edges - (rule == "one")

    sizes = GraphSizes(np.array(nodes), np.array(edges))
    if all(fits(pack) for pack in packs):
        assert PackPlan.from_packs(sizes, limits, packs).num_packs == len(packs)
    else:
        first = next(i for i, pack in enumerate(packs) if not fits(pack))
        with pytest.raises(PlanError, match=f"^pack {first} holds"):
            PackPlan.from_packs(sizes, limits, packs)


def test_the_packs_of_a_plan_are_that_plan() -> None:
    rng = np.random.default_rng(1)
    for count in (None, rng.integers(1, 4, 50)):
        sizes = GraphSizes(rng.integers(1, 30, 50), rng.integers(0, 60, 50), count)
        limits = PackLimits(90, 180, 8)
        made = make_plan(sizes, limits, "histogram")
        packs = np.split(made.graph_ids, made.pack_offsets[1:-1])
        again = PackPlan.from_packs(sizes, limits, packs)
        assert np.array_equal(again.graph_ids, made.graph_ids)
        assert np.array_equal(again.pack_offsets, made.pack_offsets)
        assert Counter(again.pattern_counts.tolist()) == Counter(made.pattern_counts.tolist())


def test_they_are_built_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the call and by the command; the file keeps them."""
    graphs = [
        Data(x=torch.full((n, 1), i), edge_index=torch.zeros(2, n, dtype=torch.long)) for i, n in enumerate((4, 3, 2))
    ]
    sizes = GraphSizes(np.array([4, 3, 2]), np.array([4, 3, 2]))
    limits = PackLimits(12, 12, 4)
    plan = PackPlan.from_packs(sizes, limits, [[2], [1, 0]])
    plan.save(tmp_path / "own.parquet")
    loaded = PackPlan.load(tmp_path / "own.parquet")
    assert loaded.graph_ids.tolist() == [2, 1, 0] and loaded.algorithm == "given" and loaded.limits == limits

    build(graphs, tmp_path / "packs", limits, plan=tmp_path / "own.parquet", workers=1)
    dataset = PackDataset(tmp_path / "packs")
    assert [dataset.graph_ids(i)[:2].tolist() for i in range(2)] == [[2, -1], [1, 0]]
    assert dataset[1]["x"][:7, 0].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert dataset.manifest.plan["algorithm"] == "given"
    assert verify_shards(tmp_path / "packs").ok

    held = build(graphs, tmp_path / "held", plan=plan, workers=1)
    assert held.manifest.plan == dataset.manifest.plan and held.manifest.content_hash == dataset.manifest.content_hash
    assert build(graphs, tmp_path / "held", plan=plan, workers=1).already
    with pytest.raises(BuildError, match="the plan was made for PackLimits"):
        build(graphs, tmp_path / "none", PackLimits(13, 12, 4), plan=plan, workers=1)
    with pytest.raises(PlanError, match=r"^the plan: "):
        build(graphs[:2], tmp_path / "none", plan=plan, workers=1)

    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch_geometric.data import Data\n"
        "def load():\n"
        "    edges = lambda n: torch.zeros(2, n, dtype=torch.long)\n"
        "    return [Data(x=torch.full((n, 1), i), edge_index=edges(n)) for i, n in enumerate((4, 3, 2))]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["build", "pyg:mine:load", "--out", "there", "--plan", "own.parquet", "--workers", "1"]) == 0
    assert PackDataset(tmp_path / "there").graph_ids(1)[:2].tolist() == [1, 0]
    assert main(["report", "there"]) == 0
    assert "given" in (tmp_path / "there" / "report.html").read_text()
