"""What `take` takes: a block's packs as arrays in the dtypes that they are carried in, and their description."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from packer.graphs.schema import Field, Schema
from packer.packs.columns import Column
from packer.reading.array_ops import BITS, Ops
from packer.reading.blocks import Mask, check_counts, check_finite
from packer.reading.reader import PackReader
from packer.reading.redraw import edge_pointers
from packer.reading.take import TakeAxis, TakeColumn, TakeLayout


def layout_of(reader: PackReader, ops: Ops) -> TakeLayout:
    """The layout of a reader's packs in the dtypes that it was asked for.

    A column is carried in the narrower of its stored dtype and the one asked for. Of an edge axis whose `edge_index`
    no pack has, nothing tells whose its rows are: a redraw leaves them, as they are padding.
    """
    schema, limits = reader.manifest.schema, reader.limits
    slots = limits.slots(schema.axes)
    axes: dict[str, TakeAxis] = {}
    for axis in schema.axes:
        if axis.is_pointed:
            axes[axis.key] = TakeAxis(axis.key, slots[axis.key], axis.batch_name, "", axis.ptr_name)
            continue
        field = schema.edge_fields.get(axis.key)
        index, first = ("", "") if field is None else (field.key, f"{axis.key}:ptr")
        axes[axis.key] = TakeAxis(axis.key, slots[axis.key], axis.batch_name, index, first)
    fields = {field.key: field for field in schema.fields}
    order = [axis.mask_name for axis in schema.axes] + ["graphs_mask"]  # the order of num_real
    columns = tuple(_column(column, fields.get(column.name), reader, order, schema) for column in reader.columns)
    wanted = {column.name: reader.dtypes[column.name] for column in reader.columns}
    carried = {column.name: _carried(column, wanted.get(column.name)) for column in reader.manifest.columns}
    carried.update({axis.first: "int32" for axis in axes.values() if axis.edge_index})
    followed = tuple((field.key, "" if field.axis is None else field.axis.key) for field in reader.followed)
    graphs = int(limits.num_graphs or 0)
    return TakeLayout(ops, columns, followed, axes, carried, graphs, reader.index_dtype)


def stored_names(layout: TakeLayout, redraw: bool) -> list[str]:
    """The stored columns that `take` asks for; redraw: also those that tell whose each row is."""
    names = [column.name for column in layout.columns if column.kind != "mask"]
    followed = {axis for _, axis in layout.followed}
    for axis in layout.axes.values():
        if redraw or axis.key in followed:
            names += [name for name in (axis.batch, axis.edge_index) if name]
            names += [layout.axes[key].first for key in layout.axes if not layout.axes[key].edge_index]
    names = [name for name in names if ":" not in name and name]
    return list(dict.fromkeys([*names, "num_real"]))


def check_real(num_real: np.ndarray, layout: TakeLayout) -> None:
    """Raise FormatError where num_real [packs, counts] has more real rows than a mask of `layout` has slots."""
    masks = [Mask(mask.name, mask.shape[0], mask.real_column) for mask in layout.columns if mask.kind == "mask"]
    check_counts(num_real, masks)


def stored_arrays(
    columns: Mapping[str, np.ndarray], reader: PackReader, layout: TakeLayout, capacity: int, redraw: bool = False
) -> dict[str, np.ndarray]:
    """Packs for `take`, still on the host: name -> [capacity + 1, *shape], all beyond the packs given empty ones.

    columns: name -> [packs, *shape] as stored, `stored_names` among them; at most `capacity` packs. So blocks of any
    length have one shape, and the last row is always the empty pack. Raises FormatError for packs that contradict
    themselves.
    """
    names = stored_names(layout, redraw)
    packs = len(columns["num_real"])
    assert packs <= capacity, (packs, capacity)
    check_real(columns["num_real"], layout)
    empty = reader.empty_columns()
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        carried = layout.carried[name]
        dtype = np.dtype("uint16" if carried == BITS else carried)
        check_finite(name, columns[name], dtype)
        values = np.empty((capacity + 1, *columns[name].shape[1:]), dtype)
        values[:packs], values[packs:] = columns[name], empty[name]
        arrays[name] = values
    if redraw or any(axis for _, axis in layout.followed):
        for axis in layout.axes.values():
            if axis.edge_index and axis.edge_index in arrays:
                arrays[axis.first] = edge_pointers(arrays[axis.batch], arrays[axis.edge_index], layout.num_graphs)
    return arrays


def _column(
    column: Column, field: Field | None, reader: PackReader, order: Sequence[str], schema: Schema
) -> TakeColumn:
    dtype = reader.dtypes[column.name]
    if column.kind == "mask":
        return TakeColumn(column.name, "mask", "", column.shape, dtype, real_column=order.index(column.name))
    if field is None:
        pointed = [axis for axis in schema.axes if axis.is_pointed]
        owner = {name: axis.key for axis in pointed for name in (axis.batch_name, axis.ptr_name)}
        return TakeColumn(column.name, column.kind, owner.get(column.name, ""), column.shape, dtype)
    axis = "" if field.axis is None else field.axis.key
    targets = tuple(field.targets) if field.role == "index" else ()
    return TakeColumn(column.name, "field", axis, column.shape, dtype, field.cat_dim == -1 and bool(axis), targets)


def _carried(column: Column, wanted: str | None) -> str:
    if column.dtype == BITS:
        return BITS
    if wanted == BITS:  # by way of float32, where numbers beyond it are told on the host
        return "float32" if column.storage == "float64" else column.storage
    if wanted is None:
        return column.storage
    return wanted if np.dtype(wanted).itemsize <= np.dtype(column.storage).itemsize else column.storage
