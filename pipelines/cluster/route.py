"""Graphs on their way: where each goes is computed where it is, and its rows are kept for the shard that they go to.

A group of blocks becomes one file a data set: how long the segment of each shard is, then the segments. Rows of
graphs.parquet are made in the same pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from packer.algorithms.assign import Slots, make_slots, rank, slot_of
from packer.algorithms.instance import Patterns
from packer.errors import BuildError
from packer.graph_table import GraphTable
from packer.plan import PackPlan
from packer.segments import Routed, cut
from packer.shards.graphs_file import graphs_schema
from pipelines.build_shards import graph_part
from pipelines.cluster.groups import GroupGraphs, GroupTask
from pipelines.stores import Store

ROUTED, GRAPH_ROWS = "routed", "graphs"


@dataclass(frozen=True)
class PlanRef:
    """A plan by patterns in a store, named by its hash too, so that a worker that has read another reads it anew."""

    store: Store
    name: str
    sha256: str


@dataclass(frozen=True)
class Way:
    """Where the graphs of a group that belong to one data set go.

    split: its name; packs_per_shard, num_shards: of it; plan: then `starts`, int64 [kinds], tells how many graphs of
    each kind come before the group's; or else, for plans in the order of the graphs, packs and positions are here,
    int64 [graphs] each.
    """

    split: str
    packs_per_shard: int
    num_shards: int
    plan: PlanRef | None
    starts: np.ndarray
    packs: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class RouteTask:
    """A group's graphs, to be sent to the shards of each data set."""

    of: GroupTask
    ways: tuple[Way, ...]

    @property
    def label(self) -> str:
        return self.of.label


def route_group(item: RouteTask) -> int:
    """Write the files of a group that are not there yet; how many source graphs it covers."""
    task = item.of
    names = [name(way.split, task.group.number) for way in item.ways for name in (routed_name, graphs_name)]
    if all(task.work.size(name) is not None for name in names):
        return task.group.records
    graphs = task.read(with_table=True)
    for split, way in enumerate(item.ways):
        rows = graphs.rows(split)
        packs, positions = _places(graphs, rows, way)
        _write_segments(task, graphs, rows, packs, positions, way)
        _write_graphs(task, graphs, split, rows, packs, positions, way)
    return task.group.records


def routed_name(split: str, group: int) -> str:
    return f"{ROUTED}/{split or '.'}/{group:06d}"


def graphs_name(split: str, group: int) -> str:
    return f"{GRAPH_ROWS}/{split or '.'}/{group:06d}"


def starts_of(segments: bytes) -> np.ndarray:
    """Where segments start in a file of them, and the end: int64 [shards + 1]. segments: the file's first bytes."""
    return np.frombuffer(segments, np.int64)


def _places(graphs: GroupGraphs, rows: np.ndarray, way: Way) -> tuple[np.ndarray, np.ndarray]:
    """(pack, position in it) of each graph of `rows`."""
    if way.plan is None:
        return way.packs, way.positions
    sizes, kind_of_size, slots = _slots(way.plan)
    found, place = np.unique(graphs.sizes[rows], axis=0, return_inverse=True)
    number = dict(zip(map(tuple, sizes.tolist()), kind_of_size.tolist(), strict=True))
    kinds = np.array([number[row] for row in map(tuple, found.tolist())], dtype=np.int64)[place.reshape(-1)]
    ranks = np.empty(len(kinds), dtype=np.int64)
    rank(kinds, way.starts.copy(), ranks)
    return slot_of(slots, kinds, ranks)


@lru_cache(maxsize=8)
def _slots(ref: PlanRef) -> tuple[np.ndarray, np.ndarray, Slots]:
    """(sizes int64 [distinct, axes], what kind each is of to the plan, its slots)."""
    plan = PackPlan.load(ref.store.read(ref.name))
    patterns = plan.packing.found
    assert isinstance(patterns, Patterns)
    return plan.sizes.distinct[0], plan.packing.items.size_of_row, make_slots(patterns, plan.seed)


def _write_segments(
    task: GroupTask, graphs: GroupGraphs, rows: np.ndarray, packs: np.ndarray, positions: np.ndarray, way: Way
) -> None:
    assert graphs.table is not None
    table = graphs.table
    plain = GraphTable(table.schema, table.ptr, table.columns, {}, table.source_ids).select(rows)
    segments = cut(Routed(plain, packs, positions), packs // way.packs_per_shard, way.num_shards)
    head = 8 * (way.num_shards + 1)
    starts = head + np.cumsum([0, *map(len, segments)], dtype=np.int64)
    task.work.put(routed_name(way.split, task.group.number), b"".join([starts.tobytes(), *segments]))


def _write_graphs(
    task: GroupTask,
    graphs: GroupGraphs,
    split: int,
    rows: np.ndarray,
    packs: np.ndarray,
    positions: np.ndarray,
    way: Way,
) -> None:
    assert graphs.table is not None
    pack_of_row = np.full(len(graphs.source_ids), -1, dtype=np.int64)
    slot_of_row = np.full(len(graphs.source_ids), -1, dtype=np.int32)
    pack_of_row[rows], slot_of_row[rows] = packs, positions
    ids, schema = graphs.ids(split), graphs_schema(task.schema)
    batch = schema.empty_table()
    if len(ids):
        part = graph_part(graphs.table, ids, pack_of_row, slot_of_row, dict(graphs.skips), graphs.lost)
        columns = [_array(part[field.name], field) for field in schema]
        batch = pa.Table.from_arrays(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(batch)
    task.work.put(graphs_name(way.split, task.group.number), sink.getvalue().to_pybytes())


def _array(values: object, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    return values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, type=field.type)


def check_places(packs: np.ndarray, first: int, stop: int, what: str) -> None:
    """Raise BuildError unless the packs are exactly first, first + 1, ... stop - 1."""
    if len(packs) != stop - first or not np.array_equal(packs, np.arange(first, stop)):
        raise BuildError(f"{what}: {len(packs)} packs arrived of {stop - first}. Pass --overwrite to start afresh")
