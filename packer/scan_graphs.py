"""From PyG graphs, or the storage of an in-memory data set, to scan blocks.

Objects are used by what they offer, so that neither torch nor PyG is imported here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from packer.errors import FieldError, SourceError
from packer.field_statistics import (
    RELATIONS,
    FieldStatistics,
    Statistics,
    joined_axes,
    narrowest,
    value_range,
)
from packer.fields import HOMOGENEOUS, Axis, Type
from packer.graph_table import pointers, segments
from packer.scan_block import RawBlock

RESERVED = ("batch", "ptr", "mask", "nodes_mask", "edges_mask", "graphs_mask", "graph_ids", "num_real")
"""Names that packs give to columns of their own."""

NODE_KEYS = ("x", "feat", "pos", "node_type", "n_id")
"""Attributes whose length PyG takes for the number of nodes, when no `num_nodes` is stored."""

NO_NODES = "no nodes"


@dataclass
class _Part:
    """One attribute of the graphs of a block: values of those graphs that have it, with the joined dimension first."""

    name: str
    type: Type
    form: str
    positions: np.ndarray  # int64 [present]: which graphs of the block
    values: Any  # [rows, *shape], or a list of strings
    sizes: np.ndarray  # int64 [present]: length of the joined dimension, 1 where there is none
    dtype: str
    ndim: int
    cat_dim: int | None
    targets: tuple[str, ...] = ()
    role: str = "value"

    @property
    def key(self) -> str:
        return Axis("graph", self.type).column(self.name)


@dataclass
class _Column:
    """Values of one attribute while graphs are gone through."""

    store: Any
    graph: Any
    positions: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


def block_of_graphs(graphs: Iterable[Any], first_id: int = 0, ids: Sequence[int] | None = None) -> RawBlock:
    """The block of some consecutive graphs: PyG `Data` or `HeteroData`.

    Graph i has the source id first_id + i, or ids[i]. Graphs without nodes are listed in `skipped` and are not in the
    block. Raises FieldError or SourceError naming graph, attribute, value and remedy.
    """
    kept: list[int] = []
    skipped: dict[int, str] = {}
    columns: dict[tuple[Type, str], _Column] = {}
    counts: list[dict[Axis, int]] = []
    hetero: bool | None = None
    for number, graph in enumerate(graphs):
        graph_id = first_id + number if ids is None else int(ids[number])
        if not hasattr(type(graph), "stores"):
            raise SourceError(f"graph {graph_id} is a {type(graph).__name__}; a source gives PyG Data or HeteroData")
        if hetero is not None and hetero != _is_hetero(graph):
            raise SourceError(f"graph {graph_id} is {'not ' * hetero}heterogeneous, unlike those before it")
        hetero = _is_hetero(graph)
        stores = [(store, dict(store.items())) for store in graph.stores]
        found = _counts(graph_id, hetero, stores)
        if not any(count for axis, count in found.items() if axis.level == "node"):
            skipped[graph_id] = NO_NODES
            continue
        for store, items in stores:
            for name, value in items.items():
                column = columns.get((store._key, name))
                if column is None:
                    check_name(name, store._key, graph_id)
                    column = columns[store._key, name] = _Column(store, graph)
                column.positions.append(len(kept))
                column.values.append(value)
        kept.append(graph_id)
        counts.append(found)
    graph_ids = np.array(kept, dtype=np.int64)
    by_axis = {
        axis: np.array([found.get(axis, 0) for found in counts], dtype=np.int64)
        for axis in dict.fromkeys(axis for found in counts for axis in found)
    }
    parts = [_part(key, name, column, graph_ids) for (key, name), column in columns.items()]
    return _block(graph_ids, bool(hetero), by_axis, parts, skipped)


def reads_from_storage(dataset: Any) -> bool:
    """Whether `block_of_storage` gives what the data set's own indexing gives: in memory, collated, untransformed."""
    module = "torch_geometric.data."
    get, item = (getattr(getattr(type(dataset), name, None), "__module__", "") for name in ("get", "__getitem__"))
    if get != module + "in_memory_dataset" or not item.startswith(module) or dataset.transform is not None:
        return False
    if dataset.slices is None or dataset.len() < 2:
        return False
    stores = [(store, _slices(dataset, store)) for store in dataset._data.stores]
    return all("num_nodes" not in own and all(_is_flat(store[name]) for name in own) for store, own in stores)


def block_of_storage(dataset: Any, start: int, stop: int) -> RawBlock:
    """The block of dataset[start:stop] for a PyG InMemoryDataset that `reads_from_storage`: no object per graph.

    Graph i of the data set (after `index_select`, `shuffle`, splits) has the source id i.
    """
    rows = np.asarray(list(dataset.indices()[start:stop]), dtype=np.int64)
    return _storage_block(dataset, rows, np.arange(start, start + len(rows), dtype=np.int64), {})


def check_name(name: str, type_: Type, graph_id: int) -> None:
    """Raise FieldError for an attribute name that packs cannot carry."""
    where = f"graph {graph_id}: attribute {Axis('graph', type_).column(name)!r}"
    if name in RESERVED and not (name == "mask" and type_ is None):
        raise FieldError(f"{where}: packs have a column of their own by this name; rename the attribute")
    if "/" in name:
        raise FieldError(f"{where}: packs write TYPE/NAME for the attributes of a type; rename it without '/'")
    if "batch" in name:
        raise FieldError(
            f"{where}: PyG shifts attributes with 'batch' in their name by their largest value when it joins graphs; "
            "rename it, or leave it out and pass follow_batch to the loader"
        )


def _is_hetero(graph: Any) -> bool:
    return hasattr(type(graph), "edge_types")


def _counts(graph_id: int, hetero: bool, stores: list[tuple[Any, dict[str, Any]]]) -> dict[Axis, int]:
    """Numbers of nodes and edges of one graph. A store that holds nothing is taken for absent."""
    counts: dict[Axis, int] = {}
    for store, items in stores:
        key: Type = store._key
        if isinstance(key, tuple):
            if items:
                counts[Axis("edge", key)] = _num_edges(items)
        elif (key is None) != hetero and (items or not hetero):
            nodes = _num_nodes(store, items) if items else 0
            if nodes is None or nodes < 0:
                where = f"graph {graph_id}" + ("" if key is None else f", node type {key!r}")
                raise SourceError(
                    f"{where}: the number of nodes is unknown; set num_nodes"
                    if nodes is None
                    else f"{where}: num_nodes is {nodes}; it must not be negative"
                )
            counts[Axis("node", key)] = nodes
            if key is None:
                counts[Axis("edge")] = _num_edges(items)
    return counts


def _num_edges(items: Mapping[str, Any]) -> int:
    value: Any = items.get("edge_index", 0)
    return int(value.shape[-1]) if _is_tensor(value) and value.ndim == 2 else 0


def _num_nodes(store: Any, items: Mapping[str, Any]) -> int | None:
    if "num_nodes" in items:
        return int(items["num_nodes"])
    if next((name for name in items if name in NODE_KEYS), None) == "x" and _is_tensor(items["x"]) and items["x"].ndim:
        return int(items["x"].shape[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyG guesses from edge_index aloud; so do we, and say it in docs
        nodes = store.num_nodes
    return None if nodes is None else int(nodes)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "layout")


def _is_flat(value: Any) -> bool:
    """Whether a collated value is a plain tensor or one string a graph."""
    if _is_tensor(value):
        return str(value.layout) == "torch.strided" and not getattr(value, "is_nested", False)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _part(type_: Type, name: str, column: _Column, graph_ids: np.ndarray) -> _Part:
    """Check the values of one attribute against each other and join them."""
    key = Axis("graph", type_).column(name)
    positions = np.array(column.positions, dtype=np.int64)
    ids = graph_ids[positions]
    if name == "num_nodes":
        return _number_of_nodes(type_, positions, np.array([int(value) for value in column.values], dtype=np.int64))
    first = column.values[0]
    for graph_id, value in zip(ids.tolist(), column.values):
        if type(value) is not type(first) and _form(value, key, graph_id) != _form(first, key, int(ids[0])):
            raise FieldError(
                f"graph {graph_id}: {key!r} is a {type(value).__name__}, but a {type(first).__name__} in graph {ids[0]}"
                "; give all graphs the same, or leave the attribute out"
            )
    form = _form(first, key, int(ids[0]))
    if form == "string":
        return _Part(name, type_, form, positions, column.values, np.ones_like(positions), "string", 0, 0)
    if form == "scalar":
        values = _scalars(column.values, key, ids)
        return _Part(name, type_, form, positions, values, np.ones_like(positions), values.dtype.name, 0, 0)
    pairs = [array_of(value, key, graph_id) for value, graph_id in zip(column.values, ids.tolist())]
    cat_dim, role, targets = _joining(column.graph, column.store, type_, name, first, int(ids[0]))
    ndim, dtype = pairs[0][0].ndim, pairs[0][1]
    axis = -1 if cat_dim == -1 else 0
    arrays: list[np.ndarray] = []
    rows = slice(None) if cat_dim is None else slice(-1) if axis == -1 else slice(1, None)
    rest = pairs[0][0].shape[rows]
    for (array, found), graph_id in zip(pairs, ids.tolist()):
        if found != dtype or array.ndim != ndim or array.shape[rows] != rest:
            what, here, there = "shape", list(array.shape), list(pairs[0][0].shape)
            if found != dtype:
                what, here, there = "dtype", found, dtype
            raise FieldError(
                f"graph {graph_id}: the {what} of {key!r} is {here}, but {there} in graph {ids[0]}; "
                "give all graphs the same, or leave the attribute out"
            )
        arrays.append(np.moveaxis(array, -1, 0) if ndim and axis == -1 else array)
    is_row = ndim == 0 or cat_dim is None
    sizes = np.array([1 if is_row else len(array) for array in arrays], dtype=np.int64)
    values = np.stack(arrays) if is_row else np.concatenate(arrays)
    return _Part(name, type_, form, positions, values, sizes, dtype, ndim, cat_dim, targets, role)


def _number_of_nodes(type_: Type, positions: np.ndarray, values: np.ndarray) -> _Part:
    ones = np.ones_like(positions)
    return _Part("num_nodes", type_, "scalar", positions, values, ones, "int64", 0, 0, (), "count")


def _form(value: Any, key: str, graph_id: int) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, (bool, int, float)):
        return "scalar"
    if _is_tensor(value):
        return "tensor"
    remedy = "make it a tensor" if isinstance(value, (list, tuple, np.ndarray, np.generic)) else "leave it out"
    raise FieldError(
        f"graph {graph_id}: attribute {key!r} is a {type(value).__name__}; packs take tensors, numbers and strings: "
        f"{remedy}"
    )


def _scalars(values: list[Any], key: str, ids: np.ndarray) -> np.ndarray:
    for value, graph_id in zip(values, ids.tolist()):
        if type(value) is not type(values[0]):
            raise FieldError(
                f"graph {graph_id}: {key!r} is a {type(value).__name__}, but a {type(values[0]).__name__} in graph "
                f"{ids[0]}; give all graphs the same"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise FieldError(f"graph {graph_id}: {key!r} is {value}; whole numbers are kept in 64 bits")
    return np.array(values, dtype={bool: bool, int: np.int64}.get(type(values[0]), np.float64))


def array_of(value: Any, key: str, graph_id: int) -> tuple[np.ndarray, str]:
    """A tensor's numbers without a copy, and its logical dtype. Raises FieldError for what packs cannot carry."""
    dtype = str(value.dtype).rpartition(".")[2]
    if str(value.layout) != "torch.strided" or getattr(value, "is_nested", False) or dtype.startswith("complex"):
        what = "nested" if getattr(value, "is_nested", False) else "complex" if "complex" in dtype else "sparse"
        remedy = {
            "complex": "give real and imaginary parts as two columns (torch.view_as_real)",
            "sparse": "give edge_index and edge_attr (torch_geometric.utils.to_edge_index) instead",
            "nested": "give one attribute for each part",
        }[what]
        raise FieldError(f"graph {graph_id}: {key!r} is a {what} tensor; {remedy}")
    value = value.detach().cpu()
    if hasattr(value, "as_tensor"):  # PyG's Index and EdgeIndex
        value = value.as_tensor()
    if dtype == "bfloat16":
        import torch

        return value.contiguous().view(torch.int16).numpy().view(np.uint16), dtype
    if dtype not in _DTYPES:
        raise FieldError(f"graph {graph_id}: {key!r} is {dtype}; the dtypes known are {', '.join(_DTYPES)}, bfloat16")
    return value.numpy(), dtype


_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)


def _joining(
    graph: Any, store: Any, type_: Type, name: str, value: Any, graph_id: int
) -> tuple[int | None, str, tuple[str, ...]]:
    """How PyG joins an attribute: (joined dimension, role, targets), asked of the first graph that has it."""
    key = Axis("graph", type_).column(name)
    cat_dim = graph.__cat_dim__(name, value, store)
    if cat_dim and value.ndim and cat_dim in (-1, value.ndim - 1):
        cat_dim = -1
    if cat_dim not in (None, 0, -1):
        raise FieldError(
            f"graph {graph_id}: {key!r} joins along dimension {cat_dim} (__cat_dim__); packs join along the first or "
            "the last: transpose it"
        )
    if getattr(type(graph).__inc__, "__module__", "").startswith("torch_geometric.data."):
        # PyG's rule, not asked: for an edge type whose node type a graph lacks it fails.
        is_index = (
            "index" in name and isinstance(type_, tuple) if _is_hetero(graph) else "index" in name or name == "face"
        )
    else:
        is_index = _is_shifted(graph, store, name, value, key, graph_id)
    if not is_index:
        return cat_dim, "value", ()
    if isinstance(type_, tuple):
        if value.ndim < 2 or value.shape[0] != 2:
            raise FieldError(
                f"graph {graph_id}: {key!r} has shape {list(value.shape)}; an edge type numbers nodes as [2, ...]"
            )
        return cat_dim, "index", (type_[0], type_[2])
    return cat_dim, "index", ("node",)


def _is_shifted(graph: Any, store: Any, name: str, value: Any, key: str, graph_id: int) -> bool:
    """Whether a class with an `__inc__` of its own shifts the attribute by the number of nodes; FieldError for more."""
    shift = graph.__inc__(name, value, store)
    shift = np.asarray(shift.tolist() if _is_tensor(shift) else shift)
    if isinstance(store._key, tuple) and shift.size == 2:
        return True
    if shift.any() and (_is_hetero(graph) or shift.size != 1 or int(shift.reshape(())) != graph.num_nodes):
        raise FieldError(
            f"graph {graph_id}: {key!r} is shifted by {shift.tolist()} when graphs are joined (__inc__); packs shift "
            "by the number of nodes only"
        )
    return bool(shift.any())


def _slices(dataset: Any, store: Any) -> dict[str, Any]:
    """Attribute -> pointers of the graphs in a collated store, for the attributes that each graph gets back."""
    slices = dataset.slices if store._key is None else dataset.slices.get(store._key, {})
    names = set(store.keys())
    return {name: slices[name] for name in slices if name in names}


def _storage_block(dataset: Any, rows: np.ndarray, graph_ids: np.ndarray, skipped: dict[int, str]) -> RawBlock:
    data = dataset._data
    parts: list[_Part] = []
    by_axis: dict[Axis, np.ndarray] = {}
    for store in data.stores:
        slices = _slices(dataset, store)
        own = [_stored_part(data, store, name, slices[name], rows, graph_ids) for name in slices]
        explicit = getattr(store, "_num_nodes", None)
        if explicit is not None:
            values = np.array([int(explicit[row]) for row in rows.tolist()], dtype=np.int64)
            own.append(_number_of_nodes(store._key, np.arange(len(rows)), values))
        by_axis.update(_stored_counts(store._key, own, graph_ids, _is_hetero(data)))
        parts += own
    nodes = np.zeros(len(rows), dtype=np.int64) + sum(by_axis[axis] for axis in by_axis if axis.level == "node")
    if len(rows) and not nodes.all():
        skipped = {int(graph_id): NO_NODES for graph_id in graph_ids[nodes == 0]}
        return _storage_block(dataset, rows[nodes > 0], graph_ids[nodes > 0], skipped)
    return _block(graph_ids, _is_hetero(data), by_axis, parts, skipped)


def _stored_part(data: Any, store: Any, name: str, slices: Any, rows: np.ndarray, graph_ids: np.ndarray) -> _Part:
    """One attribute of the graphs `rows` of a collated store."""
    check_name(name, store._key, int(graph_ids[0]) if len(graph_ids) else 0)
    key, value = Axis("graph", store._key).column(name), store[name]
    positions = np.arange(len(rows))
    if isinstance(value, list):
        texts = [value[row] for row in rows.tolist()]
        return _Part(name, store._key, "string", positions, texts, np.ones_like(rows), "string", 0, 0)
    first = int(graph_ids[0]) if len(graph_ids) else 0
    array, dtype = array_of(value, key, first)
    cat_dim, role, targets = _joining(data, store, store._key, name, value, first)
    array = np.moveaxis(array, -1, 0) if cat_dim == -1 else array
    slices = np.asarray(slices)
    starts, sizes = slices[rows], slices[rows + 1] - slices[rows]
    if len(rows) and (np.diff(rows) == 1).all():
        array = array[starts[0] : starts[-1] + sizes[-1]]
    else:
        array = array[segments(starts, sizes)]
    ndim = array.ndim - (cat_dim is None)
    return _Part(name, store._key, "tensor", positions, array, sizes, dtype, ndim, cat_dim, targets, role)


def _stored_counts(type_: Type, parts: list[_Part], graph_ids: np.ndarray, hetero: bool) -> dict[Axis, np.ndarray]:
    by_name = {part.name: part for part in parts}
    edges = by_name["edge_index"].sizes if "edge_index" in by_name else np.zeros(len(graph_ids), dtype=np.int64)
    if isinstance(type_, tuple):
        return {Axis("edge", type_): edges} if parts else {}
    if (type_ is None) == hetero or (hetero and not parts):
        return {}
    tensors = [part for part in parts if part.form == "tensor" and part.ndim]
    if "num_nodes" in by_name:
        nodes = by_name["num_nodes"].values
    else:
        named = [part for part in tensors if part.name in NODE_KEYS] or [
            part for part in tensors if "node" in part.name
        ]
        guessed = by_name.get("edge_index") or by_name.get("face")
        if named:
            nodes = named[0].sizes
        elif guessed is not None:
            nodes = _largest_of_each(guessed.values, guessed.sizes) + 1
        else:
            where = "" if type_ is None else f", node type {type_!r}"
            raise SourceError(f"graph {graph_ids[0]}{where}: the number of nodes is unknown; set num_nodes")
    return {Axis("node", type_): nodes, **({} if hetero else {Axis("edge"): edges})}


def _largest_of_each(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The largest entry of each graph's rows, -1 for a graph without rows: int64 [graphs]."""
    largest = np.full(len(sizes), -1, dtype=np.int64)
    if values.size:
        filled = sizes > 0
        largest[filled] = np.maximum.reduceat(_flat_rows(values).max(axis=1), pointers(sizes)[:-1][filled])
    return largest


def _flat_rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), int(np.prod(values.shape[1:])))


def _block(
    graph_ids: np.ndarray,
    hetero: bool,
    counts: Mapping[Axis, np.ndarray],
    parts: Sequence[_Part],
    skipped: Mapping[int, str],
) -> RawBlock:
    none = np.zeros(len(graph_ids), dtype=np.int64)
    ends = [Axis("node", end) for axis in counts if axis.type is not None and axis.level == "edge" for end in axis.ends]
    axes = joined_axes([*counts, *ends] if hetero else HOMOGENEOUS)
    by_key = {axis.key: counts.get(axis, none) for axis in axes}
    columns: dict[str, np.ndarray] = {}
    present: dict[str, np.ndarray] = {}
    strings: dict[str, pa.Array] = {}
    fields: list[FieldStatistics] = []
    for part in parts if len(graph_ids) else ():
        found = _describe(part, by_key, graph_ids, hetero)
        fields.append(found)
        has = np.zeros(len(graph_ids), dtype=bool)
        has[part.positions] = True
        if part.form == "string":
            texts: list[str | None] = [None] * len(graph_ids)
            for position, text in zip(part.positions.tolist(), part.values):
                texts[position] = text
            strings[part.key] = pa.array(texts, type=pa.string())
            continue
        if part.role != "count":
            storage = narrowest(part.dtype, found.low, found.high, found.whole)
            columns[part.key] = part.values.astype(storage, copy=False)
        if not has.all() or part.role == "count":
            present[part.key] = has
    first = int(graph_ids[0]) if len(graph_ids) else -1
    statistics = Statistics(len(graph_ids), first, hetero, axes, tuple(fields))
    return RawBlock(graph_ids, by_key, columns, present, strings, skipped, statistics)


def _describe(part: _Part, counts: Mapping[str, np.ndarray], graph_ids: np.ndarray, hetero: bool) -> FieldStatistics:
    """Statistics of one attribute over a block, after checking that its numbers of nodes exist."""
    ids = graph_ids[part.positions]
    lacking = np.delete(graph_ids, part.positions)
    if part.name == "edge_index" and (not hetero or isinstance(part.type, tuple)):
        _check_edge_index(part, ids)
    if part.role == "index":
        _check_range(part, counts, ids)
    shape = () if part.form == "string" else tuple(part.values.shape[1:])
    return FieldStatistics(
        name=part.name,
        type=part.type,
        role=part.role,
        form=part.form,
        dtype=part.dtype,
        ndim=part.ndim,
        cat_dim=part.cat_dim or 0,
        shape=shape,
        size=int(part.sizes[0]),
        first=int(ids[0]),
        stacked=part.cat_dim is None,
        missing=int(lacking[0]) if len(lacking) else None,
        against=tuple(_contradictions(part, counts, ids, hetero)),
        targets=part.targets,
        **({} if part.form == "string" else value_range(part.values, part.dtype)),
    )


def _contradictions(
    part: _Part, counts: Mapping[str, np.ndarray], ids: np.ndarray, hetero: bool
) -> Iterable[tuple[str, int, str]]:
    """For each relation that some graph does not admit: (relation, the first such graph, what it has)."""
    own = {"node": "node", "edge": "edge"}
    if hetero:
        own = {} if part.type is None else {"edge" if isinstance(part.type, tuple) else "node": Axis("", part.type).key}
    for relation in RELATIONS[:3]:
        if part.ndim == 0 or part.cat_dim is None:
            yield relation, int(ids[0]), "has one value" if part.ndim == 0 else "is stacked when graphs are joined"
        elif relation == "row" or relation in own:
            expected = np.ones_like(part.sizes) if relation == "row" else counts[own[relation]][part.positions]
            wrong = np.flatnonzero(part.sizes != expected)
            if len(wrong):
                at = wrong[0]
                what = "one row" if relation == "row" else f"{expected[at]} {relation}s"
                yield relation, int(ids[at]), f"has length {part.sizes[at]} and {what}"
        else:
            yield relation, int(ids[0]), f"has no {relation}s of its own there"
    other = np.flatnonzero(part.sizes != part.sizes[0]) if part.ndim and part.cat_dim is not None else []
    if len(other):
        at = other[0]
        yield "value", int(ids[at]), f"has length {part.sizes[at]}"


def _check_edge_index(part: _Part, ids: np.ndarray) -> None:
    if part.form == "tensor" and part.ndim == 2 and part.values.shape[1] == 2 and part.values.dtype.kind in "iu":
        return
    what = part.form if part.form != "tensor" else f"{part.dtype} with {part.ndim} dimensions"
    if part.form == "tensor" and part.ndim == 2:
        what = f"{part.dtype} [{part.values.shape[1]}, edges]"
    raise FieldError(f"graph {ids[0]}: {part.key!r} is {what}; it must be a tensor of whole numbers, [2, edges]")


def _check_range(part: _Part, counts: Mapping[str, np.ndarray], ids: np.ndarray) -> None:
    """Raise FieldError for a number of a node that its graph does not have."""
    if part.values.dtype.kind not in "iu":
        raise FieldError(
            f"graph {ids[0]}: {part.key!r} is {part.dtype}, but PyG shifts it by the number of nodes when it joins "
            "graphs: make it whole numbers, or rename it without 'index'"
        )
    owner = np.repeat(np.arange(len(ids)), part.sizes)
    values = _flat_rows(part.values)
    for entry, target in enumerate(part.targets):
        own = values if len(part.targets) == 1 else _flat_rows(part.values[:, entry])
        nodes = counts[target][part.positions][owner][:, None]
        wrong = np.argwhere((own < 0) | (own >= nodes))
        if len(wrong):
            row, column = wrong[0]
            raise FieldError(
                f"graph {ids[owner[row]]}: {part.key!r} has the entry {own[row, column]}, but the graph has "
                f"{nodes[row, 0]} {'' if target == 'node' else target + ' '}nodes (0 to {nodes[row, 0] - 1}): correct "
                "the entry, or set num_nodes"
            )
