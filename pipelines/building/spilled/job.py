"""The job on a cluster, or into an object store: its phases in order, and what an interrupted run has left of them.

What lies in the work store is found there by its name: a task whose files are there is done. What names cannot tell
lies beside the output: which job is writing there, which plan was stored, and how many shards there are to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from packer.errors import BuildError, FormatError, MissingExtraError, PackerError
from packer.files.checked import from_line, to_line
from packer.shards import Manifest
from packer.shards.schema import check_schema
from pipelines.building.commit import commit
from pipelines.building.plan import obtain_plan
from pipelines.building.request import Job
from pipelines.building.result import BuildResult, Clock, already, other_job
from pipelines.building.spilled import phases
from pipelines.building.spilled.gather import ENTRIES
from pipelines.building.spilled.phases import Cluster
from pipelines.building.spilled.route import GRAPH_ROWS, ROUTED
from pipelines.building.target import (
    differences,
    finished_targets,
    own_files,
    refuse_foreign,
    refuse_strangers,
    remove_files,
    same_job,
)
from pipelines.sources.skips import Skips
from pipelines.stores.journal import StoreJournal
from pipelines.stores.store import LARGE, Store
from pipelines.stores.work_folder import CLAIM, JOURNAL, KEPT, WORK, check_store, remove_own

_SCAN = "scan.json"
"""Says of which source the blocks in a work store are."""
Opened = Callable[[], AbstractContextManager[Store]]
"""Gives the work store of a job, for as long as a context lasts: nobody else works in it."""


def run(job: Job, on: Cluster, overwrite: bool, opened: Opened | None = None) -> BuildResult:
    """Carry a job out, or go on with it; see `pipelines.build`. opened: gives the work store where it is to be opened
    first, instead of that of `on`."""
    beside, key = on.out.below(WORK), job.key()
    if opened is not None:
        check_store(beside)
    journal = StoreJournal(beside, overwrite)
    refuse_foreign(on.out, own_files(on.out, journal.find("target")))
    earlier = None if overwrite else _claimed(beside)
    again = overwrite or bool(journal.find("target") and earlier is None)
    finished = {} if again or earlier else finished_targets(on.out)
    if finished:
        _refuse_other(on, same_job(on.out, key, finished), "already holds a data set built otherwise")
        if job.source.repeatable:
            return already(on.out, finished, job)
    if earlier is not None:
        _refuse_other(on, differences(earlier["key"], key), "holds an unfinished build of another job")
    with nullcontext(on.work) if opened is None else opened() as work:
        if again:
            early = () if job.splits is None else job.splits.known_names
            refuse_strangers(on.out, early, own_files(on.out, journal.find("target")))
        return _carry_out(job, replace(on, work=work), journal, earlier, finished, again)


def _carry_out(
    job: Job,
    on: Cluster,
    journal: StoreJournal,
    earlier: Mapping[str, Any] | None,
    finished: Mapping[str, Manifest],
    again: bool,
) -> BuildResult:
    """All phases. earlier: what is claimed by the unfinished build of this job; finished: data sets that are there,
    of the same job, but of a source that has to be read to be known; again: whether what is there is to be replaced."""
    beside, key, clock = on.out.below(WORK), job.key(), Clock()
    _renew_scan(job, on.work)
    if not earlier:  # what a plan that is given up has left
        remove_own(on.work, keep=KEPT, below=(ROUTED, GRAPH_ROWS, ENTRIES))
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
            check_schema(scanned.schema, limits)
        with clock("count"):
            tasks, counts = phases.count(job, scanned, limits, on)
        if job.plan.given is not None:
            own, order = [count[0] for count in counts], counts[0][0].order is not None
            obtain_plan(phases.planned_sizes(scanned.schema, own, order), limits, job.plan)
        layout = phases.layout_of(job, scanned, limits, on)
        refuse_strangers(on.out, tasks[0].members.names, own_files(on.out, journal.find("target")))
    except (PackerError, MissingExtraError) as error:
        begun = isinstance(error, BuildError) and any(name not in KEPT for name in on.work.names())
        if earlier is None and not begun and not journal.find("target"):
            _tidy(on)
        raise
    journal.drop("job", "scan", "block", "table", "file")  # of a build on one machine
    if again:  # only now: whatever could refuse this job has been asked
        _remove_earlier(on, journal)
    beside.create(CLAIM, to_line({"key": key, "content_hash": digest}))
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
        on.out.abandon_uploads(own_files(on.out, journal.find("target")))
    _tidy(on)
    return BuildResult(on.out.where, manifests, clock.seconds, scanned.skips, ambiguous=scanned.ambiguous)


def _tidy(on: Cluster) -> None:
    """Leave nothing of an unfinished job; what says whose files lie there goes last."""
    remove_own(on.work, keep=KEPT)
    on.out.below(WORK).remove([CLAIM, JOURNAL])


def _refuse_other(on: Cluster, differing: list[str], what: str) -> None:
    if differing:
        raise other_job(on.out, differing, what)


def _claimed(beside: Store) -> dict[str, Any] | None:
    """The unfinished job of a place."""
    if beside.size(CLAIM) is None:
        return None
    try:
        return from_line(beside.read(CLAIM))
    except FormatError as error:
        raise BuildError(f"{CLAIM} of {beside} is damaged: {error}. Pass --overwrite to start afresh") from error


def _renew_scan(job: Job, work: Store) -> None:
    """Forget blocks of another source; those of Python objects too, which may be others than last time."""
    wanted = to_line(phases.scan_key(job))
    known = None if work.size(_SCAN) is None else work.read(_SCAN)
    if not job.source.repeatable or known != wanted:
        remove_own(work, keep=KEPT)
        work.put(_SCAN, wanted)


def _remove_earlier(on: Cluster, journal: StoreJournal) -> None:
    """Remove the files of an earlier build. What they are is journalled first, so that a kill in between is mended."""
    beside = on.out.below(WORK)
    beside.remove([CLAIM])
    for name, manifest in finished_targets(on.out).items():
        journal.add("target", name, shards=len(manifest.shards))
    remove_files(on.out, own_files(on.out, journal.find("target")))
    journal.drop("target", "plan")


def _same_content(on: Cluster, finished: Mapping[str, Manifest], digest: str, job: Job, skips: Skips) -> BuildResult:
    _tidy(on)
    if any(manifest.content_hash != digest for manifest in finished.values()):
        raise BuildError(
            f"{on.out} already holds a data set of other graphs: pass --overwrite, or choose another place"
        )
    return already(on.out, finished, job, skips)
