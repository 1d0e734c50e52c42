"""One attribute of the graphs of a block: how it joins, what is wrong with it, and the block made of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from packer.attributes import ALL, Attributes
from packer.errors import FieldError
from packer.field_statistics import RELATIONS, FieldStatistics, Statistics, joined_axes, narrowest, value_range
from packer.fields import HOMOGENEOUS, Axis, Type
from packer.scan_block import RawBlock

RESERVED = ("batch", "ptr", "mask", "nodes_mask", "edges_mask", "graphs_mask", "graph_ids", "num_real")
"""Names that packs give to columns of their own."""

NODE_KEYS = ("x", "feat", "pos", "node_type", "n_id")
"""Attributes whose length PyG takes for the number of nodes, when no `num_nodes` is stored."""

NO_NODES = "no nodes"

_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)


@dataclass
class Part:
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


def is_hetero(graph: Any) -> bool:
    return hasattr(type(graph), "edge_types")


def is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "layout")


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


def joining(
    graph: Any, store: Any, type_: Type, name: str, value: Any, graph_id: int, attributes: Attributes = ALL
) -> tuple[int | None, str, tuple[str, ...]]:
    """How PyG joins a tensor attribute: (joined dimension, role, targets), asked of the first graph that has it."""
    cat_dim = graph.__cat_dim__(name, value, store)
    if cat_dim and value.ndim and cat_dim in (-1, value.ndim - 1):
        cat_dim = -1
    if cat_dim not in (None, 0, -1):
        raise FieldError(
            f"graph {graph_id}: {Axis('graph', type_).column(name)!r} joins along dimension {cat_dim} (__cat_dim__); "
            "packs join along the first or the last: transpose it"
        )
    return (cat_dim, *numbering(graph, store, type_, name, value, graph_id, attributes))


def numbering(
    graph: Any, store: Any, type_: Type, name: str, value: Any, graph_id: int, attributes: Attributes = ALL
) -> tuple[str, tuple[str, ...]]:
    """Whether PyG shifts an attribute when it joins graphs, or `attributes` declares that: (role, targets).

    value: a tensor, or a Python number, which PyG shifts as well.
    """
    key = Axis("graph", type_).column(name)
    if getattr(type(graph).__inc__, "__module__", "").startswith("torch_geometric.data."):
        # PyG's rule, not asked: for an edge type whose node type a graph lacks it fails.
        is_index = (
            "index" in name and isinstance(type_, tuple) if is_hetero(graph) else "index" in name or name == "face"
        )
    else:
        is_index = _is_shifted(graph, store, name, value, key, graph_id)
    declared, target = attributes.declared(type_, name)
    if declared and target is not None:
        return "index", (_known_type(graph, key, target),)
    if not is_index and not declared:
        return "value", ()
    if declared and is_hetero(graph) and not isinstance(type_, tuple):
        if type_ is None:
            raise FieldError(f"{key!r} is declared an index: say of which node type, {key}=TYPE")
        return "index", (type_,)
    if isinstance(type_, tuple):
        shape = tuple(getattr(value, "shape", ()))
        if len(shape) < 2 or shape[0] != 2:
            raise FieldError(
                f"graph {graph_id}: {key!r} has shape {list(shape)}; an edge type numbers nodes as [2, ...]"
            )
        return "index", (type_[0], type_[2])
    return "index", ("node",)


def _known_type(graph: Any, key: str, target: str) -> str:
    """The key of a node axis that an index is declared to number."""
    known = graph.node_types if is_hetero(graph) else ["node"]
    if target not in known:
        raise FieldError(f"{key!r} is declared an index of {target!r}; the node types are {', '.join(known)}")
    return target


def _is_shifted(graph: Any, store: Any, name: str, value: Any, key: str, graph_id: int) -> bool:
    """Whether a class with an `__inc__` of its own shifts the attribute by the number of nodes; FieldError for more."""
    shift = graph.__inc__(name, value, store)
    shift = np.asarray(shift.tolist() if is_tensor(shift) else shift)
    if isinstance(store._key, tuple) and shift.size == 2:
        return True
    if shift.any() and (is_hetero(graph) or shift.size != 1 or int(shift.reshape(())) != graph.num_nodes):
        raise FieldError(
            f"graph {graph_id}: {key!r} is shifted by {shift.tolist()} when graphs are joined (__inc__); packs shift "
            "by the number of nodes only: make what it numbers a node type of HeteroData"
        )
    return bool(shift.any())


def number_of_nodes(type_: Type, positions: np.ndarray, values: np.ndarray) -> Part:
    ones = np.ones_like(positions)
    return Part("num_nodes", type_, "scalar", positions, values, ones, "int64", 0, 0, (), "count")


def block_of_parts(
    graph_ids: np.ndarray,
    hetero: bool,
    counts: Mapping[Axis, np.ndarray],
    parts: Sequence[Part],
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


def _describe(part: Part, counts: Mapping[str, np.ndarray], graph_ids: np.ndarray, hetero: bool) -> FieldStatistics:
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
    part: Part, counts: Mapping[str, np.ndarray], ids: np.ndarray, hetero: bool
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


def _check_edge_index(part: Part, ids: np.ndarray) -> None:
    if part.form == "tensor" and part.ndim == 2 and part.values.shape[1] == 2 and part.values.dtype.kind in "iu":
        return
    what = part.form if part.form != "tensor" else f"{part.dtype} with {part.ndim} dimensions"
    if part.form == "tensor" and part.ndim == 2:
        what = f"{part.dtype} [{part.values.shape[1]}, edges]"
    raise FieldError(f"graph {ids[0]}: {part.key!r} is {what}; it must be a tensor of whole numbers, [2, edges]")


def _check_range(part: Part, counts: Mapping[str, np.ndarray], ids: np.ndarray) -> None:
    """Raise FieldError for a number of a node that its graph does not have."""
    if part.values.dtype.kind not in "iu":
        raise FieldError(
            f"graph {ids[0]}: {part.key!r} is {part.dtype}, but as an index it is shifted by the number of nodes when "
            "graphs are joined: make it whole numbers, or rename it without 'index'"
        )
    owner = np.repeat(np.arange(len(ids)), part.sizes)
    values = flat_rows(part.values)
    for entry, target in enumerate(part.targets):
        own = values if len(part.targets) == 1 else flat_rows(part.values[:, entry])
        nodes = counts[target][part.positions][owner][:, None]
        wrong = np.argwhere((own < 0) | (own >= nodes))
        if len(wrong):
            row, column = wrong[0]
            remedy = "" if part.name in ("edge_index", "face") else ", or rename the attribute if it numbers no nodes"
            raise FieldError(
                f"graph {ids[owner[row]]}: {part.key!r} has the entry {own[row, column]}, but the graph has "
                f"{nodes[row, 0]} {'' if target == 'node' else target + ' '}nodes (0 to {nodes[row, 0] - 1}): correct "
                f"the entry, or set num_nodes{remedy}"
            )


def flat_rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), int(np.prod(values.shape[1:])))
