"""The phases of the job as the driver sees them, each a map of tasks over blocks, groups of blocks or files.

What the driver learns of the graphs is how many there are of each size, in each group.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from packer.files.atomic import FileEntry
from packer.graphs.axes import Axis
from packer.graphs.schema import Schema
from packer.graphs.sizes import GraphSizes, with_columns
from packer.graphs.table import HASH_GRAPHS, combine_hashes
from packer.limits.fit import do_not_fit, fitting, none_fits
from packer.limits.limits_rule import LimitsRule
from packer.limits.pack_limits import PackLimits
from packer.packs.trim import TRIM
from packer.plan.pack_plan import PackPlan
from packer.scan.statistics import Statistics, merge
from packer.shards import GraphCounts
from packer.shards.layout import Layout
from packer.shards.manifest import PLAN
from pipelines.building.commit import counts_of
from pipelines.building.mapped.shards import SAMPLE_PACKS, sample_layout, slots_of_rows
from pipelines.building.members import empty_split
from pipelines.building.options import Progress
from pipelines.building.plan import needs_order
from pipelines.building.request import Job, limits_for
from pipelines.building.scan import check_skips
from pipelines.building.spilled import gather, groups
from pipelines.building.spilled.blocks import (
    BlockFacts,
    Blocks,
    HashBlocks,
    ScanBlock,
    hash_blocks,
    scan_block,
    sizes_of_block,
)
from pipelines.building.spilled.groups import (
    CountTask,
    Group,
    GroupTask,
    LabelTask,
    SplitCount,
    count_group,
    label_group,
)
from pipelines.building.spilled.members import Membership, membership
from pipelines.building.spilled.route import PlanRef, RouteTask, Way, route_group
from pipelines.executors import Executor, SerialExecutor
from pipelines.sources.skips import Skips, nothing_left
from pipelines.stores.layout import inside
from pipelines.stores.sealed import SealedStore, digest_of
from pipelines.stores.store import Store

_HASH_STRIDE = 16 * HASH_GRAPHS
_FEW = 64
"""Histograms of blocks that are added up at a time."""


@dataclass(frozen=True)
class Scanned:
    """The source in blocks. work: where they are; sizes: a histogram of the graphs that can be packed; skips: the
    others; content_hash: as of a graph table of all of them."""

    work: SealedStore
    blocks: Blocks
    schema: Schema
    ambiguous: tuple[str, ...]
    sizes: GraphSizes
    skips: Skips
    content_hash: str


@dataclass(frozen=True)
class Planned:
    """A data set that is to be written. owner: for whom its files are sealed on their way; counts: what each group has
    of it."""

    split: str
    owner: str
    plan: PackPlan
    plan_file: FileEntry
    counts: tuple[SplitCount, ...]


@dataclass(frozen=True)
class Cluster:
    """Where a job runs: where tasks do, what they write for each other, and what they write for good."""

    executor: Executor
    work: Store
    out: Store
    progress: Progress


def scan(job: Job, cluster: Cluster) -> Scanned:
    """Every block scanned, and what its graphs are. Raises SourceError and FieldError, as other builds do."""
    statistics: Statistics | None = None
    held = array("q")  # of blocks
    skips: list[Skips] = []
    histograms: list[tuple[tuple[str, ...], np.ndarray, np.ndarray]] = []
    records = 0
    work = SealedStore(cluster.work, digest_of(scan_key(job)))
    for facts in _scanned(job, work, cluster):
        check_skips(job.source, job.scan, facts.skips)
        statistics = facts.statistics if statistics is None else merge(statistics, facts.statistics)
        held.extend(facts.block)
        skips.append(facts.skips)
        histograms.append((facts.axes, facts.sizes, facts.count))
        if len(histograms) >= _FEW:
            histograms = [_added(histograms)]
        records += facts.block.records
        cluster.progress("scan", records, job.source.num_graphs)
    blocks = Blocks.of(held)
    if statistics is None or not blocks.graphs.any():
        raise nothing_left(job.source.name, Skips.joined(skips))
    schema, ambiguous = job.scan.decide([statistics])
    keys, rows, count = _added(histograms)
    columns = {axis.key: rows[:, keys.index(axis.key)] for axis in schema.sized}
    sizes, digest = with_columns(schema.sized, columns, count), _content_hash(work, blocks, schema, cluster)
    return Scanned(work, blocks, schema, ambiguous, sizes, Skips.joined(skips), digest)


def _content_hash(work: SealedStore, blocks: Blocks, schema: Schema, cluster: Cluster) -> str:
    """As of a graph table of all graphs, a few thousand at a time."""
    name = "content.json"
    if work.sound(name) is None:
        digest = combine_hashes(schema, cluster.executor.map(hash_blocks, _hash_tasks(work, blocks, schema)))
        work.put(name, json.dumps(digest).encode())
    return json.loads(work.read(name))


def limits_of(job: Job, scanned: Scanned, cluster: Cluster) -> PackLimits:
    """The limits asked for, or those that follow from the sizes."""
    sizes = scanned.sizes
    if isinstance(job.limits, LimitsRule) and job.limits.first_graphs is not None:
        sizes = _first_sizes(scanned, job.limits.first_graphs)
    return limits_for(sizes, job)


def count(job: Job, scanned: Scanned, limits: PackLimits, cluster: Cluster) -> tuple[list[GroupTask], list[Any]]:
    """(the groups, what each has of each data set). Raises SizesError for graphs that do not fit, unless they may."""
    _check_fit(job, scanned, limits)
    together = list(groups.groups_of(scanned.blocks))
    first = Membership(("",), scanned.blocks.num_records)
    tasks = [
        GroupTask(scanned.work, group, scanned.schema, limits, job.oversize, job.plan.seed, first) for group in together
    ]
    labels: set[str] = set()
    first_label = ""
    if job.splits is not None and job.splits.column is not None:
        for named, own_first in cluster.executor.map(
            label_group, [LabelTask(task, job.splits.column) for task in tasks]
        ):
            labels.update(named)
            first_label = first_label or own_first
    members = membership(job.splits, scanned.blocks.num_records, sorted(labels), first_label)
    tasks = [replace(task, members=members.part(task.group.first_id, task.group.records)) for task in tasks]
    order = needs_order(job.plan)
    counts: list[tuple[SplitCount, ...]] = []
    for counted in cluster.executor.map(count_group, [CountTask(task, order) for task in tasks]):
        counts.append(counted)
        cluster.progress("count", len(counts), len(tasks))
    for number, split in enumerate(members.names):
        if not any(len(counted[number].sizes) for counted in counts):
            raise empty_split(split, scanned.blocks.num_records)
    return tasks, counts


def scan_key(job: Job) -> dict[str, Any]:
    """What the blocks of a source depend on."""
    return {"source": job.source.key(), "options": job.scan.key()}


def owner_of(job: Job, limits: PackLimits, plan_file: FileEntry) -> str:
    """Stands for all that the files of one data set depend on."""
    return digest_of({"job": job.key(), "limits": limits.to_dict(), "plan": plan_file.sha256})


def planned_sizes(schema: Schema, counts: Sequence[SplitCount], order: bool) -> GraphSizes:
    """The sizes of the graphs of one data set: as a histogram, or in source order where that matters to the plan."""
    axes = schema.sized
    if order:
        rows = np.concatenate([count.sizes[count.order] for count in counts if count.order is not None])
        return _sizes_of(axes, rows)
    rows, count = _summed(
        np.concatenate([count.sizes for count in counts]), np.concatenate([count.count for count in counts])
    )
    return _sizes_of(axes, rows, count)


def _sizes_of(axes: tuple[Axis, ...], rows: np.ndarray, count: np.ndarray | None = None) -> GraphSizes:
    """rows: int64 [graphs, axes]; count: see `with_columns`."""
    return with_columns(axes, {axis.key: rows[:, number] for number, axis in enumerate(axes)}, count)


def layout_of(job: Job, scanned: Scanned, limits: PackLimits, cluster: Cluster) -> Layout:
    """Packs per block and shard, by the first graphs that fit: from as few blocks as hold enough of them."""
    wanted = SAMPLE_PACKS * int(limits.num_graphs or 1)
    everyone = Membership(("",), scanned.blocks.num_records)
    for number in range(1, len(scanned.blocks) + 1):
        first = scanned.blocks[:number]
        group = Group(0, range(number), first[0].first_id, first.num_records)
        task = GroupTask(scanned.work, group, scanned.schema, limits, job.oversize, job.plan.seed, everyone)
        graphs = task.read(with_table=False)
        if graphs.fits.sum() >= wanted or number == len(scanned.blocks):
            graphs = task.read(with_table=True)
            assert graphs.table is not None
            return sample_layout(graphs.table, np.flatnonzero(graphs.fits), limits, job.compression)
    raise AssertionError("the last block returns")


def route(tasks: Sequence[GroupTask], planned: Sequence[Planned], layout: Layout, cluster: Cluster) -> None:
    """Every graph sent to its shard."""
    done, total = 0, sum(task.group.records for task in tasks)
    for records in cluster.executor.map(route_group, _route_tasks(tasks, planned, layout, cluster)):
        done += records
        cluster.progress("route", done, total)


def write(
    job: Job, tasks: Sequence[GroupTask], planned: Sequence[Planned], layout: Layout, cluster: Cluster
) -> dict[str, dict[str, dict[str, Any]]]:
    """All files of all data sets: split -> file -> entry of the manifest."""
    todo: list[tuple[str, str, gather.ShardTask | gather.GraphsTask]] = []
    for one in planned:
        work = SealedStore(cluster.work, one.owner)
        target = gather.WriteTask(work, cluster.out, one.split, len(tasks), tasks[0].schema, tasks[0].limits)
        todo.append((one.split, gather.GRAPHS, gather.GraphsTask(target)))
        for number, first in enumerate(range(0, one.plan.num_packs, layout.packs_per_shard)):
            stop = min(first + layout.packs_per_shard, one.plan.num_packs)
            shard = gather.ShardTask(target, number, first, stop, layout, job.compression)
            todo.append((one.split, gather.shard_name(number), shard))
    files: dict[str, dict[str, dict[str, Any]]] = {one.split: {} for one in planned}
    packs, total = 0, sum(one.plan.num_packs for one in planned)
    entries = cluster.executor.map(gather.write_file, [task for _, _, task in todo])
    for (split, file, _), entry in zip(todo, entries, strict=True):
        files[split][file] = entry
        packs += entry.get("packs", 0)
        cluster.progress("write", packs, total)
    return files


def graph_counts(counts: Sequence[SplitCount], in_packs: int) -> GraphCounts:
    """What became of the graphs of one data set. in_packs: how many its plan packs."""
    return counts_of(
        sum(count.graphs for count in counts),
        in_packs,
        sum(count.trimmed for count in counts),
        sum((count.skipped for count in counts), Counter[str]()),
    )


def _scanned(job: Job, work: SealedStore, cluster: Cluster) -> Iterator[BlockFacts]:
    executor = cluster.executor if job.source.parallel else SerialExecutor()
    return executor.map(
        scan_block,
        (ScanBlock(number, task, work, job.scan.attributes) for number, task in enumerate(job.source.tasks())),
    )


def _hash_tasks(work: SealedStore, blocks: Blocks, schema: Schema) -> Iterator[HashBlocks]:
    ends = np.cumsum(blocks.graphs)
    total = int(ends[-1])
    for start in range(0, total, _HASH_STRIDE):
        stop = min(start + _HASH_STRIDE, total)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
        before = int(ends[first]) - blocks[first].graphs
        yield HashBlocks(work, range(first, last + 1), schema, start - before, stop - start)


def _check_fit(job: Job, scanned: Scanned, limits: PackLimits) -> None:
    if job.oversize in TRIM:
        return
    fits = fitting(scanned.sizes, limits)
    if job.oversize == "error" and not fits.all():
        axes = [axis.key for axis in scanned.schema.sized]
        for block in scanned.blocks:
            ids, rows, _ = sizes_of_block(scanned.work, block.number, axes)
            first = np.flatnonzero(~fitting(_sizes_of(scanned.schema.sized, rows), limits))
            if len(first):
                row = int(np.flatnonzero((scanned.sizes.distinct[0] == rows[first[0]]).all(axis=1))[0])
                raise do_not_fit(scanned.sizes, limits, fits, row, int(ids[first[0]]))
    if not fits.any():
        raise none_fits(scanned.sizes, limits)


def _first_sizes(scanned: Scanned, graphs: int) -> GraphSizes:
    axes = [axis.key for axis in scanned.schema.sized]
    rows = np.zeros((0, len(axes)), dtype=np.int64)
    for block in scanned.blocks:
        rows = np.concatenate([rows, sizes_of_block(scanned.work, block.number, axes)[1]])
        if len(rows) >= graphs:
            break
    return _sizes_of(scanned.schema.sized, rows[:graphs])


def _route_tasks(
    tasks: Sequence[GroupTask], planned: Sequence[Planned], layout: Layout, cluster: Cluster
) -> Iterator[RouteTask]:
    """Group after group, with how many graphs of each kind came before."""
    kinds = [_Kinds(one) for one in planned]
    for number, task in enumerate(tasks):
        ways = [
            kind.way(one, number, layout.packs_per_shard, cluster.out) for kind, one in zip(kinds, planned, strict=True)
        ]
        yield RouteTask(task, tuple(ways))


class _Kinds:
    """Running numbers of the graphs of each kind in one data set, or of all of them for plans in their order."""

    def __init__(self, one: Planned) -> None:
        items = one.plan.packing.items
        self._starts = np.zeros(len(items.instance.need), dtype=np.int64)
        self._number = dict(zip(map(tuple, one.plan.sizes.distinct[0].tolist()), _kinds_of_sizes(one), strict=True))
        self._seen = 0
        self._packs, self._positions = np.zeros((2, 0), dtype=np.int64)
        if not one.plan.by_patterns:
            ids = one.plan.graph_ids
            self._packs, slots = slots_of_rows(ids, one.plan.pack_offsets, len(ids))
            self._positions = slots.astype(np.int64)

    def way(self, one: Planned, group: int, packs_per_shard: int, out: Store) -> Way:
        """Where the next group's graphs go."""
        counted = one.counts[group]
        shards = -(-one.plan.num_packs // packs_per_shard)
        graphs = int(counted.count.sum())
        part = slice(self._seen, self._seen + graphs)
        self._seen += graphs
        if not one.plan.by_patterns:
            where = self._packs[part], self._positions[part]
            return Way(one.split, one.owner, packs_per_shard, shards, None, self._starts[:0], *where)
        ref = PlanRef(out, inside(one.split, PLAN), one.plan_file.sha256)
        way = Way(one.split, one.owner, packs_per_shard, shards, ref, self._starts.copy(), self._packs, self._positions)
        kinds = np.array([self._number[row] for row in map(tuple, counted.sizes.tolist())], dtype=np.int64)
        np.add.at(self._starts, kinds, counted.count)
        return way


def _kinds_of_sizes(one: Planned) -> list[int]:
    """What kind of graph each distinct size is to the plan."""
    items = one.plan.packing.items
    sizes, _, of_row = one.plan.sizes.distinct
    kinds = np.zeros(len(sizes), dtype=np.int64)
    kinds[of_row] = items.size_of_row
    return kinds.tolist()


Histogram = tuple[tuple[str, ...], np.ndarray, np.ndarray]


def _added(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of several; an axis that one lacks counts 0 there."""
    held = list(histograms)
    keys = tuple(dict.fromkeys(key for axes, sizes, _ in held if len(sizes) for key in axes))
    parts: list[np.ndarray] = []
    for axes, sizes, _ in held:
        wide = np.zeros((len(sizes), len(keys)), dtype=np.int64)
        for column, key in enumerate(axes if len(sizes) else ()):
            wide[:, keys.index(key)] = sizes[:, column]
        parts.append(wide)
    rows, count = _summed(np.concatenate(parts), np.concatenate([count for _, _, count in held]))
    return keys, rows, count


def _summed(rows: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows, ascending, with their counts."""
    if not len(rows):
        return rows, count
    order = np.lexsort(rows.T[::-1])  # a tenth of the time of np.unique over rows, and the driver does it all the time
    rows = rows[order]
    first = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    return rows[first], np.add.reduceat(count[order], first)
