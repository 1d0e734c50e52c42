"""Mean and standard deviation of what may be learned of graphs, over those in the packs: the same whoever finds them.

Sums run over the graphs of a block in their slots, then over the blocks of a shard, then over shards, one after the
other and in float64: no processor, numpy, number of workers or executor has a part in the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, Mapping

import numpy as np

from packer.graphs.schema import Field, Schema

MOST_COLUMNS = 10_000
"""Numbers a graph, of all fields together, that are told of: those of the first fields."""

_LARGEST = 2.0**480  # sums of squares of larger numbers become infinite

Moments = Dict[str, np.ndarray]
"""Field key -> float64 [3, columns]: count, mean, sum of squared deviations from it."""


@dataclass(frozen=True)
class TargetStats:
    """A floating field of graphs over the graphs in packs, a number for each column: its values in one row, in C order.

    count: graphs that have the field with a finite value there (below 2^480); mean, std: over these, std divided by
    `count`; both 0 where there is none.
    """

    count: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def target_fields(schema: Schema) -> list[Field]:
    """The fields that statistics are kept of: floating ones of graphs, as many as have MOST_COLUMNS columns at most."""
    fields: list[Field] = []
    columns = 0
    for field in schema.fields:
        if field.level == "graph" and field.role == "value" and field.dtype.startswith(("float", "bfloat")):
            columns += math.prod(field.shape)
            if 0 not in field.shape and columns <= MOST_COLUMNS:
                fields.append(field)
    return fields


def no_moments(schema: Schema) -> Moments:
    """Of no graph."""
    return {field.key: np.zeros((3, math.prod(field.shape))) for field in target_fields(schema)}


def block_moments(block: Mapping[str, np.ndarray], schema: Schema) -> Moments:
    """Of the graphs of a block. block: column -> [packs, *shape] in storage dtype, all of the schema's.

    Time and memory are linear in its target fields.
    """
    real = block["num_real"][:, -1:]
    moments: Moments = {}
    for field in target_fields(schema):
        stored = block[field.key]
        present = np.arange(stored.shape[1]) < real
        if f"{field.key}_present" in block:
            present = present & block[f"{field.key}_present"].astype(bool)
        values = stored.reshape(*present.shape, -1)[present]
        if field.dtype == "bfloat16":
            values = (values.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
        wide = values.astype(np.float64)
        known = np.abs(wide) < _LARGEST  # neither NaN nor infinite
        count = known.sum(axis=0, dtype=np.float64)
        mean = _added(np.where(known, wide, 0.0)) / np.maximum(count, 1.0)
        off = np.where(known, wide, mean) - mean
        moments[field.key] = np.stack([count, mean, _added(off * off)])
    return moments


def merged(a: Moments, b: Moments) -> Moments:
    """Of the graphs of a, then those of b. Source: Chan, Golub and LeVeque, The American Statistician 37(3), 1983."""
    moments: Moments = {}
    for key, (count, mean, squares) in a.items():
        more, their_mean, their_squares = b[key]
        total = np.maximum(count + more, 1.0)
        off = their_mean - mean
        squares = squares + their_squares + off * off * (count * more / total)
        moments[key] = np.stack([count + more, mean + off * (more / total), squares])
    return moments


def target_stats(shards: Iterable[Mapping[str, Any]], schema: Schema) -> dict[str, TargetStats]:
    """Of a data set. shards: Moments of each shard in order, or the lists that they become in JSON."""
    moments = no_moments(schema)
    for shard in shards:
        moments = merged(moments, {key: np.array(rows, dtype=np.float64) for key, rows in shard.items()})
    return {
        key: TargetStats(
            tuple(count.astype(np.int64).tolist()),
            tuple(mean.tolist()),
            tuple(np.sqrt(squares / np.maximum(count, 1.0)).tolist()),
        )
        for key, (count, mean, squares) in moments.items()
    }


class Watched:
    """Passes blocks on to their writer, and keeps the moments of all that went by."""

    def __init__(self, blocks: Iterable[Mapping[str, np.ndarray]], schema: Schema) -> None:
        self._blocks, self._schema = blocks, schema
        self.moments = no_moments(schema)

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        for block in self._blocks:
            self.moments = merged(self.moments, block_moments(block, self._schema))
            yield block

    def plain(self) -> dict[str, Any]:
        """For JSON, which gives the same numbers back."""
        return {key: rows.tolist() for key, rows in self.moments.items()}


def _added(rows: np.ndarray) -> np.ndarray:
    """The sum of each column of [rows, columns], row after row: `sum` adds in an order of its own."""
    return np.cumsum(rows, axis=0)[-1] if len(rows) else np.zeros(rows.shape[1])
