"""Graphs that fit no pack: an error, skipped, or trimmed; always told in graphs.parquet and counted in the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_same, heterogeneous, homogeneous
from torch_geometric.data import Data, HeteroData
from torch_geometric.utils import subgraph

from packer import PackLimits, unpack, unpack_with_ids, verify_shards
from packer.errors import FieldError, SizesError
from packer.graphs.table import GraphTable
from packer.limits.padding import NULL_GRAPHS
from packer.packs.trim import TRIM, room_for_one, trim
from packer.reading.unpack_graphs import graphs_of
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide
from pipelines import build
from pipelines.building.mapped.shards import run_task
from pipelines.executors import SerialExecutor

LIMITS = PackLimits(16, 18, 4)  # a graph alone may have 13 nodes and 15 edges


def table_of(graphs: list[Any]) -> GraphTable:
    block = block_of_graphs(graphs)
    return join_blocks([block], decide(block.statistics)[0])


def graph(nodes: int, edges: int, seed: int = 0, **more: Any) -> Data:
    """Node i has x = i and edge j has edge_attr = j, so that what is left can be told."""
    generator = torch.Generator().manual_seed(seed)
    return Data(
        x=torch.arange(nodes),
        edge_index=torch.randint(0, nodes, (2, edges), generator=generator),
        edge_attr=torch.arange(edges),
        y=torch.tensor([float(nodes)]),
        **more,
    )


SMALL = [graph(3, 4, 1), graph(13, 15, 2)]  # the second is as large as fits
LARGE = [graph(40, 10, 3), graph(5, 60, 4), graph(30, 200, 5)]
MIXED = [SMALL[0], LARGE[0], LARGE[1], SMALL[1], LARGE[2]]


@pytest.mark.parametrize("policy", TRIM)
def test_what_is_left_is_a_part_of_the_graph(policy: str) -> None:
    graphs = [SMALL[0], LARGE[1], SMALL[1]] if policy == "trim-edges" else MIXED
    table, lost = trim(table_of(graphs), LIMITS, policy, seed=0)
    for before, after, nodes, edges in zip(graphs, graphs_of(table), lost["node"], lost["edge"], strict=True):
        assert (before.num_nodes - after.num_nodes, before.num_edges - after.num_edges) == (nodes, edges)
        assert 1 <= after.num_nodes <= 13 and after.num_edges <= 15
        assert after.y.equal(before.y)
        kept = after.x
        assert kept.equal(kept.unique())  # as it stood, each once
        # The edges left are those of the graph, in its order, with new numbers: x of their ends tells the old ones.
        assert kept[after.edge_index].equal(before.edge_index[:, after.edge_attr])
        assert after.edge_attr.equal(after.edge_attr.unique())
        if before.num_nodes <= 13 and before.num_edges <= 15:
            assert_same(after, before)
        if policy == "trim-nodes":  # no edge goes but with a node
            assert after.edge_attr.equal(subgraph(kept, before.edge_index, before.edge_attr, num_nodes=99)[1])
        if policy == "trim-edges":
            assert nodes == 0


def test_as_much_stays_as_there_is_room_for() -> None:
    table, _ = trim(table_of(MIXED), LIMITS, "trim-both", 0)
    assert table.counts("node").tolist() == [3, 13, 5, 13, 13]
    assert table.counts("edge")[[0, 2, 3]].tolist() == [4, 15, 15]
    edges_alone, _ = trim(table_of([LARGE[1]]), LIMITS, "trim-edges", 0)
    assert edges_alone.counts("edge").tolist() == [15]
    # By nodes alone the next node drawn would bring more edges than fit: 13 nodes, or as few as the edges make it.
    by_nodes, _ = trim(table_of([LARGE[0], LARGE[2]]), LIMITS, "trim-nodes", 0)
    assert by_nodes.counts("node")[0] == 13 and 1 <= by_nodes.counts("node")[1] < 13


def test_a_star_is_trimmed_to_its_limits_by_hand() -> None:
    # 20 leaves point to a hub. 13 nodes fit; whether the hub is among them decides about all edges.
    star = Data(x=torch.arange(21), edge_index=torch.stack([torch.arange(1, 21), torch.zeros(20, dtype=torch.long)]))
    left = graphs_of(trim(table_of([star] * 50), LIMITS, "trim-nodes", 0)[0])
    for graph in left:
        assert graph.num_nodes == 13 and graph.num_edges == (12 if 0 in graph.x else 0)
    share = sum(0 in graph.x for graph in left) / 50
    assert 0.4 < share < 0.85  # 13 of 21 = 0.62, drawn for each graph by itself


@pytest.mark.parametrize("policy", TRIM)
def test_the_draw_depends_on_seed_and_graph_alone(policy: str) -> None:
    large = LARGE[1 if policy == "trim-edges" else 2]
    graphs = [large, SMALL[0], large]
    whole = graphs_of(trim(table_of(graphs), LIMITS, policy, 5)[0])
    again = graphs_of(trim(table_of(graphs), LIMITS, policy, 5)[0])
    for one, other in zip(whole, again, strict=True):
        assert_same(one, other)
    apart = table_of(graphs).select(np.array([2]))  # source id 2, without its neighbours
    assert_same(graphs_of(trim(apart, LIMITS, policy, 5)[0])[0], whole[2])
    assert not whole[0].edge_attr.equal(whole[2].edge_attr)  # equal graphs, drawn by themselves
    other_seed = graphs_of(trim(table_of(graphs), LIMITS, policy, 6)[0])
    assert not whole[0].edge_attr.equal(other_seed[0].edge_attr)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(homogeneous(partial=False), heterogeneous()),
    st.sampled_from(TRIM),
    st.sampled_from(NULL_GRAPHS[:3]),
    st.integers(0, 9),
)
def test_whatever_is_trimmed_fits_and_is_sound(graphs: list[Any], policy: str, null_graphs: str, seed: int) -> None:
    table = table_of(graphs)
    limits = PackLimits(4, 4, 2, null_graphs)
    room = room_for_one(table.schema.axes, limits)
    try:
        found, lost = trim(table, limits, policy, seed)
    except (SizesError, FieldError) as error:
        assert policy != "trim-both" or "points to a node that trimming removes" in str(error)
        return
    for axis in table.schema.axes:
        assert (found.counts(axis.key) <= room[axis.key]).all()
        assert (table.counts(axis.key) - found.counts(axis.key)).tolist() == lost[axis.key].tolist()
    nodes = sum(found.counts(axis.key) for axis in table.schema.axes if axis.level == "node")
    assert (nodes >= 1).all()
    block_of_graphs(graphs_of(found))  # refuses an edge whose nodes are not there
    untouched = ~np.any(list(lost.values()), axis=0)
    for before, after, same in zip(graphs_of(table), graphs_of(found), untouched.tolist(), strict=True):
        if same:
            assert_same(after, before)


def test_each_type_is_trimmed_to_its_own_limit() -> None:
    large = HeteroData()
    large["author"].x, large["paper"].x = torch.arange(30), torch.arange(4)
    large["author", "writes", "paper"].edge_index = torch.stack([torch.arange(30), torch.arange(30) % 4])
    limits = PackLimits({"author": 10, "paper": 10}, {("author", "writes", "paper"): 6}, 2)
    left = {policy: graphs_of(trim(table_of([large]), limits, policy, 1)[0])[0] for policy in TRIM[::2]}
    assert (left["trim-both"]["author"].num_nodes, left["trim-both"]["paper"].num_nodes) == (9, 4)
    assert left["trim-both"]["author", "writes", "paper"].num_edges == 5
    by_nodes = left["trim-nodes"]
    kept = by_nodes["author"].x % 4
    assert by_nodes["author", "writes", "paper"].num_edges == sum(int(p in by_nodes["paper"].x) for p in kept) <= 5


@pytest.mark.parametrize("policy", ["skip", *TRIM])
def test_builds_tell_what_was_lost(policy: str, tmp_path: Path) -> None:
    graphs = [MIXED[0], MIXED[2], MIXED[3]] if policy == "trim-edges" else MIXED
    graphs = [g.clone().update({"name": f"g{i}"}) for i, g in enumerate(graphs)]
    manifest = build(graphs, tmp_path / "out", LIMITS, "stream", seed=3, workers=1, oversize=policy).manifest
    large = len(graphs) - 2
    assert verify_shards(tmp_path / "out").faults == ()
    rows = pq.read_table(tmp_path / "out" / "graphs.parquet").to_pylist()
    status = "skipped" if policy == "skip" else "trimmed"
    assert [row["status"] for row in rows] == ["packed", *[status] * (large - (policy != "trim-edges")), "packed"] + [
        status
    ] * (policy != "trim-edges")
    if policy == "skip":
        assert (manifest.counts.packed, manifest.counts.trimmed, manifest.counts.skipped) == (2, 0, large)
        assert dict(manifest.counts.reasons) == {"larger than the limits": large}
        assert all(row["lost_nodes"] == row["lost_edges"] == 0 for row in rows)
        return
    assert (manifest.counts.packed, manifest.counts.trimmed, manifest.counts.skipped) == (2, large, 0)
    assert dict(manifest.counts.reasons) == {"trimmed to the limits": large}
    for row, before, after in zip(rows, graphs, unpack(tmp_path / "out"), strict=True):
        assert row["num_nodes"] == after.num_nodes and row["num_edges"] == after.num_edges
        assert row["lost_nodes"] == before.num_nodes - after.num_nodes
        assert row["lost_edges"] == before.num_edges - after.num_edges
        assert after.name == before.name and after.y.equal(before.y)
        assert (row["status"] == "trimmed") == (row["lost_nodes"] + row["lost_edges"] > 0)


@pytest.mark.parametrize("policy", ["skip", *TRIM])
def test_builds_tell_what_each_type_lost(policy: str, tmp_path: Path) -> None:
    """Graphs 1 and 3 have too many edges of one type, graph 2 has no authors."""
    writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")

    def library(authors: int, papers: int, written: int, cited: int) -> HeteroData:
        found = HeteroData()
        found["paper"].x = torch.arange(papers)
        if authors:
            found["author"].x = torch.arange(authors)
            found[writes].edge_index = torch.stack([torch.arange(written) % authors, torch.arange(written) % papers])
            found[writes].edge_attr = torch.arange(written)
        found[cites].edge_index = torch.stack([torch.arange(cited) % papers, torch.arange(cited) * 3 % papers])
        found.name = f"{authors} and {papers}"
        return found

    graphs = [library(2, 3, 4, 2), library(5, 6, 30, 3), library(0, 4, 0, 5), library(6, 7, 3, 40)]
    limits = PackLimits({"author": 9, "paper": 10}, {writes: 10, cites: 9}, 3)  # alone: 7, 8; 8, 7
    result = build(graphs, tmp_path / "out", limits, "stream", seed=1, workers=1, oversize=policy)
    assert verify_shards(result).faults == ()
    rows = pq.read_table(tmp_path / "out" / "graphs.parquet").to_pylist()
    status = "skipped" if policy == "skip" else "trimmed"
    assert [row["status"] for row in rows] == ["packed", status, "packed", status]
    counts = result.manifest.counts
    assert (counts.packed, counts.trimmed, counts.skipped) == ((2, 0, 2) if policy == "skip" else (2, 2, 0))
    found, ids = unpack_with_ids(result)
    assert ids.tolist() == ([0, 2] if policy == "skip" else [0, 1, 2, 3])
    for after, number in zip(found, ids.tolist(), strict=True):
        before, row = graphs[number], rows[number]
        for key in before.node_types:
            left = after[key].num_nodes if key in after.node_types else 0
            assert (row[f"{key}/num_nodes"], row[f"{key}/lost_nodes"]) == (left, before[key].num_nodes - left)
        for key in before.edge_types:
            left, name = after[key].num_edges, "__".join(key)
            assert (row[f"{name}/num_edges"], row[f"{name}/lost_edges"]) == (left, before[key].num_edges - left)
            # The numbers of the nodes that are left, taken back by what x says, are those of before.
            ends = [after[end].x[index] for end, index in zip((key[0], key[2]), after[key].edge_index, strict=True)]
            pairs = {tuple(pair) for pair in before[key].edge_index.T.tolist()}
            assert {tuple(pair) for pair in torch.stack(ends, dim=1).tolist()} <= pairs
        if row["status"] == "packed":
            assert_same(after, before)
    if policy == "trim-edges":  # as many stay as there is room for, and no node goes
        assert (rows[1]["author__writes__paper/lost_edges"], rows[3]["paper__cites__paper/lost_edges"]) == (22, 33)
        assert not any(row[name] for row in rows for name in ("author/lost_nodes", "paper/lost_nodes"))


def test_trimmed_builds_are_the_same_bytes_for_any_workers(tmp_path: Path) -> None:
    found = [
        build(
            MIXED * 4,
            tmp_path / f"{workers}-{seed}",
            LIMITS,
            "stream",
            workers=workers,
            oversize="trim-both",
            seed=seed,
        )
        for workers, seed in ((1, 0), (2, 0), (1, 1))
    ]
    files = [{path.name: path.read_bytes() for path in Path(out).glob("*.parquet")} for out in found]
    assert files[0] == files[1] and files[0].keys() == files[2].keys()
    assert files[0]["shard-00000.parquet"] != files[2]["shard-00000.parquet"]
    assert found[0].manifest.content_hash == found[2].manifest.content_hash  # of the source's graphs


def test_a_data_set_that_fits_is_the_same_under_every_policy(tmp_path: Path) -> None:
    shards = set()
    for policy in ("error", "skip", *TRIM):
        build(SMALL, tmp_path / policy, LIMITS, "stream", workers=1, oversize=policy)
        shards.add((tmp_path / policy / "shard-00000.parquet").read_bytes())
    assert len(shards) == 1


@pytest.mark.parametrize(
    ("graphs", "policy", "fault"),
    [
        (
            MIXED,
            "error",
            "graph 1 needs 40 nodes; a pack offers 13 .*3 of 5 graphs do not fit.*oversize='skip' .*'trim-both'",
        ),
        (MIXED, "trim-edges", "graph 1 has 40 nodes; alone in a pack it may have 13, .*remove edges only"),
        (
            [Data(x=torch.ones(1), edge_index=torch.zeros(2, 20, dtype=torch.long))],
            "trim-nodes",
            "graph 0 has 20 edges",
        ),
        (MIXED, "trim", "oversize must be one of error, skip, trim-nodes, trim-edges, trim-both; got 'trim'"),
        (LARGE, "skip", "none of the 3 graphs fits"),
    ],
)
def test_what_a_policy_cannot_do_is_an_error(graphs: list[Data], policy: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=fault):
        build(graphs, tmp_path / "out", LIMITS, "stream", workers=1, oversize=policy)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_node_that_another_attribute_names_cannot_go(tmp_path: Path) -> None:
    named = [graph(40, 10, root_index=torch.tensor([i])) for i in range(20)]
    with pytest.raises(FieldError, match=r"'root_index' points to a node that trimming removes.*exclude the attribute"):
        build(named, tmp_path / "out", LIMITS, "stream", workers=1, oversize="trim-nodes")
    build(named, tmp_path / "out", LIMITS, "stream", workers=1, oversize="trim-nodes", exclude_keys=["root_index"])
    edges = [graph(5, 60, root_index=torch.tensor([4])), graph(5, 3, root_index=torch.tensor([1]))]
    build(edges, tmp_path / "edges", LIMITS, "stream", workers=1, oversize="trim-edges")
    assert [g.root_index.tolist() for g in unpack(tmp_path / "edges")] == [[4], [1]]


def test_an_interrupted_build_trims_the_same_again(tmp_path: Path) -> None:
    class Stops(SerialExecutor):
        def map(self, fn: Any, items: Any) -> Any:
            for number, result in enumerate(super().map(fn, items)):
                if fn is run_task and number == 1:
                    raise KeyboardInterrupt
                yield result

    options: dict[str, Any] = {"algorithm": "stream", "oversize": "trim-both", "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        build(MIXED, tmp_path / "out", LIMITS, executor=Stops(), **options)
    build(MIXED, tmp_path / "out", LIMITS, **options)
    build(MIXED, tmp_path / "whole", LIMITS, **options)
    for name in ("shard-00000.parquet", "graphs.parquet", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
