"""From PyG graphs to scan blocks.

Objects are used by what they offer, so that neither torch nor PyG is imported here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from operator import index
from typing import Any, Iterable, Sequence

import numpy as np

from packer.errors import FieldError, SourceError
from packer.graphs.axes import Axis, Type
from packer.scan.attributes import ALL, Attributes
from packer.scan.block import RawBlock
from packer.scan.columns import NO_NODES, array_of, block_of_parts, check_name
from packer.scan.counts import counts_of_stores
from packer.scan.from_storage import block_of_storage as block_of_storage
from packer.scan.from_storage import reads_from_storage as reads_from_storage
from packer.scan.items import check_graph, is_hetero, is_tensor
from packer.scan.joining import Owners, joining, joins_by_name, numbering
from packer.scan.parts import Part, number_of_nodes


@dataclass
class _Column:
    """Values of one attribute while graphs are gone through."""

    positions: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


def block_of_graphs(
    graphs: Iterable[Any], first_id: int = 0, ids: Sequence[int] | None = None, attributes: Attributes = ALL
) -> RawBlock:
    """The block of some consecutive graphs: PyG `Data` or `HeteroData`.

    Graph i has the source id first_id + i, or ids[i]. attributes: what to leave out, and what is an index. Graphs
    without nodes are listed in `skipped` and are not in the block. Raises FieldError or SourceError naming graph,
    attribute, value and remedy.
    """
    kept: list[int] = []
    skipped: dict[int, str] = {}
    columns: dict[tuple[Type, str], _Column] = {}
    counts: list[dict[Axis, int]] = []
    hetero: bool | None = None
    owners: list[Any] = []
    classes: dict[type, bool] = {}
    for number, graph in enumerate(graphs):
        graph_id = first_id + number if ids is None else int(ids[number])
        if type(graph) not in classes:
            check_graph(graph, graph_id)
            classes[type(graph)] = joins_by_name(type(graph))
        if hetero is not None and hetero != is_hetero(graph):
            raise SourceError(
                f"graph {graph_id} is {'not ' * hetero}heterogeneous, unlike those before it: pack them as two data "
                "sets"
            )
        hetero = is_hetero(graph)
        stores = [(store, dict(store.items())) for store in graph.stores]
        rows = counts_of_stores(graph_id, hetero, stores, attributes.guess_num_nodes, classes[type(graph)])
        if not any(count for axis, count in rows.items() if axis.level == "node"):
            skipped[graph_id] = NO_NODES
            continue
        for store, items in stores:
            for name, value in items.items():
                if attributes.leaves_out(store._key, name):
                    continue
                column = columns.get((store._key, name))
                if column is None:
                    check_name(name, store._key, graph_id)
                    column = columns[store._key, name] = _Column()
                column.positions.append(len(kept))
                column.values.append(value)
        kept.append(graph_id)
        owners.append(graph)
        counts.append(rows)
    graph_ids = np.array(kept, dtype=np.int64)
    by_axis = {
        axis: np.array([rows.get(axis, 0) for rows in counts], dtype=np.int64)
        for axis in dict.fromkeys(axis for rows in counts for axis in rows)
    }
    all_owners = Owners(owners, graph_ids, by_axis, all(classes.values()))
    parts = [_part(key, name, column, all_owners, attributes) for (key, name), column in columns.items()]
    return block_of_parts(graph_ids, bool(hetero), by_axis, parts, skipped, attributes)


def _part(type_: Type, name: str, column: _Column, all_owners: Owners, attributes: Attributes) -> Part:
    """Check the values of one attribute against each other and join them."""
    key = Axis("graph", type_).column(name)
    positions = np.array(column.positions, dtype=np.int64)
    owners = all_owners.of(positions)
    ids = owners.ids
    if name == "num_nodes":
        return number_of_nodes(type_, positions, np.array([index(value) for value in column.values], dtype=np.int64))
    first = column.values[0]
    for graph_id, value in zip(ids.tolist(), column.values):
        if type(value) is not type(first) and _form(value, key, graph_id) != _form(first, key, int(ids[0])):
            raise FieldError(
                f"graph {graph_id}: {key!r} is a {type(value).__name__}, but a {type(first).__name__} in graph {ids[0]}"
                "; give all graphs the same, or leave the attribute out"
            )
    form = _form(first, key, int(ids[0]))
    if form == "string":
        return Part(name, type_, form, positions, column.values, np.ones_like(positions), "string", 0, 0)
    if form == "scalar":
        values = _scalars(column.values, key, ids)
        role, targets = numbering(owners, type_, name, column.values, attributes)
        ones = np.ones_like(positions)
        return Part(name, type_, form, positions, values, ones, values.dtype.name, 0, 0, targets, role)
    pairs = [array_of(value, key, graph_id) for value, graph_id in zip(column.values, ids.tolist())]
    cat_dim, role, targets = joining(owners, type_, name, column.values, attributes)
    ndim, dtype = pairs[0][0].ndim, pairs[0][1]
    axis = -1 if cat_dim == -1 else 0
    arrays: list[np.ndarray] = []
    rows = slice(None) if cat_dim is None else slice(-1) if axis == -1 else slice(1, None)
    rest = pairs[0][0].shape[rows]
    for (array, own_dtype), graph_id in zip(pairs, ids.tolist()):
        if own_dtype != dtype or array.ndim != ndim or array.shape[rows] != rest:
            aspect, has, expected = "shape", list(array.shape), list(pairs[0][0].shape)
            if own_dtype != dtype:
                aspect, has, expected = "dtype", own_dtype, dtype
            raise FieldError(
                f"graph {graph_id}: the {aspect} of {key!r} is {has}, but {expected} in graph {ids[0]}; "
                "give all graphs the same, or leave the attribute out"
            )
        arrays.append(np.moveaxis(array, -1, 0) if ndim and axis == -1 else array)
    is_row = ndim == 0 or cat_dim is None
    sizes = np.array([1 if is_row else len(array) for array in arrays], dtype=np.int64)
    values = np.stack(arrays) if is_row else np.concatenate(arrays)
    return Part(name, type_, form, positions, values, sizes, dtype, ndim, cat_dim, targets, role)


def _form(value: Any, key: str, graph_id: int) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, (bool, int, float)):
        return "scalar"
    if is_tensor(value):
        return "tensor"
    remedy = "leave it out (exclude_keys, --exclude)"
    if isinstance(value, (list, tuple)) and any(isinstance(item, str) for item in value):
        remedy = f"join the texts into one, number them in a tensor, or {remedy}"
    elif isinstance(value, (list, tuple)) and any(is_tensor(item) for item in value):
        remedy = "make them one tensor (torch.cat or torch.stack), or one attribute each"
    elif isinstance(value, (list, tuple, np.ndarray, np.generic)):
        remedy = "make it a tensor (torch.as_tensor)"
    raise FieldError(
        f"graph {graph_id}: attribute {key!r} is a {type(value).__name__}; packs take tensors, numbers and strings: "
        f"{remedy}"
    )


def _scalars(values: list[Any], key: str, ids: np.ndarray) -> np.ndarray:
    """Python numbers as PyG joins them: bool, int64 (members of an IntEnum, too), float32; float64 for numpy's own, and
    for all where that is torch's default."""
    kind = _number_of(values[0])
    for value, graph_id in zip(values, ids.tolist()):
        if _number_of(value) != kind:
            raise FieldError(
                f"graph {graph_id}: {key!r} is a {type(value).__name__}, but a {type(values[0]).__name__} in graph "
                f"{ids[0]}; give all graphs the same"
            )
        if kind == "int64" and not -(2**63) <= value < 2**63:
            raise FieldError(f"graph {graph_id}: {key!r} is {value}; whole numbers are kept in 64 bits")
    with np.errstate(over="ignore"):
        numbers = np.array(values, dtype=np.float64 if kind == "float32" else kind).astype(kind)
    if kind == "float32":
        beyond = np.flatnonzero(np.isinf(numbers) & np.isfinite(np.array(values, dtype=np.float64)))
        if len(beyond):
            raise FieldError(
                f"graph {ids[beyond[0]]}: {key!r} is {values[beyond[0]]!r}, beyond float32, which a Python float "
                "becomes: make it a float64 tensor"
            )
    return numbers


def _float_of_python() -> str:
    """What torch makes of a Python float, of which it has a default: float64 on request, float32 at least here."""
    torch: Any = sys.modules.get("torch")
    return "float64" if torch is not None and torch.get_default_dtype() == torch.float64 else "float32"


def _number_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    return "float64" if isinstance(value, np.generic) else _float_of_python()
