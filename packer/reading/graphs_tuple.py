"""A step as jraph has batches: one GraphsTuple."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import numpy as np

from packer.errors import FieldError, LimitsError
from packer.reading.reader import PackReader
from packer.reading.sharing import not_packed


class GraphsTuple(NamedTuple):
    """The fields of jraph.GraphsTuple, in its order, where jraph is not installed."""

    nodes: Any
    edges: Any
    receivers: Any
    senders: Any
    globals: Any
    n_node: Any
    n_edge: Any


def to_graphs_tuple(step: Mapping[str, Any], dataset: Any) -> Any:
    """One pack as jraph.GraphsTuple; where jraph is not installed, a named tuple of the same fields.

    step: what numpy_loader or jax_loader gives for batch_size=1 without devices, or one device's part of what they give
    with devices (inside `jax.vmap`, `jax.pmap` or `jax.shard_map`); dataset: the loader, or its PackReader. nodes,
    edges and globals are dicts of the fields of each level, [N, ...], [E, ...] and [G, ...]; senders and receivers are
    `edge_index`, n_node and n_edge [G] the rows of each graph slot. Works inside jit: nothing is read back.

    jraph takes the graph of the last rows for the only padding, so the packs must be built under null_graphs="jraph"
    or "one", and be single: LimitsError otherwise, and for heterogeneous graphs. FieldError where `edge_index`,
    `batch`, `ptr` or `graphs_mask` was not loaded, and for tensors of torch; StateError for what is no data set.
    """
    reader = getattr(dataset, "reader", dataset)
    if not isinstance(reader, PackReader):
        raise not_packed(dataset, "PackReader", "to_graphs_tuple")
    _check(step, reader)
    numpy = np if isinstance(step["ptr"], np.ndarray) else _jax_numpy()
    levels: dict[str, dict[str, Any]] = {"node": {}, "edge": {}, "graph": {}}
    for field in reader.fields:
        if field.level not in levels:
            raise FieldError(
                f"{field.key!r} has the rows of axis {field.level!r}, for which a GraphsTuple has no place: leave it "
                "out (columns=[...]), and take it from the step itself"
            )
        if field.key in step and field.name != "edge_index":
            levels[field.level][field.name] = step[field.key]
    if "graph_ids" in step:
        levels["graph"]["graph_ids"] = step["graph_ids"]
    senders, receivers = step["edge_index"][0], step["edge_index"][1]
    # Edges of one slot stand together, in the order of the slots: where each slot's begin tells how many it has.
    ptr, slots = step["ptr"], int(reader.limits.num_graphs or 0)
    first = numpy.searchsorted(step["batch"][senders], numpy.arange(slots + 1)).astype(ptr.dtype)
    return _kind()(
        nodes=levels["node"],
        edges=levels["edge"],
        receivers=receivers,
        senders=senders,
        globals=levels["graph"],
        n_node=ptr[1:] - ptr[:-1],
        n_edge=first[1:] - first[:-1],
    )


def _check(step: Mapping[str, Any], reader: PackReader) -> None:
    limits = reader.limits
    if limits.is_hetero or any(axis.type is not None for axis in reader.manifest.schema.axes):
        raise LimitsError("to_graphs_tuple: these graphs are heterogeneous, and a GraphsTuple has one type of nodes")
    if limits.padding.each:
        raise LimitsError(
            f"to_graphs_tuple: these packs were built under null_graphs={limits.null_graphs!r}, where several null "
            "graphs share the padding, and jraph would take all but the last of them for real: build them under "
            'null_graphs="jraph" (--null-graphs jraph)'
        )
    missing = [name for name in ("edge_index", "batch", "ptr", "graphs_mask") if name not in step]
    if missing:
        raise FieldError(f"to_graphs_tuple takes {', '.join(missing)} too: add them to columns=[...]")
    if "torch" in type(step["ptr"]).__module__:
        raise FieldError(
            "to_graphs_tuple takes arrays of numpy or JAX; got torch's: read with jax_loader, numpy_loader or a "
            "PackReader"
        )
    shape = list(step["graphs_mask"].shape)
    if len(shape) > 1:
        raise LimitsError(
            f"to_graphs_tuple takes one pack; this step stacks {shape[0]} for as many devices: call it for each, "
            "inside jax.vmap or jax.shard_map"
        )
    if shape[0] != limits.num_graphs:
        raise LimitsError(
            f"to_graphs_tuple: this step joins {shape[0] // int(limits.num_graphs or 1)} packs, each with padding of "
            "its own, and jraph knows of padding at the end alone: load with batch_size=1, and devices=... to stack"
        )


def _jax_numpy() -> Any:
    import jax.numpy

    return jax.numpy


def _kind() -> Any:
    try:
        import jraph
    except ImportError:
        return GraphsTuple
    return jraph.GraphsTuple
