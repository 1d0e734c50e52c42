"""Packs under null_graphs="jraph" are what jraph makes of the same graphs, to the bit, and it knows their padding."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import TUDataset

from packer import GraphSizes, PackLimits, PackReader, make_plan, numpy_loader, to_graphs_tuple, unpack_with_ids
from packer.limits.fit import need_of
from pipelines import build

jraph = pytest.importorskip("jraph")
jnp = pytest.importorskip("jax.numpy")


def as_tuple(graph: Data) -> Any:
    """One graph as jraph has it; `y` as globals."""
    n, e = int(graph.num_nodes or 0), graph.edge_index.shape[1]
    return jraph.GraphsTuple(
        nodes={"x": graph.x.numpy()},
        edges={"edge_attr": graph.edge_attr.numpy()} if "edge_attr" in graph else {},
        senders=graph.edge_index[0].numpy().astype(np.int32),
        receivers=graph.edge_index[1].numpy().astype(np.int32),
        globals={"y": graph.y.reshape(1, *graph.y.shape[1:]).numpy()},
        n_node=np.array([n], dtype=np.int32),
        n_edge=np.array([e], dtype=np.int32),
    )


def assert_same_tuple(found: Any, expected: Any) -> None:
    """Field for field; dtypes as far as numpy_loader makes them 32 bits wide."""
    assert type(found) is type(expected)
    for field in ("n_node", "n_edge", "senders", "receivers"):
        assert np.asarray(getattr(found, field)).tolist() == getattr(expected, field).tolist(), field
    for field in ("nodes", "edges", "globals"):
        one, other = getattr(found, field), getattr(expected, field)
        assert one.keys() == other.keys(), field
        for name, values in other.items():
            assert one[name].shape == values.shape, name
            assert np.asarray(one[name]).astype(values.dtype).tobytes() == values.tobytes(), name


def assert_packs_are_jraphs(folder: Path, graphs: Any, limits: PackLimits) -> int:
    """Compare every pack; the number of packs that are exactly full of edges."""
    reader, full = PackReader(folder), 0
    steps = iter(numpy_loader(reader, shuffle=False))
    slots = limits.num_nodes, limits.num_edges, limits.num_graphs
    for number in range(len(reader)):
        pack, ids = reader[number], reader.graph_ids(number)
        batched = jraph.batch_np([as_tuple(graphs[i]) for i in ids[ids >= 0]])
        expected = jraph.pad_with_graphs(batched, *slots)
        assert_same_tuple(to_graphs_tuple(next(steps), reader), expected)
        for name, mask in (("nodes", "node"), ("edges", "edge"), ("graphs", "graph")):
            if name != "edges" or slots[1]:
                known = getattr(jraph, f"get_{mask}_padding_mask")(expected)
                assert np.asarray(known).tolist() == pack[f"{name}_mask"].tolist()
        back = jraph.unpad_with_graphs(expected)
        assert len(back.n_node) == pack["graphs_mask"].sum()
        assert len(back.nodes["x"]) == pack["nodes_mask"].sum()
        assert len(back.senders) == pack["edges_mask"].sum()
        full += int(pack["edges_mask"].all())
    return full


def test_nci(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    limits = PackLimits(256, 552, 32, "jraph")
    found = build("sample:nci", tmp_path / "packs", limits, time_limit=20, workers=1)
    assert found.manifest.plan["status"] == "optimal"
    graphs, ids = unpack_with_ids(tmp_path / "packs")
    assert_packs_are_jraphs(tmp_path / "packs", dict(zip(ids.tolist(), graphs, strict=True)), limits)


def test_mutag_with_edge_features(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "tu" / "MUTAG" / "raw", tmp_path / "MUTAG" / "raw")
    graphs = TUDataset(str(tmp_path), "MUTAG")
    limits = PackLimits(100, 216, 8, "jraph")
    build(graphs, tmp_path / "packs", limits, workers=1)
    assert_packs_are_jraphs(tmp_path / "packs", list(graphs), limits)


def graph(number: int, nodes: int, edges: int) -> Data:
    rng = np.random.default_rng(number)
    return Data(
        x=torch.full((nodes, 2), float(number + 1)),
        edge_index=torch.from_numpy(rng.integers(0, nodes, (2, edges))),
        edge_attr=torch.full((edges, 1), -float(number + 1)),
        y=torch.tensor([float(number)]),
    )


def test_exactly_full_packs(tmp_path: Path) -> None:
    # Three graphs of 3 nodes and 4 edges, and one node more: 10 nodes, 12 edges, 4 graphs, each limit met exactly.
    graphs = [graph(number, 3, 4) for number in range(12)]
    limits = PackLimits(10, 12, 4, "jraph")
    found = build(graphs, tmp_path / "packs", limits, workers=1)
    assert (found.manifest.num_packs, found.manifest.plan["status"]) == (4, "optimal")
    assert assert_packs_are_jraphs(tmp_path / "packs", graphs, limits) == 4


@pytest.mark.parametrize("num_edges", [0, 5])
def test_graphs_without_edges(tmp_path: Path, num_edges: int) -> None:
    graphs = [graph(number, 1 + number % 3, 0) for number in range(20)]
    limits = PackLimits(9, num_edges, 5, "jraph")
    build(graphs, tmp_path / "packs", limits, workers=1)
    assert_packs_are_jraphs(tmp_path / "packs", graphs, limits)
    steps = list(numpy_loader(tmp_path / "packs", batch_size=2, seed=1))
    assert sum(int(step["graphs_mask"].sum()) for step in steps) == 20


def test_one_edge_less_than_one_null_graph_needs() -> None:
    """Twelve graphs of 3 nodes and 4 edges, three a pack: "one" needs 13 edges for 4 packs, "jraph" 12."""
    sizes = GraphSizes(np.full(12, 3), np.full(12, 4))
    for limits, packs in (
        (PackLimits(10, 13, 4, "one"), 4),
        (PackLimits(10, 12, 4, "jraph"), 4),
        (PackLimits(10, 12, 4, "one"), 6),
        (PackLimits(10, 11, 4, "jraph"), 6),
    ):
        plan = make_plan(sizes, limits)
        assert (plan.num_packs, plan.lower_bound, plan.status) == (packs, packs, "optimal"), limits
    one, theirs = (
        need_of(np.array([[3, 4]]), sizes.axes, limits)
        for limits in (PackLimits(10, 13, 4, "one"), PackLimits(10, 12, 4, "jraph"))
    )
    assert one[0].tolist() == theirs[0].tolist() and one[1].tolist() == theirs[1].tolist() == [9, 12, 3]


def test_a_graph_with_as_many_edges_as_there_are(tmp_path: Path) -> None:
    from packer.verify import verify_shards

    build([graph(0, 3, 6)], tmp_path / "packs", PackLimits(4, 6, 2, "jraph"), workers=1)
    assert verify_shards(tmp_path / "packs").ok
