"""Scan blocks from flat arrays: for sources that never make an object a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from packer.errors import FieldError
from packer.graphs.axes import HOMOGENEOUS
from packer.graphs.dtypes import narrowest, value_range
from packer.scan.block import RawBlock
from packer.scan.statistics import RELATIONS, FieldStatistics, Statistics


@dataclass(frozen=True)
class FlatField:
    """One tensor attribute of all graphs of a block.

    values: [rows, *shape], the graphs one after the other; sizes: int64 [graphs], rows of each. An index field (numbers
    of nodes, local to the graph) is joined along its last dimension in PyG, every other one along its first. level:
    "node", "edge" or "graph" (one row each), where the source knows; None: what the sizes admit.
    """

    name: str
    values: np.ndarray
    sizes: np.ndarray
    index: bool = False
    level: str | None = None


def block_of_arrays(
    ids: np.ndarray,
    num_nodes: np.ndarray,
    num_edges: np.ndarray,
    fields: Sequence[FlatField],
    strings: Mapping[str, Sequence[str]],
) -> RawBlock:
    """The block of homogeneous graphs with the source ids `ids`, int64 [graphs] ascending. The arrays are trusted."""
    for name in strings:
        if any(name == field.name for field in fields):
            raise FieldError(
                f"{name!r} is a field of the graphs and a column of strings (such as a split column), too: rename the "
                "column"
            )
    counts = {"node": num_nodes, "edge": num_edges}
    if not len(ids):
        return RawBlock(ids, counts, {}, {}, {}, {}, Statistics(0, -1, False, HOMOGENEOUS, ()))
    described = [_describe(field, counts, ids) for field in fields]
    described += [_describe_string(name, int(ids[0])) for name in strings]
    columns = {
        field.name: field.values.astype(narrowest(about.dtype, about.low, about.high, about.whole), copy=False)
        for field, about in zip(fields, described, strict=False)
    }
    texts = {name: pa.array(values, pa.string()) for name, values in strings.items()}
    statistics = Statistics(len(ids), int(ids[0]), False, HOMOGENEOUS, tuple(described))
    return RawBlock(ids, counts, columns, {}, texts, {}, statistics)


def _describe(field: FlatField, counts: Mapping[str, np.ndarray], ids: np.ndarray) -> FieldStatistics:
    dtype = field.values.dtype.name
    return FieldStatistics(
        name=field.name,
        type=None,
        role="index" if field.index else "value",
        form="tensor",
        dtype=dtype,
        ndim=field.values.ndim,
        cat_dim=-1 if field.index else 0,
        shape=tuple(field.values.shape[1:]),
        size=int(field.sizes[0]),
        first=int(ids[0]),
        against=tuple(_contradictions(field, counts, ids)),
        targets=("node",) if field.index else (),
        **value_range(field.values, dtype),
    )


def _describe_string(name: str, first: int) -> FieldStatistics:
    against = tuple((relation, first, "has one value") for relation in ("node", "edge", "row"))
    return FieldStatistics(name, None, "value", "string", "string", 0, 0, (), 1, first, against=against)


def _contradictions(
    field: FlatField, counts: Mapping[str, np.ndarray], ids: np.ndarray
) -> Iterator[tuple[str, int, str]]:
    """For each relation that some graph does not admit: (relation, the first such graph, what it has)."""
    sizes = field.sizes
    if field.level is not None:
        admitted = "row" if field.level == "graph" else field.level
        yield from (
            (other, int(ids[0]), f"has one row for each {field.level}") for other in RELATIONS if other != admitted
        )
        return
    for relation, expected in (*counts.items(), ("row", np.ones_like(sizes)), ("value", np.full_like(sizes, sizes[0]))):
        wrong = np.flatnonzero(sizes != expected)
        if not len(wrong):
            continue
        at = wrong[0]
        against = {"row": " and one row", "value": ""}.get(relation, f" and {expected[at]} {relation}s")
        yield relation, int(ids[at]), f"has length {sizes[at]}{against}"
