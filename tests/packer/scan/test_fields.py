"""A field's level, form, dtypes and padding are decided once, from all graphs; what cannot be packed is named."""

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import heterogeneous, homogeneous
from torch_geometric.data import Data, HeteroData

from packer.errors import FieldError, FormatError, PackerError, SourceError
from packer.graphs.dtypes import narrowest
from packer.graphs.schema import Field, Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.scan.block import RawBlock
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide
from packer.scan.statistics import Statistics, merge


def pair(n: int, e: int, **more: Any) -> Data:
    return Data(num_nodes=n, edge_index=torch.zeros(2, e, dtype=torch.long), **more)


def decided(graphs: list[Any], **options: Any) -> tuple[dict[str, Field], tuple[str, ...]]:
    schema, ambiguous = decide(block_of_graphs(graphs).statistics, **options)
    return {field.key: field for field in schema.fields}, ambiguous


def one(name: str, *values: Any, sizes: Any = ((3, 4), (2, 5)), **options: Any) -> Field:
    """The field made of one attribute of graphs of these (nodes, edges)."""
    graphs = [pair(n, e, **{name: value}) for (n, e), value in zip(sizes, values, strict=True)]
    return decided(graphs, **options)[0][name]


@pytest.mark.parametrize(
    ("name", "values", "level", "form", "shape"),
    [
        ("z", (torch.zeros(3), torch.zeros(2)), "node", "rows", ()),
        ("w", (torch.zeros(4, 2), torch.zeros(5, 2)), "edge", "rows", (2,)),
        ("y", (torch.zeros(1), torch.zeros(1)), "graph", "row", ()),
        ("y", (torch.zeros(1, 7), torch.zeros(1, 7)), "graph", "row", (7,)),
        ("y", (torch.zeros(7), torch.zeros(7)), "graph", "value", (7,)),
        ("y", (torch.tensor(1.0), torch.tensor(2.0)), "graph", "value", ()),
        ("y", (torch.zeros(3), torch.zeros(2)), "node", "rows", ()),
        ("y", (torch.zeros(4), torch.zeros(5)), "edge", "rows", ()),
        ("grid", (torch.zeros(2, 6, 5), torch.zeros(2, 6, 5)), "graph", "value", (2, 6, 5)),
        ("score", (0.5, 1.5), "graph", "scalar", ()),
    ],
)
def test_a_level_that_the_data_settle(name: str, values: Any, level: str, form: str, shape: tuple[int, ...]) -> None:
    field = one(name, *values)
    assert (field.level, field.form, field.shape) == (level, form, shape)


@pytest.mark.parametrize(
    ("name", "level"),
    [("bond_edge", "edge"), ("kind", "node"), ("y", "graph"), ("time", "node"), ("edge_weight", "edge")]
    + [("edge_kind", "edge"), ("node_kind", "node")],
)
def test_an_open_level_follows_the_name_and_is_reported_where_that_does_not_settle_it(name: str, level: str) -> None:
    # Every graph has as many nodes as edges as values: one.
    graphs = [pair(1, 1, **{name: torch.ones(1)}) for _ in range(2)]
    fields, ambiguous = decided(graphs)
    settled = name.startswith(("node_", "edge_"))
    assert (fields[name].level, ambiguous) == (level, () if settled else (name,))
    for asked in ("node", "edge", "graph"):
        fields, ambiguous = decided(graphs, overrides={name: asked})
        assert (fields[name].level, ambiguous) == (asked, ())


def test_the_last_graph_counts_as_much_as_the_first() -> None:
    graphs = [pair(1, 3, y=torch.zeros(1)) for _ in range(5)] + [pair(2, 3, y=torch.zeros(2))]
    fields, ambiguous = decided(graphs)
    assert (fields["y"].level, ambiguous) == ("node", ())


def test_an_override_that_the_data_contradict() -> None:
    with pytest.raises(FieldError) as error:
        one("z", torch.zeros(3), torch.zeros(2), overrides={"z": "edge"})
    assert str(error.value) == "'z' cannot be a edge field: graph 0 has length 3 and 4 edges"


@pytest.mark.parametrize(
    ("values", "storage"),
    [
        ((torch.tensor([0, 255]),), "uint8"),
        ((torch.tensor([0, 256]),), "uint16"),
        ((torch.tensor([-1, 127]),), "int8"),
        ((torch.tensor([-1, 128]),), "int16"),
        ((torch.tensor([2**40, 0]),), "int64"),  # no unsigned type of the same width
        ((torch.tensor([1.0, 0.0]),), "uint8"),
        ((torch.tensor([1.0, -0.0]),), "float32"),
        ((torch.tensor([1.0, float("nan")]),), "float32"),
        ((torch.tensor([1.0, 0.5]),), "float32"),
        ((torch.tensor([70000.0, 0.0]),), "float32"),  # an int32 saves nothing
        ((torch.tensor([70000.0, 0.0], dtype=torch.float64),), "uint32"),
        ((torch.tensor([1.5, 0.0], dtype=torch.float64),), "float64"),  # never a smaller float
        ((torch.tensor([True, False]),), "bool"),
        ((torch.tensor([1.0, 0.0], dtype=torch.bfloat16),), "uint16"),
    ],
)
def test_narrow_lossless_storage(values: Any, storage: str) -> None:
    field = one("v", *values, sizes=[(2, 0)], overrides={"v": "node"})
    assert field.storage == storage


def test_storage_holds_the_padding_value_too() -> None:
    values = torch.tensor([0, 255])
    assert one("v", values, sizes=[(2, 0)], pads={"v": -1}).storage == "int16"
    assert one("v", values.float(), sizes=[(2, 0)], pads={"v": 0.5}).storage == "float32"


@given(st.sampled_from(("int64", "int32", "float64", "float32", "uint16")), st.lists(st.integers(0, 65535), min_size=1))
def test_narrowing_loses_nothing(dtype: str, numbers: list[int]) -> None:
    values = np.array(numbers, dtype=dtype)
    narrow = narrowest(dtype, min(numbers), max(numbers), whole=True)
    assert values.astype(narrow).astype(dtype).tobytes() == values.tobytes()
    assert np.dtype(narrow).itemsize <= values.itemsize


NO_ROW = "the padding value of 'v' must be a number, or a row of them; got"


@pytest.mark.parametrize(
    ("value", "pad", "message"),
    [
        (torch.ones(2, dtype=torch.long), 0.5, "'v' is int64: its padding value must be a whole number; got 0.5"),
        (
            torch.ones(2, dtype=torch.long),
            float("nan"),
            "'v' is int64: its padding value must be a whole number; got nan",
        ),
        (
            torch.ones(2, dtype=torch.uint8),
            256,
            "'v' is uint8: its padding value must lie between 0 and 255; got 256",
        ),
        (torch.ones(2, dtype=torch.bool), 2, "'v' is bool: its padding value must be 0 or 1; got 2"),
        (torch.ones(2), 1e39, "'v' is float32: its padding value 1e+39 overflows"),
        (torch.ones(2), "x", "the padding value of 'v' must be a number, or a row of them; got 'x'"),
        (torch.ones(2), [1.0, 2.0], "the padding value of 'v' is [2] numbers; a row of it is []"),
        (torch.ones(2, 3), [1.0, 2.0], "the padding value of 'v' is [2] numbers; a row of it is [3]"),
        (
            torch.ones(2, 3),
            [[1, 2], [3]],
            "the padding value of 'v' must be a number, or a row of them; got [[1, 2], [3]]",
        ),
        (torch.ones(2, 3), [], f"{NO_ROW} []"),
        (
            torch.ones(2, 3),
            ["a", "b", "c"],
            "the padding value of 'v' must be a number, or a row of them; got ['a', 'b', 'c']",
        ),
        (torch.ones(2, 3), [0, 0, 1e39], "'v' is float32: its padding value 1e+39 overflows"),
        (
            torch.ones(2, 2, dtype=torch.int8),
            [0, 0.5],
            "'v' is int8: its padding value must be a whole number; got 0.5",
        ),
    ],
)
def test_padding_values_that_do_not_fit(value: Any, pad: Any, message: str) -> None:
    with pytest.raises(FieldError) as error:
        one("v", value, sizes=[(2, 0)], pads={"v": pad})
    assert str(error.value) == message


LONG = torch.long


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        (
            [pair(2, 1), Data(num_nodes=2, edge_index=torch.tensor([[0, 1], [1, 2]]))],
            "graph 1: 'edge_index' has the entry 2, but the graph has 2 nodes (0 to 1): correct the entry, or set "
            "num_nodes",
        ),
        (
            [Data(num_nodes=2, edge_index=torch.tensor([[0], [-1]]))],
            "graph 0: 'edge_index' has the entry -1, but the graph has 2 nodes (0 to 1): correct the entry, or set "
            "num_nodes",
        ),
        (
            [Data(num_nodes=2, edge_index=torch.zeros(2, 3))],
            "graph 0: 'edge_index' is float32 [2, edges]; it must be a tensor of whole numbers, [2, edges]",
        ),
        (
            [Data(num_nodes=2, edge_index=torch.zeros(3, 2, dtype=LONG))],
            "graph 0: 'edge_index' is int64 [3, edges]; it must be a tensor of whole numbers, [2, edges]",
        ),
        (
            [pair(2, 0, x=torch.zeros(2, 3)), pair(2, 0, x=torch.zeros(2, 4))],
            "graph 1: the shape of 'x' is [2, 4], but [2, 3] in graph 0; give all graphs the same, or leave the "
            "attribute out",
        ),
        (
            [pair(2, 0, x=torch.zeros(2, 3)), pair(2, 0, x=torch.zeros(2, 3, dtype=LONG))],
            "graph 1: the dtype of 'x' is int64, but float32 in graph 0; give all graphs the same, or leave the "
            "attribute out",
        ),
        (
            [pair(2, 0, y=1.0), pair(2, 0, y=1)],
            "graph 1: 'y' is a int, but a float in graph 0; give all graphs the same",
        ),
        (
            [pair(2, 0, y=torch.ones(1)), pair(2, 0, y="one")],
            "graph 1: 'y' is a str, but a Tensor in graph 0; give all graphs the same, or leave the attribute out",
        ),
        (
            [pair(3, 4, v=torch.zeros(3)), pair(3, 4, v=torch.zeros(4))],
            "'v' belongs neither to nodes, edges nor graphs: not node: graph 1 has length 4 and 3 nodes; not edge: "
            "graph 0 has length 3 and 4 edges; not graph: graph 1 has length 4, but 3 in graph 0. Give its rows an "
            "axis of their own (axes={'NAME': ['v']}, --axis NAME=v), reshape it, or leave it out (exclude_keys, "
            "--exclude)",
        ),
        (
            [pair(2, 0, my_batch=torch.zeros(2))],
            "graph 0: attribute 'my_batch': PyG shifts attributes with 'batch' in their name by their largest value "
            "when it joins graphs; rename it, or leave it out and pass follow_batch to the loader",
        ),
        (
            [pair(2, 0, ptr=torch.zeros(2))],
            "graph 0: attribute 'ptr': packs have a column of their own by this name; rename the attribute",
        ),
        (
            [pair(2, 0, c=torch.zeros(2, dtype=torch.complex64))],
            "graph 0: 'c' is a complex tensor; give real and imaginary parts as two columns (torch.view_as_real)",
        ),
        (
            [pair(2, 0, adj=torch.eye(2).to_sparse())],
            "graph 0: 'adj' is a sparse tensor; give edge_index and edge_attr (torch_geometric.utils.to_edge_index) "
            "instead",
        ),
        (
            [pair(2, 0, names=["a", "b"])],
            "graph 0: attribute 'names' is a list; packs take tensors, numbers and strings: join the texts into one, "
            "number them in a tensor, or leave it out (exclude_keys, --exclude)",
        ),
        (
            [pair(2, 0, size=2**63)],
            "graph 0: 'size' is 9223372036854775808; whole numbers are kept in 64 bits",
        ),
        (
            [pair(2, 0, root_index=torch.zeros(1))],
            "graph 0: 'root_index' is float32, but as an index it is shifted by the number of nodes when graphs are "
            "joined: make it whole numbers, or rename it without 'index'",
        ),
        ([Data(num_nodes=1.5)], "graph 0: num_nodes is 1.5; it must be a whole number, 0 or more"),
        ([Data(num_nodes=-1)], "graph 0: num_nodes is -1; it must be a whole number, 0 or more"),
        ([Data(y=torch.ones(1))], "graph 0: the number of nodes is unknown; set num_nodes"),
        (["CCO"], "graph 0 is a str; a source gives PyG Data or HeteroData"),
    ],
)
def test_what_cannot_be_packed_is_named(graphs: list[Any], message: str) -> None:
    with pytest.raises(PackerError) as error:
        decided(graphs)
    assert str(error.value) == message


def test_faults_between_blocks_are_named_as_those_within() -> None:
    blocks = [block_of_graphs([pair(2, 0, x=torch.zeros(2, width))], first_id=width) for width in (3, 4)]
    with pytest.raises(FieldError) as error:
        merge(*(block.statistics for block in blocks))
    assert str(error.value) == (
        "graph 4: the shape of one row of 'x' is [4], but [3] in graph 3; give all graphs the same, or leave the "
        "attribute out"
    )
    with pytest.raises(SourceError, match="graph 0 is homogeneous and graph 1 is heterogeneous: pack them as two"):
        hetero = HeteroData()
        hetero["a"].num_nodes = 1
        merge(block_of_graphs([pair(2, 0)]).statistics, block_of_graphs([hetero], 1).statistics)


def test_unknown_names_are_listed_with_the_known_ones() -> None:
    with pytest.raises(FieldError, match="a level is given for 'z'; the fields are edge_index, num_nodes"):
        decided([pair(1, 0)], overrides={"z": "node"})
    with pytest.raises(FieldError, match=r"a padding value is given for 'z'; the fields are .*, node, edge, graph"):
        decided([pair(1, 0)], pads={"z": 1})


def test_graphs_without_nodes_are_left_out_and_listed() -> None:
    block = block_of_graphs([pair(2, 0), Data(x=torch.zeros(0, 9)), Data(), pair(3, 1)], first_id=10)
    assert (block.ids.tolist(), block.skipped) == ([10, 13], {11: "no nodes", 12: "no nodes"})
    assert block.counts["node"].tolist() == [2, 3]


def test_an_attribute_named_like_a_presence_mask() -> None:
    graphs = [pair(2, 0, y=torch.ones(1), y_present=torch.ones(1)), pair(2, 0, y_present=torch.ones(1))]
    with pytest.raises(FieldError, match="'y_present' is an attribute of the source and also what packs call"):
        decided(graphs)
    assert decided(graphs[:1])[0]["y_present"].role == "value"  # no graph lacks y: no mask


def test_a_class_that_joins_in_its_own_way_is_asked() -> None:
    class Pair(Data):
        def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
            return None if key == "target" else super().__cat_dim__(key, value, *args, **kwargs)

        def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
            if key == "class_index":
                return 0
            return {"root": self.num_nodes, "odd": 7}.get(key) or super().__inc__(key, value, *args, **kwargs)

    graph = Pair(num_nodes=2, target=torch.ones(2), root=torch.tensor([1]), class_index=torch.tensor([9]))
    fields, _ = decided([graph])
    assert (fields["target"].level, fields["target"].form, fields["target"].shape) == ("graph", "value", (2,))
    assert (fields["root"].role, fields["class_index"].role) == ("index", "value")
    graph.odd = torch.ones(1)
    with pytest.raises(FieldError, match=r"graph 0: 'odd' is shifted by 7 when graphs are joined \(__inc__\), neither"):
        decided([graph])


@pytest.mark.parametrize("values", [[1e300, 5.0], [5.0, -1e300], [0.0, -0.0], [float("inf"), 1.0], [2.0**63, -1.0]])
def test_floats_that_no_integer_holds_stay_floats(values: list[float]) -> None:
    graphs = [Data(num_nodes=2, y=torch.tensor([value], dtype=torch.float64)) for value in values]
    whole = block_of_graphs(graphs).statistics
    assert merge(*(block_of_graphs([g], first_id=i).statistics for i, g in enumerate(graphs))) == whole
    schema, _ = decide(whole)
    assert schema.fields[0].storage == "float64"


@settings(deadline=None)
@given(st.one_of(homogeneous(), heterogeneous()), st.data())
def test_merging_is_associative_and_independent_of_blocks(graphs: list[Any], data: st.DataObject) -> None:
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(graphs)), max_size=3))), len(graphs)]
    parts = [block_of_graphs(graphs[a:b], first_id=a).statistics for a, b in pairwise(cuts)]
    left = reduce(merge, parts)
    right = reduce(lambda later, earlier: merge(earlier, later), reversed(parts))
    whole = block_of_graphs(graphs).statistics
    assert left == right == whole
    assert Statistics.from_dict(whole.to_dict()) == whole
    schema, _ = decide(whole)
    assert Schema.from_dict(schema.to_dict()) == schema


@settings(deadline=None)
@given(st.one_of(homogeneous(), heterogeneous()))
def test_blocks_come_back_from_their_bytes(graphs: list[Any]) -> None:
    block = block_of_graphs(graphs)
    data = block.to_bytes()
    loaded = RawBlock.from_bytes(data)
    assert (loaded.statistics, loaded.skipped) == (block.statistics, block.skipped)
    for kind in ("counts", "columns", "present"):
        mine, theirs = getattr(block, kind), getattr(loaded, kind)
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert (mine[key].dtype, mine[key].shape) == (theirs[key].dtype, theirs[key].shape)
            assert mine[key].tobytes() == theirs[key].tobytes()
    assert {key: block.strings[key].to_pylist() for key in block.strings} == {
        key: loaded.strings[key].to_pylist() for key in loaded.strings
    }
    assert loaded.to_bytes() == data
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            RawBlock.from_bytes(data[:cut])
    with pytest.raises(FormatError, match="end at byte"):
        RawBlock.from_bytes(data + b"more")


def test_index_columns_are_as_narrow_as_the_limits_allow() -> None:
    fields, _ = decided([pair(3, 2)])
    schema = Schema((), (), ())
    schema, _ = decide(block_of_graphs([pair(300, 2)]).statistics)
    for nodes, storage in ((256, "uint8"), (257, "uint16"), (65537, "uint32")):
        columns = {column.name: column for column in pack_columns(schema, PackLimits(nodes, 10, 4))}
        assert (columns["edge_index"].storage, columns["edge_index"].dtype) == (storage, "int64")
        assert columns["edge_index"].shape == (2, 10)
    assert fields["num_nodes"].role == "count"
    assert "num_nodes" not in columns  # a pack's ptr and batch say it already


def test_padding_that_json_cannot_say_survives_in_a_schema() -> None:
    schema, _ = decide(block_of_graphs([pair(2, 0, x=torch.ones(2, 1))]).statistics, pads={"x": float("-inf")})
    again = Schema.from_dict(schema.to_dict())
    assert again == schema
    with pytest.raises(FormatError, match="not a schema"):
        Schema.from_dict({"axes": [], "fields": [{}], "strings": []})
