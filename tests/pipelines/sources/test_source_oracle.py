"""Whatever graphs a source holds: packs agree with PyG's Batch and give every graph back, or the graph is named.

Attributes of all kinds under all kinds of names, on graphs of classes with rules of their own, from every kind of
Python source: never silently wrong, and never an error but the product's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import SEEDS, assert_same
from torch.utils.data import Dataset
from torch_geometric import EdgeIndex, Index
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset
from torch_geometric.data.collate import collate

from packer import PackDataset, PackLimits
from packer.errors import FieldError, SourceError
from packer.reading.unpack_graphs import unpack_with_ids
from pipelines import build


class Shifted(Data):
    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_nodes if key in ("extra", "partner") else super().__inc__(key, value, *args, **kwargs)


class ByEdges(Data):
    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_edges if key == "extra" else super().__inc__(key, value, *args, **kwargs)


class Unshifted(Data):
    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__inc__(key, value, *args, **kwargs) if key == "edge_index" else 0


class Sideways(Data):
    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return -1 if key in ("extra", "x") else super().__cat_dim__(key, value, *args, **kwargs)


class Stacked(Data):
    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return None if key in ("extra", "y") else super().__cat_dim__(key, value, *args, **kwargs)


CLASSES = (Data, Data, Data, Shifted, ByEdges, Unshifted, Sideways, Stacked)
NAMES = (
    *("extra", "y", "x", "pos", "edge_attr", "edge_weight", "node_z", "edge_w", "face", "extra_index", "edge_label"),
    *("edge_label_index", "x_s", "num_things", "adj_t", "n_id", "e_id", "partner", "train_mask", "name", "tf"),
)

Make = Callable[[np.random.Generator, int, int], Any]
"""(random, nodes, edges) -> one graph's value."""


def floats(*shape: int) -> Any:
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape) / 4


def numbers(random: np.random.Generator, nodes: int, *shape: int) -> Any:
    """Numbers of nodes that the graph has."""
    return torch.from_numpy(random.integers(0, max(nodes, 1), shape))


KINDS: dict[str, Make] = {
    "nodes": lambda r, n, e: floats(n),
    "nodes by 3": lambda r, n, e: torch.from_numpy(r.normal(size=(n, 3))),
    "nodes by 0": lambda r, n, e: floats(n, 0),
    "3 by nodes": lambda r, n, e: floats(3, n),
    "transposed": lambda r, n, e: floats(2, n).t(),
    "edges": lambda r, n, e: numbers(r, 100, e).to(torch.int16),
    "edges by 2": lambda r, n, e: floats(e, 2).to(torch.bfloat16),
    "row": lambda r, n, e: torch.from_numpy(r.normal(size=(1, 2))),
    "value": lambda r, n, e: torch.from_numpy(r.normal(size=3)),
    "expanded": lambda r, n, e: torch.ones(1).expand(3),
    "one": lambda r, n, e: torch.tensor([r.integers(5)]),
    "no dimension": lambda r, n, e: torch.tensor(r.normal()),
    "nothing": lambda r, n, e: floats(0),
    "any length": lambda r, n, e: floats(int(r.integers(0, 5))),
    "node numbers": lambda r, n, e: numbers(r, n, n),
    "a node number": lambda r, n, e: torch.tensor(int(r.integers(0, n or 1))),
    "2 by 4 node numbers": lambda r, n, e: numbers(r, n, 2, 4),
    "2 by edges node numbers": lambda r, n, e: numbers(r, n, 2, e),
    "3 by any node numbers": lambda r, n, e: numbers(r, n, 3, int(r.integers(0, 4))),
    "4 by 2 node numbers": lambda r, n, e: numbers(r, n, 4, 2),
    "float": lambda r, n, e: float(np.float32(r.normal())),
    "int": lambda r, n, e: int(r.integers(0, n or 1)),
    "large int": lambda r, n, e: int(r.integers(-(2**62), 2**62)),
    "bool": lambda r, n, e: bool(r.integers(2)),
    "text": lambda r, n, e: "é" * int(r.integers(0, 3)),
    "numbers in a list": lambda r, n, e: [1.5] * n,
    "texts in a list": lambda r, n, e: ["a"] * n,
    "numpy": lambda r, n, e: np.ones((n, 2)),
    "a number of numpy": lambda r, n, e: np.float64(r.normal()),
    "a whole number of numpy": lambda r, n, e: np.int64(r.integers(9)),
    "sparse": lambda r, n, e: torch.eye(max(n, 1)).to_sparse(),
    "rows of sparse": lambda r, n, e: torch.eye(max(n, 1)).to_sparse_csr(),
    "negative view": lambda r, n, e: torch.complex(floats(n), floats(n)).conj().imag,
    "negative bfloat16": lambda r, n, e: torch._neg_view(floats(n).to(torch.bfloat16)),
    "conjugate": lambda r, n, e: torch.complex(floats(n), floats(n)).conj(),
    "parameter": lambda r, n, e: torch.nn.Parameter(floats(n)),
    "large": lambda r, n, e: torch.from_numpy(r.integers(0, 2**64, n, dtype=np.uint64)),
    "bits": lambda r, n, e: torch.from_numpy(r.random(n) < 0.5),
    "index": lambda r, n, e: Index(numbers(r, n, n), dim_size=n),
    "edges of PyG": lambda r, n, e: EdgeIndex(numbers(r, n, 2, e), sparse_size=(n, n)),
    "tensors in a list": lambda r, n, e: [floats(n), floats(1)],
    "dict": lambda r, n, e: {"a": floats(n)},
    "none": lambda r, n, e: None,
    "object": lambda r, n, e: Path("a"),
}


class Items(Dataset[Any]):
    def __init__(self, graphs: list[Any]) -> None:
        self.graphs = graphs

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, i: int) -> Any:
        return self.graphs[i]


class InMemory(InMemoryDataset):
    def __init__(self, graphs: list[Any]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def changed(graphs: list[Any]) -> Any:
    """An InMemoryDataset one of whose items was asked for and changed."""
    found = InMemory(graphs)
    item = found[len(graphs) - 1]
    for store in item.stores:
        for value in list(store.values()):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and not value.requires_grad:
                value += 1
    return found


SOURCES: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "items": Items,
    "in memory": InMemory,
    "in memory, some": lambda graphs: InMemory(graphs)[torch.arange(len(graphs) - 1, -1, -2)],
    "in memory, changed": changed,
}


def sized(random: np.random.Generator) -> tuple[int, int]:
    nodes = int(random.choice([1, 1, 2, 3, 5]))
    return nodes, int(random.choice([0, nodes, 2, 4]))


@st.composite
def homogeneous(draw: Any) -> list[Any]:
    own = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(KINDS)), max_size=4))
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=2))
    counted = draw(st.sampled_from(["always", "always", "sometimes", "never"]))
    rarely = draw(st.sampled_from([0.0, 0.0, 0.3]))  # how often a graph lacks an attribute, or has one of another kind
    random = np.random.default_rng(draw(SEEDS))
    graphs: list[Any] = []
    for number in range(draw(st.integers(1, 4))):
        nodes, edges = sized(random)
        graph = classes[number % len(classes)](edge_index=numbers(random, nodes, 2, edges))
        if counted == "always" or (counted == "sometimes" and random.random() < 0.5):
            graph.num_nodes = nodes
        fill(graph, own, rarely, random, nodes, edges)
        graphs.append(graph)
    return graphs


@st.composite
def heterogeneous(draw: Any) -> list[Any]:
    types = ["a", "b", ("a", "to", "b"), ("b", "to", "b")]
    attributes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(KINDS)), max_size=2)
    own = {key: draw(attributes) for key in types}
    of_graph = draw(attributes)
    rarely, lacking = draw(st.sampled_from([0.0, 0.0, 0.3])), draw(st.sampled_from([0.0, 0.0, 0.3]))
    random = np.random.default_rng(draw(SEEDS))
    graphs: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        graph = HeteroData()
        counts = {"a": sized(random)[0], "b": sized(random)[0]}
        for key in types:
            if random.random() < lacking:
                continue
            edges = 0
            if isinstance(key, tuple):
                edges = sized(random)[1]
                ends = [numbers(random, counts[end], edges) for end in (key[0], key[2])]
                graph[key].edge_index = torch.stack(ends)
            else:
                graph[key].num_nodes = counts[key]
            fill(graph[key], own[key], rarely, random, counts.get(key, 1) if isinstance(key, str) else 1, edges)
        fill(graph, of_graph, rarely, random, 1, 0)
        graphs.append(graph)
    return graphs


def fill(store: Any, own: dict[str, str], rarely: float, random: np.random.Generator, nodes: int, edges: int) -> None:
    for name, kind in own.items():
        if random.random() < rarely:
            if random.random() < 0.5:
                continue
            kind = sorted(KINDS)[random.integers(len(KINDS))]
        store[name] = KINDS[kind](random, nodes, edges)


def check(graphs: list[Any], form: str) -> str:
    """Build, read and compare. What came of it: "packed", or the refusal."""
    try:
        source, wanted = SOURCES[form](graphs), SOURCES[form](graphs)
    except Exception:  # what PyG cannot collate is no data set
        return "no data set"
    if isinstance(wanted, InMemoryDataset):
        try:
            wanted = [wanted[i] for i in range(len(wanted))]
        except Exception:  # nor what PyG cannot take apart again, such as node types that have num_nodes alone
            return "no data set"
    wanted = list(wanted)
    slots = 5 * len(graphs) + 9
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = build(source, Path(folder) / "o", PackLimits(slots, slots, len(graphs) + 2), workers=1)
        except (FieldError, SourceError) as error:
            return f"{type(error).__name__}: {error}"
        found, ids = unpack_with_ids(built)
        assert not any(wanted[i].num_nodes for i in set(range(len(wanted))) - set(ids.tolist()))
        wanted = [wanted[i] for i in ids.tolist()]
        for own, theirs in zip(found, wanted, strict=True):
            assert_same(own, plain(theirs))
        dataset = PackDataset(built)
        for number in range(len(dataset)):
            ids_of_pack = [ids.tolist().index(i) for i in dataset.graph_ids(number).tolist() if i >= 0]
            compare(dataset, number, [wanted[i] for i in ids_of_pack])
    return "packed"


def plain(graph: Any) -> Any:
    """The graph as `unpack` gives it: Data or HeteroData, of plain tensors and Python numbers; nothing that is None."""
    found: Any = HeteroData() if isinstance(graph, HeteroData) else Data()
    for store in graph.stores:
        for name, value in store.items():
            if isinstance(value, torch.Tensor):
                value = (value.as_tensor() if isinstance(value, (Index, EdgeIndex)) else value).detach()
                value = value.resolve_neg().clone(memory_format=torch.contiguous_format)
            elif isinstance(value, np.generic):
                value = value.item()
            (found if store._key is None else found[store._key])[name] = value
    return found


def compare(dataset: PackDataset, number: int, graphs: list[Any]) -> None:
    """Every column of a pack against what PyG's Batch holds of the same graphs."""
    pack, schema = dataset[number], dataset.manifest.schema
    for field in schema.fields:
        if field.role not in ("value", "index"):
            continue
        stores = [next((s for s in graph.stores if s._key == field.type), {}) for graph in graphs]
        has = [field.name in store for store in stores]
        if not all(has):
            assert pack[f"{field.key}_present"][: len(graphs)].tolist() == has
            continue
        try:
            batch = Batch.from_data_list(graphs)
            theirs = (batch if field.type is None else batch[field.type])[field.name]
        except Exception:  # PyG cannot join these graphs
            joined = joined_alone(graphs, field)
            if joined is None:
                continue
            theirs = joined
        ours = pack[field.key]
        if field.axis is None:
            ours = ours[: len(graphs)]
            if field.form == "row" and field.cat_dim == -1:
                ours = ours.movedim(0, -1)
            elif field.form == "value" and field.shape and ours.shape != theirs.shape:
                ours = ours.movedim(0, -2).flatten(-2) if field.cat_dim == -1 else ours.flatten(0, 1)
        else:
            mask = pack[field.axis.mask_name]
            ours = ours[..., mask] if field.cat_dim == -1 else ours[mask]
        if isinstance(theirs, (Index, EdgeIndex)):
            theirs = theirs.as_tensor()
        theirs = theirs.detach().resolve_neg()
        assert ours.shape == theirs.shape, field.key
        assert torch.equal(ours.to(theirs.dtype).nan_to_num(), theirs.nan_to_num()), (field.key, ours, theirs)


def joined_alone(graphs: list[Any], field: Any) -> Any:
    """What PyG makes of one attribute, where another one keeps it from joining the graphs; None where it cannot."""
    lone: list[Any] = []
    for graph in graphs:
        one = graph.clone() if isinstance(graph, HeteroData) else type(graph)()
        for store in graph.stores:
            for name, value in store.items():
                own = name in ("num_nodes", "edge_index") or (name == field.name and store._key == field.type)
                if isinstance(graph, HeteroData) and not own:
                    del one[store._key][name]
                elif not isinstance(graph, HeteroData) and own:
                    one[name] = value
        lone.append(one)
    try:
        found = collate(Batch, lone)[0]
        return (found if field.type is None else found[field.type])[field.name]
    except Exception:
        return None


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyG's own, of sparse tensors and guessed numbers of nodes
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.one_of(homogeneous(), homogeneous(), heterogeneous()), st.sampled_from(sorted(SOURCES)))
def test_packs_agree_with_pyg_or_name_what_is_wrong(graphs: list[Any], form: str) -> None:
    said = check(graphs, form)
    assert said in ("packed", "no data set") or "graph " in said or "InMemoryDataset holds" in said, said
