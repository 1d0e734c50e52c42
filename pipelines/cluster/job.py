"""The job on a cluster, or into an object store: its phases in order, and what an interrupted run has left of them.

What lies in the work store is found there by its name: a task whose files are there is done. What names cannot tell
lies beside the output: which job is writing there, which plan was stored, and how many shards there are to be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from packer.errors import BuildError, MissingExtraError, PackerError
from packer.shards import Manifest
from pipelines.build_folder import differences, finished_targets, own_files, refuse_foreign, remove_own, same_job
from pipelines.build_plan import obtain_plan
from pipelines.build_request import Job
from pipelines.build_result import BuildResult, Clock, already, other_job
from pipelines.build_write import commit
from pipelines.cluster import phases
from pipelines.cluster.gather import ENTRIES
from pipelines.cluster.phases import Cluster
from pipelines.cluster.route import GRAPH_ROWS, ROUTED
from pipelines.journal import CLAIM, JOURNAL, LOCK, WORK, StoreJournal
from pipelines.stores import LARGE, Store

_SCAN = "scan.json"
"""Says of which source the blocks in a work store are."""
_KEPT = (LOCK, JOURNAL, CLAIM)


def run(job: Job, on: Cluster, overwrite: bool) -> BuildResult:
    """Carry a job out, or go on with it; see `pipelines.build`."""
    beside, key, clock = on.out.below(WORK), job.key(), Clock()
    journal = StoreJournal(beside)
    refuse_foreign(on.out, own_files(on.out, journal.find("target")))
    earlier = None if overwrite else _claimed(beside)
    if overwrite or (journal.find("target") and earlier is None):
        _remove_earlier(on, journal)
    finished = {} if overwrite or earlier else finished_targets(on.out)
    if finished:
        _refuse_other(on, same_job(on.out, key, finished), "already holds a data set built otherwise")
        if job.source.repeatable:
            return already(on.out, finished, job)
    if earlier is not None:
        _refuse_other(on, differences(earlier["key"], key), "holds an unfinished build of another job")
    _renew_scan(job, on.work)
    for part in () if earlier else (ROUTED, GRAPH_ROWS, ENTRIES):  # of a plan that is given up
        on.work.below(part).clear()
    journal.drop("job", "scan", "block", "table", "file")  # of a build on one machine
    try:
        with clock("scan"):
            scanned = phases.scan(job, on)
            digest = phases.content_hash(scanned, on)
        if finished:
            return _same_content(on, finished, digest, job, scanned.skips)
        if earlier is not None and earlier["content_hash"] != digest:
            raise BuildError(f"{job.source.name} has changed since the unfinished build in {on.out}: pass --overwrite")
        with clock("limits"):
            limits = phases.limits_of(job, scanned, on)
        with clock("count"):
            tasks, counts = phases.count(job, scanned, limits, on)
        if job.plan.given is not None:
            own, order = [count[0] for count in counts], counts[0][0].order is not None
            obtain_plan(phases.planned_sizes(scanned.schema, own, order), limits, job.plan)
    except (PackerError, MissingExtraError) as error:
        begun = isinstance(error, BuildError) and any(name not in _KEPT for name in on.work.names())
        if earlier is None and not begun:
            _tidy(on)
        raise
    beside.create(CLAIM, json.dumps({"key": key, "content_hash": digest}).encode())
    layout = phases.layout_of(job, scanned, limits, on)
    planned: list[phases.Planned] = []
    for number, split in enumerate(tasks[0].members.names):
        with clock("plan"):
            on.progress("plan", number, len(tasks[0].members.names))
            own_counts = [count[number] for count in counts]
            planned.append(phases.plan(job, scanned.schema, limits, split, own_counts, journal, on))
        shards = -(-planned[-1].plan.num_packs // layout.packs_per_shard)
        journal.add("target", split, shards=shards)
    on.progress("plan", len(planned), len(planned))
    with clock("route"):
        phases.route(tasks, planned, layout, on)
    with clock("write"):
        files = phases.write(job, tasks, planned, layout, on)
    manifests = phases.manifests_of(job, scanned, planned, layout, digest, files)
    commit(on.out, job, key, manifests, scanned.ambiguous, scanned.skips, clock.seconds)
    if any(entry["bytes"] > LARGE for held in files.values() for entry in held.values()):
        on.out.abandon_uploads()
    _tidy(on)
    return BuildResult(on.out.where, manifests, clock.seconds, scanned.skips, ambiguous=scanned.ambiguous)


def _tidy(on: Cluster) -> None:
    """Leave nothing of an unfinished job; what says whose files lie there goes last."""
    on.work.clear(keep=_KEPT)
    on.out.below(WORK).remove([CLAIM, JOURNAL])


def _refuse_other(on: Cluster, differing: list[str], what: str) -> None:
    if differing:
        raise other_job(on.out, differing, what)


def _claimed(beside: Store) -> dict[str, Any] | None:
    """The unfinished job of a place."""
    return None if beside.size(CLAIM) is None else json.loads(beside.read(CLAIM))


def _renew_scan(job: Job, work: Store) -> None:
    """Forget blocks of another source; those of Python objects too, which may be others than last time."""
    wanted = json.dumps({"source": job.source.key(), "options": job.scan.key()}).encode()
    known = None if work.size(_SCAN) is None else work.read(_SCAN)
    if not job.source.repeatable or known != wanted:
        work.clear(keep=_KEPT)
        work.put(_SCAN, wanted)


def _remove_earlier(on: Cluster, journal: StoreJournal) -> None:
    """Remove the files of an earlier build. What they are is journalled first, so that a kill in between is mended."""
    beside = on.out.below(WORK)
    beside.remove([CLAIM])
    for name, manifest in finished_targets(on.out).items():
        journal.add("target", name, shards=len(manifest.shards))
    remove_own(on.out, own_files(on.out, journal.find("target")))
    journal.drop("target", "plan")


def _same_content(
    on: Cluster, finished: Mapping[str, Manifest], digest: str, job: Job, skips: tuple[Any, ...]
) -> BuildResult:
    _tidy(on)
    if any(manifest.content_hash != digest for manifest in finished.values()):
        raise BuildError(
            f"{on.out} already holds a data set of other graphs: pass --overwrite, or choose another place"
        )
    return already(on.out, finished, job, skips)
