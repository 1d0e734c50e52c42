"""Graphs as columns: on disk as in memory, hashed by what they are, and the same from storage as one by one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import assert_same, heterogeneous, homogeneous
from torch_geometric.data import Data, InMemoryDataset

from packer.errors import FormatError, SizesError
from packer.graphs import table as graph_table
from packer.graphs.ragged import segments
from packer.graphs.table import GraphTable, concatenate, empty_table
from packer.reading.unpack_graphs import graphs_of
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs, block_of_storage, reads_from_storage
from packer.scan.levels import decide


class Held(InMemoryDataset):
    """Some graphs as PyG keeps a data set in memory."""

    def __init__(self, graphs: list[Any], transform: Callable[[Any], Any] | None = None) -> None:
        super().__init__(transform=transform)
        self.data, self.slices = self.collate(graphs)


def table_of(graphs: list[Any]) -> GraphTable:
    block = block_of_graphs(graphs)
    return join_blocks([block], decide(block.statistics)[0])


def assert_same_table(found: GraphTable, expected: GraphTable) -> None:
    assert found.schema == expected.schema
    assert found.source_ids.tolist() == expected.source_ids.tolist()
    for kind in ("ptr", "columns"):
        mine, theirs = getattr(found, kind), getattr(expected, kind)
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert (mine[key].dtype, mine[key].shape) == (theirs[key].dtype, theirs[key].shape), key
            assert mine[key].tobytes() == theirs[key].tobytes(), key
    assert {key: found.strings[key].to_pylist() for key in found.strings} == {
        key: expected.strings[key].to_pylist() for key in expected.strings
    }


def test_the_columns_of_two_graphs() -> None:
    graphs = [
        Data(x=torch.tensor([[1.0], [2.0]]), edge_index=torch.tensor([[0, 1, 1], [1, 0, 1]]), smiles="C"),
        Data(x=torch.tensor([[3.0]]), edge_index=torch.zeros(2, 0, dtype=torch.long)),
    ]
    table = table_of(graphs)
    assert table.ptr["node"].tolist() == [0, 2, 3]
    assert table.ptr["edge"].tolist() == [0, 3, 3]
    assert (table.columns["x"].tolist(), table.columns["x"].dtype) == ([[1], [2], [3]], np.uint8)
    assert table.columns["edge_index"].tolist() == [[0, 1], [1, 0], [1, 1]]  # an edge a row, numbers of its own graph
    assert table.strings["smiles"].to_pylist() == ["C", None]
    sizes = table.sizes()
    assert (sizes.num_nodes.tolist(), sizes.num_edges.tolist()) == ([2, 1], [3, 0])


@settings(deadline=None)
@given(st.one_of(homogeneous(), heterogeneous()), st.data())
def test_a_table_on_disk_is_the_table_in_memory(tmp_path_factory: Any, graphs: list[Any], data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("table")
    cut = data.draw(st.integers(0, len(graphs)))
    whole = block_of_graphs(graphs)
    schema, _ = decide(whole.statistics)
    blocks = [block_of_graphs(graphs[:cut]), block_of_graphs(graphs[cut:], first_id=cut)]
    table = join_blocks([whole], schema)
    assert_same_table(join_blocks(blocks, schema), table)
    assert_same_table(join_blocks(iter(blocks), schema, folder / "joined"), table)
    assert_same_table(table.save(folder / "saved"), table)
    assert_same_table(GraphTable.open(folder / "saved"), table)
    assert GraphTable.open(folder / "saved").content_hash() == table.content_hash()
    assert_same_table(table.select(np.arange(len(graphs))), table)
    assert_same_table(concatenate([empty_table(schema), table]), table)


@settings(deadline=None, max_examples=60)
@given(st.one_of(homogeneous(partial=False)), st.data())
def test_storage_is_read_as_one_graph_after_the_other(graphs: list[Any], data: st.DataObject) -> None:
    keys = set(graphs[0].keys())
    same = [graph for graph in graphs if set(graph.keys()) == keys]  # what PyG can join
    dataset = Held(same * 2)
    assume(len(dataset))  # PyG counts graphs by their tensors
    if data.draw(st.booleans()):
        dataset = dataset.index_select(data.draw(st.lists(st.integers(0, len(dataset) - 1), min_size=1)))
    assert reads_from_storage(dataset)
    start = data.draw(st.integers(0, len(dataset) - 1))
    block = block_of_storage(dataset, start, len(dataset))
    slow = block_of_graphs([dataset[i] for i in range(start, len(dataset))], first_id=start)
    schema, _ = decide(block.statistics)
    assert {field.key: field for field in decide(slow.statistics)[0].fields} == {
        field.key: field for field in schema.fields
    }
    assert_same_table(join_blocks([block], schema), join_blocks([slow], schema))


@settings(deadline=None, max_examples=30)
@given(heterogeneous())
def test_hetero_storage_is_read_as_one_graph_after_the_other(graphs: list[Any]) -> None:
    same = [graph for graph in graphs if graph.to_dict().keys() == graphs[0].to_dict().keys()]
    dataset = Held(same * 2)
    block = block_of_storage(dataset, 0, len(dataset))
    table = join_blocks([block], decide(block.statistics)[0])
    for found, expected in zip(graphs_of(table), same * 2, strict=True):
        assert_same(found, expected)


def test_storage_is_not_read_where_it_is_not_what_indexing_gives() -> None:
    graphs = [Data(x=torch.ones(2, 1)), Data(x=torch.ones(1, 1))]

    class Changing(Held):
        def get(self, idx: int) -> Any:
            return Data(x=super().get(idx).x * 2)

    assert reads_from_storage(Held(graphs))
    assert not reads_from_storage(Held(graphs, transform=lambda graph: graph))
    assert not reads_from_storage(Held(graphs[:1]))  # PyG gives its storage itself
    assert not reads_from_storage(Changing(graphs))
    assert not reads_from_storage(Held([Data(x=torch.ones(1, 1), sub={"a": torch.ones(1)})] * 2))


def test_graphs_without_nodes_in_storage_are_left_out() -> None:
    graphs = [Data(x=torch.ones(2, 1)), Data(x=torch.ones(0, 1)), Data(x=torch.full((1, 1), 5.0))]
    block = block_of_storage(Held(graphs), 0, 3)
    assert (block.ids.tolist(), block.skipped) == ([0, 2], {1: "no nodes"})
    assert block.columns["x"].tolist() == [[1], [1], [5]]


def test_the_content_hash_tells_graphs_and_not_their_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_table, "HASH_GRAPHS", 2)
    graphs = [Data(x=torch.full((2, 1), float(i)), smiles="C" * i) for i in range(5)]
    block = block_of_graphs(graphs)
    table = join_blocks([block], decide(block.statistics)[0])
    assert table.columns["x"].dtype == np.uint8
    wide = join_blocks([block], decide(block.statistics, pads={"x": 0.5})[0])
    assert wide.columns["x"].dtype == np.float32
    assert wide.content_hash() == table.content_hash()
    for change in ({"x": torch.full((2, 1), 9.0)}, {"smiles": "CCCN"}, {"x": torch.full((3, 1), 3.0)}):
        other = [graph.clone() for graph in graphs]
        for name, value in change.items():
            other[3][name] = value
        assert table_of(other).content_hash() != table.content_hash()
    assert table_of(graphs[:4]).content_hash() != table.content_hash()
    assert table_of(graphs[::-1]).content_hash() != table.content_hash()


def test_neither_a_half_written_nor_a_damaged_table_opens(tmp_path: Path) -> None:
    block = block_of_graphs([Data(x=torch.ones(2, 1))])
    schema, _ = decide(block.statistics)

    def failing() -> Any:
        yield block
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join_blocks(failing(), schema, tmp_path)
    with pytest.raises(FormatError, match="holds no complete graph table"):
        GraphTable.open(tmp_path)
    join_blocks([block], schema, tmp_path)
    (tmp_path / "000.bin").write_bytes(b"1234")
    with pytest.raises(FormatError, match="has 4 bytes; its table says 8"):
        GraphTable.open(tmp_path)
    (tmp_path / "table.json").write_text('{"format": "else"}')
    with pytest.raises(FormatError, match="holds 'else', not 'graph-packer table/1'"):
        GraphTable.open(tmp_path)


def test_an_empty_table_has_no_sizes() -> None:
    schema = table_of([Data(x=torch.ones(1, 1), smiles="C")]).schema
    with pytest.raises(SizesError, match="no graphs"):
        empty_table(schema).sizes()
    assert empty_table(schema).strings["smiles"].type == pa.string()


def test_segments() -> None:
    assert segments(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert segments(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []
