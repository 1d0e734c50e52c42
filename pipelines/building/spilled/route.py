"""Graphs on their way: where each goes is computed where it is, and its rows are kept for the shard that they go to.

A group of blocks becomes one file a data set: where the segment of each shard lies and its checksum, then the segments.
Rows of graphs.parquet are made in the same pass.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from packer.algorithms.assign import Slots, make_slots, rank, slot_of
from packer.errors import BuildError
from packer.graphs.table import GraphTable
from packer.packs.spill import Routed, cut
from packer.plan.pack_plan import PackPlan
from packer.shards.graphs_file import graphs_schema
from pipelines.building.mapped.shards import graph_part
from pipelines.building.spilled.groups import GroupGraphs, GroupTask
from pipelines.stores.sealed import DamagedError, SealedStore, damaged
from pipelines.stores.store import OVERWRITE, Store

ROUTED, GRAPH_ROWS = "routed", "graphs"

_SPAN, _ENTRY = struct.Struct("<qqI"), struct.Struct("<qqII")
"""What a file of segments says of each: start, end and CRC-32; and the same with a CRC-32 of its own."""


@dataclass(frozen=True)
class PlanRef:
    """A plan by patterns in a store, named by its hash too, so that a worker that has read another reads it anew."""

    store: Store
    name: str
    sha256: str


@dataclass(frozen=True)
class Way:
    """Where the graphs of a group that belong to one data set go.

    split: its name; owner: for whom its files are sealed; packs_per_shard, num_shards: of it; plan: then `starts`,
    int64 [kinds], tells how many graphs of each kind come before the group's; or else, for plans in the order of the
    graphs, packs and positions are here, int64 [graphs] each.
    """

    split: str
    owner: str
    packs_per_shard: int
    num_shards: int
    plan: PlanRef | None
    starts: np.ndarray
    packs: np.ndarray
    positions: np.ndarray

    def work(self, task: GroupTask) -> SealedStore:
        """Where the files of this data set are kept on their way."""
        return SealedStore(task.work.store, self.owner)


@dataclass(frozen=True)
class RouteTask:
    """A group's graphs, to be sent to the shards of each data set."""

    task: GroupTask
    ways: tuple[Way, ...]

    @property
    def label(self) -> str:
        return self.task.label


def route_group(item: RouteTask) -> int:
    """Write the files of a group, unless they are there as they were written; how many source graphs it covers."""
    task = item.task
    missing = [split for split, way in enumerate(item.ways) if not _is_there(task, way)]
    graphs = task.read(with_table=True) if missing else None
    for split in missing:
        assert graphs is not None
        way, rows = item.ways[split], graphs.rows(split)
        packs, positions = _pack_positions(graphs, rows, way)
        _write_segments(task, graphs, rows, packs, positions, way)
        _write_graphs(task, graphs, split, rows, packs, positions, way)
    return task.group.records


def routed_name(split: str, group: int) -> str:
    return f"{ROUTED}/{split or '.'}/{group:06d}"


def graphs_name(split: str, group: int) -> str:
    return f"{GRAPH_ROWS}/{split or '.'}/{group:06d}"


def read_segment(work: SealedStore, name: str, number: int) -> bytes:
    """The segment of shard `number` in a file of them. Raises DamagedError where it is not as it was written."""
    entry = work.ranges(name, [(_ENTRY.size * number, _ENTRY.size)])[0]
    start, stop, crc32 = _entry_of(work, name, number, entry)
    segment = work.ranges(name, [(start, stop - start)])[0] if stop > start else b""
    return _checked(work, name, number, segment, crc32)


def _file_of(segments: list[bytes], whose: str) -> bytes:
    """Segments behind a row for each: where it starts and ends, its CRC-32, and the row's, with owner and number."""
    at, heads = _ENTRY.size * len(segments), list[bytes]()
    for number, segment in enumerate(segments):
        head = _SPAN.pack(at, at + len(segment), zlib.crc32(segment))
        heads.append(head + _row_sum(whose, number, head))
        at += len(segment)
    return b"".join([*heads, *segments])


def _row_sum(whose: str, number: int, head: bytes) -> bytes:
    return zlib.crc32(head, zlib.crc32(f"{whose} {number}".encode())).to_bytes(4, "little")


def _entry_of(work: SealedStore, name: str, number: int, entry: bytes) -> tuple[int, int, int]:
    head, stated = entry[: _SPAN.size], entry[_SPAN.size :]
    if len(entry) != _ENTRY.size or _row_sum(work.whose(name), number, head) != stated:
        raise damaged(f"{name} of {work}", f"its row for shard {number} is not as written, or another build's")
    return _SPAN.unpack(head)


def _checked(work: SealedStore, name: str, number: int, segment: bytes, crc32: int) -> bytes:
    computed = zlib.crc32(segment)
    if computed != crc32:
        raise damaged(
            f"{name} of {work}", f"the part for shard {number} has the CRC-32 {computed:08x}, not {crc32:08x}"
        )
    return segment


def _is_there(task: GroupTask, way: Way) -> bool:
    """Whether both files of a group and a data set are there as they were written."""
    work, name = way.work(task), routed_name(way.split, task.group.number)
    if work.size(name) is None or work.sound(graphs_name(way.split, task.group.number)) is None:
        return False
    data = work.store.read(name)
    try:
        for number in range(way.num_shards):
            start, stop, crc32 = _entry_of(work, name, number, data[_ENTRY.size * number : _ENTRY.size * (number + 1)])
            _checked(work, name, number, data[start:stop], crc32)
    except DamagedError:
        return False
    return True


def _pack_positions(graphs: GroupGraphs, rows: np.ndarray, way: Way) -> tuple[np.ndarray, np.ndarray]:
    """(pack, position in it) of each graph of `rows`."""
    if way.plan is None:
        return way.packs, way.positions
    sizes, kind_of_size, slots = _slots(way.plan)
    distinct, inverse = np.unique(graphs.sizes[rows], axis=0, return_inverse=True)
    number = dict(zip(map(tuple, sizes.tolist()), kind_of_size.tolist(), strict=True))
    kinds = np.array([number[row] for row in map(tuple, distinct.tolist())], dtype=np.int64)[inverse.reshape(-1)]
    ranks = np.empty(len(kinds), dtype=np.int64)
    rank(kinds, way.starts.copy(), ranks)
    return slot_of(slots, kinds, ranks)


@lru_cache(maxsize=8)
def _slots(ref: PlanRef) -> tuple[np.ndarray, np.ndarray, Slots]:
    """(sizes int64 [distinct, axes], what kind each is of to the plan, its slots)."""
    data = ref.store.read(ref.name)
    if hashlib.sha256(data).hexdigest() != ref.sha256:
        raise BuildError(f"{ref.name} of {ref.store} is not the plan that this build stored: pass {OVERWRITE}")
    plan = PackPlan.load(data)
    assert plan.by_patterns
    return plan.sizes.distinct[0], plan.packing.items.size_of_row, make_slots(plan.patterns, plan.seed)


def _write_segments(
    task: GroupTask, graphs: GroupGraphs, rows: np.ndarray, packs: np.ndarray, positions: np.ndarray, way: Way
) -> None:
    assert graphs.table is not None
    table = graphs.table
    plain = GraphTable(table.schema, table.ptr, table.columns, {}, table.source_ids).select(rows)
    segments = cut(Routed(plain, packs, positions), packs // way.packs_per_shard, way.num_shards)
    work, name = way.work(task), routed_name(way.split, task.group.number)
    work.store.put(name, _file_of(segments, work.whose(name)))


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
    way.work(task).put(graphs_name(way.split, task.group.number), sink.getvalue().to_pybytes())


def _array(values: object, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    return values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, type=field.type)


def check_packs(packs: np.ndarray, first: int, stop: int, name: str) -> None:
    """Raise BuildError unless the packs are exactly first, first + 1, ... stop - 1."""
    if len(packs) != stop - first or not np.array_equal(packs, np.arange(first, stop)):
        raise BuildError(f"{name}: {len(packs)} packs arrived of {stop - first}. Pass {OVERWRITE} to start afresh")
