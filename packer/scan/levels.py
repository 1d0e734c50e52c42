"""From what all graphs showed to the schema: which level each attribute has, its dtype and padding."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Mapping, Sequence

import numpy as np

from packer.errors import FieldError
from packer.graphs.axes import BUDGET, HOMOGENEOUS, check_keys
from packer.graphs.dtypes import all_whole, narrow_index, narrowest
from packer.graphs.schema import MAX_DIMS, MAX_NAME, Field, Schema
from packer.scan.statistics import EITHER, RELATIONS, FieldStatistics, Statistics

_NAMED = {"node": ("x", "feat", "pos", "node_type", "n_id"), "edge": ("edge_attr", "edge_weight", "edge_type", "e_id")}


def decide(
    statistics: Statistics, overrides: Mapping[str, str] | None = None, pads: Mapping[str, Any] | None = None
) -> tuple[Schema, tuple[str, ...]]:
    """The schema of the whole data set, and the keys of the fields whose level the data alone leaves open.

    A field's level is the one that all graphs admit. Of several: PyG's names (`x`, `pos`, `edge_attr`) and such as
    begin with `node_` or `edge_` settle it; else it is open: names with "edge" are edge fields, `y` and values without
    dimension belong to the graph, and node comes before edge before graph. overrides: key or name -> "node",
    "edge" or "graph". pads: padding value by field key, name or level; 0 otherwise. Raises FieldError.
    """
    overrides, pads = overrides or {}, pads or {}
    _check_known(statistics, "level", overrides, ())
    further = tuple(axis for axis in statistics.axes if axis not in HOMOGENEOUS and not statistics.hetero)
    _check_known(statistics, "padding value", pads, ("node", "edge", "graph", *(axis.key for axis in further)))
    _check_used(statistics, overrides, pads)
    fields: list[Field] = []
    ambiguous: list[str] = []
    for field in statistics.fields:
        _check_storable(field)
        if field.form != "string":
            override = overrides.get(field.key, overrides.get(field.name))
            if not field.axis:
                _check_named(field, override, statistics.hetero)
            if field.targets == (EITHER,) and not statistics.hetero:
                raise FieldError(
                    f"{field.key!r} is shifted by the number of nodes, which is that of edges in all graphs (__inc__): "
                    f"say which it numbers, index_fields={{{field.key!r}: 'nodes'}} or 'edges' "
                    f"(--index {field.key}=edges)"
                )
            level, is_open = _level(field, override)
            if is_open:
                ambiguous.append(field.key)
            fields.append(_field(field, level, pads))
        if field.missing is not None and field.form != "string":
            name = f"{field.name}_present"
            fields.append(Field(name, "graph", "present", (), 0, "bool", "bool", False, "value", field.type))
    keys = Counter(field.key for field in fields)
    for key, times in keys.items():
        if times > 1:
            raise FieldError(
                f"{key!r} is an attribute of the source and also what packs call the mask of graphs that have "
                f"{key[: -len('_present')]!r}, which some lack: rename one of them"
            )
    strings = tuple(field.key for field in statistics.fields if field.form == "string")
    for key, times in Counter(strings).items():
        if key in keys or times > 1:
            raise FieldError(f"{key!r} is a field of the graphs and a column of strings, too: rename one of them")
    for axis in further:
        for name in {axis.mask_name, axis.batch_name, axis.ptr_name} & {*keys, *strings}:
            raise FieldError(
                f"{name!r} is an attribute of the source and a column of axis {axis.key!r}: rename one of them"
            )
    axes = statistics.axes if statistics.hetero else (*HOMOGENEOUS, *further)
    budgets = tuple(field.key for field in statistics.fields if field.axis == BUDGET)
    schema = Schema(axes, tuple(fields), strings, budgets)
    check_keys(schema.sized, FieldError)
    return schema, tuple(ambiguous)


def _check_storable(field: FieldStatistics) -> None:
    """Raise FieldError for an attribute that the format has no place for: told here, before anything is planned."""
    name = field.key if field.form == "string" else f"{field.name}_present" if field.missing is not None else field.name
    if not field.name or len(name) > MAX_NAME or not name.isprintable():
        raise FieldError(
            f"attribute {field.key[:80]!r}: packs keep names of 1 to {MAX_NAME} printable characters; rename it, or "
            "leave it out"
        )
    if len(field.shape) > MAX_DIMS:
        raise FieldError(
            f"attribute {field.key!r} has {len(field.shape)} dimensions a row; packs keep {MAX_DIMS}: reshape it, or "
            "leave it out"
        )


def _check_named(field: FieldStatistics, override: str | None, hetero: bool) -> None:
    """Raise FieldError where an attribute that is of nodes or edges by its name has other rows, and nobody says why."""
    level = "edge" if isinstance(field.type, tuple) else "node" if field.type or not hetero else ""
    levels = [
        one
        for one in (("node", "edge") if field.type is None and level else (level,))
        if field.name in _NAMED.get(one, ())
    ]
    if override is not None or field.form != "tensor":
        return
    for one in levels:
        for relation, graph, text in field.against:
            if relation == one:
                stored = "num_nodes" if one == "node" else "edge_index"
                raise FieldError(
                    f"graph {graph}: {field.key!r} {text}: correct it, or {stored}, or say that it is of another level "
                    f"(levels={{{field.key!r}: 'graph'}}, --field {field.key}=graph)"
                )


def _level(field: FieldStatistics, override: str | None) -> tuple[str, bool]:
    if field.axis:
        return "graph" if field.axis == BUDGET else field.axis, False
    against = [relation for relation, _, _ in field.against]
    relations = [relation for relation in RELATIONS if relation not in against]
    levels = list(dict.fromkeys({"row": "graph", "value": "graph"}.get(name, name) for name in relations))
    if override is not None:
        if override in levels:
            return override, False
        if override not in ("node", "edge", "graph"):
            raise FieldError(f"the level of {field.key!r} must be node, edge or graph; got {override!r}")
        raise FieldError(f"{field.key!r} cannot be a {override} field: {_contradiction(field, override)}")
    if not levels:
        reasons = "; ".join(f"not {level}: {_contradiction(field, level)}" for level in ("node", "edge", "graph"))
        raise FieldError(
            f"{field.key!r} belongs neither to nodes, edges nor graphs: {reasons}. {_way_out(field)}, reshape it, or "
            "leave it out (exclude_keys, --exclude)"
        )
    if len(levels) == 1:
        return levels[0], False
    for level in ("edge", "node"):
        # Not edges of their own: edge_label_index (supervision), edge_index_s (of one graph of a pair).
        begins = field.role == "value" and field.name.startswith(f"{level}_") and "label" not in field.name
        named = field.name in _NAMED[level] or field.name == "edge_index" or begins
        if named and level in levels:
            return level, False
    if "edge" in field.name and "edge" in levels:
        return "edge", True
    if field.name == "y" and "graph" in levels:
        return "graph", True
    return levels[0], True


def _way_out(field: FieldStatistics) -> str:
    """What may be done about rows that are neither nodes nor edges."""
    if field.type is not None:
        return "Make what its rows stand for a node or edge type of their own"
    return f"Give its rows an axis of their own (axes={{'NAME': [{field.key!r}]}}, --axis NAME={field.key})"


def _contradiction(field: FieldStatistics, level: str) -> str:
    """Which graph rules a level out, and how. A graph-level field may take two forms; both are ruled out then."""
    relation = "value" if level == "graph" else level
    graph, text = next((graph, text) for name, graph, text in field.against if name == relation)
    return f"graph {graph} {text}" + (f", but {field.size} in graph {field.first}" if level == "graph" else "")


def _field(field: FieldStatistics, level: str, pads: Mapping[str, Any]) -> Field:
    contradicted = [relation for relation, _, _ in field.against]
    shape = field.shape
    if field.form == "scalar":
        form = "scalar"
    elif level != "graph":
        form = "rows"
    else:
        form = "row" if "row" not in contradicted else "value"
        if form == "value" and field.ndim and not field.stacked:
            shape = (*shape, field.size) if field.cat_dim == -1 else (field.size, *shape)
    targets = field.targets
    if field.role == "index":
        storage = narrow_index(int(field.high or 0))
        if len(targets) == 1:
            targets = targets * (shape[0] if shape else 1) or targets
        pad: Any = 0
    elif field.role == "count":
        storage, pad = field.dtype, 0
    else:
        pad = _pad(field, level, shape, pads)
        low, high, whole = field.low, field.high, field.whole
        if field.dtype not in ("bool", "bfloat16"):
            pad_values = pad if isinstance(pad, tuple) else (pad,)
            whole = whole and all_whole(np.asarray(pad_values, dtype=np.float64))
            low, high = (
                min(pad_values if low is None else (*pad_values, low)),
                max(pad_values if high is None else (*pad_values, high)),
            )
        storage = narrowest(field.dtype, low, high, whole)
    return Field(
        field.name, level, field.role, shape, field.cat_dim, field.dtype, storage, pad, form, field.type, targets
    )


def _pad(field: FieldStatistics, level: str, shape: tuple[int, ...], pads: Mapping[str, Any]) -> Any:
    """The padding asked for, as a Python number that the field's dtype holds; a tuple of them, flat, for rows whose
    numbers differ."""
    pad_key = next((name for name in (field.key, field.name, level) if name in pads), None)
    pad: Any = 0 if pad_key is None else pads[pad_key]
    if getattr(pad, "ndim", None) == 0:  # a number of numpy or torch
        pad = pad.item()
    its_own = f"pad_values={{{field.key!r}: VALUE}} (--pad {field.key}=VALUE)"
    hint = f"; all fields of level {level} were given it: give this one its own, {its_own}" if pad_key == level else ""
    row = None if isinstance(pad, (bool, int, float)) else _row(pad, field, shape, hint)
    for number in (pad,) if row is None else row:
        fault = _misfit(number, field.dtype)
        if fault:
            raise FieldError(f"{field.key!r} is {field.dtype}: its padding value {fault}{hint}")
    kind = _kind_of(field.dtype)
    if row is None:
        return kind(pad)
    numbers = tuple(map(kind, row))
    return numbers if len(set(map(repr, numbers))) > 1 else numbers[0]


def _row(pad: Any, field: FieldStatistics, shape: tuple[int, ...], hint: str) -> list[Any]:
    """The numbers of a row, given in its shape, with a leading 1 or flat. Raises FieldError for anything else."""
    plain = pad.tolist() if hasattr(pad, "tolist") else pad
    try:
        row: Any = np.array(plain) if isinstance(plain, (list, tuple)) else None
    except (ValueError, OverflowError):  # of lists that are no array
        row = None
    if row is None or row.dtype.kind not in "biuf" or not row.size:
        raise FieldError(f"the padding value of {field.key!r} must be a number, or a row of them; got {pad!r}{hint}")
    if row.shape not in (shape, (1, *shape), (math.prod(shape),)):
        raise FieldError(
            f"the padding value of {field.key!r} is {list(row.shape)} numbers; a row of it is {list(shape)}{hint}"
        )
    return row.reshape(-1).tolist()


def _kind_of(dtype: str) -> type:
    return bool if dtype == "bool" else float if dtype.startswith(("float", "bfloat")) else int


def _misfit(pad: float, dtype: str) -> str:
    """Why a field of this dtype cannot hold a number; "" if it can."""
    kind = _kind_of(dtype)
    if kind is bool:
        return "" if pad in (0, 1) else f"must be 0 or 1; got {pad}"
    if kind is float:
        largest = 3.3895313892515355e38 if dtype == "bfloat16" else float(np.finfo(dtype).max)
        is_finite = isinstance(pad, int) or math.isfinite(pad)
        return f"{pad} overflows" if is_finite and abs(pad) > largest else ""
    if not isinstance(pad, int) and not pad.is_integer():
        return f"must be a whole number; got {pad}"
    limits = np.iinfo(dtype)
    if not limits.min <= pad <= limits.max:
        return f"must lie between {limits.min} and {limits.max}; got {pad}"
    return ""


def _check_known(statistics: Statistics, kind: str, settings: Mapping[str, Any], more: Sequence[str]) -> None:
    known = [name for field in statistics.fields for name in (field.key, field.name)] + list(more)
    for name in settings:
        if name not in known:
            raise FieldError(f"a {kind} is given for {name!r}; the fields are {', '.join(dict.fromkeys(known))}")


def _check_used(statistics: Statistics, overrides: Mapping[str, Any], pads: Mapping[str, Any]) -> None:
    """Raise FieldError for a level or padding value that no field would take up."""
    for kind, settings in (("level", overrides), ("padding value", pads)):
        for name in settings:
            fields = [field for field in statistics.fields if name in (field.key, field.name)]
            reasons = [_fixed(field, kind) for field in fields]
            if fields and all(reasons):
                raise FieldError(f"a {kind} is given for {name!r}, {reasons[0]}: leave it out")


def _fixed(field: FieldStatistics, kind: str) -> str:
    """Why a field takes no level or padding value; "" where it does."""
    if field.form == "string":
        return "a string, which stays outside packs, in graphs.parquet"
    if field.role == "index" and kind == "padding value":
        return "an index, whose padding points at the first row of its null graph"
    if field.role == "count":
        return "which follows from the number of nodes"
    if field.axis and kind == "level":
        return "which has a budget" if field.axis == BUDGET else f"which has the rows of axis {field.axis!r}"
    return ""
