"""From the storage of a PyG InMemoryDataset to scan blocks: whole arrays are cut, no object is made per graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from packer.errors import SourceError
from packer.graphs.axes import Axis, Type
from packer.graphs.ragged import flat_rows, pointers, segments
from packer.scan.attributes import ALL, Attributes
from packer.scan.block import RawBlock
from packer.scan.columns import NO_NODES, array_of, block_of_parts, check_name
from packer.scan.counts import NODE_KEYS, guessed_nodes, stated_nodes
from packer.scan.items import is_hetero, is_tensor
from packer.scan.joining import Owners, joining, joins_by_name
from packer.scan.parts import Part, number_of_nodes


def reads_from_storage(dataset: Any) -> bool:
    """Whether `block_of_storage` gives what the data set's own indexing gives: in memory, collated, untransformed."""
    module = "torch_geometric.data."
    names = ("get", "__getitem__", "__len__", "indices", "len")
    get, *others = (getattr(getattr(type(dataset), name, None), "__module__", "") for name in names)
    if get != module + "in_memory_dataset" or dataset.slices is None:
        return False
    _check_slices(dataset)
    if not all(other.startswith(module) for other in others) or dataset.transform is not None or dataset.len() < 2:
        return False
    if any(item is not None for item in getattr(dataset, "_data_list", None) or ()):
        return False  # items that were asked for are kept, and may have been changed since
    if not joins_by_name(type(dataset._data)):
        return False
    stores = [(store, _slices(dataset, store)) for store in dataset._data.stores]
    return all("num_nodes" not in slices and all(_is_flat(store[name]) for name in slices) for store, slices in stores)


def block_of_storage(dataset: Any, start: int, stop: int, attributes: Attributes = ALL) -> RawBlock:
    """The block of dataset[start:stop] for a PyG InMemoryDataset that `reads_from_storage`: no object per graph.

    Graph i of the data set (after `index_select`, `shuffle`, splits) has the source id i. attributes: as for
    `block_of_graphs`.
    """
    rows = np.asarray(list(dataset.indices()[start:stop]), dtype=np.int64)
    wrong = np.flatnonzero((rows < 0) | (rows >= dataset.len()))
    if len(wrong):
        raise SourceError(
            f"graph {start + wrong[0]} is graph {rows[wrong[0]]} of the InMemoryDataset, which holds {dataset.len()}: "
            "were its graphs replaced after some were chosen? Pass a list of graphs"
        )
    return _storage_block(dataset, rows, np.arange(start, start + len(rows), dtype=np.int64), {}, attributes)


def _check_slices(dataset: Any) -> None:
    """Raise SourceError for storage where some graphs lack an attribute: which ones, it does not say."""
    lengths: dict[str, int] = {}
    for store in dataset._data.stores:
        for name, slices in _slices(dataset, store).items():
            if isinstance(slices, (list, np.ndarray)) or is_tensor(slices):
                lengths[Axis("graph", store._key).column(name)] = len(slices) - 1
        explicit = getattr(store, "_num_nodes", None)
        if explicit is not None:
            lengths[Axis("graph", store._key).column("num_nodes")] = len(explicit)
    most = max(lengths.values(), default=0)
    for key, length in lengths.items():
        if length != most:
            raise SourceError(
                f"the InMemoryDataset holds {most} graphs, but {key!r} of {length} only, and no longer which: give "
                "every graph the type or attribute (empty where it has none) before collating, or pass a list of graphs"
            )


def _is_flat(value: Any) -> bool:
    """Whether a collated value is a plain tensor or one string a graph."""
    if is_tensor(value):
        return str(value.layout) == "torch.strided" and not getattr(value, "is_nested", False)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _slices(dataset: Any, store: Any) -> dict[str, Any]:
    """Attribute -> pointers of the graphs in a collated store, for the attributes that each graph gets back."""
    slices = dataset.slices if store._key is None else dataset.slices.get(store._key, {})
    names = set(store.keys())
    return {name: slices[name] for name in slices if name in names}


def _storage_block(
    dataset: Any, rows: np.ndarray, graph_ids: np.ndarray, skipped: dict[int, str], attributes: Attributes
) -> RawBlock:
    data = dataset._data
    parts: list[Part] = []
    by_axis: dict[Axis, np.ndarray] = {}
    for store in data.stores:
        slices = _slices(dataset, store)
        stored = [
            _stored_part(data, store, name, slices[name], rows, graph_ids, attributes)
            for name in slices
            if not attributes.leaves_out(store._key, name) or _counts_nodes(name)
        ]
        explicit = getattr(store, "_num_nodes", None)
        if explicit is not None:
            where = "" if store._key is None else f", node type {store._key!r}"
            values = [
                stated_nodes(f"graph {graph_id}{where}", explicit[row])
                for graph_id, row in zip(graph_ids.tolist(), rows.tolist())
            ]
            stored.append(number_of_nodes(store._key, np.arange(len(rows)), np.array(values, dtype=np.int64)))
        by_axis.update(_stored_counts(store._key, stored, graph_ids, is_hetero(data), attributes.guess_num_nodes))
        parts += [part for part in stored if not attributes.leaves_out(store._key, part.name)]
    nodes = np.zeros(len(rows), dtype=np.int64) + sum(by_axis[axis] for axis in by_axis if axis.level == "node")
    if len(rows) and not nodes.all():
        skipped = {int(graph_id): NO_NODES for graph_id in graph_ids[nodes == 0]}
        return _storage_block(dataset, rows[nodes > 0], graph_ids[nodes > 0], skipped, attributes)
    return block_of_parts(graph_ids, is_hetero(data), by_axis, parts, skipped, attributes)


def _counts_nodes(name: str) -> bool:
    """Whether the number of nodes may follow from the attribute, so that it is looked at even if left out."""
    return name in NODE_KEYS or "node" in name or name == "face"


def _stored_part(
    data: Any,
    store: Any,
    name: str,
    slices: Any,
    rows: np.ndarray,
    graph_ids: np.ndarray,
    attributes: Attributes,
) -> Part:
    """One attribute of the graphs `rows` of a collated store."""
    check_name(name, store._key, int(graph_ids[0]) if len(graph_ids) else 0)
    key, value = Axis("graph", store._key).column(name), store[name]
    positions = np.arange(len(rows))
    if isinstance(value, list):
        texts = [value[row] for row in rows.tolist()]
        return Part(name, store._key, "string", positions, texts, np.ones_like(rows), "string", 0, 0)
    first = int(graph_ids[0]) if len(graph_ids) else 0
    array, dtype = array_of(value, key, first)
    owners = Owners([data], np.array([first]), {}, True)
    cat_dim, role, targets = joining(owners, store._key, name, [value], attributes)
    array = np.moveaxis(array, -1, 0) if cat_dim == -1 else array
    slices = np.asarray(slices)
    starts, sizes = slices[rows], slices[rows + 1] - slices[rows]
    wrong = np.flatnonzero((starts < 0) | (sizes < 0) | (starts + sizes > len(array)))
    if len(wrong):
        at = wrong[0]
        raise SourceError(
            f"graph {graph_ids[at]}: the slices of the InMemoryDataset give it the rows {starts[at]} to "
            f"{starts[at] + sizes[at]} of {key!r}, which has {len(array)}: was it replaced or cut without its slices? "
            "Collate the graphs anew, or pass a list of them"
        )
    if len(rows) and (np.diff(rows) == 1).all():
        array = array[starts[0] : starts[-1] + sizes[-1]]
    else:
        array = array[segments(starts, sizes)]
    ndim = array.ndim - (cat_dim is None)
    return Part(name, store._key, "tensor", positions, array, sizes, dtype, ndim, cat_dim, targets, role)


def _stored_counts(
    type_: Type, parts: list[Part], graph_ids: np.ndarray, hetero: bool, guess: bool
) -> dict[Axis, np.ndarray]:
    by_name = {part.name: part for part in parts}
    edges = by_name["edge_index"].sizes if "edge_index" in by_name else np.zeros(len(graph_ids), dtype=np.int64)
    if isinstance(type_, tuple):
        return {Axis("edge", type_): edges} if parts else {}
    if (type_ is None) == hetero or (hetero and not parts):
        return {}
    tensors = [part for part in parts if part.form == "tensor" and part.ndim]
    where = "" if type_ is None else f", node type {type_!r}"
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
            if not guess and len(nodes):
                raise guessed_nodes(f"graph {graph_ids[0]}{where}", int(nodes[0]))
        else:
            raise SourceError(f"graph {graph_ids[0]}{where}: the number of nodes is unknown; set num_nodes")
    return {Axis("node", type_): nodes, **({} if hetero else {Axis("edge"): edges})}


def _largest_of_each(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The largest entry of each graph's rows, -1 for a graph without rows: int64 [graphs]."""
    largest = np.full(len(sizes), -1, dtype=np.int64)
    if values.size:
        filled = sizes > 0
        largest[filled] = np.maximum.reduceat(flat_rows(values).max(axis=1), pointers(sizes)[:-1][filled])
    return largest
