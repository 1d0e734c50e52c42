"""`pad-to-max` and `stream` against the batches of PopTorch Geometric, item by item; and where those are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from peer_batches import batch_of, stream_batches
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import DataLoader

from packer import GraphSizes, PackDataset, PackLimits, make_plan, unpack, verify_shards
from packer.errors import FieldError, SizesError
from pipelines import build

LEVELS = {"x": "node", "pos": "node", "edge_attr": "edge", "edge_weight": "edge", "y": "graph"}


def random_graph(generator: torch.Generator, most: int = 6) -> Data:
    n, e = (int(torch.randint(1, most + 1, (), generator=generator)) for _ in range(2))
    return Data(
        x=torch.randint(0, 9, (n, 3), generator=generator),
        pos=torch.randn(n, 3, generator=generator),
        edge_index=torch.randint(0, n, (2, e), generator=generator),
        edge_attr=torch.randn(e, 2, generator=generator),
        edge_weight=torch.randn(e, generator=generator),
        y=torch.randn(1, 2, generator=generator),
    )


def assert_equal_batches(
    dataset: PackDataset, graphs: list[Any], batches: list[list[int]], pads: Any, levels: Any
) -> None:
    assert len(dataset) == len(batches)
    for number, ids in enumerate(batches):
        expected = batch_of([graphs[i] for i in ids], dataset.limits, pads, levels)
        found = dataset[number]
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name].dtype == value.dtype and torch.equal(found[name], value), (number, name)


@pytest.mark.parametrize("strategy", ["stream", "pad-to-max"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(2, 6), st.integers(0, 9), st.booleans())
def test_packs_are_the_peers_batches(
    tmp_path_factory: Any, strategy: str, seed: int, number: int, num_graphs: int, slack: int, padded: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    graphs = [random_graph(generator) for _ in range(number)]
    pads = {"x": 7, "pos": -1.5, "edge_attr": -1.5, "edge_weight": 4.0, "y": 0.5} if padded else {}
    if strategy == "stream":
        # As tight as the largest graph allows: 6 nodes and num_graphs - 1 slots of one node each.
        limits = PackLimits(6 + num_graphs - 1 + slack, 6 + num_graphs - 1 + slack, num_graphs)
        batches = stream_batches(graphs, limits)
    else:
        limits = PackLimits.from_dataset(graphs, num_graphs)
        batches = [list(range(i, min(i + num_graphs - 1, number))) for i in range(0, number, num_graphs - 1)]
    out = tmp_path_factory.mktemp("packs") / "out"
    build(graphs, out, limits, strategy, workers=1, pad_values=pads)
    assert_equal_batches(PackDataset(out), graphs, batches, pads, LEVELS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40), st.integers(1, 6))
def test_pad_to_max_takes_the_batches_that_the_limits_are_of(sizes: list[tuple[int, int]], batch_size: int) -> None:
    """Limits of a loader's largest batch: the peer takes those very batches, however large others could be.

    Any batch_size graphs fit only where the largest ones do: MUTAG in batches of 9 has limits of 189 nodes and 427
    edges; 6 graphs always fit, 188 / 6 = 32 packs, and each 9 that follow each other do, 21 packs.
    """
    graphs = [Data(x=torch.ones(n, 1), edge_index=torch.zeros(2, e, dtype=torch.long)) for n, e in sizes]
    nodes, edges = (np.array(column) for column in zip(*sizes, strict=True))
    loader = DataLoader(graphs, batch_size=batch_size)
    limits = PackLimits.from_loader(loader, sample_limit=len(loader))  # a second pass would give the same batches
    slots = min(batch_size, len(graphs)) + 1
    assert limits.num_graphs == slots
    starts = list(range(0, len(graphs), batch_size))
    # The last batch may be a few large graphs that leave no node or edge for each free slot: there padding edges would
    # lie outside the batch, here the packs are others, or the limits too small.
    free = slots - (len(graphs) - starts[-1])
    assume(
        nodes[starts[-1] :].sum() + free <= limits.num_nodes and edges[starts[-1] :].sum() + free <= limits.num_edges
    )
    plan = make_plan(GraphSizes(nodes, edges), limits, "pad-to-max")
    assert plan.pack_offsets.tolist() == [*starts, len(graphs)]
    assert plan.graph_ids.tolist() == list(range(len(graphs)))


def hetero_graph(generator: torch.Generator) -> HeteroData:
    a, p, e = (int(torch.randint(1, 6, (), generator=generator)) for _ in range(3))
    found = HeteroData()
    found["author"].x = torch.randn(a, 3, generator=generator)
    found["paper"].x = torch.randn(p, 2, generator=generator)
    ends = [torch.randint(0, size, (e,), generator=generator) for size in (a, p)]
    found["author", "writes", "paper"].edge_index = torch.stack(ends)
    found["author", "writes", "paper"].edge_attr = torch.randn(e, generator=generator)
    found.y = torch.randn(1, generator=generator)
    return found


def test_heterogeneous_packs_are_the_peers_batches(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    graphs = [hetero_graph(generator) for _ in range(23)]
    limits = PackLimits.from_dataset(graphs, 4)
    build(graphs, tmp_path / "out", limits, "pad-to-max", workers=1)
    batches = [list(range(i, min(i + 3, 23))) for i in range(0, 23, 3)]
    levels = {"x": "node", "edge_attr": "edge", "y": "graph"}
    assert_equal_batches(PackDataset(tmp_path / "out"), graphs, batches, {}, levels)


def chain(nodes: int, **attributes: Any) -> Data:
    """A path of `nodes` nodes, one edge fewer."""
    ends = torch.arange(nodes)
    return Data(x=ends.float()[:, None] + 1, edge_index=torch.stack([ends[:-1], ends[1:]]), **attributes)


def packs(
    tmp_path: Path, graphs: list[Any], limits: PackLimits, algorithm: str = "stream", **options: Any
) -> PackDataset:
    build(graphs, tmp_path / "out", limits, algorithm, workers=1, **options)
    assert verify_shards(tmp_path / "out").ok
    return PackDataset(tmp_path / "out")


def test_an_explicit_number_of_nodes_does_no_harm(tmp_path: Path) -> None:
    """There it corrupts ptr and offsets."""
    graphs = [Data(edge_index=torch.tensor([[0], [1]]), num_nodes=4) for _ in range(2)]
    pack = packs(tmp_path, graphs, PackLimits(12, 6, 3))[0]
    assert pack["ptr"].tolist() == [0, 4, 8, 12] and pack["edge_index"][:, :2].tolist() == [[0, 4], [1, 5]]


def test_a_name_without_edge_is_an_edge_field_where_counts_say_so(tmp_path: Path) -> None:
    """There it is padded as a node attribute when the counts of nodes and edges tie."""
    ring = Data(x=torch.ones(3, 1), edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]), bond=torch.ones(3))
    graphs = [ring, chain(4, bond=torch.ones(3))]  # 3 edges each; 3 nodes, then 4
    pack = packs(tmp_path, graphs, PackLimits(20, 11, 3))[0]
    assert pack["bond"].shape == (11,) and pack["bond"][:6].eq(1).all() and not pack["bond"][6:].any()
    # Where every graph ties, the user says it.
    (tmp_path / "tied").mkdir()
    tied = packs(tmp_path / "tied", [ring, ring], PackLimits(20, 11, 3), levels={"bond": "edge"})[0]
    assert tied["bond"].shape == (11,)


def test_a_level_is_that_of_all_graphs(tmp_path: Path) -> None:
    """There the first graph decides, and one of a single node misreads y."""
    graphs = [chain(1, y=torch.tensor([5.0])), chain(3, y=torch.tensor([6.0]))]
    pack = packs(tmp_path, graphs, PackLimits(9, 9, 3))[0]
    assert pack["y"].tolist() == [5, 6, 0]
    (tmp_path / "nodes").mkdir()
    graphs = [chain(1, y=torch.tensor([5.0])), chain(3, y=torch.tensor([6.0, 7.0, 8.0]))]
    pack = packs(tmp_path / "nodes", graphs, PackLimits(9, 9, 3))[0]
    assert pack["y"].tolist() == [5, 6, 7, 8, 0, 0, 0, 0, 0]


def test_a_level_that_no_field_takes_up_is_an_error(tmp_path: Path) -> None:
    graphs = [chain(3, smiles="C"), chain(4, smiles="N")]
    with pytest.raises(FieldError, match="a level is given for 'smiles', a string, which stays outside packs"):
        packs(tmp_path, graphs, PackLimits(12, 9, 3), levels={"smiles": "node"})


def test_targets_of_every_form(tmp_path: Path) -> None:
    """There `y [T]`, a y without dimension and edge-level y crash."""
    forms = {
        "value": lambda n: torch.tensor([1.0, 2.0]),
        "scalar tensor": lambda n: torch.tensor(3.0),
        "edge": lambda n: torch.full((n - 1, 2), 4.0),
    }
    shapes = {"value": (3, 2), "scalar tensor": (3,), "edge": (20, 2)}
    for form, make in forms.items():
        graphs = [chain(n, y=make(n)) for n in (4, 6)]
        (tmp_path / form).mkdir()
        dataset = packs(tmp_path / form, graphs, PackLimits(20, 20, 3))
        assert dataset[0]["y"].shape == shapes[form]
        assert all(torch.equal(a.y, b.y) for a, b in zip(unpack(dataset), graphs, strict=True))


def test_padding_edges_stay_inside_however_many_null_graphs_there_are(tmp_path: Path) -> None:
    """There they point outside when null graphs outnumber padding nodes; here a plan leaves each its node."""
    dataset = packs(tmp_path, [chain(5), chain(5)], PackLimits(8, 30, 4))  # 5 + 3 null graphs = 8: one graph a pack
    assert len(dataset) == 2
    for pack in (dataset[0], dataset[1]):
        assert pack["edge_index"].max() < 8
        assert pack["edge_index"][0][~pack["edges_mask"]].unique().tolist() == [5, 6, 7]


def test_a_full_pack_has_the_shape_of_all_others(tmp_path: Path) -> None:
    """There an exactly full batch has other shapes, for it has no null graph; here one is always left."""
    dataset = packs(tmp_path, [chain(3), chain(3), chain(3)], PackLimits(7, 5, 3))  # 3 + 3 + 1 and 2 + 2 + 1: full
    assert [dataset[0][name].shape == dataset[1][name].shape for name in dataset[0]] == [True] * len(dataset[0])
    assert dataset[0]["nodes_mask"].tolist() == [True] * 6 + [False]


def test_a_skipped_graph_does_not_close_the_open_pack(tmp_path: Path) -> None:
    """There it does: two batches of one graph each."""
    graphs = [chain(3), chain(50), chain(3)]
    dataset = packs(tmp_path, graphs, PackLimits(12, 12, 4), oversize="skip")
    assert dataset.graph_ids(0).tolist() == [0, 2, -1, -1]
    assert_equal_batches(dataset, graphs, stream_batches(graphs, dataset.limits), {}, {"x": "node"})


def test_each_type_has_its_own_limit(tmp_path: Path) -> None:
    """There the total over types decides, and one type overflows unseen."""
    graphs = []
    for authors, written in ((9, 1), (1, 9)):
        graph = HeteroData()
        graph["author"].x, graph["paper"].x = torch.ones(authors, 1), torch.ones(written, 1)
        graph["author", "writes", "paper"].edge_index = torch.zeros(2, 1, dtype=torch.long)
        graphs.append(graph)
    limits = PackLimits({"author": 10, "paper": 12}, {("author", "writes", "paper"): 6}, 3)
    # 10 authors would take 11 slots with the null graph, though 22 slots hold all 20 nodes; and 9 + 2 > 10.
    with pytest.raises(SizesError, match="graph 0 needs 9 author nodes; a pack offers 8"):
        packs(tmp_path, graphs, limits)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("pads", "fault"),
    [
        ({"z": 0.5}, "'z' is int64: its padding value must be a whole number; got 0.5"),
        ({"node": float("nan")}, "'z' is int64: its padding value must be a whole number; got nan"),
        ({"small": 300}, "'small' is uint8: its padding value must lie between 0 and 255; got 300"),
        ({"train_mask": 2}, "'train_mask' is bool: its padding value must be 0 or 1; got 2"),
        (
            {"node": -1},
            "'small' is uint8: .*; all fields of level node .*its own, pad_values=.'small': VALUE. .--pad small=VALUE.",
        ),
        ({"x": 1e60}, "'x' is float32: its padding value 1e[+]60 overflows"),
        ({"x": 10**400}, "'x' is float32: its padding value 1000+ overflows"),
        ({"z": 2**63}, "'z' is int64: its padding value must lie between -9223372036854775808 and 922337203685477580"),
        ({"z": float("inf")}, "'z' is int64: its padding value must be a whole number; got inf"),
        ({"x": "0"}, "the padding value of 'x' must be a number, or a row of them; got '0'"),
        ({"x": torch.zeros(2)}, r"the padding value of 'x' is \[2\] numbers; a row of it is"),
        ({"edge_index": 3}, "for 'edge_index', an index, whose padding points at the first row of its null graph"),
        ({"smiles": 3}, "for 'smiles', a string, which stays outside packs, in graphs.parquet: leave it out"),
        ({"num_nodes": 3}, "for 'num_nodes', which follows from the number of nodes: leave it out"),
        ({"w": 1}, "padding value is given for 'w'; the fields are"),
    ],
)
def test_a_padding_value_that_does_not_fit_is_an_error(tmp_path: Path, pads: dict[str, float], fault: str) -> None:
    """There a float in an integer field is cut off silently."""
    more = {"z": torch.arange(4), "small": torch.arange(4).byte(), "train_mask": torch.arange(4) > 1}
    more |= {"smiles": "C", "num_nodes": 4}
    with pytest.raises(FieldError, match=fault):
        packs(tmp_path, [chain(4, **more), chain(4, **more)], PackLimits(12, 12, 3), pad_values=pads)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_numbers_of_numpy_and_torch_are_padding_values(tmp_path: Path) -> None:
    """And Python numbers, which PyG joins to one tensor, take padding like any graph-level tensor."""
    pads = {"x": np.float32(0.5), "z": torch.tensor(7), "weight": np.float64(0.25), "kind": np.int64(-100), "graph": 1}
    more = {"weight": 2.0, "kind": 3, "good": False}
    graphs = [chain(n, z=torch.arange(n), **more) for n in (3, 4)]
    pack = packs(tmp_path, graphs, PackLimits(12, 9, 3), pad_values=pads)[0]
    assert pack["x"][7:].eq(0.5).all() and pack["z"][7:].eq(7).all()
    assert (pack["weight"][2:].tolist(), pack["kind"][2:].tolist(), pack["good"][2:].tolist()) == (
        [0.25],
        [-100],
        [True],
    )


def test_padding_by_level_and_by_attribute(tmp_path: Path) -> None:
    graph = chain(3, z=torch.arange(3), edge_weight=torch.ones(2), y=torch.ones(1), mark=torch.ones(1, 2))
    pads = {"node": -1, "x": float("nan"), "edge": 2.5, "graph": 9, "mark": float("-inf")}
    pack = packs(tmp_path, [graph, chain(4, **_like(graph, 4))], PackLimits(12, 9, 3), pad_values=pads)[0]
    assert pack["z"][7:].tolist() == [-1] * 5 and pack["x"][7:].isnan().all()
    assert pack["edge_weight"][5:].tolist() == [2.5] * 4
    assert pack["y"][2:].tolist() == [9] and pack["mark"][2:].tolist() == [[float("-inf")] * 2]
    assert pack["z"].dtype == torch.int64 and not pack["x"][:7].isnan().any()


def _like(graph: Data, nodes: int) -> dict[str, Any]:
    return {"z": torch.arange(nodes), "edge_weight": torch.ones(nodes - 1), "y": graph.y, "mark": graph.mark}


def test_the_callers_list_stays_as_it_is(tmp_path: Path) -> None:
    """There null graphs are appended to it."""
    graphs = [chain(3), chain(4)]
    before = list(graphs)
    packs(tmp_path, graphs, PackLimits(12, 12, 3))
    assert len(graphs) == 2 and all(a is b for a, b in zip(graphs, before, strict=True))


def test_strings_are_kept(tmp_path: Path) -> None:
    """There they are lost."""
    graphs = [chain(3, smiles="CCO"), chain(4, smiles="CCCO")]
    assert [graph.smiles for graph in unpack(packs(tmp_path, graphs, PackLimits(12, 12, 3)))] == ["CCO", "CCCO"]


def test_heterogeneous_types_need_no_x(tmp_path: Path) -> None:
    """There a type without x crashes."""
    graph = HeteroData()
    graph["author"].num_nodes, graph["paper"].x = 2, torch.ones(3, 1)
    graph["author", "writes", "paper"].edge_index = torch.tensor([[0, 1], [2, 0]])
    limits = PackLimits.from_dataset([graph, graph], 3)
    dataset = packs(tmp_path, [graph, graph], limits)
    assert dataset[0]["author/ptr"].tolist() == [0, 2, 4, 5] and unpack(dataset)[1]["author"].num_nodes == 2


def test_the_number_of_packs_is_known_when_shuffling(tmp_path: Path) -> None:
    from packer import torch_loader

    dataset = packs(tmp_path, [chain(3) for _ in range(9)], PackLimits(12, 12, 4))
    loader = torch_loader(dataset, shuffle=True)
    assert len(loader) == len(dataset) == len(list(loader))
