"""Some consecutive blocks together: what one task counts, or sends on its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from packer.graphs.schema import Schema
from packer.graphs.table import GraphTable
from packer.limits.fit import need_of
from packer.limits.pack_limits import PackLimits
from packer.packs.trim import TRIM, trim
from packer.shards.graphs_file import TOO_LARGE
from pipelines.building.members import labels_of
from pipelines.building.spilled.blocks import Block, sizes_of_block, table_of_blocks
from pipelines.building.spilled.members import Membership
from pipelines.sources.protocol import Skip
from pipelines.stores.sealed import SealedStore

GROUP_BYTES = 64 << 20
"""Bytes of the blocks that are routed together: the larger, the fewer and longer the segments that a shard reads."""


@dataclass(frozen=True)
class Group:
    """number: among the groups; blocks: numbers of its blocks; first_id, records: the source graphs that they cover."""

    number: int
    blocks: range
    first_id: int
    records: int


def groups_of(blocks: Iterable[Block], most_bytes: int = GROUP_BYTES) -> Iterator[Group]:
    """Blocks in order, as many together as stay below `most_bytes`; one graph at least in each group."""
    held: list[Block] = []
    number = 0
    for block in blocks:
        full = held and sum(other.size for other in held) + block.size > most_bytes
        if full and any(other.graphs for other in held) and block.graphs:
            yield _group(number, held)
            held, number = [], number + 1
        held.append(block)
    if held:
        yield _group(number, held)


def _group(number: int, blocks: list[Block]) -> Group:
    numbers = range(blocks[0].number, blocks[-1].number + 1)
    return Group(number, numbers, blocks[0].first_id, sum(b.records for b in blocks))


@dataclass(frozen=True)
class GroupTask:
    """A group, and all that decides what becomes of its graphs but the plan. members: of its source graphs."""

    work: SealedStore
    group: Group
    schema: Schema
    limits: PackLimits
    oversize: str
    seed: int
    members: Membership

    @property
    def label(self) -> str:
        return f"graphs {self.group.first_id} to {self.group.first_id + self.group.records - 1}"

    def read(self, with_table: bool) -> GroupGraphs:
        """The group's graphs; with_table: their features too, which trimming and labels need in any case."""
        axes = [axis.key for axis in self.schema.sized]
        parts = [sizes_of_block(self.work, number, axes) for number in self.group.blocks]
        skips = {graph_id: skip for _, _, skipped in parts for graph_id, skip in skipped.items()}
        table: GraphTable | None = None
        lost = np.zeros((len(self.schema.axes), sum(len(ids) for ids, _, _ in parts)), dtype=np.int64)
        source_ids, sizes = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        if with_table or self.oversize in TRIM or self.members.needs_labels:
            table = table_of_blocks(self.work, self.group.blocks, self.schema)
        all_ids = np.arange(self.group.first_id, self.group.first_id + self.group.records)
        splits = self.members.numbers_of(all_ids, table, skips)
        if self.oversize in TRIM and table is not None:
            table, by_axis = trim(table, self.limits, self.oversize, self.seed)
            lost = np.stack([by_axis[axis.key] for axis in self.schema.axes])
            sizes = np.stack([table.counts(key) for key in axes], axis=1)
        need, capacity = need_of(sizes, self.schema.sized, self.limits)
        fits = np.all(need <= capacity, axis=1)
        return GroupGraphs(all_ids, splits, source_ids, sizes, np.asarray(fits), lost, skips, table)


@dataclass(frozen=True)
class GroupGraphs:
    """all_ids, splits: int64 [source graphs], and the data set of each; source_ids int64 [graphs], sizes int64 [graphs,
    axes], fits bool [graphs], lost int64 [axes, graphs]: of those that can be packed; skips: the others."""

    all_ids: np.ndarray
    splits: np.ndarray
    source_ids: np.ndarray
    sizes: np.ndarray
    fits: np.ndarray
    lost: np.ndarray
    skips: Mapping[int, Skip]
    table: GraphTable | None

    @cached_property
    def split_of_row(self) -> np.ndarray:
        """int64 [graphs], -1 for those that do not fit."""
        return np.where(self.fits, self.splits[self.source_ids - self.all_ids[0]], -1)

    def rows(self, split: int) -> np.ndarray:
        """int64: the graphs of a data set that are to be packed, in source order."""
        return np.flatnonzero(self.split_of_row == split)

    def ids(self, split: int) -> np.ndarray:
        """int64: all source graphs of a data set."""
        return self.all_ids[self.splits == split]


@dataclass(frozen=True)
class SplitCount:
    """What a group has of one data set. sizes: int64 [distinct, axes] of the graphs to be packed, count [distinct];
    order: int32 [graphs], the row of `sizes` of each in source order, where asked for; graphs: of the source; trimmed,
    skipped: of those."""

    sizes: np.ndarray
    count: np.ndarray
    order: np.ndarray | None
    graphs: int
    trimmed: int
    skipped: Counter[str]


@dataclass(frozen=True)
class CountTask:
    """order: whether the order of sizes matters to the plan."""

    task: GroupTask
    order: bool

    @property
    def label(self) -> str:
        return self.task.label


def count_group(item: CountTask) -> tuple[SplitCount, ...]:
    """What a group has of each data set."""
    graphs = item.task.read(with_table=False)
    return tuple(_count(graphs, split, item.order) for split in range(len(item.task.members.names)))


def _count(graphs: GroupGraphs, split: int, order: bool) -> SplitCount:
    rows, ids = graphs.rows(split), graphs.ids(split)
    sizes, inverse, count = np.unique(graphs.sizes[rows], axis=0, return_inverse=True, return_counts=True)
    skipped = Counter(graphs.skips[graph_id].reason for graph_id in ids.tolist() if graph_id in graphs.skips)
    skipped[TOO_LARGE] += len(ids) - len(rows) - skipped.total()
    trimmed = int(graphs.lost[:, rows].any(axis=0).sum())
    in_order = inverse.reshape(-1).astype(np.int32) if order else None
    return SplitCount(sizes, count.astype(np.int64), in_order, len(ids), trimmed, skipped)


@dataclass(frozen=True)
class LabelTask:
    """Which splits the graphs of a group name."""

    task: GroupTask
    column: str

    @property
    def label(self) -> str:
        return self.task.label


def label_group(item: LabelTask) -> tuple[tuple[str, ...], str]:
    """(the labels in a group, that of its first graph that can be packed)."""
    task = item.task
    table = table_of_blocks(task.work, task.group.blocks, task.schema)
    skips = {
        graph_id: skip
        for number in task.group.blocks
        for graph_id, skip in sizes_of_block(task.work, number, [])[2].items()
    }
    ids = np.arange(task.group.first_id, task.group.first_id + task.group.records)
    labels = labels_of(table, ids, skips.values(), item.column)
    first = labels[np.searchsorted(ids, table.source_ids[0])]
    return tuple(sorted({label for label in labels.tolist() if label})), str(first)
