"""How PyG joins an attribute when it batches graphs, asked of every graph whose class has rules of its own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from packer.errors import FieldError
from packer.graphs.axes import Axis, Type
from packer.scan.attributes import ALL, Attributes
from packer.scan.items import is_hetero, is_tensor
from packer.scan.statistics import EITHER

_NODES = ("edge_index", "edge_label_index", "face")
_OWN = {"__inc__": ("Data", "HeteroData"), "__cat_dim__": ("Data", "HeteroData"), "num_nodes": ("Data", "HeteroData")}


@dataclass(frozen=True)
class Owners:
    """The graphs that have an attribute. ids: int64 [graphs], in the source; counts: axis -> int64 [graphs]; by_name:
    all are of classes that join as PyG's own do, so that the attribute's name tells all."""

    graphs: Sequence[Any]
    ids: np.ndarray
    counts: Mapping[Axis, np.ndarray]
    by_name: bool

    def of(self, positions: np.ndarray) -> Owners:
        """Some of the graphs. Where the name tells all, the first stands for them."""
        if self.by_name:
            return Owners([self.graphs[positions[0]]], self.ids[positions], self.counts, True)
        counts = {axis: values[positions] for axis, values in self.counts.items()}
        return Owners([self.graphs[position] for position in positions.tolist()], self.ids[positions], counts, False)


def joins_by_name(kind: type) -> bool:
    """Whether a class leaves `__inc__`, `__cat_dim__` and `num_nodes` as PyG's Data and HeteroData have them."""
    for name, classes in _OWN.items():
        method: Any = getattr(kind, name, None)
        method = getattr(method, "fget", method)
        module, qualname = getattr(method, "__module__", ""), getattr(method, "__qualname__", "")
        if module not in ("torch_geometric.data.data", "torch_geometric.data.hetero_data"):
            return False
        if qualname not in {f"{owner}.{name}" for owner in classes}:
            return False
    return True


def joining(
    owners: Owners, type_: Type, name: str, values: Sequence[Any], attributes: Attributes = ALL
) -> tuple[int | None, str, tuple[str, ...]]:
    """How PyG joins a tensor attribute: (joined dimension, role, targets). values: of the owners' graphs, in order.

    Raises FieldError, naming the graphs, where it is not the same for all of them or packs cannot do it.
    """
    key = Axis("graph", type_).column(name)
    cat_dims = [
        _cat_dim(graph, type_, name, value, key, graph_id)
        for graph, value, graph_id in zip(owners.graphs, values, owners.ids.tolist())
    ]
    other = next((at for at, cat_dim in enumerate(cat_dims) if cat_dim != cat_dims[0]), None)
    if other is not None and values[0].ndim != 1:
        raise FieldError(
            f"graph {owners.ids[other]}: {key!r} joins along dimension {cat_dims[other]} (__cat_dim__), but along "
            f"{cat_dims[0]} in graph {owners.ids[0]}; give all graphs the same, or leave the attribute out"
        )
    if other is not None and None in cat_dims:
        raise FieldError(
            f"graph {owners.ids[other]}: {key!r} joins along dimension {cat_dims[other]} (__cat_dim__), but along "
            f"{cat_dims[0]} in graph {owners.ids[0]}; give all graphs the same, or leave the attribute out"
        )
    return (cat_dims[0], *numbering(owners, type_, name, values, attributes))


def numbering(
    owners: Owners, type_: Type, name: str, values: Sequence[Any], attributes: Attributes = ALL
) -> tuple[str, tuple[str, ...]]:
    """Whether PyG shifts an attribute when it joins graphs, or `attributes` declares that: (role, targets).

    values: tensors, or Python numbers, which PyG shifts as well.
    """
    graph, graph_id, key = owners.graphs[0], int(owners.ids[0]), Axis("graph", type_).column(name)
    declared, target = attributes.declared(type_, name)
    if declared and target is not None:
        axis = _known_axis(owners, key, target, attributes)
        if not owners.by_name and type_ is None and not is_hetero(graph):
            _check_declared(owners, name, values, axis, attributes)
        return "index", (axis,)
    if owners.by_name:
        # PyG's rule, not asked: for an edge type whose node type a graph lacks it fails.
        is_index = (
            "index" in name and isinstance(type_, tuple) if is_hetero(graph) else "index" in name or name == "face"
        )
    else:
        shifted = _shifted_by(owners, type_, name, values, key)
        if shifted in ("edge", EITHER) and name not in _NODES:
            return "index", (shifted,)
        is_index = bool(shifted)
    if not is_index and not declared:
        return "value", ()
    if declared and is_hetero(graph) and not isinstance(type_, tuple):
        if type_ is None:
            raise FieldError(f"{key!r} is declared an index: say of which node type, {key}=TYPE")
        return "index", (type_,)
    if isinstance(type_, tuple):
        shape = tuple(getattr(values[0], "shape", ()))
        if len(shape) < 2 or shape[0] != 2:
            raise FieldError(
                f"graph {graph_id}: {key!r} has shape {list(shape)}; an edge type numbers nodes as [2, ...]"
            )
        return "index", (type_[0], type_[2])
    return "index", ("node",)


def _cat_dim(graph: Any, type_: Type, name: str, value: Any, key: str, graph_id: int) -> int | None:
    """0, -1 or None: the dimension along which a graph's class joins the attribute."""
    try:
        cat_dim: Any = graph.__cat_dim__(name, value, _store(graph, type_))
    except Exception as error:
        raise FieldError(f"graph {graph_id}: __cat_dim__ of {key!r} fails: {type(error).__name__}: {error}") from error
    if isinstance(cat_dim, int) and value.ndim and -value.ndim <= cat_dim < value.ndim:
        if cat_dim in (-1, value.ndim - 1):
            return -1 if cat_dim else 0
        cat_dim %= value.ndim
    if cat_dim not in (None, 0, -1):
        raise FieldError(
            f"graph {graph_id}: {key!r} joins along dimension {cat_dim} (__cat_dim__); packs join along the first or "
            "the last: transpose it"
        )
    return cat_dim


def _shifted_by(owners: Owners, type_: Type, name: str, values: Sequence[Any], key: str) -> str:
    """By what all graphs shift the attribute: "node" or "edge", their number of these, EITHER where the two are one; ""
    for nothing. FieldError for all else."""
    shifts = _shifts(owners, type_, name, values, key)
    if not any(shift.any() for shift in shifts):
        return ""
    hetero = is_hetero(owners.graphs[0])
    none = np.zeros(len(owners.ids), dtype=np.int64)
    if isinstance(type_, tuple):
        expected = np.stack([owners.counts.get(Axis("node", end), none) for end in (type_[0], type_[2])], axis=1)
    else:
        expected = (none - 1 if hetero else owners.counts[Axis("node")])[:, None]
    right = [
        shift.dtype.kind in "iu"
        and bool((shift.reshape(-1) == due[: shift.size]).all() if shift.size <= len(due) else (shift == due[0]).all())
        and (not hetero or shift.size == 2)
        and _keeps_shape(shift, value)
        for shift, due, value in zip(shifts, expected, values)
    ]
    by_edges = not hetero and _is(shifts, owners.counts.get(Axis("edge"), none))
    if all(right):
        return EITHER if by_edges else "node"
    if by_edges:
        return "edge"
    at = right.index(False)
    problem = f"graph {owners.ids[at]}: {key!r} is shifted by {_plain(shifts[at])} when graphs are joined (__inc__)"
    other = next((i for i, shift in enumerate(shifts) if not np.array_equal(shift, shifts[at])), None)
    if other is not None:
        problem += f", and by {_plain(shifts[other])} in graph {owners.ids[other]}"
    if hetero:
        raise FieldError(
            f"{problem}; packs shift by the number of nodes only, or not at all: make what it numbers a node type, or "
            "leave the attribute out"
        )
    if other is not None:
        nodes = owners.counts[Axis("node")]
        problem += f", where there are {nodes[at]} and {nodes[other]} nodes"
    raise FieldError(
        f"{problem}, neither the number of nodes nor that of edges: say which axis it numbers, index_fields={{{key!r}: "
        f"AXIS}} (--index {key}=AXIS), or leave the attribute out"
    )


def _is(shifts: Sequence[np.ndarray], counts: np.ndarray) -> bool:
    """Whether each shift is that one number."""
    return all(shift.size == 1 and int(shift.reshape(())) == due for shift, due in zip(shifts, counts.tolist()))


def _check_declared(owners: Owners, name: str, values: Sequence[Any], axis: str, attributes: Attributes) -> None:
    """Raise FieldError where the graphs' class shifts an index by something else than the axis it is declared of."""
    shifts = _shifts(owners, None, name, values, name)
    if not any(shift.any() for shift in shifts):
        return
    counts = owners.counts.get(Axis(axis))
    if counts is None:
        fields = dict(attributes.axes).get(axis, ())
        counts = np.array([_rows_of(graph, fields) for graph in owners.graphs])
    if not _is(shifts, counts):
        at = next(i for i, due in enumerate(counts.tolist()) if not _is([shifts[i]], np.array([due])))
        split = "" if shifts[at].size == 1 else "; give what is shifted by unlike numbers an attribute each"
        raise FieldError(
            f"graph {owners.ids[at]}: {name!r} is declared an index of {Axis(axis).rows}, of which there are "
            f"{counts[at]}, but is shifted by {_plain(shifts[at])} when graphs are joined (__inc__): correct one of "
            f"them{split}"
        )


def _rows_of(graph: Any, fields: Sequence[str]) -> int:
    """Rows of a further axis that a graph has, by the first attribute of it that there is."""
    for field in fields:
        value = getattr(graph, field, None)
        if value is not None and getattr(value, "ndim", 0):
            return int(value.shape[graph.__cat_dim__(field, value)])
    return 0


def _shifts(owners: Owners, type_: Type, name: str, values: Sequence[Any], key: str) -> list[np.ndarray]:
    """What `__inc__` of each graph says."""
    shifts: list[np.ndarray] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a number of nodes that was declared a guess
        for graph, value, graph_id in zip(owners.graphs, values, owners.ids.tolist()):
            try:
                shift: Any = graph.__inc__(name, value, _store(graph, type_))
                shift = np.asarray(shift.tolist() if is_tensor(shift) else shift)
            except Exception as error:
                raise FieldError(
                    f"graph {graph_id}: __inc__ of {key!r} fails: {type(error).__name__}: {error}"
                ) from error
            if shift.dtype.kind not in "biuf":
                raise FieldError(
                    f"graph {graph_id}: __inc__ of {key!r} gives {shift.tolist()!r}, not a number: return 0 where "
                    "nothing is to be shifted (super().__inc__ does)"
                )
            shifts.append(shift.astype(np.int64) if shift.dtype.kind == "b" else shift)
    return shifts


def _keeps_shape(shift: np.ndarray, value: Any) -> bool:
    """Whether adding the shift leaves the value's shape as it is."""
    shape = tuple(getattr(value, "shape", ()))
    if shift.ndim == 0 or (shift.size == 1 and shift.ndim <= max(len(shape), 1)):
        return True
    return shift.ndim <= len(shape) and all(a in (1, b) for a, b in zip(shift.shape[::-1], shape[::-1]))


def _plain(shift: np.ndarray) -> Any:
    return shift.tolist()


def _store(graph: Any, type_: Type) -> Any:
    return next(store for store in graph.stores if store._key == type_)


def _known_axis(owners: Owners, key: str, target: str, attributes: Attributes) -> str:
    """The key of the axis that an index is declared to number: a node type, or "node", "edge" or a further axis, in the
    plural, too."""
    graph = owners.graphs[0]
    if is_hetero(graph):
        known = list(graph.node_types)
        known += [axis.key for axis in owners.counts if axis.level == "node" and axis.key not in known]
    else:
        known = ["node", "edge", *(name for name, _ in attributes.axes)]
    for axis in (target, target[:-1] if target.endswith("s") else target):
        if axis in known:
            return axis
    kind = "node types" if is_hetero(graph) else "axes"
    raise FieldError(f"{key!r} is declared an index of {target!r}; the {kind} are {', '.join(known)}")
