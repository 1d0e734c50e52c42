"""The columns of a pack: names, dtypes and fixed shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from packer.errors import LimitsError
from packer.graphs.dtypes import narrow_index
from packer.graphs.schema import Schema
from packer.limits.pack_limits import PackLimits


@dataclass(frozen=True)
class Column:
    """One column of a pack: shape fixed, dtype what the reader gives, storage what lies on disk; kind says whose it is.

    kind: "field", "batch", "ptr", "mask", "num_real" or "graph_ids".
    """

    name: str
    kind: str
    dtype: str
    storage: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Stored bytes of one pack."""
        return math.prod(self.shape) * np.dtype(self.storage).itemsize


def check_targets(schema: Schema, limits: PackLimits) -> None:
    """Raise LimitsError for an index whose padding would have nothing to point to."""
    for field in schema.fields:
        for target in field.targets:
            if not limits.padding.reserved(schema.axis(target).level, 1):
                raise LimitsError(
                    f"{field.key!r} numbers {schema.axis(target).rows}, and its padding points to one of a null graph, "
                    f"but null_graphs={limits.null_graphs!r} leaves it none: pass null_graphs='one' (--null-graphs one)"
                )


def pack_columns(schema: Schema, limits: PackLimits) -> tuple[Column, ...]:
    """The columns of every pack under `limits`, in the order they are written.

    A zero-width field has a column here (shape with a 0, width 0) that no file holds. `num_real` counts the real rows
    of each axis, in the schema's order, and last the real graphs.
    """
    slots = limits.slots(schema.axes)
    graphs = limits.num_graphs
    assert graphs is not None, "only planning goes without a limit"
    columns: list[Column] = []
    for field in schema.fields:
        if field.role == "count":
            continue
        axis = field.axis
        rows = graphs if axis is None else slots[axis.key]
        shape = (*field.shape, rows) if field.cat_dim == -1 and axis is not None else (rows, *field.shape)
        storage = field.storage
        if field.role == "index":
            storage = narrow_index(max(slots[target] for target in field.targets) - 1)
        columns.append(Column(field.key, "field", field.dtype, storage, shape))
    for axis in schema.axes:
        if axis.is_pointed:
            rows = slots[axis.key]
            columns.append(Column(axis.batch_name, "batch", "int64", narrow_index(graphs - 1), (rows,)))
            columns.append(Column(axis.ptr_name, "ptr", "int64", narrow_index(rows), (graphs + 1,)))
    for axis in schema.axes:
        columns.append(Column(axis.mask_name, "mask", "bool", "bool", (slots[axis.key],)))
    columns.append(Column("graphs_mask", "mask", "bool", "bool", (graphs,)))
    columns.append(Column("num_real", "num_real", "int32", "int32", (len(schema.axes) + 1,)))
    columns.append(Column("graph_ids", "graph_ids", "int64", "int64", (graphs,)))
    return tuple(columns)
