"""What a schema must keep before its numbers are used to read bytes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Iterable, Mapping

import numpy as np

from packer.errors import FormatError
from packer.graphs.axes import MAX_AXES, MAX_FIELDS, Axis, check_keys, check_names
from packer.graphs.schema import MAX_DIMS, MAX_NAME, Field, Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import Column, check_targets, pack_columns

_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_FLOATS = ("float16", "float32", "float64")
_DTYPES = {"bool", "bfloat16", *_INTEGERS, *_FLOATS}
_ROLES = ("value", "index", "count", "present")
_FORMS = ("rows", "row", "value", "scalar")
_MAX_WIDTH = 2**31 - 1


def check_schema(schema: Schema, limits: PackLimits) -> tuple[Column, ...]:
    """The pack columns of a schema; one that no writer of this format would store is refused with a FormatError."""
    if limits.null_graphs == "none" or limits.num_graphs is None:
        raise FormatError('limits with null_graphs="none" are for planning only; packs need a null graph')
    counts = len(schema.axes) + len(schema.budgets), len(schema.fields), len(schema.strings)
    if counts[0] > MAX_AXES or max(counts[1:]) > MAX_FIELDS:
        raise FormatError(
            f"schema: {counts[0]} axes, {counts[1]} fields and {counts[2]} string attributes; at most "
            f"{MAX_AXES}, {MAX_FIELDS} and {MAX_FIELDS} can be stored"
        )
    for limit in (limits.num_nodes, limits.num_edges):
        if isinstance(limit, Mapping) and len(limit) > len(schema.axes):
            raise FormatError(f"schema: limits for {len(limit)} types, but it has {len(schema.axes)} axes")
    _check_levels(schema)
    node_keys = {axis.key for axis in schema.axes if axis.level == "node"}
    for axis in schema.axes:
        typed = {"node": str, "edge": tuple}.get(axis.level)
        if axis.type is not None and type(axis.type) is not typed:
            raise FormatError(f"schema: {axis.type!r} is no type of {axis.level}s")
        if not 0 < len(axis.key) <= _MAX_KEY or (axis.level == "edge" and not set(axis.ends) <= node_keys):
            raise FormatError(
                f"schema: axis {axis.key[:200]!r} leads to node types that are not among {_some(node_keys)}"
            )
    if not _names(*schema.strings) or len(set(schema.strings)) != len(schema.strings):
        raise FormatError("schema: names of string attributes must be distinct short texts")
    slots: dict[Any, int] = {**limits.slots(schema.axes), None: limits.num_graphs}
    axes = set(schema.axes)
    for field in schema.fields:
        _check_field(field, axes, slots)
    check_keys(schema.sized, FormatError)
    _check_budgets(schema, limits)
    check_targets(schema, limits)
    columns = pack_columns(schema, limits)
    twice = [name for name, times in Counter(column.name for column in columns).items() if times > 1]
    if twice:
        raise FormatError(f"schema: more than one column is named {_some(twice)}")
    return columns


_MAX_KEY = 1000
"""Characters of a type's name; that of an edge type holds three."""


def _some(names: Iterable[str]) -> str:
    """The first few, for an error."""
    ordered = sorted(names)
    return f"{ordered[:20]}{' and more' if len(ordered) > 20 else ''}"


def _check_levels(schema: Schema) -> None:
    """Nodes, edges, then axes by names of their own, which graphs with types have none of."""
    levels = [axis.level for axis in schema.axes]
    standard = [level for level in levels if level in ("node", "edge")]
    more = levels[len(standard) :]
    if (
        "node" not in standard
        or standard != sorted(standard, reverse=True)
        or levels[: len(standard)] != standard
        or len(set(more)) < len(more)
    ):
        raise FormatError(f"schema: axes must be node axes, then edge axes, then further ones; got {levels[:20]}")
    check_names(more, schema.budgets, FormatError)
    if more and any(axis.type is not None for axis in schema.axes):
        raise FormatError(f"schema: graphs with types have no further axes; got {more[:20]}")


def _check_budgets(schema: Schema, limits: PackLimits) -> None:
    """Each is a whole number of every graph, and limited."""
    fields = {field.key: field for field in schema.fields}
    for key in schema.budgets:
        field = fields.get(key)
        known = field is not None and (field.level, field.role, field.shape) == ("graph", "value", ())
        if field is None or not known or field.dtype not in _INTEGERS:
            raise FormatError(f"schema: budget {str(key)[:80]!r} is no whole number of each graph")
    if set(schema.budgets) != set(limits.budgets) or len(set(schema.budgets)) < len(schema.budgets):
        raise FormatError(f"schema: limits for the budgets {sorted(limits.budgets)[:20]}, not {schema.budgets[:20]}")


def _check_field(field: Field, axes: set[Axis], slots: Mapping[Any, int]) -> None:
    where = f"schema: field {str(field.name)[:80]!r}"
    if not _names(field.name) or not _names(field.level) or field.role not in _ROLES:
        raise FormatError(f"{where}: name, level or role is not known")
    axis = field.axis
    if axis is not None and axis not in axes:
        raise FormatError(f"{where}: its axis {axis.key[:200]!r} is not among those of the schema")
    if field.dtype not in _DTYPES or field.storage not in _storages(field.dtype):
        raise FormatError(f"{where}: dtype {field.dtype!r} cannot be stored as {field.storage!r}")
    if field.cat_dim not in (0, -1) or type(field.cat_dim) is not int or field.form not in _FORMS:
        raise FormatError(f"{where}: cat_dim or form is not known")
    width = int(slots[None if axis is None else axis.key]) * np.dtype(field.storage).itemsize
    for size in field.shape:
        if type(size) is not int or not 0 <= size <= _MAX_WIDTH or len(field.shape) > MAX_DIMS:
            raise FormatError(f"{where}: shape {str(field.shape)[:80]} is not one")
        width *= size
    if width > _MAX_WIDTH:
        raise FormatError(f"{where}: takes {width} bytes a pack; at most {_MAX_WIDTH} can be stored")
    pads = field.pad if isinstance(field.pad, tuple) else (field.pad,)
    if any(type(pad) not in (bool, int, float) for pad in pads):
        raise FormatError(f"{where}: pad {str(field.pad)[:80]!r} is not a number")
    if isinstance(field.pad, tuple) and (len(pads) != math.prod(field.shape) or field.role != "value"):
        raise FormatError(f"{where}: pad has {len(pads)} numbers for rows of shape {str(field.shape)[:80]}")
    if field.role == "index":
        entries = max(1, field.shape[0]) if field.shape else 1
        known = set(field.targets) <= slots.keys() - {None}
        if field.dtype not in _INTEGERS or len(field.targets) != entries or not known:
            raise FormatError(
                f"{where}: an index must be integer and point to {entries} axes: {str(field.targets)[:200]}"
            )
        if (
            (field.name, field.level, field.shape) == ("edge_index", "edge", (2,))
            and axis
            and field.targets != axis.ends
        ):
            raise FormatError(f"{where}: edges lead between nodes, not {str(field.targets)[:200]}")
    else:
        for pad in pads:
            _check_pad(field, pad, where)


def _check_pad(field: Field, pad: float, where: str) -> None:
    storage = "float32" if field.dtype == "bfloat16" else field.storage
    if storage in _INTEGERS:
        info = np.iinfo(storage)
        fits = math.isfinite(pad) and pad == int(pad) and info.min <= pad <= info.max
    elif storage == "bool":
        fits = pad in (0, 1)
    else:
        fits = not math.isfinite(pad) or abs(pad) <= float(np.finfo(storage).max)
    if not fits:
        raise FormatError(f"{where}: pad {pad!r} does not fit its storage dtype {field.storage}")


def _storages(dtype: str) -> set[str]:
    if dtype == "bfloat16":
        return {"uint16"}
    if dtype == "bool":
        return {"bool"}
    return {dtype, *_INTEGERS}


def _names(*names: Any) -> bool:
    return all(isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable() for name in names)
