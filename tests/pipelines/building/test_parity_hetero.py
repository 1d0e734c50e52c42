"""Heterogeneous graphs end to end: every algorithm, verify, loaders, training, and the graphs back."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libraries import BACK, CITES, WRITES, libraries
from peer_batches import batch_of
from strategies import assert_same, heterogeneous
from torch_geometric.data import Batch, HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv, global_add_pool, to_hetero

from packer import PackDataset, PackLimits, PackPlan, masked_mean, torch_loader, unpack, verify_shards
from packer.algorithms.registry import ALGORITHMS
from packer.errors import FieldError
from pipelines import build

GRAPHS = libraries(60)
LIMITS = PackLimits({"author": 24, "paper": 30}, {WRITES: 40, BACK: 44, CITES: 36}, 9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm(algorithm: str, tmp_path: Path) -> None:
    result = build(GRAPHS, tmp_path / "out", LIMITS, algorithm, workers=1)
    assert verify_shards(result).faults == ()
    dataset = PackDataset(result)
    assert result.manifest.plan["lower_bound"] <= len(dataset)
    if algorithm == "optimal":
        assert result.manifest.plan["status"] == "optimal"
    for number in range(len(dataset)):
        pack = dataset[number]
        real = int(pack["graphs_mask"].sum())
        # Each null graph has a node and an edge of each type; that is what the limits keep room for.
        for key in ("author", "paper"):
            assert pack[f"{key}/ptr"].diff()[real:].min() >= 1
        for key in ("author__writes__paper", "paper__cites__paper"):
            assert int((~pack[f"{key}/mask"]).sum()) >= 9 - real
    for found, graph in zip(unpack(result), GRAPHS, strict=True):
        assert_same(found, graph)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heterogeneous(),
    st.sampled_from(["stream", "best-fit-decreasing", "optimal"]),
    st.sampled_from(["all", "one", "jraph"]),
    st.integers(2, 4),
)
def test_random_graphs_come_back(
    tmp_path_factory: Any, graphs: Any, algorithm: str, null_graphs: str, slots: int
) -> None:
    out = tmp_path_factory.mktemp("packs") / "out"
    build(graphs, out, PackLimits.from_dataset(graphs, slots, null_graphs=null_graphs), algorithm, workers=1)
    assert verify_shards(out).faults == ()
    for found, graph in zip(unpack(out), graphs, strict=True):
        assert_same(found, graph)
    dataset = PackDataset(out)
    joined = next(iter(torch_loader(dataset, batch_size=2, shuffle=False)))
    ids = [i for pack in range(min(2, len(dataset))) for i in dataset.graph_ids(pack).tolist() if i >= 0]
    for found, number in zip(unpack(joined, dataset), ids, strict=True):
        expected = graphs[number].clone()
        del expected["author"]["name"]  # strings are not in packs
        assert_same(found, expected)


def rows(graph: HeteroData) -> list[int]:
    """Of each type of LIMITS; a type that the graph lacks counts 0."""
    nodes = [graph[key].num_nodes if key in graph.node_types else 0 for key in LIMITS.num_nodes]
    return nodes + [graph[key].num_edges if key in graph.edge_types else 0 for key in LIMITS.num_edges]


def test_streamed_packs_are_batches_of_pyg_with_null_graphs(tmp_path: Path) -> None:
    """Graphs in order, each pack closed by the first that does not fit; graphs without a type among them."""
    slots = [*LIMITS.num_nodes.values(), *LIMITS.num_edges.values()]

    def fits(ids: list[int]) -> bool:
        spare = LIMITS.num_graphs - len(ids)
        need = [sum(max(own, 1) for own in column) for column in zip(*(rows(GRAPHS[i]) for i in ids), strict=True)]
        return spare >= 1 and all(number + spare <= limit for number, limit in zip(need, slots, strict=True))

    batches: list[list[int]] = [[]]
    for number in range(len(GRAPHS)):
        if batches[-1] and not fits([*batches[-1], number]):
            batches.append([])
        batches[-1].append(number)
    dataset = PackDataset(build(GRAPHS, tmp_path / "out", LIMITS, "stream", workers=1, pad_values={"author/x": 7}))
    assert len(dataset) == len(batches) > 5
    levels = {"x": "node", "y": "graph"}
    for number, ids in enumerate(batches):
        real = [_complete(GRAPHS[i]) for i in ids]
        for graph in real:
            del graph.name  # strings are not in packs
        expected = batch_of(real, LIMITS, {}, levels)
        padding = ~expected["author/mask"]
        expected["author/x"][padding] = 7.0
        found = dataset[number]
        assert {name for name in found if not name.endswith("_present")} == set(expected)
        for name, value in expected.items():
            assert found[name].dtype == value.dtype and torch.equal(found[name], value), (number, name)


def test_one_number_for_all_types(tmp_path: Path) -> None:
    assert LIMITS.is_hetero and not PackLimits(40, 50, 9).is_hetero
    dataset = PackDataset(build(GRAPHS, tmp_path / "out", PackLimits(40, 50, 9), "stream", workers=1))
    pack = dataset[0]
    assert pack["author/x"].shape == (40, 2) and pack["paper/x"].shape == (40, 3)
    assert pack["author__writes__paper/edge_index"].shape == pack["paper__cites__paper/edge_index"].shape == (2, 50)


def typed(counts: dict[str, int], edges: dict[tuple[str, str, str], int]) -> HeteroData:
    """`counts` nodes of each type; edges from the first source to the last target."""
    found = HeteroData()
    for key, number in counts.items():
        found[key].x = torch.arange(number).float()
    for key, number in edges.items():
        ends = [0, counts[key[2]] - 1]
        found[key].edge_index = torch.tensor(ends)[:, None].repeat(1, number)
    return found


@pytest.mark.filterwarnings("ignore:There exist type names")
def test_types_of_any_name_come_back(tmp_path: Path) -> None:
    """Also those that are words of homogeneous packs, or hold what packs put between the names of an edge type."""
    counts = {"node": 3, "edge": 2, "a__b": 4, "with/slash": 1}
    edges = {("node", "edge", "node"): 2, ("a__b", "rel__ation", "edge"): 3, ("with/slash", "to", "a__b"): 1}
    graphs = [typed(counts, edges), typed(counts, {})]
    limits = PackLimits.from_dataset(graphs, 4)
    for null_graphs in ("all", "one", "jraph"):
        found = replace(limits, null_graphs=null_graphs)
        result = build(graphs, tmp_path / null_graphs, found, workers=1)
        assert verify_shards(result).faults == ()
        assert PackDataset(result).limits == found
        assert PackPlan.load(tmp_path / null_graphs / "plan.parquet").limits == found
        for one, other in zip(unpack(result), graphs, strict=True):
            assert_same(one, other)


@pytest.mark.filterwarnings("ignore:There exist type names")
def test_types_that_packs_cannot_tell_apart(tmp_path: Path) -> None:
    both = typed({"a__b": 1, "a": 1, "c": 1}, {("a__b", "to", "c"): 1, ("a", "b__to", "c"): 1})
    text = r"packs call both types \('a__b', 'to', 'c'\) and \('a', 'b__to', 'c'\) 'a__b__to__c': rename one of them"
    with pytest.raises(FieldError, match=text):
        build([both], tmp_path / "out", PackLimits(9, 9, 3), workers=1)
    apart = [typed({"a__b__c": 1}, {}), typed({"a": 1, "c": 1}, {("a", "b", "c"): 1})]
    with pytest.raises(FieldError, match="packs call both types 'a__b__c' and"):
        build(apart, tmp_path / "out", PackLimits(9, 9, 3), workers=1)
    with pytest.raises(FieldError, match="a node type has an empty name"):
        build([typed({"": 1}, {})], tmp_path / "out", PackLimits(9, 9, 3), workers=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackDataset:
    return PackDataset(build(GRAPHS, tmp_path_factory.mktemp("hetero") / "out", LIMITS, workers=1))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_layouts(dataset: PackDataset, batch_size: int) -> None:
    steps = zip(
        torch_loader(dataset, batch_size, shuffle=False),
        torch_loader(dataset, batch_size, shuffle=False, layout="dict"),
        strict=True,
    )
    for batch, pack in steps:
        assert torch.equal(batch["author"].x, pack["author/x"])
        assert torch.equal(batch[WRITES].edge_index, pack["author__writes__paper/edge_index"])
        assert set(batch.x_dict) == {"author", "paper"} and set(batch.edge_index_dict) == {WRITES, BACK, CITES}
        assert batch.num_graphs == 9 * batch_size and batch["paper"].num_nodes == 30 * batch_size
        whole = batch.to_pyg()
        assert isinstance(whole, HeteroData) and whole.num_graphs == batch.num_graphs
        whole.validate(raise_on_error=True)
        for key in ("author", "paper"):
            assert torch.equal(whole[key].batch, batch[key].batch) and torch.equal(whole[key].ptr, batch[key].ptr)


def test_models_are_made_of_the_types_as_in_pyg(dataset: PackDataset) -> None:
    class Homogeneous(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = SAGEConv((-1, -1), 4, aggr="sum")

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.layer(x, edge_index).relu()

    batch = next(iter(torch_loader(dataset, shuffle=False)))
    node_types, edge_types = batch.metadata()
    assert (set(node_types), set(edge_types)) == ({"author", "paper"}, {WRITES, BACK, CITES})
    assert (batch.node_types, batch.edge_types) == batch.metadata() == pickle.loads(pickle.dumps(batch)).metadata()
    assert "x" in batch["paper"] and "z" not in batch["paper"] and "edge_index" in batch[WRITES]
    torch.manual_seed(0)
    model = to_hetero(Homogeneous(), batch.metadata())
    with torch.no_grad():
        found = model(batch.x_dict, batch.edge_index_dict)
        real = Batch.from_data_list([_complete(GRAPHS[i]) for i in dataset.graph_ids(0).tolist() if i >= 0])
        expected = model(real.x_dict, real.edge_index_dict)
    for key in ("author", "paper"):
        torch.testing.assert_close(found[key][batch[key].mask], expected[key])


class Model(torch.nn.Module):
    """Two layers over all edge types, a sum of papers and of authors, a head."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [{"author": 2, "paper": 3}, {"author": 8, "paper": 8}]
        self.layers = torch.nn.ModuleList(
            HeteroConv({t: SAGEConv((size[t[0]], size[t[2]]), 8, aggr="sum") for t in (WRITES, BACK, CITES)})
            for size in sizes
        )
        self.head = torch.nn.Linear(16, 1)

    def forward(self, batch: Any, num_graphs: int) -> torch.Tensor:
        features = batch.x_dict
        for layer in self.layers:
            features = {key: value.relu() for key, value in layer(features, batch.edge_index_dict).items()}
        pooled = [global_add_pool(features[key], batch[key].batch, num_graphs) for key in ("author", "paper")]
        return self.head(torch.cat(pooled, dim=1)).squeeze(1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_training_is_that_of_pyg(dataset: PackDataset, batch_size: int) -> None:
    torch.manual_seed(0)
    ours = Model()
    theirs = copy.deepcopy(ours)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.0005) for model in (ours, theirs)]
    losses: list[list[float]] = [[], []]
    for _ in range(2):
        for step, batch in enumerate(torch_loader(dataset, batch_size, shuffle=False)):
            packs = range(step * batch_size, min((step + 1) * batch_size, len(dataset)))
            ids = [i for pack in packs for i in dataset.graph_ids(pack).tolist() if i >= 0]
            output = ours(batch, batch.num_graphs)
            loss = masked_mean((output - batch.y) ** 2, batch.graphs_mask)
            real = Batch.from_data_list([_complete(GRAPHS[i]) for i in ids])
            expected = theirs(real, len(ids))
            truth = ((expected - real.y) ** 2).mean()
            torch.testing.assert_close(output[batch.graphs_mask], expected, rtol=1e-4, atol=1e-5)
            for optimizer, value in zip(optimizers, (loss, truth), strict=True):
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            losses[0].append(loss.item())
            losses[1].append(truth.item())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    half = len(losses[0]) // 2
    assert sum(losses[0][half:]) < sum(losses[0][:half])


def _complete(graph: HeteroData) -> HeteroData:
    """PyG joins graphs of the same types only: the types that are missing, with no rows."""
    found = graph.clone()
    for key, width in (("author", 2), ("paper", 3)):
        if key not in graph.node_types:
            found[key].x = torch.zeros(0, width)
    for key in (WRITES, BACK, CITES):
        if key not in graph.edge_types:
            found[key].edge_index = torch.zeros(2, 0, dtype=torch.long)
    return found
