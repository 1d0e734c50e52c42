"""The job: a source in, shards and a manifest out, whole or not at all.

Scan (blocks journalled) -> graph table -> plan (stored before the first shard) -> graphs.parquet and shards, one task
each -> manifest last. What is unfinished lies in OUT/.work; the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from packer.algorithms.registry import find_algorithm
from packer.attributes import Attributes
from packer.data_limits import LimitsRule
from packer.errors import AlgorithmError, BuildError, LimitsError, MissingExtraError, PackerError
from packer.limits import PackLimits
from packer.plan import PackPlan
from packer.shards import FileEntry, GraphCounts, Manifest, ShardEntry, shard_name, write_bytes_atomically
from packer.shards.files import hash_file
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN
from packer.shards.pages import CODECS
from packer.sizes import GraphSizes
from packer.trim import TRIM
from packer.version import __version__
from pipelines import build_folder, build_plan, build_shards
from pipelines.build_folder import BUILD_FILE, SPLITS_FILE
from pipelines.build_plan import Members, PlanOptions
from pipelines.build_scan import Progress, ScanOptions, ScanResult, scan_source
from pipelines.build_shards import (
    TOO_LARGE,
    TRIMMED,
    GraphsTask,
    PackSource,
    ShardTask,
    run_task,
    sample_layout,
    save_plan_arrays,
)
from pipelines.build_trim import trim_scan
from pipelines.executors import Executor, ProcessExecutor, SerialExecutor
from pipelines.journal import JOURNAL, WORK, Journal, locked, remove
from pipelines.sources import as_source
from pipelines.sources.protocol import Skip, Source
from pipelines.splits import Splits

OVERSIZE = ("error", "skip", *TRIM)
"""What may become of graphs that fit no pack."""

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


@dataclass(frozen=True)
class Job:
    """Everything that the output depends on."""

    source: Source
    limits: PackLimits | LimitsRule | None
    scan: ScanOptions
    plan: PlanOptions
    splits: Splits | None
    oversize: str
    compression: str

    def key(self) -> dict[str, Any]:
        """Plain values; two jobs with the same key write the same bytes, if the source is repeatable."""
        return {
            "source": self.source.key(),
            "scan": self.scan.key(),
            "limits": "auto" if self.limits is None else self.limits.to_dict(),
            "plan": self.plan.key(),
            "splits": None if self.splits is None else self.splits.key(),
            "oversize": {"policy": self.oversize, "seed": self.plan.seed} if self.oversize in TRIM else self.oversize,
            "compression": self.compression,
            "versions": versions(),
        }


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
    a mapping says of which node type. executor: where tasks run, instead of `workers` processes.

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


def check_job(job: Job) -> Job:
    """The job, with the limits of a given plan; raises for what is wrong whatever the data are."""
    find_algorithm(job.plan.algorithm).load()
    for name, value, known in (
        ("oversize", job.oversize, OVERSIZE),
        ("on_empty", job.scan.on_empty or "error", ("error", "skip")),
        ("compression", job.compression, tuple(CODECS)),
    ):
        if value not in known:
            raise BuildError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    if job.plan.time_limit is not None and not job.plan.time_limit > 0:
        raise AlgorithmError(f"time_limit must be above 0 seconds; got {job.plan.time_limit}")
    if job.plan.given is not None:
        if job.splits is not None:
            raise BuildError("a plan is of one data set: it cannot be used with splits")
        planned = PackPlan.load(job.plan.given).limits
        if job.limits not in (None, planned):
            raise BuildError(f"{job.plan.given} was made for {planned}; leave the limits out, or give these")
        job = replace(job, limits=planned)
    if job.limits is not None and job.limits.null_graphs == "none":
        raise LimitsError('null_graphs="none" leaves no place for padding: plan with it, but build with "all" or "one"')
    return job


def versions() -> dict[str, str]:
    """What the bytes of shards depend on besides the job."""
    return {"graph-packer": __version__, "pyarrow": pa.__version__}


def _run(job: Job, out: Path, executor: Executor, progress: Progress, overwrite: bool) -> BuildResult:
    clock = _Clock()
    journal = Journal(out / WORK)
    key = job.key()
    if overwrite:
        build_folder.remove_own(out, build_folder.own_files(out, journal.find("target")))
        journal.drop("job", "target", "plan", "file")
    earlier = journal.find("job").get("job")
    finished = {} if overwrite or earlier else build_folder.finished_targets(out)
    if finished:
        _refuse_other(out, build_folder.same_job(out, key, finished), "already holds a data set built otherwise")
        if job.source.repeatable:
            remove(out / WORK)
            return BuildResult(out, finished, already=True)
    if earlier is not None:
        _refuse_other(out, build_folder.differences(earlier["key"], key), "holds an unfinished build of another job")
    scan: ScanResult | None = None
    try:
        with clock("scan"):
            scan = scan_source(job.source, job.scan, out / WORK, journal, executor, progress)
        if finished:
            return _same_content(out, finished, scan)
        if earlier is not None and earlier["content_hash"] != scan.content_hash:
            raise BuildError(f"{job.source.name} has changed since the unfinished build in {out}: pass --overwrite")
        with clock("limits"):
            sizes = scan.table.sizes()
            limits = _limits_for(sizes, job)
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
    targets: list[_Target] = []
    for name, graphs in chosen.items():
        with clock("plan"):
            progress("plan", len(targets), len(chosen))
            targets.append(_prepare(job, scan, limits, out, journal, name, graphs))
    progress("plan", len(chosen), len(chosen))
    with clock("write"):
        files = _write_files(targets, journal, executor, progress)
    manifests = {target.name: _manifest(job, scan, target, files[target.name]) for target in targets}
    _commit(out, job, key, manifests, scan, clock)
    return BuildResult(out, manifests, clock.seconds, scan.skips)


@dataclass(frozen=True)
class _Target:
    """One data set that is being written: its folder, graphs, plan, and the tasks that write its files."""

    name: str
    folder: Path
    members: Members
    plan: PackPlan
    plan_file: FileEntry
    packs_per_block: int
    tasks: tuple[GraphsTask | ShardTask, ...]


def _prepare(
    job: Job, scan: ScanResult, limits: PackLimits, out: Path, journal: Journal, name: str, graphs: Members
) -> _Target:
    """Make or load the plan, store it, and lay out the shards."""
    folder = out / name
    sizes = build_plan.select_sizes(scan.table.sizes(), graphs.rows)
    stored = journal.find("plan").get(name)
    if stored is not None:
        if hash_file(folder / PLAN).sha256 != stored["sha256"]:
            raise BuildError(f"{folder / PLAN} is not the plan that the unfinished build stored: pass --overwrite")
        plan = PackPlan.load(folder / PLAN)
        entry = FileEntry(stored["bytes"], stored["sha256"])
    else:
        plan = build_plan.obtain_plan(sizes, limits, job.plan)
        journal.add("target", name, shards=0)
        folder.mkdir(exist_ok=True)
        entry = build_plan.store_plan(plan, folder / PLAN)
        journal.add("plan", name, bytes=entry.bytes, sha256=entry.sha256)
    arrays = out / WORK / f"plan-{name}"
    save_plan_arrays(arrays, graphs.rows[plan.graph_ids], plan.pack_offsets, graphs.source_ids)
    source = PackSource(str(scan.folder), str(arrays), limits, job=uuid.uuid4().hex)
    layout = sample_layout(source, plan.num_packs, job.compression)
    firsts = range(0, plan.num_packs, layout.packs_per_shard)
    journal.add("target", name, shards=len(firsts))
    own = set(graphs.source_ids.tolist()) if scan.skips else set[int]()
    skips = tuple(skip for skip in scan.skips if skip.graph_id in own)
    shards = [
        ShardTask(
            source,
            str(folder),
            number,
            first,
            min(first + layout.packs_per_shard, plan.num_packs),
            layout.packs_per_block,
            job.compression,
        )
        for number, first in enumerate(firsts)
    ]
    return _Target(
        name, folder, graphs, plan, entry, layout.packs_per_block, (GraphsTask(source, str(folder), skips), *shards)
    )


def _write_files(
    targets: list[_Target], journal: Journal, executor: Executor, progress: Progress
) -> dict[str, dict[str, dict[str, Any]]]:
    """Write what is not there yet; target name -> file name -> entry as plain values."""
    total = sum(target.plan.num_packs for target in targets)
    done = {name: line["entry"] for name, line in journal.find("file").items()}
    tasks = {f"{target.name}/{Path(task.label).name}": task for target in targets for task in target.tasks}
    entries = {
        name: done[name]
        for name, task in tasks.items()
        if name in done and Path(task.label).is_file() and Path(task.label).stat().st_size == done[name]["bytes"]
    }
    missing = {name: task for name, task in tasks.items() if name not in entries}
    packs = sum(entry.get("packs", 0) for entry in entries.values())
    progress("write", packs, total)
    for name, entry in zip(missing, executor.map(run_task, missing.values()), strict=True):
        entries[name] = asdict(entry)
        journal.add("file", name, entry=entries[name])
        packs += entries[name].get("packs", 0)
        progress("write", packs, total)
    found: dict[str, dict[str, dict[str, Any]]] = {target.name: {} for target in targets}
    for name in tasks:
        target, _, file = name.rpartition("/")
        found[target][file] = entries[name]
    return found


def _manifest(job: Job, scan: ScanResult, target: _Target, files: Mapping[str, dict[str, Any]]) -> Manifest:
    plan, graphs = target.plan, target.members
    own = next(task for task in target.tasks if isinstance(task, GraphsTask))
    reasons = Counter(skip.reason for skip in own.skips)
    too_large = len(graphs.source_ids) - len(graphs.rows) - len(own.skips)
    if too_large:
        reasons[TOO_LARGE] += too_large
    skipped = sum(reasons.values())
    trimmed = 0 if scan.trimmed is None else int(scan.trimmed[graphs.rows].sum())
    if trimmed:
        reasons[TRIMMED] += trimmed
    source = job.source.key()
    if job.splits is not None:
        source["split"] = {"name": target.name, **job.splits.key()}
    shards = [files[shard_name(number)] for number in range(len(files) - 1)]
    return Manifest(
        schema=scan.table.schema,
        limits=plan.limits,
        num_packs=plan.num_packs,
        packs_per_block=target.packs_per_block,
        compression=job.compression,
        shards=tuple(_shard_entry(shard) for shard in shards),
        counts=GraphCounts(
            len(graphs.source_ids),
            len(graphs.rows) - trimmed,
            trimmed,
            skipped,
            reasons=dict(sorted(reasons.items())),
        ),
        plan={
            "algorithm": plan.algorithm,
            "seed": plan.seed,
            "num_packs": plan.num_packs,
            "lower_bound": plan.lower_bound,
            "status": plan.status,
            "stopped_by": plan.stopped_by,
        },
        files={PLAN: target.plan_file, GRAPHS: FileEntry(**files[GRAPHS])},
        source=source,
        content_hash=scan.content_hash,
        versions=versions(),
    )


def _shard_entry(stored: Mapping[str, Any]) -> ShardEntry:
    members: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    return ShardEntry(**members)


def _commit(
    out: Path, job: Job, key: Mapping[str, Any], manifests: Mapping[str, Manifest], scan: ScanResult, clock: _Clock
) -> None:
    """Everything is on disk: say so, manifests last, then let the work folder go."""
    about = {
        "job": key,
        "seconds": {stage: round(value, 3) for stage, value in clock.seconds.items()},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "ambiguous_fields": list(scan.ambiguous),
        "skipped": [{"graph": s.graph_id, "where": s.where, "reason": s.reason} for s in scan.skips[:10_000]],
    }
    write_bytes_atomically(out, BUILD_FILE, json.dumps(about, indent=1).encode() + b"\n")
    for name, manifest in manifests.items():
        write_bytes_atomically(out / name, MANIFEST, manifest.to_bytes())
    if job.splits is not None:
        listed = {"splits": {name: {"manifest_sha256": manifest.sha256} for name, manifest in manifests.items()}}
        write_bytes_atomically(out, SPLITS_FILE, json.dumps(listed, indent=1).encode() + b"\n")
    remove(out / WORK)


def _same_content(out: Path, finished: Mapping[str, Manifest], scan: ScanResult) -> BuildResult:
    """The folder's own build, if the source still holds the same graphs."""
    remove(out / WORK)
    if any(manifest.content_hash != scan.content_hash for manifest in finished.values()):
        raise BuildError(f"{out} already holds a data set of other graphs: pass --overwrite, or choose another folder")
    return BuildResult(out, finished, skips=scan.skips, already=True)


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


def _limits_for(sizes: GraphSizes, job: Job) -> PackLimits:
    if isinstance(job.limits, LimitsRule):
        return job.limits.limits(sizes)
    if job.limits is not None:
        return job.limits
    from pipelines.auto_limits import choose_limits

    return choose_limits(sizes)


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
