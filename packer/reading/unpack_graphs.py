"""PyG graphs back from packs: the inverse of a build, up to what the build left out."""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping

import numpy as np
import pyarrow as pa

from packer.errors import CONTRADICTION, FieldError, FormatError, MissingExtraError
from packer.files.open import place_of
from packer.files.protocol import Place
from packer.graphs.schema import Field, Schema
from packer.graphs.table import GraphTable, concatenate, empty_table, stored_fields
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.packs.unpack import unpack_table
from packer.shards.graphs_file import iter_graphs, string_columns
from packer.shards.manifest import GRAPHS, Manifest
from packer.shards.reader import open_shard
from packer.verify.block import require_sound
from packer.verify.pack import read_pack


def unpack(source: Any, dataset: Any = None) -> list[Any]:
    """The source's graphs as PyG `Data` or `HeteroData`, every attribute with its form, dtype and bits.

    `unpack(dataset)`: all graphs of a data set (a PackDataset, its folder or URL, or what `build` returned), in source
    order.
    `unpack(pack, dataset)`: the real graphs of a pack in slot order; pack is the number of a pack, or what a loader
    gives (a PackBatch or dict, also of several joined packs). Of a pack's tensors alone, strings are not known, and
    dtypes that the loader narrowed come back with the loader's precision. Transforms of the data set are not undone.

    Python floats come back as Python floats of the precision that joining them in PyG leaves, float32. A type of
    which a heterogeneous graph has no attribute is absent. Raises FieldError, FormatError.

        >>> result = build([Data(x=torch.eye(3))] * 5, "packs", PackLimits(10, 4, 4), workers=1)
        >>> unpack(result)[4].x.shape
        torch.Size([3, 3])
    """
    if dataset is None:
        return unpack_with_ids(source)[0]
    place, manifest, verify = _opened(dataset)
    if isinstance(source, (int, np.integer)):
        columns = read_pack(place, manifest, int(source), verify)
        table, _ = unpack_table(columns, manifest.schema, manifest.limits)
        return graphs_of(_with_strings(table, place, manifest))
    packs = _stored_packs(source, manifest.schema, manifest.limits)
    return graphs_of(unpack_table(packs, manifest.schema, manifest.limits)[0])


def unpack_with_ids(dataset: Any) -> tuple[list[Any], np.ndarray]:
    """All graphs of a data set in source order, and their ids in the source: int64 [graphs], ascending."""
    place, manifest, verify = _opened(dataset)
    tables = [_unpacked(packs, manifest) for packs in _blocks(place, manifest, verify)]
    table = concatenate(tables) if tables else empty_table(manifest.schema)
    table = _with_strings(table.select(np.argsort(table.source_ids, kind="stable")), place, manifest)
    return graphs_of(table), table.source_ids


def graphs_of(table: GraphTable) -> list[Any]:
    """The graphs of a table as PyG objects, in its order; their tensors share no memory."""
    try:
        from torch_geometric.data import Data, HeteroData
    except ImportError as error:
        raise MissingExtraError("torch_geometric", "pyg", "unpack") from error
    hetero = any(axis.type is not None for axis in table.schema.axes)
    graphs: list[Any] = [HeteroData() if hetero else Data() for _ in range(table.num_graphs)]
    masks = {field.key for field in table.schema.fields if field.role == "present"}
    for field in table.schema.fields:
        if field.role == "present":
            continue
        key = f"{field.key}_present"
        has = table.columns[key] if key in masks else np.ones(table.num_graphs, dtype=bool)
        for graph, value, present in zip(graphs, _values(table, field), has.tolist()):
            if present:
                (graph if field.type is None else graph[field.type])[field.name] = value
    types = {axis.key: axis.type for axis in table.schema.axes if axis.type is not None}
    for key, texts in table.strings.items():
        owner, _, name = key.rpartition("/")
        for graph, text in zip(graphs, texts.to_pylist()):
            if text is not None:
                (graph[types[owner]] if owner in types else graph)[name if owner in types else key] = text
    return graphs


def _values(table: GraphTable, field: Field) -> Iterator[Any]:
    """One graph's value after the other, in the source's form."""
    if field.role == "count":
        node_key = "node" if field.type is None else field.key[: -len("/num_nodes")]
        return iter(table.counts(node_key).tolist())
    tensor = _tensor(table.columns[field.key], field.dtype)
    if field.form == "scalar":
        return iter(tensor.tolist())
    if field.form == "value":
        return (value.clone() for value in tensor)
    axis = field.axis
    sizes: list[int] = [1] * table.num_graphs if axis is None else table.counts(axis.key).tolist()
    pieces = tensor.split(sizes) if sizes else ()
    if field.cat_dim == -1:
        return (piece.movedim(0, -1).contiguous().clone() for piece in pieces)
    return (piece.clone() for piece in pieces)


def _tensor(values: np.ndarray, dtype: str) -> Any:
    import torch

    if dtype == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(values, dtype=dtype))


def _opened(dataset: Any) -> tuple[Place, Manifest, str]:
    """Where the data set lies, its manifest, and how thoroughly to check it while reading."""
    if isinstance(dataset, (str, os.PathLike)):
        place = place_of(dataset)
        return place, Manifest.load(place), "first-touch"
    if not hasattr(dataset, "place"):
        raise FieldError(
            f"unpack needs a data set (PackDataset, its folder, or what build returned), got {type(dataset).__name__}; "
            "for a pack pass the data set as second argument"
        )
    return dataset.place, dataset.manifest, dataset.verify


def _blocks(place: Place, manifest: Manifest, verify: str) -> Iterator[dict[str, np.ndarray]]:
    for number, entry in enumerate(manifest.shards):
        reader = open_shard(place, manifest, number, verify)
        for block in range(entry.blocks):
            yield reader.block(block)
        reader.close()


def _unpacked(packs: Mapping[str, np.ndarray], manifest: Manifest) -> GraphTable:
    """The graphs of stored packs. FormatError for packs that contradict themselves, as unpacking trusts them."""
    require_sound(packs, manifest.schema, manifest.limits)
    return unpack_table(packs, manifest.schema, manifest.limits)[0]


def _with_strings(table: GraphTable, place: Place, manifest: Manifest) -> GraphTable:
    names = string_columns(manifest.schema)
    if not names:
        return table
    parts = pa.Table.from_batches(iter_graphs(place, manifest, ["id", *names.values()]))
    ids = parts.column("id").to_numpy()
    places = np.searchsorted(ids, table.source_ids)
    known = places < len(ids)
    known[known] = ids[places[known]] == table.source_ids[known]
    if not known.all():
        raise FormatError(f"{GRAPHS} has no graph {table.source_ids[~known][0]}, which is in a pack{CONTRADICTION}")
    rows = pa.array(places)
    strings = {name: parts.column(column).take(rows) for name, column in names.items()}
    return GraphTable(table.schema, table.ptr, table.columns, strings, table.source_ids)


def _stored_packs(pack: Any, schema: Schema, limits: PackLimits) -> dict[str, np.ndarray]:
    """A loader's tensors as `unpack_table` takes them: [packs, *column.shape], each pack numbered from 0."""
    tensors: Mapping[str, Any] = pack if isinstance(pack, Mapping) else pack.to_dict()
    slots, num_slots = limits.slots(schema.axes), limits.num_graphs
    assert num_slots is not None
    fields = {field.key: field for field in stored_fields(schema)}
    columns = {column.name: column for column in pack_columns(schema, limits)}
    missing = [name for name, column in columns.items() if column.kind in ("field", "ptr", "batch", "mask")]
    missing = [name for name in missing if name not in tensors]
    if missing:
        raise FieldError(f"a pack without {', '.join(missing)} cannot be unpacked; load the data set with all columns")
    arrays = {name: _array(tensors[name]) for name in columns if name in tensors}
    owner = {axis.ptr_name: axis.key for axis in schema.axes if axis.is_pointed}
    graphs_mask = arrays["graphs_mask"]
    stacked = graphs_mask.ndim == 2
    packs = graphs_mask.size // num_slots
    stored: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        column, field = columns[name], fields.get(name)
        if stacked or column.kind not in ("field", "batch", "ptr", "mask"):
            stored[name] = values.reshape(packs, *column.shape)
            continue
        if column.kind == "ptr":
            windows = np.arange(packs)[:, None] * num_slots + np.arange(num_slots + 1)
            stored[name] = values[windows] - np.arange(packs)[:, None] * slots[owner[name]]
            continue
        last = field is not None and field.cat_dim == -1 and field.axis is not None
        if last:
            parts = values.reshape(*column.shape[:-1], packs, column.shape[-1])
            values = np.moveaxis(parts, -2, 0)
        else:
            values = values.reshape(packs, *column.shape)
        number = np.arange(packs).reshape(-1, *(1,) * (values.ndim - 1))
        if column.kind == "batch":
            values = values - number * num_slots
        elif field is not None and field.role == "index":
            shift = np.array([slots[key] for key in field.targets])
            if field.shape:
                shift = shift.reshape(-1, *(1,) * (len(field.shape) - 1 + last))
            values = values - number * shift
        stored[name] = values
    real = [stored[axis.mask_name].sum(axis=1) for axis in schema.axes] + [stored["graphs_mask"].sum(axis=1)]
    stored["num_real"] = np.stack(real, axis=1)
    stored["graph_ids"] = np.full((packs, num_slots), -1, dtype=np.int64)
    return stored


def _array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        import torch

        return tensor.contiguous().view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()
