"""The driver of a build: what of it is there already, what is refused, and its stages in order.

A claim says which job is writing to a place, the journal which plans are stored and which files are its own; both lie
beside the output. Manifests come last. What is unfinished is gone on with by the same call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packer.errors import BuildError, FormatError, MissingExtraError, PackerError
from packer.files.atomic import FileEntry, hash_file
from packer.files.checked import from_line, to_line
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan
from packer.shards import Layout, Manifest
from packer.shards.manifest import PLAN
from packer.shards.schema import check_schema
from pipelines.building.carrier import Carrier, Opened, Scanned, Target
from pipelines.building.commit import commit, manifest_of
from pipelines.building.options import Progress, as_stage
from pipelines.building.plan import obtain_plan
from pipelines.building.request import Job
from pipelines.building.result import BuildResult, Clock, already, other_job
from pipelines.building.target import (
    differences,
    finished_targets,
    own_files,
    refuse_foreign,
    refuse_strangers,
    remove_files,
    remove_half_written,
    same_job,
)
from pipelines.stores.journal import Journal, remove
from pipelines.stores.layout import inside
from pipelines.stores.store import LARGE, OVERWRITE, FolderStore, Store
from pipelines.stores.work_folder import CLAIM, WORK


@dataclass(frozen=True)
class _Earlier:
    """What an output holds. claim: of an unfinished build of this job; finished: data sets of this very job, whose
    source has to be read to be known; replaced: whether all of it is to go."""

    claim: Mapping[str, Any] | None
    finished: Mapping[str, Manifest]
    replaced: bool


def run(job: Job, out: Store, opened: Opened, progress: Progress, overwrite: bool = False) -> BuildResult:
    """Carry a job out, or go on with it; see `pipelines.build`."""
    key, journal = job.key(), Journal(out.below(WORK), overwrite)
    own_names = own_files(out, journal.find("target"))
    refuse_foreign(out, own_names)
    claim = None if overwrite else _claimed(out)
    replaced = overwrite or bool(journal.find("target") and claim is None)
    # A claim without a journal is what a finished build left that was killed as it tidied up: the journal goes first.
    begun = replaced or bool(claim and journal.find("target"))
    finished = {} if begun else finished_targets(out)
    refuse_strangers(out, () if job.splits is None else job.splits.known_names, own_names)
    if finished:
        _refuse_other(out, same_job(out, key, finished), "already holds a data set built otherwise")
        if job.source.repeatable:
            if isinstance(out, FolderStore):  # whose lock is held
                remove(out.folder / WORK)
            return already(out, finished, job)
    if claim is not None:
        _refuse_other(out, differences(claim["key"], key), "holds an unfinished build of another job")
    with opened(journal) as carrier:
        return _carry_out(job, out, carrier, journal, _Earlier(claim, finished, replaced), progress)


def _carry_out(
    job: Job, out: Store, carrier: Carrier, journal: Journal, earlier: _Earlier, progress: Progress
) -> BuildResult:
    key, clock = job.key(), Clock()
    try:
        with clock("scan"):
            scanned = carrier.scan(anew=earlier.claim is None)
        if earlier.finished:
            return _same_content(out, carrier, earlier.finished, scanned, job)
        if earlier.claim is not None and earlier.claim["content_hash"] != scanned.content_hash:
            raise BuildError(f"{job.source.name} has changed since the unfinished build in {out}: pass {OVERWRITE}")
        with clock("limits"):
            limits = carrier.limits()
            check_schema(scanned.schema, limits)
        with clock("choose"):
            splits = carrier.choose(limits)
        if job.plan.file is not None:
            obtain_plan(carrier.sizes(splits[0]), limits, job.plan)
        layout = carrier.layout(limits)
        refuse_strangers(out, splits, own_files(out, journal.find("target")))
    except (PackerError, MissingExtraError) as error:
        if earlier.claim is None and not journal.find("target") and out.below(WORK).size(CLAIM) is None:
            carrier.give_up(error)
        raise
    if earlier.replaced:  # only now: whatever could refuse this job has been asked
        _remove_earlier(out, journal)
    out.below(WORK).create(CLAIM, to_line({"key": key, "content_hash": scanned.content_hash}))
    targets: list[Target] = []
    for split in splits:
        with clock("plan"):
            progress("plan", len(targets), len(splits))
            targets.append(_planned(job, out, carrier, journal, split, limits, layout, progress))
    progress("plan", len(targets), len(splits))
    files = carrier.write(targets, layout, clock)
    manifests = {
        target.split: manifest_of(job, scanned, target, layout, carrier.counts(target), files[target.split])
        for target in targets
    }
    if earlier.claim is not None:
        remove_half_written(out, own_files(out, journal.find("target")))
    commit(out, job, key, manifests, scanned.ambiguous, scanned.skips, clock.seconds)
    if any(entry["bytes"] > LARGE for entries in files.values() for entry in entries.values()):
        out.abandon_uploads(own_files(out, journal.find("target")))
    carrier.finish()
    return BuildResult(out.where, manifests, clock.seconds, scanned.skips, ambiguous=scanned.ambiguous)


def _planned(
    job: Job,
    out: Store,
    carrier: Carrier,
    journal: Journal,
    split: str,
    limits: PackLimits,
    layout: Layout,
    progress: Progress,
) -> Target:
    """The plan of one data set, stored; or the one that an earlier run has stored."""
    sizes, target, stored = carrier.sizes(split), out.below(split), journal.find("plan").get(split)
    if stored is not None:
        data, entry = target.read(PLAN), FileEntry(stored["bytes"], stored["sha256"])
        if FileEntry(len(data), hashlib.sha256(data).hexdigest()) != entry:
            raise BuildError(f"{PLAN} of {target} is not the plan that the unfinished build stored: pass {OVERWRITE}")
        plan = PackPlan.load(data).of(sizes)
    else:
        plan = obtain_plan(sizes, limits, job.plan, as_stage(progress))
        journal.add("target", split, shards=0)
        with out.scratch() as folder:
            plan.save(folder / PLAN, by_graph=False)
            entry = hash_file(folder / PLAN)
            out.put_file(inside(split, PLAN), folder / PLAN)
        journal.add("plan", split, bytes=entry.bytes, sha256=entry.sha256)
    journal.add("target", split, shards=-(-plan.num_packs // layout.packs_per_shard))
    return Target(split, plan, entry)


def _claimed(out: Store) -> dict[str, Any] | None:
    """The unfinished job of a place."""
    beside = out.below(WORK)
    if beside.size(CLAIM) is None:
        return None
    try:
        return from_line(beside.read(CLAIM))
    except FormatError as error:
        raise BuildError(f"{CLAIM} of {beside} is damaged: {error}. Pass {OVERWRITE} to start afresh") from error


def _refuse_other(out: Store, differing: list[str], reason: str) -> None:
    if differing:
        raise other_job(out, differing, reason)


def _remove_earlier(out: Store, journal: Journal) -> None:
    """Remove the files of an earlier build. What they are is journalled first, so that a kill in between is mended."""
    out.below(WORK).remove([CLAIM])
    for name, manifest in finished_targets(out).items():
        journal.add("target", name, shards=len(manifest.shards))
    remove_files(out, own_files(out, journal.find("target")))
    journal.drop("target", "plan", "file")


def _same_content(
    out: Store, carrier: Carrier, finished: Mapping[str, Manifest], scanned: Scanned, job: Job
) -> BuildResult:
    """The place's own build, if the source still holds the same graphs."""
    carrier.finish()
    if any(manifest.content_hash != scanned.content_hash for manifest in finished.values()):
        raise BuildError(f"{out} already holds a data set of other graphs: pass {OVERWRITE}, or choose another place")
    return already(out, finished, job, scanned.skips)
