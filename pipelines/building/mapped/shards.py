"""The last stage of a build: one task a shard, each from the graph table and the plan's ids on disk to a Parquet file.

Workers import neither torch nor PyG: everything that they need is memory-mapped integers and flat columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from packer.errors import FormatError
from packer.files.atomic import FileEntry, hash_file
from packer.files.checked import CheckedFolder
from packer.graphs.schema import Schema
from packer.graphs.table import HASH_GRAPHS, GraphTable
from packer.limits.pack_limits import PackLimits
from packer.packs.materialise import materialise
from packer.plan.pack_plan import make_plan
from packer.shards import Layout, choose_layout, shard_name, write_graphs, write_shard
from packer.shards.graphs_file import TOO_LARGE, TRIMMED, lost_column, size_column, string_columns
from packer.shards.manifest import GRAPHS
from packer.shards.targets import Watched
from pipelines.sources.protocol import Skip
from pipelines.sources.skips import Skips

SAMPLE_PACKS = 64
_GRAPHS_PER_PART = 1 << 16
_ROWS, _OFFSETS, _MEMBERS = "rows.npy", "pack_offsets.npy", "members.npy"

TARGETS = "targets"
"""Member of a shard's entry on its way to the manifest: Moments, which become part of those of the data set."""

LOST = "lost.npy"
"""Beside a table of trimmed graphs: int64 [axes, graphs], the rows that each graph lost."""


@dataclass(frozen=True)
class PackSource:
    """Where the packs of one data set come from: a table, the plan's rows of it in pack order, and the limits.

    table: folder of the GraphTable; plan: folder of `rows.npy`, int64 [graphs packed], and `pack_offsets.npy`, int64
    [packs+1]. job: differs between any two builds, so that a worker that serves both takes neither's files for the
    other's.
    """

    table: str
    plan: str
    limits: PackLimits
    job: str = ""

    def columns(self, first: int, stop: int) -> dict[str, np.ndarray]:
        """Packs first..stop, all pack columns in storage dtype; `graph_ids` are those of the source."""
        table, rows, offsets = _open(self)
        return pack_columns_of(table, rows, offsets, first, stop, self.limits)


def pack_columns_of(
    table: GraphTable, rows: np.ndarray, offsets: np.ndarray, first: int, stop: int, limits: PackLimits
) -> dict[str, np.ndarray]:
    """Packs first..stop of those that hold the rows of a table, all pack columns; `graph_ids` are those of the source.

    rows: int64, pack after pack; offsets: int64 [packs+1] into them.
    """
    start, end = int(offsets[first]), int(offsets[stop])
    columns = materialise(table, np.asarray(rows[start:end]), np.asarray(offsets[first : stop + 1]) - start, limits)
    ids = columns["graph_ids"]
    columns["graph_ids"] = np.where(ids >= 0, table.source_ids[np.maximum(ids, 0)], -1)
    return columns


@dataclass(frozen=True)
class ShardTask:
    """Packs first..stop of `source`, to be shard `number` of `folder`."""

    source: PackSource
    folder: str
    number: int
    first: int
    stop: int
    packs_per_block: int
    compression: str
    uncompressed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return str(Path(self.folder) / shard_name(self.number))


@dataclass(frozen=True)
class GraphsTask:
    """graphs.parquet of one data set. skips: those of its source graphs that are not in the table."""

    source: PackSource
    folder: str
    skips: Skips

    @property
    def label(self) -> str:
        return str(Path(self.folder) / GRAPHS)


Task = ShardTask | GraphsTask


def save_plan_arrays(folder: Path, rows: np.ndarray, pack_offsets: np.ndarray, members: np.ndarray) -> int:
    """Put the plan's ids where every worker can map them; the checksum of what is there (see `checked_files`).

    members: int64, the source ids of the data set, ascending, skipped ones included.
    """
    into = CheckedFolder(folder)
    for name, values in ((_ROWS, rows), (_OFFSETS, pack_offsets), (_MEMBERS, members)):
        np.save(cast(Any, into.create(name)), values)
    return into.finish()


def sample_layout(table: GraphTable, rows: np.ndarray, limits: PackLimits, compression: str) -> Layout:
    """Packs per block and shard: from the first of the graphs `rows` of a table, all of which fit, packed in order.

    No plan has a part in it, so all data sets of a source are laid out alike, and it is known before any plan.
    """
    first = table.select(rows[: SAMPLE_PACKS * int(limits.num_graphs or 1)])
    plan = make_plan(first.sizes(), limits, "stream")
    offsets = plan.pack_offsets[: SAMPLE_PACKS + 1]
    return choose_layout(materialise(first, plan.graph_ids[: offsets[-1]], offsets, limits), compression)


def run_task(task: Task) -> dict[str, Any]:
    """Write one file of a data set; its entry in the manifest as plain values, and the moments of a shard's targets."""
    return _write_shard(task) if isinstance(task, ShardTask) else asdict(_write_graphs(task))


def hash_of_file(task: Task) -> str:
    """SHA-256 of the file of a task, as it lies there; "" where it does not."""
    try:
        return hash_file(task.label).sha256
    except FormatError:
        return ""


def hash_task(item: tuple[str, int, int]) -> bytes:
    """Digests of the blocks of the content hash from graph `start` to `stop`, of the table in a folder."""
    folder, start, stop = item
    table = GraphTable.open(folder)
    return b"".join(table.block_hash(first) for first in range(start, stop, HASH_GRAPHS))


def _write_shard(task: ShardTask) -> dict[str, Any]:
    """Gather, pad, narrow, compress and write one shard, a block at a time."""
    table, *_ = _open(task.source)

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for first in range(task.first, task.stop, task.packs_per_block):
            yield task.source.columns(first, min(first + task.packs_per_block, task.stop))

    return written_shard(
        task.folder,
        task.number,
        blocks(),
        table.schema,
        task.source.limits,
        task.compression,
        task.uncompressed,
    )


def written_shard(
    folder: str | Path, number: int, blocks: Iterable[Mapping[str, np.ndarray]], schema: Schema, *how: Any
) -> dict[str, Any]:
    """Write a shard: its entry and, under `targets`, the moments of its graphs, plain. how: what `write_shard`
    takes after the schema."""
    watched = Watched(blocks, schema)
    entry = write_shard(folder, shard_name(number), watched, schema, *how)
    return {**asdict(entry), TARGETS: watched.plain()}


def _write_graphs(task: GraphsTask) -> FileEntry:
    table, rows, offsets = _open(task.source)
    packs, slots = slots_of_rows(rows, offsets, table.num_graphs)
    members = np.load(Path(task.source.plan) / _MEMBERS, mmap_mode="r")
    file = Path(task.source.table) / LOST
    none = np.zeros((len(table.schema.axes), table.num_graphs), dtype=np.int64)
    lost = np.load(file, mmap_mode="r") if file.is_file() else none

    def parts() -> Iterator[dict[str, Any]]:
        for first in range(0, len(members), _GRAPHS_PER_PART):
            ids = np.asarray(members[first : first + _GRAPHS_PER_PART])
            yield graph_part(table, ids, packs, slots, task.skips.between(int(ids[0]), int(ids[-1])), lost)

    return write_graphs(task.folder, parts(), table.schema)


def slots_of_rows(rows: np.ndarray, offsets: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(pack int64, slot in it int32) of each of `num_rows` rows, -1 for those that are in none.

    rows: int64, pack after pack; offsets: int64 [packs+1] into them.
    """
    held = np.diff(offsets)
    packs, slots = np.full(num_rows, -1, dtype=np.int64), np.full(num_rows, -1, dtype=np.int32)
    packs[rows] = np.repeat(np.arange(len(held)), held)
    slots[rows] = np.arange(len(rows)) - np.repeat(offsets[:-1], held)
    return packs, slots


def graph_part(
    table: GraphTable,
    ids: np.ndarray,
    packs: np.ndarray,
    slots: np.ndarray,
    skipped: dict[int, Skip],
    lost: np.ndarray,
) -> dict[str, Any]:
    """Rows of graphs.parquet for the source graphs `ids`, ascending: packed, trimmed, too large, or not in the table.

    lost: int [axes, graphs of the table].
    """
    at = np.minimum(np.searchsorted(table.source_ids, ids), table.num_graphs - 1)
    is_there = table.source_ids[at] == ids
    packed = is_there & (packs[at] >= 0)
    trimmed = packed & lost[:, at].any(axis=0)
    reasons = np.select([trimmed, packed], [TRIMMED, ""], TOO_LARGE).astype(object)
    unread = np.flatnonzero(~is_there)
    reasons[unread] = [skipped[i].reason for i in ids[unread].tolist()]
    part: dict[str, Any] = {
        "id": ids,
        "pack": np.where(packed, packs[at], -1),
        "slot": np.where(packed, slots[at], -1).astype(np.int32),
        "status": np.select([trimmed, packed], ["trimmed", "packed"], "skipped").astype(object),
        "reason": reasons,
    }
    for number, axis in enumerate(table.schema.axes):
        ptr = table.ptr[axis.key]
        part[size_column(axis)] = np.where(is_there, ptr[at + 1] - ptr[at], 0)
        part[lost_column(axis)] = np.where(trimmed, lost[number, at], 0)
    for axis in table.schema.sized[len(table.schema.axes) :]:
        part[size_column(axis)] = np.where(is_there, table.columns[axis.key][at].astype(np.int64), 0)
    for name, column in string_columns(table.schema).items():
        texts = table.strings[name].slice(int(at[0]), int(at[-1] - at[0]) + 1).combine_chunks()
        texts = texts.take(pa.array(at - at[0], mask=~is_there))
        known = [dict(skipped[i].strings).get(name) for i in ids[unread].tolist()]
        part[column] = _replaced(texts, ~is_there, pa.array(known, pa.string()))
    return part


def _replaced(texts: Any, where: np.ndarray, known: Any) -> Any:
    return pc.call_function("replace_with_mask", [texts, pa.array(where), known])


def forget() -> None:
    """Let go of the mapped files that tasks in this process share."""
    _open.cache_clear()


@lru_cache(maxsize=1)
def _open(source: PackSource) -> tuple[GraphTable, np.ndarray, np.ndarray]:
    """(table, rows of it in pack order, pack offsets), all memory-mapped; kept while tasks share them."""
    plan = Path(source.plan)
    return (
        GraphTable.open(source.table),
        np.load(plan / _ROWS, mmap_mode="r"),
        np.load(plan / _OFFSETS, mmap_mode="r"),
    )
