"""A plan as one Parquet file that any tool can read: a row a graph in pack order, or a row for each size in a pattern.

The second form tells as much for the algorithms that pack sizes, whatever the number of graphs: which graph goes where
is a function of size, rank and seed (`packer.algorithms.assign`).
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packer.algorithms.instance import Patterns
from packer.algorithms.solution import Solution
from packer.certificate import Certificate
from packer.errors import FormatError
from packer.files import canonical
from packer.files.local import LocalFile
from packer.files.parquet.flat_file import FlatParquet
from packer.graphs.axes import MAX_AXES
from packer.graphs.sizes import GraphSizes, sizes_digest
from packer.limits.pack_limits import PackLimits
from packer.plan.items import items_of
from packer.plan.packing import Packing

_KEY = b"graph-packer-plan"
_BY_GRAPH, _BY_PATTERN = "graph-packer-plan/1", "graph-packer-plan/2"
_SMALL_ROWS, _SMALL_VALUES = 1 << 20, 1 << 23
"""Rows, and values in all columns, that a plan may have however few its bytes: sizes of patterns repeat, unlike ids."""
_VALUES_PER_BYTE = 64
"""Values that a byte of a larger plan may stand for: it is held whole, and most graphs have few of many types."""
_WRITING: Any = {"compression": "zstd", "write_statistics": False, "write_page_checksum": True}


def save_plan(
    sizes: GraphSizes, limits: PackLimits, packing: Packing, path: str | os.PathLike[str], *, by_graph: bool = True
) -> None:
    """Write the plan that these are; everything but the rows stands as JSON in the schema's metadata.

    by_graph: columns `pack`, `graph_id` (int64) and the size on each axis, a row a graph. Otherwise, where the
    algorithm packs sizes: `pattern`, `packs` that are filled so, `size_id` and `graphs` of that size in the pack, all
    int64; size ids are rows of the metadata's `need`, what each kind of graph takes of a pack.
    """
    if by_graph or not packing.by_patterns:
        columns, about = _graph_rows(sizes, packing), {"sizes": sizes_digest(sizes)}
    else:
        columns, about = _pattern_rows(packing.patterns), _histogram(sizes, packing)
    about = {
        **about,
        "format": _BY_GRAPH if "sizes" in about else _BY_PATTERN,
        "limits": limits.to_dict(),
        "node_types": [axis.type for axis in sizes.axes if axis.level == "node"],
        "edge_types": [axis.type for axis in sizes.axes if axis.level == "edge"],
        **{name: list(getattr(sizes, name)) for name in ("num", "budgets") if getattr(sizes, name)},
        "algorithm": packing.algorithm,
        "seed": packing.seed,
        "num_packs": packing.num_packs,
        "lower_bound": packing.lower_bound,
        "status": packing.status,
        "stopped_by": packing.stopped_by,
        "certificate": packing.certificate.to_dict(),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(about, sort_keys=True).encode()})
    pq.write_table(table, str(path), row_group_size=1 << 16, **_WRITING)


def read_plan(source: str | os.PathLike[str] | bytes, name: str) -> tuple[GraphSizes, PackLimits, Packing]:
    """What save_plan wrote, from its file or from the file's bytes; every number is checked against the rows.

    name: what errors call the bytes.
    """
    name = name if isinstance(source, bytes) else Path(source).name
    try:
        columns, about = _stored(source)
        certificate = Certificate.from_dict(about["certificate"])
        read = _read_graphs if about["format"] == _BY_GRAPH else _read_patterns
        sizes, solution = read(columns, about)
        limits = PackLimits.from_dict(about["limits"], sizes.axes)
        algorithm, seed, stopped_by = _provenance(about)
    except (OSError, KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise FormatError(f"{name} is not a plan of graph-packer: {error}") from error
    solution = replace(solution, proof=certificate, stopped_by=stopped_by)
    return sizes, limits, Packing(solution, algorithm, seed, 0.0)


def _stored(source: str | os.PathLike[str] | bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The columns of a plan's file, int64 [rows] each, and what it states of itself, in bounded memory.

    Raises FormatError, OSError.
    """
    file = _InMemory(source) if isinstance(source, bytes) else _opened(source)
    try:
        parquet = FlatParquet(file, _SMALL_ROWS)
        about: Any = canonical.bounded_loads(parquet.metadata.get(_KEY, b""), "its metadata")
        if not isinstance(about, dict):
            raise FormatError("its metadata is no JSON object")
        if about["format"] not in (_BY_GRAPH, _BY_PATTERN):
            raise FormatError(f"plan format {str(about['format'])[:80]!r} is not known; upgrade graph-packer")
        _check_types(about)
        names = [name.decode() for name in parquet.columns]
        if names != _names(about) or any(field.type != pa.int64() for field in parquet.schema):
            raise FormatError(f"it has columns {names[:20]}, not {_names(about)[:20]} of int64")
        if parquet.rows * len(names) > _SMALL_VALUES + _VALUES_PER_BYTE * file.size:
            raise FormatError(f"{parquet.rows} rows of {len(names)} columns do not fit into {file.size} bytes")
        parts = list(parquet.tables())
    finally:
        file.close()
    table = pa.concat_tables(parts) if parts else parquet.schema.empty_table()
    columns = {name: table.column(name) for name in table.column_names}
    if any(column.null_count for column in columns.values()):
        raise FormatError("it has rows without a value")
    return {name: column.to_numpy() for name, column in columns.items()}, about


def _check_types(about: dict[str, Any]) -> None:
    """As many node and edge types, and limits by type, as a data set may have."""
    limits = [limit for limit in about["limits"].values() if isinstance(limit, dict)]
    axes = [len(about[name]) for name in ("node_types", "edge_types", "num", "budgets") if name in about]
    if sum(axes) > MAX_AXES or any(len(each) > MAX_AXES for each in limits):
        raise FormatError(f"it has more than {MAX_AXES} node and edge types")


def _names(about: dict[str, Any]) -> list[str]:
    """The columns of a plan, in their order."""
    if about["format"] == _BY_PATTERN:
        return ["pattern", "packs", "size_id", "graphs"]
    edges = ["__".join(each) for each in about["edge_types"] if each is not None]
    types = [*about["node_types"], *edges] if about["node_types"] != [None] else ["node", "edge"]
    return ["pack", "graph_id", *(f"size/{name}" for name in [*types, *_more(about, "num"), *_more(about, "budgets")])]


def _more(about: dict[str, Any], name: str) -> list[str]:
    """The names of further axes, or of budgets."""
    return list(about.get(name, ()))


def _provenance(about: dict[str, Any]) -> tuple[str, int, str]:
    """Algorithm, seed and what stopped it: words and a number."""
    algorithm, seed, stopped_by = about["algorithm"], about["seed"], about["stopped_by"]
    words = all(isinstance(word, str) and len(word) <= 200 for word in (algorithm, stopped_by))
    if not words or type(seed) is not int or not -(2**63) <= seed < 2**64:
        raise FormatError(f"its algorithm, seed or stop is none: {str((algorithm, seed, stopped_by))[:200]}")
    return algorithm, seed, stopped_by


class _InMemory:
    """A file's bytes as FlatParquet reads them."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read(self, offset: int, size: int) -> bytearray:
        return bytearray(self._data[offset : offset + size])

    def close(self) -> None:
        """Nothing is held."""


def _opened(path: str | os.PathLike[str]) -> LocalFile:
    """A plan's file, where links may lead; pipes and devices are refused. Raises FormatError, OSError."""
    fd = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(fd)
    file = LocalFile(fd, about.st_size, Path(path).name)
    if not stat.S_ISREG(about.st_mode):
        file.close()
        raise FormatError("it is not a plain file")
    return file


def _graph_rows(sizes: GraphSizes, packing: Packing) -> dict[str, Any]:
    ids, offsets = packing.item_ids, packing.pack_offsets
    held = np.diff(offsets)
    columns: dict[str, Any] = {"pack": np.repeat(np.arange(len(held), dtype=np.int64), held), "graph_id": ids}
    for axis in sizes.axes:
        rows = sizes.columns[axis.key]
        rows = rows if sizes.count is None else np.repeat(rows, sizes.count)
        columns[f"size/{axis.key}"] = rows.astype(np.int64)[ids]
    return columns


def _read_graphs(columns: dict[str, np.ndarray], about: dict[str, Any]) -> tuple[GraphSizes, Solution]:
    ids, pack = columns["graph_id"], columns["pack"]
    if not np.array_equal(np.sort(ids), np.arange(len(ids))):
        raise FormatError("its graph ids are not each of 0.. once")
    steps = np.diff(pack, prepend=-1)
    starts = np.flatnonzero(steps)
    if (steps[starts] != 1).any() or len(starts) != about["num_packs"]:
        raise FormatError(f"its packs are not the {about['num_packs']} packs that it states")
    offsets = np.append(starts, len(pack)).astype(np.int64)

    def in_source_order(key: str) -> np.ndarray:
        rows = np.empty(len(ids), dtype=np.int64)
        rows[ids] = columns[f"size/{key}"]
        return rows

    sizes = _sizes(about, in_source_order, None)
    if sizes_digest(sizes) != about["sizes"]:
        raise FormatError("its sizes are not those that it was made for")
    items = items_of(sizes, PackLimits.from_dict(about["limits"], sizes.axes))
    return sizes, Solution(items, by_item=(ids, offsets))


def _pattern_rows(patterns: Patterns) -> dict[str, Any]:
    pattern = np.repeat(np.arange(len(patterns), dtype=np.int64), np.diff(patterns.ptr))
    return {
        "pattern": pattern,
        "packs": patterns.counts[pattern],
        "size_id": patterns.size_ids,
        "graphs": patterns.multiplicity,
    }


def _histogram(sizes: GraphSizes, packing: Packing) -> dict[str, Any]:
    distinct, count, _ = sizes.distinct
    by_axis = {axis.key: distinct[:, i].tolist() for i, axis in enumerate(sizes.axes)}
    return {"histogram": {**by_axis, "count": count.tolist()}, "need": packing.items.instance.need.tolist()}


def _read_patterns(columns: dict[str, np.ndarray], about: dict[str, Any]) -> tuple[GraphSizes, Solution]:
    histogram = {key: np.array(values, dtype=np.int64) for key, values in about["histogram"].items()}
    sizes = _sizes(about, histogram.__getitem__, histogram["count"])
    items = items_of(sizes, PackLimits.from_dict(about["limits"], sizes.axes))
    pattern, packs, size_ids, graphs = (columns[name] for name in ("pattern", "packs", "size_id", "graphs"))
    first = np.flatnonzero(np.diff(pattern, prepend=-1))
    patterns = Patterns(np.append(first, len(pattern)), size_ids, graphs, packs[first])
    instance = items.instance
    if not np.array_equal(pattern[first], np.arange(len(first))) or (packs != patterns.counts[pattern]).any():
        raise FormatError("its patterns are not numbered 0, 1, ...")
    if not np.array_equal(instance.need, np.array(about["need"], dtype=np.int64)):
        raise FormatError("what its sizes take of a pack is not what it states")
    if min(packs.min(), graphs.min(), size_ids.min()) < 0 or patterns.num_packs != about["num_packs"]:
        raise FormatError(f"its packs are not the {about['num_packs']} packs that it states")
    if (graphs.astype(float) * packs).sum() >= 2**53 or graphs.max() >= 2**31:
        raise FormatError("its patterns hold more than 2^53 graphs")
    held = np.zeros(len(instance.need), np.int64)
    np.add.at(held, size_ids, graphs * packs)
    # One dimension after the other: patterns times dimensions may be many.
    over = any(
        (np.add.reduceat(graphs * instance.need[size_ids, dim], first) > most).any()
        for dim, most in enumerate(instance.capacity.tolist())
    )
    if not np.array_equal(held, instance.count) or over:
        raise FormatError("its patterns do not hold each graph once within the limits")
    return sizes, Solution(items, patterns)


def _sizes(about: dict[str, Any], column: Callable[[str], np.ndarray], count: np.ndarray | None) -> GraphSizes:
    more = [{key: column(key) for key in _more(about, name)} for name in ("num", "budgets")]
    if about["node_types"] == [None]:
        return GraphSizes(column("node"), column("edge"), count, *more)
    return GraphSizes(
        {key: column(key) for key in about["node_types"]},
        {(s, r, t): column(f"{s}__{r}__{t}") for s, r, t in about["edge_types"]},
        count,
        *more,
    )
