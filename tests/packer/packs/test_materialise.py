"""Packs are what a slow construction, one graph after the other, gives; PopTorch's example holds to the letter."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import heterogeneous, homogeneous, limits_of, packings
from torch_geometric.data import Data, HeteroData

from packer.errors import LimitsError, PlanError
from packer.graphs.ragged import pointers
from packer.graphs.schema import Schema
from packer.graphs.table import GraphTable
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.packs.materialise import empty_pack, materialise
from packer.packs.unpack import unpack_table
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide


def table_of(graphs: list[Any], **options: Any) -> GraphTable:
    block = block_of_graphs(graphs)
    return join_blocks([block], decide(block.statistics, **options)[0])


def ring(n: int, e: int, y: float = 1.0) -> Data:
    """n nodes and e edges i -> i+1, around and around."""
    source = torch.arange(e) % n
    return Data(
        x=torch.arange(1.0, n + 1)[:, None], edge_index=torch.stack([source, (source + 1) % n]), y=torch.tensor([y])
    )


def test_the_worked_example_of_poptorch() -> None:
    # 20 nodes, 17 edges, 5 graphs; two real graphs of 4 nodes and 4 edges. Left for 3 null graphs: 12 nodes, 4 each,
    # and 9 edges, 3 each, all self-loops on a null graph's first node: 8, 12 and 16.
    limits = PackLimits(20, 17, 5)
    table = table_of([ring(4, 4), ring(4, 4)])
    pack = {name: values[0].tolist() for name, values in materialise(table, [0, 1], [0, 2], limits).items()}
    assert pack["ptr"] == [0, 4, 8, 12, 16, 20]
    assert pack["batch"] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert pack["edge_index"] == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 12, 12, 12, 16, 16, 16],
        [1, 2, 3, 0, 5, 6, 7, 4, 8, 8, 8, 12, 12, 12, 16, 16, 16],
    ]
    assert pack["x"] == [[1], [2], [3], [4]] * 2 + [[0]] * 12
    assert pack["y"] == [1, 1, 0, 0, 0]
    assert pack["graphs_mask"] == [True, True, False, False, False]
    assert pack["nodes_mask"] == [True] * 8 + [False] * 12
    assert pack["edges_mask"] == [True] * 8 + [False] * 9
    assert pack["num_real"] == [8, 8, 2]
    assert pack["graph_ids"] == [0, 1, -1, -1, -1]


def test_the_first_null_graphs_get_one_more() -> None:
    # 3 nodes and 1 edge are real; 3 null graphs share 8 nodes (3, 3, 2) and 7 edges (3, 2, 2).
    pack = materialise(table_of([ring(3, 1)]), [0], [0, 1], PackLimits(11, 8, 4))
    assert pack["ptr"][0].tolist() == [0, 3, 6, 9, 11]
    assert pack["edge_index"][0, 0].tolist() == [0, 3, 3, 3, 6, 6, 9, 9]


def test_one_null_graph_owns_all_padding() -> None:
    pack = materialise(table_of([ring(3, 1)]), [0], [0, 1], PackLimits(6, 4, 4, "one"))
    assert pack["ptr"][0].tolist() == [0, 3, 6, 6, 6]
    assert pack["batch"][0].tolist() == [0, 0, 0, 1, 1, 1]
    assert pack["edge_index"][0].tolist() == [[0, 3, 3, 3], [1, 3, 3, 3]]


def test_under_jraph_padding_may_have_no_edge() -> None:
    pack = materialise(table_of([ring(3, 3), ring(2, 1)]), [0, 1], [0, 2], PackLimits(6, 4, 4, "jraph"))
    assert pack["ptr"][0].tolist() == [0, 3, 5, 6, 6]
    assert pack["edge_index"][0].tolist() == [[0, 1, 2, 3], [1, 2, 0, 4]]
    assert pack["edges_mask"].all() and pack["num_real"].tolist() == [[5, 4, 2]]


def test_an_empty_pack_is_all_padding() -> None:
    schema = table_of([ring(3, 3)]).schema
    pack = empty_pack(schema, PackLimits(6, 7, 3))
    assert pack["num_real"].tolist() == [[0, 0, 0]]
    assert pack["ptr"].tolist() == [[0, 2, 4, 6]]
    assert pack["edge_index"].tolist() == [[[0, 0, 0, 2, 2, 4, 4]] * 2]
    assert pack["graph_ids"].tolist() == [[-1, -1, -1]]
    assert not pack["graphs_mask"].any()
    assert {name: (values.shape[1:], str(values.dtype)) for name, values in pack.items()} == {
        column.name: (column.shape, column.storage) for column in pack_columns(schema, PackLimits(6, 7, 3))
    }


def test_padding_values_by_field_and_level() -> None:
    graph = Data(
        x=torch.ones(1, 2), z=torch.tensor([4]), edge_index=torch.zeros(2, 1, dtype=torch.long), y=torch.ones(1)
    )
    graph.edge_attr, graph.half = torch.ones(1, 1), torch.ones(1, dtype=torch.bfloat16)
    table = table_of(
        [graph], overrides={"z": "node", "half": "node"}, pads={"node": 7, "z": -1, "y": 0.5, "edge_attr": 9}
    )
    pack = materialise(table, [0], [0, 1], PackLimits(3, 2, 2))
    assert pack["x"][0].tolist() == [[1, 1], [7, 7], [7, 7]]
    assert pack["z"][0].tolist() == [4, -1, -1]
    assert (pack["y"][0].tolist(), pack["y"].dtype) == ([1.0, 0.5], np.float32)
    assert pack["edge_attr"][0].tolist() == [[1], [9]]
    halves = torch.from_numpy(pack["half"].view(np.int16)).view(torch.bfloat16)
    assert halves[0].tolist() == [1, 7, 7]


def test_index_fields_are_shifted_and_padding_points_at_the_null_graph() -> None:
    graphs = [
        Data(
            num_nodes=2,
            edge_index=torch.tensor([[0], [1]]),
            root_index=torch.tensor(1),
            best_index=torch.tensor([1, 0]),
        ),
        Data(
            num_nodes=3,
            edge_index=torch.tensor([[2], [1]]),
            root_index=torch.tensor(2),
            best_index=torch.tensor([0, 2, 1]),
        ),
    ]
    pack = materialise(table_of(graphs), [1, 0], [0, 2], PackLimits(8, 6, 4))
    # graph 1 is at 0..2, graph 0 at 3..4, the null graphs at 5..6 and 7.
    assert pack["edge_index"][0].tolist() == [[2, 3, 5, 5, 7, 7], [1, 4, 5, 5, 7, 7]]
    assert pack["root_index"][0].tolist() == [2, 4, 5, 7]
    assert pack["best_index"][0].tolist() == [0, 2, 1, 4, 3, 5, 5, 7]
    one = materialise(table_of(graphs), [1, 0], [0, 2], PackLimits(8, 6, 4, "one"))
    assert one["root_index"][0].tolist() == [2, 4, 5, 5]  # no slot points outside the pack


def test_hetero_padding_edges_join_the_first_nodes_of_both_ends() -> None:
    graph = HeteroData()
    graph["a"].num_nodes, graph["b"].num_nodes = 2, 3
    graph["a", "to", "b"].edge_index = torch.tensor([[1, 0], [2, 0]])
    limits = PackLimits({"a": 6, "b": 9}, {("a", "to", "b"): 5}, 3)
    pack = materialise(table_of([graph]), [0], [0, 1], limits)
    # null graphs: nodes 2..3 and 4..5 of a, 3..5 and 6..8 of b; edges 2 and 1
    assert pack["a/ptr"][0].tolist() == [0, 2, 4, 6]
    assert pack["b/ptr"][0].tolist() == [0, 3, 6, 9]
    assert pack["a__to__b/edge_index"][0].tolist() == [[1, 0, 2, 2, 4], [2, 0, 3, 3, 6]]
    assert pack["num_real"][0].tolist() == [2, 3, 2, 1]
    assert pack["a__to__b/mask"][0].tolist() == [True, True, False, False, False]


def test_graphs_that_lack_a_field_get_padding_and_a_mask() -> None:
    graphs = [
        Data(x=torch.ones(2, 1), y=torch.tensor([3.0])),
        Data(x=torch.ones(1, 1)),
        Data(num_nodes=2, y=torch.ones(1)),
    ]
    pack = materialise(table_of(graphs, pads={"x": 5}), [0, 1, 2], [0, 3], PackLimits(7, 5, 5))
    assert pack["y"][0].tolist() == [3, 0, 1, 0, 0]
    assert pack["y_present"][0].tolist() == [True, False, True, False, False]
    assert pack["x"][0, :, 0].tolist() == [1, 1, 1, 5, 5, 5, 5]
    assert pack["x_present"][0].tolist() == [True, True, False, False, False]


@settings(deadline=None, max_examples=200)
@given(st.one_of(homogeneous(), heterogeneous()), st.data())
def test_place_equals_the_slow_construction(graphs: list[Any], data: st.DataObject) -> None:
    table = table_of(graphs, pads={"node": 1, "edge": 0, "graph": 1})
    null_graphs = data.draw(st.sampled_from(("all", "one", "jraph")))
    counts = {axis.key: table.counts(axis.key) for axis in table.schema.axes}
    ids, offsets, slots, num_slots = data.draw(packings(counts, table.schema.axes, null_graphs))
    limits = limits_of(table.schema.axes, slots, num_slots, null_graphs)
    packs = materialise(table, ids, offsets, limits)
    for column in pack_columns(table.schema, limits):
        assert packs[column.name].shape == (len(offsets) - 1, *column.shape), column
        assert packs[column.name].dtype == column.storage, column
    for number, (start, stop) in enumerate(pairwise(offsets)):
        expected = slow_pack([graphs[i] for i in ids[start:stop]], ids[start:stop], table.schema, limits)
        assert packs.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(packs[name][number], values, err_msg=name)
    lifted, found = unpack_table(packs, table.schema, limits)
    assert found.tolist() == ids.tolist()
    expected_table = table.select(ids)
    for key in expected_table.ptr:
        assert lifted.ptr[key].tolist() == expected_table.ptr[key].tolist()
    for key, column in expected_table.columns.items():
        assert lifted.columns[key].dtype == column.dtype
        assert lifted.columns[key].tobytes() == column.tobytes(), key


def slow_pack(graphs: list[Any], ids: Any, schema: Schema, limits: PackLimits) -> dict[str, np.ndarray]:
    """One pack from PyG objects, a graph at a time, in plain Python; only the schema's decisions are shared."""
    num_slots, real = limits.num_graphs, len(graphs)
    assert num_slots is not None
    rows: dict[str, list[int]] = {}
    found: dict[str, Any] = {}
    for axis in schema.axes:
        capacity = limits.slots(schema.axes)[axis.key]
        own = [rows_of(graph, axis) for graph in graphs]
        spare, nulls = capacity - sum(own), num_slots - real
        if limits.null_graphs in ("one", "jraph"):
            rows[axis.key] = [*own, spare] + [0] * (nulls - 1)
        else:
            rows[axis.key] = own + [len(range(i, spare, nulls)) for i in range(nulls)]
        found[axis.mask_name] = [True] * sum(own) + [False] * spare
        if axis.level == "node":
            found[axis.column("batch")] = [slot for slot, count in enumerate(rows[axis.key]) for _ in range(count)]
            found[axis.column("ptr")] = [sum(rows[axis.key][:slot]) for slot in range(num_slots + 1)]
    found["graphs_mask"] = [True] * real + [False] * (num_slots - real)
    found["num_real"] = [sum(found[axis.mask_name]) for axis in schema.axes] + [real]
    found["graph_ids"] = list(ids) + [-1] * (num_slots - real)
    for field in schema.fields:
        if field.role == "count":
            continue
        values: list[Any] = []
        for slot in range(num_slots):
            graph = graphs[slot] if slot < real else None
            if field.role == "present":
                values.append(graph is not None and has(graph, field.type, field.name[: -len("_present")]))
                continue
            length = 1 if field.axis is None else rows[field.axis.key][slot]
            if graph is not None and has(graph, field.type, field.name):
                value = numbers_of(store_of(graph, field.type)[field.name])
                if field.form in ("value", "scalar"):
                    value = value[None]
                elif field.cat_dim == -1:
                    value = np.moveaxis(value, -1, 0)
            else:
                pad = 0 if field.role == "index" else field.pad
                if field.dtype == "bfloat16":
                    pad = int(torch.tensor(pad, dtype=torch.bfloat16).view(torch.int16))
                value = np.full((length, *field.shape), pad, dtype=field.storage)
            if field.role == "index":
                value = value.astype(np.int64)
                for entry, target in enumerate(field.targets):
                    first = sum(rows[target][:slot])
                    if slot >= real and limits.null_graphs in ("one", "jraph"):
                        first = sum(rows[target][:real])
                    if field.shape:
                        value[:, entry] += first
                    else:
                        value += first
            values.extend(value)
        array = np.stack(values) if values else np.zeros((0, *field.shape))
        found[field.key] = np.moveaxis(array, 0, -1) if field.cat_dim == -1 and field.axis is not None else array
    return {name: np.array(values) for name, values in found.items()}


def store_of(graph: Any, type_: Any) -> Any:
    stores = {store._key: store for store in graph.stores}
    return stores.get(type_, {})


def has(graph: Any, type_: Any, name: str) -> bool:
    return name in store_of(graph, type_)


def rows_of(graph: Any, axis: Any) -> int:
    store = store_of(graph, axis.type)
    if axis.level == "node":
        return (store.num_nodes or 0) if len(store) else 0
    return store["edge_index"].shape[1] if "edge_index" in store else 0


def numbers_of(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy().view(np.uint16)
    return value.numpy() if isinstance(value, torch.Tensor) else np.array(value)


@pytest.mark.parametrize(
    ("offsets", "limits", "message"),
    [
        ([0, 2], PackLimits(20, 17, 2), "pack 0 holds 2 graphs; 2 slots less 1 for padding allow 1"),
        (
            [0, 1, 2],
            PackLimits(6, 17, 3),
            "pack 1 holds 5 rows of 'node'; a pack has 6, of which its 2 null graphs need 2",
        ),
        (
            [0, 2],
            PackLimits(9, 9, 3, "one"),
            "pack 0 holds 9 rows of 'node'; a pack has 9, of which its 1 null graphs need 1",
        ),
        (
            [0, 2],
            PackLimits(10, 7, 3, "jraph"),
            "pack 0 holds 8 rows of 'edge'; a pack has 7, of which its 1 null graphs need 0",
        ),
        (
            [0, 1, 2],
            PackLimits(9, 9, 3, "none"),
            'null_graphs="none" is for planning only: packs need "all", "one" or "jraph"',
        ),
    ],
)
def test_packs_beyond_the_limits_are_refused(offsets: list[int], limits: PackLimits, message: str) -> None:
    with pytest.raises((PlanError, LimitsError)) as error:
        materialise(table_of([ring(4, 4), ring(5, 4)]), [0, 1], offsets, limits)
    assert str(error.value) == message


def test_pointers_begin_at_zero() -> None:
    assert pointers(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
