"""The job on this machine: a graph table that all workers map, and one task a file.

Scan (blocks journalled) -> graph table -> plan (stored before the first shard) -> graphs.parquet and shards -> manifest
last. What is unfinished lies in OUT/.work; the same call goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from packer.errors import BuildError, MissingExtraError, PackerError
from packer.graphs.sizes import select_sizes
from packer.packs.trim import TRIM
from packer.shards import Manifest
from packer.shards.schema import check_schema
from pipelines.building import plan as planning
from pipelines.building import target as build_folder
from pipelines.building.commit import Target, commit, contents, manifest_of, prepare, write_files
from pipelines.building.inputs import proven
from pipelines.building.mapped import shards as mapped_shards
from pipelines.building.mapped.trim import trim_scan
from pipelines.building.members import members
from pipelines.building.options import Progress
from pipelines.building.request import Job, limits_for
from pipelines.building.result import BuildResult, Clock, already, other_job
from pipelines.building.scan import ScanResult, scan_source
from pipelines.executors import Executor
from pipelines.stores.journal import CLAIM, JOURNAL, WORK, Journal, remove
from pipelines.stores.store import FolderStore

# A finished scan of so many graphs is worth keeping when the limits turn out too small.
_KEEP_SCAN_FROM = 100_000


def run(job: Job, store: FolderStore, executor: Executor, progress: Progress, overwrite: bool) -> BuildResult:
    clock, out = Clock(), store.folder
    journal = Journal(out / WORK, overwrite)
    key = job.key()
    own = build_folder.own_files(store, journal.find("target"))
    build_folder.refuse_strangers(store, () if job.splits is None else job.splits.known_names, own)
    again = overwrite or bool(journal.find("target") and not journal.find("job"))
    earlier = None if again else journal.find("job").get("job")
    finished = {} if again or earlier else build_folder.finished_targets(store)
    if finished:
        _refuse_other(store, build_folder.same_job(store, key, finished), "already holds a data set built otherwise")
        if job.source.repeatable:
            remove(out / WORK)
            return already(store, finished, job)
    if earlier is not None:
        _refuse_other(store, build_folder.differences(earlier["key"], key), "holds an unfinished build of another job")
    scan: ScanResult | None = None
    try:
        with clock("scan"):
            scan = scan_source(job.source, job.scan, out / WORK, journal, executor, progress)
        if finished:
            return _same_content(store, finished, scan, job)
        if earlier is not None and earlier["content_hash"] != scan.content_hash:
            raise BuildError(f"{job.source.name} has changed since the unfinished build in {out}: pass --overwrite")
        with clock("limits"):
            sizes = scan.table.sizes()
            limits = limits_for(sizes, job)
            check_schema(scan.table.schema, limits)
        if job.oversize in TRIM:
            with clock("trim"):
                scan = trim_scan(scan, limits, job.oversize, job.plan.seed, out / WORK, journal)
            sizes = scan.table.sizes()
        fits = planning.check_fit(sizes, limits, scan.table.source_ids, job.oversize)
        chosen = members(scan, job.splits, fits)
        if job.plan.given is not None:
            planning.obtain_plan(select_sizes(sizes, chosen[""].rows), limits, job.plan)
        layout = mapped_shards.sample_layout(scan.table, np.flatnonzero(fits), limits, job.compression)
        build_folder.refuse_strangers(store, chosen, own)
    except (PackerError, MissingExtraError) as error:
        if earlier is None and not isinstance(error, BuildError):
            _discard(out, journal, scan)
        raise
    if again:  # only now: whatever could refuse this job has been asked
        _remove_earlier(store, journal)
    (out / WORK / CLAIM).unlink(missing_ok=True)  # of an unfinished build on a cluster, whose files are replaced
    journal.add("job", "job", key=key, content_hash=scan.content_hash)
    targets: list[Target] = []
    for name, graphs in chosen.items():
        with clock("plan"):
            progress("plan", len(targets), len(chosen))
            targets.append(prepare(job, scan, limits, out, journal, name, graphs, layout, progress))
    progress("plan", len(chosen), len(chosen))
    with clock("write"):
        files = proven(lambda: write_files(targets, journal, executor, progress), out / WORK, journal, executor)
    manifests = {target.name: manifest_of(job, contents(scan, target), files[target.name]) for target in targets}
    commit(store, job, key, manifests, scan.ambiguous, scan.skips, clock.seconds)
    remove(out / WORK)
    return BuildResult(out, manifests, clock.seconds, scan.skips, ambiguous=scan.ambiguous)


def _remove_earlier(out: FolderStore, journal: Journal) -> None:
    """Remove the files of an earlier build. What they are is journalled first, so that a kill in between is mended."""
    journal.drop("job")
    for name, manifest in build_folder.finished_targets(out).items():
        journal.add("target", name, shards=len(manifest.shards))
    build_folder.remove_files(out, build_folder.own_files(out, journal.find("target")))
    journal.drop("target", "plan", "file")


def _same_content(out: FolderStore, finished: Mapping[str, Manifest], scan: ScanResult, job: Job) -> BuildResult:
    """The folder's own build, if the source still holds the same graphs."""
    remove(out.folder / WORK)
    if any(manifest.content_hash != scan.content_hash for manifest in finished.values()):
        raise BuildError(f"{out} already holds a data set of other graphs: pass --overwrite, or choose another folder")
    return already(out, finished, job, scan.skips)


def _refuse_other(out: FolderStore, differing: list[str], what: str) -> None:
    if differing:
        if not (out.folder / WORK / JOURNAL).exists():
            remove(out.folder / WORK)
        raise other_job(out, differing, what)


def _discard(out: Path, journal: Journal, scan: ScanResult | None) -> None:
    """Leave nothing behind, but for a finished scan that was costly: the next build in this folder reuses it. And but
    for what an unfinished build has, which was to be replaced: its journal says which files are its own."""
    if journal.find("job") or journal.find("target"):
        return
    if scan is None or scan.table.num_graphs < _KEEP_SCAN_FROM:
        remove(out / WORK)
