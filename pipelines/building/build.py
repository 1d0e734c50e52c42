"""`build`: a source in, shards and a manifest out, whole or not at all, on this machine or on many."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from packer.errors import BuildError, LimitsError, PackerError
from packer.files.cache import default_folder
from packer.files.open import local_path
from packer.files.retry import redact
from packer.limits.limits_rule import LimitsRule
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan
from packer.scan.attributes import Attributes
from packer.scan.geometry import check_cutoff
from pipelines.building import target as output
from pipelines.building.job import run
from pipelines.building.mapped import shards as mapped_shards
from pipelines.building.mapped.carrier import MappedCarrier
from pipelines.building.options import Progress, ScanOptions
from pipelines.building.plan import PlanOptions
from pipelines.building.request import Job, check_job
from pipelines.building.result import BuildResult as BuildResult
from pipelines.building.spilled.carrier import SpilledCarrier
from pipelines.building.spilled.phases import Cluster
from pipelines.building.splits import Splits
from pipelines.executors import Executor, check_workers, make_executor
from pipelines.sources import as_source
from pipelines.stores.journal import Journal, locked, remove
from pipelines.stores.owner import owned
from pipelines.stores.store import FolderStore, Store, is_url, store_of
from pipelines.stores.work_folder import (
    LOCK,
    MARKER,
    SCRATCH,
    WORK,
    check,
    check_apart,
    check_store,
    marker,
    read_marker,
)


def build(
    source: Any,
    out: str | os.PathLike[str],
    limits: PackLimits | LimitsRule | str = "auto",
    algorithm: str = "optimal",
    seed: int = 0,
    workers: int = 2,
    *,
    time_limit: float | None = None,
    work_limit: float | None = None,
    plan: PackPlan | str | os.PathLike[str] | None = None,
    splits: str | Mapping[str, float] | None = None,
    split_seed: int = 0,
    split_column: str | None = None,
    split_file: str | os.PathLike[str] | None = None,
    oversize: str = "error",
    on_empty: str | None = None,
    compression: str = "zstd",
    levels: Mapping[str, str] | None = None,
    pad_values: Mapping[str, Any] | None = None,
    pad_geometry: float | None = None,
    exclude_keys: Iterable[str] | None = (),
    index_fields: Iterable[str] | Mapping[str, str | None] | None = (),
    guess_num_nodes: bool = False,
    axes: Mapping[str, Iterable[str]] | None = None,
    budgets: Mapping[str, int] | None = None,
    overwrite: bool = False,
    licence: str | None = None,
    executor: Executor | str = "process",
    scheduler: str | None = None,
    work: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **source_options: Any,
) -> BuildResult:
    """Pack a source into the folder or URL `out`.

    source: text such as "sample:nci" (source_options are smiles_column, targets, cutoff, root then), a PyG data set, or
    an iterable of Data or HeteroData. limits: of every pack; a LimitsRule, by which they follow from sizes; or "auto".
    plan: a PackPlan, or the file of one (plan.parquet), instead of algorithm and seed. splits: {"train": 0.8, ...}, or
    split_column or split_file: one data set each, in `out`/NAME. oversize: "error", "skip", "trim-nodes", "trim-edges"
    or "trim-both", for graphs that fit no pack; what a trimmed graph loses is drawn by `seed`. on_empty: "error" or
    "skip", for graphs without nodes. levels: field name -> "node", "edge" or "graph". pad_values: by field or level,
    a number or a row. pad_geometry: a cutoff; padding edges are then longer, by `shifts`, and cells can be inverted.
    exclude_keys: attributes to leave out. index_fields: attributes that hold numbers of nodes though their names do not
    say "index"; a mapping says of which node type, or of "edge" or a further axis. axes: name of a further axis -> the
    attributes that have its rows, {"triplet": ["idx_kj", "idx_ji"]}; budgets: name of a number that each graph has ->
    the most of a pack, as in PackLimits. guess_num_nodes: where a graph says nothing of its nodes, take the
    largest number in edge_index + 1; else that is an error. licence: of the source, for the data set's card.

    executor: where tasks run: in `workers` processes, on "dask" or "ray" (on the cluster at `scheduler`, or in
    `workers` processes here), or an object that maps. work: a folder or URL that all workers reach, for what tasks
    write for each other, in a folder of the job's own, and nothing else there is touched; by default OUT/.work, or a
    folder of this machine where `out` is a URL and all workers are here. storage_options: for fsspec, for every URL
    among source, out and work.

    The bytes of the data set depend neither on workers nor on executor, nor on interruptions: call again to go on.
    Raises PackerError; then nothing of a data set is in `out`.

        >>> result = build([Data(x=torch.eye(3))] * 5, "packs", PackLimits(10, 4, 4), workers=1)
        >>> result.manifest.plan["num_packs"], result.manifest.plan["status"]
        (2, 'optimal')
    """
    check_apart(out, work)
    home = _home(out)
    check(home / WORK)
    if isinstance(source, str) and split_column is not None:
        source_options = {**source_options, "strings": [*source_options.get("strings", ()), split_column]}
    if storage_options:
        remote = isinstance(source, str) and is_url(source)
        if not (remote or is_url(out) or (work is not None and is_url(work))):
            raise BuildError("storage_options are for URLs such as s3://bucket/packs; nothing here is one")
        source_options = {**source_options, **({"storage_options": storage_options} if remote else {})}
    if isinstance(limits, str) and limits != "auto":
        raise LimitsError(f'limits must be PackLimits, a LimitsRule or "auto"; got {limits!r}')
    if budgets and isinstance(limits, (PackLimits, LimitsRule)):
        unlike = next((name for name in budgets if limits.budgets.get(name, budgets[name]) != budgets[name]), None)
        if unlike is not None:
            raise LimitsError(f"budgets says {budgets[unlike]} of {unlike!r}, the limits {limits.budgets[unlike]}")
        limits = replace(limits, budgets={**limits.budgets, **budgets})
    given = None if plan is None or isinstance(plan, PackPlan) else Path(plan)
    planned = PlanOptions(algorithm, seed, time_limit, given, work_limit=work_limit)
    job = check_job(
        Job(
            as_source(source, **source_options),
            None if isinstance(limits, str) else limits,
            ScanOptions(
                dict(levels or {}),
                dict(pad_values or {}),
                on_empty,
                Attributes.of(exclude_keys, index_fields, guess_num_nodes, axes),
                None if pad_geometry is None else check_cutoff(pad_geometry),
            ),
            planned.holding(plan) if isinstance(plan, PackPlan) else planned,
            Splits.of(splits, split_seed, split_column, split_file),
            oversize,
            compression,
            licence,
            dict(budgets or {}),
        )
    )
    check_workers(workers)
    store = store_of(out, home / WORK / SCRATCH, storage_options)
    if isinstance(store, FolderStore):
        output.refuse_foreign(store, output.own_files(store, Journal(store.below(WORK), overwrite).find("target")))
    with locked(home, destination=os.fspath(out)) as lock:
        runner = make_executor(executor, workers, scheduler, (lock,)) if isinstance(executor, str) else executor
        try:
            tell = progress or _silent
            if isinstance(store, FolderStore) and not runner.cluster and work is None:
                opened = partial(_mapped, job, store.folder, runner, tell)
            else:
                check_store(store.below(WORK))
                on = Cluster(runner, _work_store(store, home, runner), store, tell)
                opened = partial(_spilled, job, on, home, work, storage_options)
            return run(job, store, opened, tell, overwrite)
        except OSError as error:
            raise _disk_error(home, error) from error
        finally:
            mapped_shards.forget()
            if isinstance(executor, str):
                runner.close()
            if (home / WORK).is_dir() and {path.name for path in (home / WORK).iterdir()} <= {LOCK, MARKER, SCRATCH}:
                remove(home / WORK)


def _home(out: str | os.PathLike[str]) -> Path:
    """The folder whose lock keeps other builds away: `out`, or one that stands for its URL on this machine."""
    local = local_path(os.fspath(out))
    if local is not None:
        return Path(local)
    name = hashlib.sha256(os.fspath(out).rstrip("/").encode()).hexdigest()[:24]
    return default_folder() / "builds" / name


def _work_store(out: Store, home: Path, executor: Executor) -> Store:
    """Where tasks write for each other, unless a place for it is named."""
    if executor.here or isinstance(out, FolderStore):
        return FolderStore(home / WORK, home / WORK / SCRATCH)
    return out.below(WORK)


@contextmanager
def _mapped(job: Job, out: Path, executor: Executor, progress: Progress, journal: Journal) -> Generator[MappedCarrier]:
    yield MappedCarrier(job, out, executor, progress, journal)


@contextmanager
def _spilled(
    job: Job,
    on: Cluster,
    home: Path,
    place: str | os.PathLike[str] | None,
    options: Mapping[str, Any] | None,
    journal: Journal,
) -> Generator[SpilledCarrier]:
    with _opened(on.out, on.work, home, place, options) as work:
        yield SpilledCarrier(job, replace(on, work=work), journal)


@contextmanager
def _opened(
    out: Store, between: Store, home: Path, place: str | os.PathLike[str] | None, options: Mapping[str, Any] | None
) -> Generator[Store]:
    """The work store of the job that has `out`: `between`, or a folder of its own in a place that others use too.

    That folder is named by the id of the job's own work folder, so that nobody else's is taken for it.
    """
    beside = out.below(WORK)
    with ExitStack() as stack:
        if isinstance(out, FolderStore):  # whose lock is held
            number = str((read_marker(beside) or {})["id"])
        else:
            stack.callback(_unmark, beside)
            number = stack.enter_context(owned(beside, str(out)))
        if place is None:
            yield between
            return
        name = f"graph-pack-{number}"
        local = local_path(os.fspath(place))
        if local is None:
            shared = store_of(place, home / WORK / SCRATCH, options).below(name)
            _check_same(shared, number)
            stack.callback(_unmark, shared)
            shared.put(MARKER, marker(number, str(out)))
            _note(beside, place)
            yield shared
            return
        folder = Path(local).absolute()
        shared = FolderStore(folder / name, folder / name / SCRATCH)
        _check_same(shared, number)
        stack.enter_context(locked(folder, name=name, destination=str(out), number=number))
        stack.callback(_unmark, shared)
        _note(beside, place)
        yield shared


def _note(beside: Store, place: str | os.PathLike[str]) -> None:
    """Say where the work is: as long as it says so, the work folder beside the output stays, and with it the id."""
    Journal(beside).note("work", "place", where=redact(os.fspath(place)))


def _check_same(work: Store, number: str) -> None:
    """Raise BuildError unless a work folder is absent, empty, or that of this job."""
    there = read_marker(work) if check_store(work) else None
    if there is not None and there["id"] != number:
        raise BuildError(f"{work} is the work folder of a build to {there.get('destination')}: choose another place")


def _unmark(work: Store) -> None:
    """Leave nothing of a work folder in which nothing is left to be gone on with."""
    with suppress(PackerError, OSError):
        if isinstance(work, FolderStore):
            if {path.name for path in work.folder.iterdir()} <= {LOCK, MARKER, SCRATCH}:
                remove(work.folder)
        elif set(work.names()) <= {MARKER}:
            work.remove([MARKER])


def _disk_error(out: Path, error: OSError) -> OSError | BuildError:
    full = error.errno is None and out.is_dir() and shutil.disk_usage(out).free < 1 << 20  # numpy tells no errno
    if full or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BuildError(f"no space left for {out}: {error}. Free some and run the same command again: it goes on")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return BuildError(f"cannot write to {out}: {error}. Choose another folder")
    return error


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress wanted."""
