"""The last step: the segments of a shard from all groups, joined into packs; and graphs.parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from packer.files.atomic import hash_file
from packer.graphs.schema import Schema
from packer.limits.pack_limits import PackLimits
from packer.packs.spill import read_segments
from packer.shards import shard_name, write_graphs
from packer.shards.layout import Layout
from packer.shards.manifest import GRAPHS
from pipelines.building.mapped.shards import pack_columns_of, written_shard
from pipelines.building.spilled.route import check_packs, graphs_name, read_segment, routed_name
from pipelines.stores.layout import inside
from pipelines.stores.sealed import SealedStore
from pipelines.stores.store import FolderStore, ObjectStore, Store

ENTRIES = "entries"

_AT_ONCE = 16
"""Files of an object store that one task reads at a time: each answer takes long, and little bandwidth."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class WriteTask:
    """What every task of this phase needs. split: of the data set; groups: how many there are."""

    work: SealedStore
    out: Store
    split: str
    groups: int
    schema: Schema
    limits: PackLimits

    def kept(self, file: str) -> dict[str, Any] | None:
        """The manifest's entry of a file that an earlier run has written; None where it has not, or not so."""
        data = self.work.sound(f"{ENTRIES}/{inside(self.split, file)}.json")
        if data is None:
            return None
        entry, name = json.loads(data), inside(self.split, file)
        if self.out.size(name) != entry["bytes"]:
            return None
        if isinstance(self.out, FolderStore) and hash_file(self.out.folder / name).sha256 != entry["sha256"]:
            return None  # object stores have checksums of their own, and would have to send all of it back
        return entry

    def keep(self, file: str, entry: dict[str, Any]) -> dict[str, Any]:
        self.work.put(f"{ENTRIES}/{inside(self.split, file)}.json", json.dumps(entry).encode())
        return entry


@dataclass(frozen=True)
class ShardTask:
    """Packs first..stop, to be shard `number`."""

    target: WriteTask
    number: int
    first: int
    stop: int
    layout: Layout
    compression: str

    @property
    def label(self) -> str:
        return inside(self.target.split, shard_name(self.number))


@dataclass(frozen=True)
class GraphsTask:
    """graphs.parquet."""

    target: WriteTask

    @property
    def label(self) -> str:
        return inside(self.target.split, GRAPHS)


def write_file(task: ShardTask | GraphsTask) -> dict[str, Any]:
    """Write one file of a data set, unless it is there; its entry in the manifest as plain values."""
    file = shard_name(task.number) if isinstance(task, ShardTask) else GRAPHS
    entry_there = task.target.kept(file)
    if entry_there is not None:
        return entry_there
    with task.target.out.scratch() as folder:
        entry = _write_shard(task, folder) if isinstance(task, ShardTask) else asdict(_write_graphs(task, folder))
        task.target.out.put_file(task.label, folder / file)
    return task.target.keep(file, entry)


def _write_shard(task: ShardTask, folder: Any) -> dict[str, Any]:
    target = task.target

    def segment(group: int) -> bytes:
        return read_segment(target.work, routed_name(target.split, group), task.number)

    routed = read_segments(_each(segment, target), target.schema)
    rows, offsets, packs = routed.in_pack_order()
    check_packs(packs, task.first, task.stop, task.label)

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        count = task.stop - task.first
        for first in range(0, count, task.layout.packs_per_block):
            stop = min(first + task.layout.packs_per_block, count)
            yield pack_columns_of(routed.table, rows, offsets, first, stop, target.limits)

    form = task.compression, task.layout.uncompressed
    return written_shard(folder, task.number, blocks(), target.schema, target.limits, *form)


def _write_graphs(task: GraphsTask, folder: Any) -> Any:
    target = task.target

    def parts() -> Iterator[dict[str, Any]]:
        for group in range(target.groups):
            table = pa.ipc.open_stream(target.work.read(graphs_name(target.split, group))).read_all()
            if table.num_rows:
                yield {name: table.column(name) for name in table.column_names}

    return write_graphs(folder, parts(), target.schema)


def _each(read: Callable[[int], Value], target: WriteTask) -> list[Value]:
    """read(group) of every group, in their order."""
    if not isinstance(target.work.store, ObjectStore):
        return [read(group) for group in range(target.groups)]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(read, range(target.groups)))
