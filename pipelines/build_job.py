"""The job: a source in, shards and a manifest out, whole or not at all.

Scan (blocks journalled) -> graph table -> plan (stored before the first shard) -> graphs.parquet and shards, one task
each -> manifest last. What is unfinished lies in OUT/.work; the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from packer.attributes import Attributes
from packer.data_limits import LimitsRule
from packer.errors import BuildError, LimitsError, MissingExtraError, PackerError
from packer.limits import PackLimits
from packer.shards import Manifest
from packer.trim import TRIM
from pipelines import build_folder, build_plan, build_shards
from pipelines.build_plan import PlanOptions
from pipelines.build_request import Job, check_job, limits_for
from pipelines.build_scan import Progress, ScanOptions, ScanResult, scan_source
from pipelines.build_trim import trim_scan
from pipelines.build_write import Target, card_title, commit, manifest_of, prepare, write_files
from pipelines.executors import Executor, ProcessExecutor, SerialExecutor
from pipelines.journal import JOURNAL, WORK, Journal, locked, remove
from pipelines.report.card import write_card
from pipelines.sources import as_source
from pipelines.sources.protocol import Skip
from pipelines.splits import Splits

# A finished scan of so many graphs is worth keeping when the limits turn out too small.
_KEEP_SCAN_FROM = 100_000


@dataclass(frozen=True)
class BuildResult(os.PathLike[str]):
    """What a build made. manifests: split name -> manifest ("" without splits); seconds: stage -> wall time; skips: the
    source graphs that cannot be packed; already: the folder held this very build before."""

    out: Path
    manifests: Mapping[str, Manifest]
    seconds: Mapping[str, float] = field(default_factory=dict)
    skips: tuple[Skip, ...] = ()
    already: bool = False

    @property
    def manifest(self) -> Manifest:
        """The manifest; BuildError where there are splits, each with its own."""
        if "" not in self.manifests:
            raise BuildError(f"{self.out} holds splits: use .manifests, by {', '.join(self.manifests)}")
        return self.manifests[""]

    def __fspath__(self) -> str:
        return str(self.out)


def build(
    source: Any,
    out: str | os.PathLike[str],
    limits: PackLimits | LimitsRule | str = "auto",
    algorithm: str = "optimal",
    seed: int = 0,
    workers: int = 2,
    *,
    time_limit: float | None = 60.0,
    plan: str | os.PathLike[str] | None = None,
    splits: str | Mapping[str, float] | None = None,
    split_seed: int = 0,
    split_column: str | None = None,
    split_file: str | os.PathLike[str] | None = None,
    oversize: str = "error",
    on_empty: str | None = None,
    compression: str = "zstd",
    levels: Mapping[str, str] | None = None,
    pad_values: Mapping[str, float] | None = None,
    exclude_keys: Iterable[str] = (),
    index_fields: Iterable[str] | Mapping[str, str | None] = (),
    overwrite: bool = False,
    licence: str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **source_options: Any,
) -> BuildResult:
    """Pack a source into the folder `out`.

    source: text such as "sample:nci" (then source_options are smiles_column, targets, root), a PyG data set, or an
    iterable of Data or HeteroData. limits: of every pack; a LimitsRule, by which they follow from the sizes; or "auto".
    plan: a plan.parquet made before, instead of algorithm and seed. splits: {"train": 0.8, ...}, or split_column or
    split_file: one data set each, in `out`/NAME. oversize: "error", "skip", "trim-nodes", "trim-edges" or "trim-both",
    for graphs that fit no pack; what a trimmed graph loses is drawn by `seed`. on_empty: "error" or "skip", for graphs
    without nodes. levels: field name -> "node", "edge" or "graph". pad_values: by field or level. exclude_keys:
    attributes to leave out. index_fields: attributes that hold numbers of nodes though their names do not say "index";
    a mapping says of which node type. licence: of the source, for the data set's card. executor: where tasks run,
    instead of `workers` processes.

    The bytes of the data set depend neither on workers nor on executor, nor on interruptions: call again to go on.
    Raises PackerError; then nothing of a data set is in `out`.
    """
    text = isinstance(source, str)
    if text and split_column is not None:
        source_options = {**source_options, "strings": [*source_options.get("strings", ()), split_column]}
    if isinstance(limits, str) and limits != "auto":
        raise LimitsError(f'limits must be PackLimits, a LimitsRule or "auto"; got {limits!r}')
    job = check_job(
        Job(
            as_source(source, **source_options),
            None if isinstance(limits, str) else limits,
            ScanOptions(
                dict(levels or {}), dict(pad_values or {}), on_empty, Attributes.of(exclude_keys, index_fields)
            ),
            PlanOptions(algorithm, seed, time_limit, None if plan is None else Path(plan)),
            Splits.of(splits, split_seed, split_column, split_file),
            oversize,
            compression,
            licence,
        )
    )
    if executor is None and workers < 1:
        raise BuildError(f"workers must be at least 1; got {workers}")
    folder = Path(out)
    build_folder.refuse_foreign(folder, build_folder.own_files(folder, Journal(folder / WORK).find("target")))
    with locked(folder) as lock:
        place = executor or (SerialExecutor() if workers == 1 else ProcessExecutor(workers, inherit=(lock,)))
        try:
            return _run(job, folder, place, progress or _silent, overwrite)
        except OSError as error:
            raise _disk_error(folder, error) from error
        finally:
            build_shards.forget()
            if executor is None:
                place.close()


def _run(job: Job, out: Path, executor: Executor, progress: Progress, overwrite: bool) -> BuildResult:
    clock = _Clock()
    journal = Journal(out / WORK)
    key = job.key()
    if overwrite or (journal.find("target") and not journal.find("job")):
        _remove_earlier(out, journal)
    earlier = journal.find("job").get("job")
    finished = {} if overwrite or earlier else build_folder.finished_targets(out)
    if finished:
        _refuse_other(out, build_folder.same_job(out, key, finished), "already holds a data set built otherwise")
        if job.source.repeatable:
            remove(out / WORK)
            return _already(out, finished, job)
    if earlier is not None:
        _refuse_other(out, build_folder.differences(earlier["key"], key), "holds an unfinished build of another job")
    scan: ScanResult | None = None
    try:
        with clock("scan"):
            scan = scan_source(job.source, job.scan, out / WORK, journal, executor, progress)
        if finished:
            return _same_content(out, finished, scan, job)
        if earlier is not None and earlier["content_hash"] != scan.content_hash:
            raise BuildError(f"{job.source.name} has changed since the unfinished build in {out}: pass --overwrite")
        with clock("limits"):
            sizes = scan.table.sizes()
            limits = limits_for(sizes, job)
        if job.oversize in TRIM:
            with clock("trim"):
                scan = trim_scan(scan, limits, job.oversize, job.plan.seed, out / WORK)
            sizes = scan.table.sizes()
        fits = build_plan.check_fit(sizes, limits, scan.table.source_ids, job.oversize)
        chosen = build_plan.members(scan, job.splits, fits)
        if job.plan.given is not None:
            build_plan.obtain_plan(build_plan.select_sizes(sizes, chosen[""].rows), limits, job.plan)
    except (PackerError, MissingExtraError) as error:
        if earlier is None and not isinstance(error, BuildError):
            _discard(out, journal, scan)
        raise
    journal.add("job", "job", key=key, content_hash=scan.content_hash)
    layout = build_shards.sample_layout(scan.table, np.flatnonzero(fits), limits, job.compression)
    targets: list[Target] = []
    for name, graphs in chosen.items():
        with clock("plan"):
            progress("plan", len(targets), len(chosen))
            targets.append(prepare(job, scan, limits, out, journal, name, graphs, layout, progress))
    progress("plan", len(chosen), len(chosen))
    with clock("write"):
        files = write_files(targets, journal, executor, progress)
    manifests = {target.name: manifest_of(job, scan, target, files[target.name]) for target in targets}
    commit(out, job, key, manifests, scan, clock.seconds)
    return BuildResult(out, manifests, clock.seconds, scan.skips)


def _remove_earlier(out: Path, journal: Journal) -> None:
    """Remove the files of an earlier build. What they are is journalled first, so that a kill in between is mended."""
    journal.drop("job")
    for name, manifest in build_folder.finished_targets(out).items():
        journal.add("target", name, shards=len(manifest.shards))
    build_folder.remove_own(out, build_folder.own_files(out, journal.find("target")))
    journal.drop("target", "plan", "file")


def _already(out: Path, finished: Mapping[str, Manifest], job: Job, skips: tuple[Skip, ...] = ()) -> BuildResult:
    """Nothing to do, but to say of a licence that was not given before."""
    for name in finished if job.licence else ():
        write_card(out / name, card_title(name), job.licence)
    return BuildResult(out, finished, skips=skips, already=True)


def _same_content(out: Path, finished: Mapping[str, Manifest], scan: ScanResult, job: Job) -> BuildResult:
    """The folder's own build, if the source still holds the same graphs."""
    remove(out / WORK)
    if any(manifest.content_hash != scan.content_hash for manifest in finished.values()):
        raise BuildError(f"{out} already holds a data set of other graphs: pass --overwrite, or choose another folder")
    return _already(out, finished, job, scan.skips)


def _refuse_other(out: Path, differing: list[str], what: str) -> None:
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        if not (out / WORK / JOURNAL).exists():
            remove(out / WORK)
        raise BuildError(
            f"{out} {what}: {'; '.join(differing[:3])}{more}. Pass --overwrite to replace it, or choose another folder"
        )


def _discard(out: Path, journal: Journal, scan: ScanResult | None) -> None:
    """Leave nothing behind, but for a finished scan that was costly: the next build in this folder reuses it."""
    if scan is None or scan.table.num_graphs < _KEEP_SCAN_FROM:
        remove(out / WORK)


def _disk_error(out: Path, error: OSError) -> OSError | BuildError:
    full = error.errno is None and out.is_dir() and shutil.disk_usage(out).free < 1 << 20  # numpy tells no errno
    if full or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BuildError(f"no space left for {out}: {error}. Free some and run the same command again: it goes on")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return BuildError(f"cannot write to {out}: {error}. Choose another folder")
    return error


class _Clock:
    """Wall seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Generator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress wanted."""
