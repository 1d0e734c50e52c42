"""Random graphs of every kind that packs take, for Hypothesis; and what it means that two graphs are the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch_geometric.data import Data, HeteroData

from packer.limits.pack_limits import PackLimits

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
STYLES = ("small", "wide", "special")


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype, style: str) -> torch.Tensor:
    """style "small": whole numbers below 10; "wide": the dtype's range; "special": NaN, infinities, -0.0 and halves."""
    if dtype == torch.bool:
        return torch.from_numpy(np.asarray(rng.random(shape) < 0.5))
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        low, high = (0, 10) if style == "small" else (info.min, info.max)
        return torch.from_numpy(np.asarray(rng.integers(low, high, shape, np.int64, endpoint=True))).to(dtype)
    if style == "small":
        return torch.from_numpy(np.asarray(rng.integers(0, 10, shape), np.float64)).to(dtype)
    if style == "wide":
        return torch.from_numpy(np.asarray(rng.normal(0, 1000, shape))).to(dtype)
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 0.5, 3.0])
    return torch.from_numpy(np.asarray(special[rng.integers(0, len(special), shape)])).to(dtype)


@st.composite
def kinds(draw: Any, suffixes: tuple[tuple[int, ...], ...] = ((), (1,), (3,), (0,), (2, 2))) -> Any:
    """(trailing shape, dtype, style) of an attribute."""
    return draw(st.sampled_from(suffixes)), draw(st.sampled_from(DTYPES)), draw(st.sampled_from(STYLES))


@st.composite
def sizes(draw: Any, max_graphs: int = 6) -> list[tuple[int, int]]:
    """(nodes, edges) of one to max_graphs graphs: single nodes, no edges, as many edges as nodes among them."""
    one = st.tuples(st.integers(1, 6), st.sampled_from(("none", "equal", "some"))).flatmap(
        lambda pair: st.tuples(
            st.just(pair[0]),
            {"none": st.just(0), "equal": st.just(pair[0]), "some": st.integers(0, 9)}[pair[1]],
        )
    )
    return draw(st.lists(one, min_size=1, max_size=max_graphs))


OPTIONAL = ("x", "edge_index", "edge_attr", "y", "pos", "train_mask", "edge_weight", "node_index", "pair_index", "glob")


@st.composite
def homogeneous(draw: Any, max_graphs: int = 6, partial: bool = True) -> list[Data]:
    """Graphs of one data set. partial: some attributes may be absent from some graphs."""
    chosen = draw(st.sets(st.sampled_from(OPTIONAL))) | draw(st.sampled_from(({"edge_index"}, set())))
    recipe: dict[str, Any] = {name: draw(kinds()) for name in ("x", "edge_attr", "y", "pos", "glob")}
    y_form = draw(st.sampled_from(("row", "value", "scalar tensor", "node", "edge", "float", "int", "bool")))
    count = draw(st.sampled_from(("explicit", "explicit", "some", "inferred")))
    has_text = draw(st.booleans())
    absent = draw(st.sampled_from(sorted(chosen))) if partial and chosen and draw(st.booleans()) else None
    rng = np.random.default_rng(draw(SEEDS))
    graphs: list[Data] = []
    for number, (n, e) in enumerate(draw(sizes(max_graphs))):
        e = e if "edge_index" in chosen else 0
        own = {name for name in chosen if not (name == absent and rng.random() < 0.5)}
        if "edge_index" in chosen and "edge_index" not in own:
            e = 0
        parts: dict[str, Any] = {}
        if "x" in own:
            parts["x"] = values(rng, (n, *recipe["x"][0]), *recipe["x"][1:])
        if "edge_index" in own:
            parts["edge_index"] = torch.from_numpy(rng.integers(0, n, (2, e)))
        if "edge_attr" in own:
            parts["edge_attr"] = values(rng, (e, *recipe["edge_attr"][0]), *recipe["edge_attr"][1:])
        if "y" in own:
            parts["y"] = _target(rng, y_form, n, e, recipe["y"])
        if "pos" in own:
            parts["pos"] = values(rng, (n, 3), torch.float32, recipe["pos"][2])
        if "train_mask" in own:
            parts["train_mask"] = values(rng, (n,), torch.bool, "small")
        if "edge_weight" in own:
            parts["edge_weight"] = values(rng, (e,), torch.float32, "wide")
        if "node_index" in own:  # node numbers, one a node: shifted
            parts["node_index"] = torch.from_numpy(rng.integers(0, n, n))
        if "pair_index" in own:  # a fixed number of pairs of nodes: shifted
            parts["pair_index"] = torch.from_numpy(rng.integers(0, n, (2, 5)).astype(np.int32))
        if "glob" in own:
            parts["glob"] = values(rng, (1, 4), *recipe["glob"][1:])
        if has_text and rng.random() < 0.8:
            parts["smiles"] = f"C{'é' * number}"
        if count == "explicit" or not ({"x", "pos", "node_index"} & set(parts)) or (count == "some" and number % 2):
            parts["num_nodes"] = n
        graphs.append(Data(**parts))
    return graphs


def _target(rng: np.random.Generator, form: str, n: int, e: int, kind: Any) -> Any:
    shape, dtype, style = kind
    if form in ("float", "int", "bool"):
        return {
            "float": float(np.float32(rng.normal())),
            "int": int(rng.integers(-(10**12), 10**12)),
            "bool": rng.random() < 0.5,
        }[form]
    leading = {"row": (1,), "value": (3,), "scalar tensor": (), "node": (n,), "edge": (e,)}[form]
    return values(rng, leading if form == "scalar tensor" else (*leading, *shape), dtype, style)


NODE_TYPES = ("author", "paper", "node", "edge")  # the last two are also words of homogeneous packs


@st.composite
def heterogeneous(draw: Any, max_graphs: int = 5) -> list[HeteroData]:
    """Graphs of one data set with 2 to 4 node types; some lack a type, some edge types have no edges."""
    node_types = NODE_TYPES[: draw(st.integers(2, 4))]
    pairs = st.tuples(st.sampled_from(node_types), st.just("to"), st.sampled_from(node_types))
    edge_types = sorted(draw(st.sets(pairs, min_size=1, max_size=4)))
    node_kinds = {key: draw(kinds(((), (2,)))) for key in node_types}
    edge_kinds = {key: draw(kinds(((), (2,)))) for key in edge_types}
    with_x = {key: draw(st.booleans()) for key in node_types}
    with_attr = {key: draw(st.booleans()) for key in edge_types}
    lacking = draw(st.booleans())
    rng = np.random.default_rng(draw(SEEDS))
    graphs: list[HeteroData] = []
    for number in range(draw(st.integers(1, max_graphs))):
        graph = HeteroData()
        counts = {key: int(rng.integers(0, 5)) for key in node_types}
        counts[node_types[0]] += 1
        dropped = {key for key in node_types[1:] if lacking and rng.random() < 0.4}
        for key in node_types:
            if key in dropped:
                continue
            if with_x[key]:
                shape, dtype, style = node_kinds[key]
                graph[key].x = values(rng, (counts[key], *shape), dtype, style)
            else:
                graph[key].num_nodes = counts[key]
        for key in edge_types:
            source, _, target = key
            if {source, target} & dropped:
                continue
            e = int(rng.integers(0, 6)) if counts[source] and counts[target] else 0
            ends = [rng.integers(0, max(counts[end], 1), e) for end in (source, target)]
            graph[key].edge_index = torch.from_numpy(np.stack(ends))
            if with_attr[key]:
                shape, dtype, style = edge_kinds[key]
                graph[key].edge_attr = values(rng, (e, *shape), dtype, style)
        graph.y = torch.tensor([float(number)])
        graph["author"].name = f"graph {number}"
        graphs.append(graph)
    return graphs


@st.composite
def packings(
    draw: Any, counts: dict[str, np.ndarray], axes: Any, null_graphs: str = "all"
) -> tuple[Any, Any, dict[str, int], int]:
    """A random packing of graphs with these counts: (graph_ids, pack_offsets, slots by axis key, graph slots)."""
    num_graphs = len(next(iter(counts.values())))
    edges = {axis.key for axis in axes if axis.level == "edge"}
    ids = np.array(draw(st.permutations(range(num_graphs))), dtype=np.int64)
    cuts = sorted(draw(st.sets(st.integers(0, num_graphs))))
    offsets = np.array([0, *cuts, num_graphs], dtype=np.int64)  # empty packs among them
    slots = int(np.diff(offsets).max()) + draw(st.integers(1, 3))
    limits: dict[str, int] = {}
    for key, count in counts.items():
        floor = 1 if null_graphs == "all" else 0
        need = [
            int(np.maximum(count[ids[a:b]], floor).sum()) + (slots - (b - a) if null_graphs == "all" else 1)
            for a, b in pairwise(offsets)
        ]
        if null_graphs == "jraph" and key in edges:  # padding may have no edge
            need = [number - 1 for number in need]
        limits[key] = max(2, *need) + draw(st.sampled_from((0, 0, 1, 7, 300)))
    return ids, offsets, limits, slots


def limits_of(axes: Any, by_key: dict[str, int], num_graphs: int, null_graphs: str) -> PackLimits:
    """PackLimits with a limit for each axis key."""
    nodes: Any = {axis.type: by_key[axis.key] for axis in axes if axis.level == "node"}
    edges: Any = {axis.type: by_key[axis.key] for axis in axes if axis.level == "edge"}
    return PackLimits(nodes.get(None, nodes), edges.get(None, edges) or num_graphs, num_graphs, null_graphs)


def assert_same(found: Any, expected: Any) -> None:
    """The same attributes in every store, with the same Python type, dtype, shape and bits."""
    assert type(found) is type(expected)
    stores = {store._key: dict(store.items()) for store in found.stores}
    for store in expected.stores:
        own = stores.pop(store._key, {})
        assert own.keys() == dict(store.items()).keys(), store._key
        for name, value in store.items():
            _assert_equal(own[name], value, (store._key, name))
    assert not any(stores.values()), stores


def _assert_equal(found: Any, value: Any, where: Any) -> None:
    assert type(found) is type(value), where
    if not isinstance(value, torch.Tensor):
        assert found == value, where
        return
    assert (found.dtype, found.shape) == (value.dtype, value.shape), where
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
    assert torch.equal(found.view(whole), value.view(whole)), (where, found, value)
