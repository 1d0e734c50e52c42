"""What went in comes out: every attribute, with its form, dtype and bits."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_same, heterogeneous, homogeneous, limits_of, packings
from torch_geometric.data import Data, HeteroData

from packer import PackDataset, PackLimits, torch_loader, unpack_with_ids
from packer.errors import FieldError
from packer.graphs.table import GraphTable
from packer.packs.materialise import materialise
from packer.packs.unpack import unpack_table
from packer.reading.unpack_graphs import graphs_of, unpack
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs, block_of_storage, reads_from_storage
from packer.scan.levels import decide
from packer.scan.statistics import merge
from pipelines import build


def table_of(graphs: list[Any], at: int | None = None) -> GraphTable:
    """The table of some graphs, scanned as two blocks, the second from `at`."""
    parts = [graphs] if at is None else [graphs[:at], graphs[at:]]
    blocks = [block_of_graphs(part, first_id=at if number else 0) for number, part in enumerate(parts)]
    statistics = blocks[0].statistics
    for block in blocks[1:]:
        statistics = merge(statistics, block.statistics)
    return join_blocks(blocks, decide(statistics)[0])


@settings(deadline=None, max_examples=200)
@given(st.one_of(homogeneous(), heterogeneous()), st.data())
def test_random_graphs_come_back_from_packs(graphs: list[Any], data: st.DataObject) -> None:
    table = table_of(graphs, data.draw(st.none() | st.integers(0, len(graphs))))
    null_graphs = data.draw(st.sampled_from(("all", "one", "jraph")))
    counts = {axis.key: table.counts(axis.key) for axis in table.schema.axes}
    ids, offsets, slots, num_slots = data.draw(packings(counts, table.schema.axes, null_graphs))
    limits = limits_of(table.schema.axes, slots, num_slots, null_graphs)
    lifted, found_ids = unpack_table(materialise(table, ids, offsets, limits), table.schema, limits)
    assert found_ids.tolist() == ids.tolist()
    for graph, i in zip(graphs_of(lifted), ids.tolist(), strict=True):
        assert_same(graph, without_strings(graphs[i]))
    for graph, expected in zip(graphs_of(table), graphs, strict=True):
        assert_same(graph, expected)


def without_strings(graph: Any) -> Any:
    graph = graph.clone()
    for store in graph.stores:
        for name in [name for name, value in store.items() if isinstance(value, str)]:
            del store[name]
    return graph


@pytest.mark.parametrize("name", ["MUTAG", "ENZYMES", "IMDB-BINARY", "Mutagenicity"])
def test_real_graphs_come_back(name: str, shared_data: Any, tmp_path: Any) -> None:
    from torch_geometric.datasets import TUDataset

    shutil.copytree(shared_data / "tu" / name, tmp_path / name)
    dataset = TUDataset(str(tmp_path), name, use_node_attr=True, use_edge_attr=True)
    assert reads_from_storage(dataset)
    graphs = list(dataset)
    blocks = [block_of_storage(dataset, a, min(a + 1000, len(dataset))) for a in range(0, len(dataset), 1000)]
    statistics = blocks[0].statistics
    for block in blocks[1:]:
        statistics = merge(statistics, block.statistics)
    schema, _ = decide(statistics)
    table = join_blocks(blocks, schema, tmp_path / "table")
    ids = np.random.default_rng(0).permutation(len(dataset))
    offsets = np.append(np.arange(0, len(dataset), 8), len(dataset))
    largest = {axis.key: int(table.counts(axis.key).max()) * 8 + 9 for axis in schema.axes}
    limits = limits_of(schema.axes, largest, 9, "all")
    lifted, _ = unpack_table(materialise(table, ids, offsets, limits), schema, limits)
    for found, i in zip(graphs_of(lifted), ids.tolist(), strict=True):
        assert_same(found, graphs[i])


def test_an_explicit_number_of_nodes_comes_back_and_an_implicit_one_stays_so() -> None:
    edge_index = torch.tensor([[0], [1]])
    graphs = [
        Data(num_nodes=4, edge_index=edge_index),
        Data(x=torch.zeros(3, 1), num_nodes=3, edge_index=edge_index),
        Data(x=torch.zeros(3, 1), edge_index=edge_index),
    ]
    table = table_of(graphs)
    assert table.counts("node").tolist() == [4, 3, 3]
    found = graphs_of(table)
    assert ["num_nodes" in graph for graph in found] == [True, True, False]
    for graph, expected in zip(found, graphs, strict=True):
        assert_same(graph, expected)


def test_python_numbers_keep_their_type_and_precision() -> None:
    graphs = [Data(num_nodes=1, a=0.5, b=2**53 + 1, c=True), Data(num_nodes=1, a=1e30, b=-1, c=False)]
    found = graphs_of(table_of(graphs))
    assert [(graph.a, graph.b, graph.c) for graph in found] == [
        (0.5, 2**53 + 1, True),
        (float(np.float32(1e30)), -1, False),
    ]
    assert [type(value) for value in (found[0].a, found[0].b, found[0].c)] == [float, int, bool]


def test_a_type_without_attributes_in_a_graph_stays_absent() -> None:
    graphs = [HeteroData(), HeteroData()]
    for graph in graphs:
        graph["a"].x = torch.ones(2, 1)
    graphs[1]["b"].x = torch.ones(0, 1)  # there, without nodes
    found = graphs_of(table_of(graphs))
    assert [graph.node_types for graph in found] == [["a"], ["a", "b"]]
    assert found[1]["b"].x.shape == (0, 1)


def test_unpacked_tensors_share_no_memory() -> None:
    first, second = graphs_of(table_of([Data(x=torch.zeros(2, 1)), Data(x=torch.zeros(2, 1))]))
    first.x += 1
    assert second.x.sum() == 0
    assert first.x.untyped_storage().nbytes() == 8  # two floats, not those of both graphs


@pytest.fixture(scope="module")
def small(tmp_path_factory: Any) -> tuple[list[Data], Path]:
    """Graphs and the data set that they were built into; graph 2 has no nodes and is skipped."""
    rng = np.random.default_rng(1)
    graphs = [
        Data(
            x=torch.from_numpy(rng.integers(0, 9, (n, 2)).astype(np.float32)),
            edge_index=torch.from_numpy(rng.integers(0, max(n, 1), (2, 2 * n))),
            half=torch.from_numpy(rng.normal(size=n)).to(torch.bfloat16),
            root_index=torch.tensor(n - 1),
            y=torch.from_numpy(rng.normal(size=(1, 3))),
            smiles="C" * n,
        )
        for n in (3, 5, 0, 1, 4, 2, 6, 3, 2)
    ]
    out = tmp_path_factory.mktemp("small") / "packs"
    build(graphs, out, PackLimits(14, 28, 4), on_empty="skip")
    return graphs, out


def test_a_data_set_gives_back_what_was_built(small: tuple[list[Data], Path]) -> None:
    graphs, out = small
    found, ids = unpack_with_ids(out)
    assert ids.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    for graph, i in zip(found, ids.tolist(), strict=True):
        assert_same(graph, graphs[i])
    for source in (str(out), PackDataset(out)):
        for graph, same in zip(unpack(source), found, strict=True):
            assert_same(graph, same)


def test_a_pack_by_number_gives_its_graphs_in_slot_order(small: tuple[list[Data], Path]) -> None:
    graphs, out = small
    dataset = PackDataset(out)
    for number in range(len(dataset)):
        ids = [i for i in dataset.graph_ids(number).tolist() if i >= 0]
        for graph, i in zip(unpack(number, dataset), ids, strict=True):
            assert_same(graph, graphs[i])
    with pytest.raises(FieldError, match=rf"there is no pack 99: .* has packs 0 to {len(dataset) - 1}"):
        unpack(99, dataset)


@pytest.mark.parametrize("layout", ["pyg", "dict"])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_what_a_loader_gives_can_be_unpacked(small: tuple[list[Data], Path], layout: str, batch_size: int) -> None:
    graphs, out = small
    dataset = PackDataset(out)
    ids = [i for number in range(len(dataset)) for i in dataset.graph_ids(number).tolist() if i >= 0]
    found = [
        graph
        for batch in torch_loader(dataset, batch_size=batch_size, shuffle=False, layout=layout)
        for graph in unpack(batch, dataset)
    ]
    for graph, i in zip(found, ids, strict=True):
        assert_same(graph, without_strings(graphs[i]))


def test_packs_stacked_side_by_side_can_be_unpacked(small: tuple[list[Data], Path]) -> None:
    graphs, out = small
    dataset = PackDataset(out)
    packs = [dataset[number] for number in range(len(dataset))]
    stacked = {name: torch.stack([pack[name] for pack in packs]) for name in packs[0]}
    ids = [i for number in range(len(dataset)) for i in dataset.graph_ids(number).tolist() if i >= 0]
    for graph, i in zip(unpack(stacked, dataset), ids, strict=True):
        assert_same(graph, without_strings(graphs[i]))


def test_what_unpack_cannot_do_it_says(small: tuple[list[Data], Path]) -> None:
    _, out = small
    with pytest.raises(
        FieldError, match=r"unpack needs a data set .*, got dict; for a pack pass the data set as second"
    ):
        unpack(PackDataset(out)[0])
    part = PackDataset(out, columns=["x", "batch"])
    with pytest.raises(
        FieldError, match=r"a pack without edge_index, .* cannot be unpacked; load the data set with all"
    ):
        unpack(part[0], part)


@settings(deadline=None, max_examples=10)
@given(st.one_of(homogeneous(), heterogeneous()))
def test_random_graphs_come_back_from_disk(tmp_path_factory: Any, graphs: list[Any]) -> None:
    out = tmp_path_factory.mktemp("packs") / "packs"
    limits = PackLimits(64, 64, 8, "one")
    build(graphs, out, limits, algorithm="first-fit", workers=1)
    for graph, expected in zip(unpack(out), graphs, strict=True):
        assert_same(graph, expected)
