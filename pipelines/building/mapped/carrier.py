"""The carrier on this machine: a graph table that all workers map, and one task a file.

Scan (blocks journalled) -> graph table -> plans -> graphs.parquet and shards, each journalled. What is unfinished lies
in OUT/.work.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from packer.errors import BuildError
from packer.graphs.sizes import GraphSizes, select_sizes
from packer.limits.pack_limits import PackLimits
from packer.packs.trim import TRIM
from packer.shards import GraphCounts, Layout
from packer.shards.graphs_file import TOO_LARGE
from pipelines.building.carrier import Clock, Files, Target
from pipelines.building.commit import counts_of
from pipelines.building.inputs import add_input, proven
from pipelines.building.mapped.shards import (
    GraphsTask,
    PackSource,
    ShardTask,
    Task,
    hash_of_file,
    run_task,
    sample_layout,
    save_plan_arrays,
)
from pipelines.building.mapped.trim import trim_scan
from pipelines.building.members import Members, members
from pipelines.building.options import Progress
from pipelines.building.plan import check_fit
from pipelines.building.request import Job, limits_for
from pipelines.building.scan import ScanResult, scan_source
from pipelines.executors import Executor
from pipelines.stores.journal import Journal, remove
from pipelines.stores.work_folder import WORK

# A finished scan of so many graphs is worth keeping when the limits turn out too small.
_KEEP_SCAN_FROM = 100_000


@dataclass(frozen=True)
class _Chosen:
    """fits: bool [graphs of the table]; by_split: split -> its graphs."""

    fits: np.ndarray
    by_split: dict[str, Members]


class MappedCarrier:
    """See `Carrier`. out: the folder of the build, whose lock is held."""

    def __init__(self, job: Job, out: Path, executor: Executor, progress: Progress, journal: Journal) -> None:
        self._job, self._out, self._work = job, out, out / WORK
        self._journal, self._executor, self._progress = journal, executor, progress
        self._scanned: ScanResult | None = None
        self._chosen: _Chosen | None = None

    def scan(self, anew: bool) -> ScanResult:
        job = self._job
        scanned = scan_source(job.source, job.scan, self._work, self._journal, self._executor, self._progress)
        self._scanned = scanned
        return scanned

    def limits(self) -> PackLimits:
        return limits_for(self._scan.table.sizes(), self._job)

    def choose(self, limits: PackLimits) -> Sequence[str]:
        job = self._job
        if job.oversize in TRIM:
            self._scanned = trim_scan(self._scan, limits, job.oversize, job.plan.seed, self._work, self._journal)
        table = self._scan.table
        fits = check_fit(table.sizes(), limits, table.source_ids, job.oversize)
        self._chosen = _Chosen(fits, members(self._scan, job.splits, fits))
        return tuple(self._chosen.by_split)

    def sizes(self, split: str) -> GraphSizes:
        return select_sizes(self._scan.table.sizes(), self._graphs(split).rows)

    def layout(self, limits: PackLimits) -> Layout:
        assert self._chosen is not None
        return sample_layout(self._scan.table, np.flatnonzero(self._chosen.fits), limits, self._job.compression)

    def write(self, targets: Sequence[Target], layout: Layout, clock: Clock) -> Files:
        tasks: dict[tuple[str, str], Task] = {}
        for target in targets:
            with clock("plan"):
                split_tasks = self._tasks(target, layout)
            tasks.update({(target.split, Path(task.label).name): task for task in split_tasks})
        with clock("write"):
            return proven(lambda: self._write(tasks, targets), self._work, self._journal, self._executor)

    def counts(self, target: Target) -> GraphCounts:
        scan, graphs = self._scan, self._graphs(target.split)
        skips = scan.skips.among(graphs.source_ids)
        reasons = Counter(skip.reason for skip in skips)
        reasons[TOO_LARGE] += len(graphs.source_ids) - len(graphs.rows) - len(skips)
        trimmed = 0 if scan.trimmed is None else int(scan.trimmed[graphs.rows].sum())
        return counts_of(len(graphs.source_ids), len(graphs.rows), trimmed, reasons)

    def give_up(self, error: Exception) -> None:
        """A finished scan that was costly stays: the next build in this folder uses it."""
        costly = self._scanned is not None and self._scanned.table.num_graphs >= _KEEP_SCAN_FROM
        if not isinstance(error, BuildError) and not costly:
            remove(self._work)

    def finish(self) -> None:
        remove(self._work)

    @property
    def _scan(self) -> ScanResult:
        assert self._scanned is not None
        return self._scanned

    def _graphs(self, split: str) -> Members:
        assert self._chosen is not None
        return self._chosen.by_split[split]

    def _tasks(self, target: Target, layout: Layout) -> list[Task]:
        """Put the plan's ids where all workers can map them; the tasks that write the data set's files from there."""
        scan, graphs, plan = self._scan, self._graphs(target.split), target.plan
        arrays, folder = self._work / f"plan-{target.split}", str((self._out / target.split).absolute())
        sums = save_plan_arrays(arrays, graphs.rows[plan.graph_ids], plan.pack_offsets, graphs.source_ids)
        add_input(self._journal, arrays.name, sums)
        source = PackSource(str(scan.folder.absolute()), str(arrays.absolute()), plan.limits, job=uuid.uuid4().hex)
        tasks: list[Task] = [GraphsTask(source, folder, scan.skips.among(graphs.source_ids))]
        for number, first in enumerate(range(0, plan.num_packs, layout.packs_per_shard)):
            stop = min(first + layout.packs_per_shard, plan.num_packs)
            form = layout.packs_per_block, self._job.compression, layout.uncompressed
            tasks.append(ShardTask(source, folder, number, first, stop, *form))
        return tasks

    def _write(self, tasks: dict[tuple[str, str], Task], targets: Sequence[Target]) -> Files:
        """What is not there yet, as it was written."""
        total = sum(target.plan.num_packs for target in targets)
        done = {name: line["entry"] for name, line in self._journal.find("file").items()}
        named = {f"{split}/{file}": task for (split, file), task in tasks.items()}
        journalled = {name: task for name, task in named.items() if name in done}
        hashes = zip(journalled, self._executor.map(hash_of_file, journalled.values()), strict=True)
        entries = {name: done[name] for name, sha256 in hashes if sha256 == done[name]["sha256"]}
        missing = {name: task for name, task in named.items() if name not in entries}
        packs = sum(entry.get("packs", 0) for entry in entries.values())
        self._progress("write", packs, total)
        for name, entry in zip(missing, self._executor.map(run_task, missing.values()), strict=True):
            entries[name] = entry
            self._journal.add("file", name, entry=entries[name])
            packs += entries[name].get("packs", 0)
            self._progress("write", packs, total)
        files: Files = {target.split: {} for target in targets}
        for split, file in tasks:
            files[split][file] = entries[f"{split}/{file}"]
        return files
