"""`build`: a source in, shards and a manifest out, whole or not at all, on this machine or on many."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from packer.errors import BuildError, LimitsError
from packer.files.cache import default_folder
from packer.files.open import local_path
from packer.limits.limits_rule import LimitsRule
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan
from packer.scan.attributes import Attributes
from packer.scan.geometry import check_cutoff
from pipelines.building import target as output
from pipelines.building.carrier import Carrier
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
from pipelines.stores.journal import Journal, locked
from pipelines.stores.store import FolderStore, Store, is_url, store_of
from pipelines.stores.work_folder import SCRATCH, WORK, check, check_apart, check_store, work_store
from pipelines.stores.work_place import opened_work, tidy


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
    source_options = _source_options(source, source_options, split_column, storage_options, (out, work))
    asked = _limits(limits, budgets)
    job = check_job(
        Job(
            as_source(source, **source_options),
            asked,
            ScanOptions(
                dict(levels or {}),
                dict(pad_values or {}),
                on_empty,
                Attributes.of(exclude_keys, index_fields, guess_num_nodes, axes),
                None if pad_geometry is None else check_cutoff(pad_geometry),
            ),
            PlanOptions.of(plan, algorithm, seed, time_limit, work_limit),
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
            if not isinstance(store, FolderStore):  # or else `check` has looked
                check_store(store.below(WORK))
            tell = progress or _silent
            opened = partial(_carrier, job, store, home, runner, work, storage_options, tell)
            return run(job, store, opened, tell, overwrite)
        except OSError as error:
            raise _disk_error(home, error) from error
        finally:
            mapped_shards.forget()
            if isinstance(executor, str):
                runner.close()
            tidy(work_store(home / WORK))


def _source_options(
    source: Any,
    source_options: Mapping[str, Any],
    split_column: str | None,
    storage_options: Mapping[str, Any] | None,
    places: Iterable[str | os.PathLike[str] | None],
) -> dict[str, Any]:
    """What the source is opened with. places: of the output and of the work, which storage_options are for too."""
    options = dict(source_options)
    if isinstance(source, str) and split_column is not None:
        options["strings"] = [*options.get("strings", ()), split_column]
    if storage_options:
        remote = isinstance(source, str) and is_url(source)
        if not remote and not any(place is not None and is_url(place) for place in places):
            raise BuildError("storage_options are for URLs such as s3://bucket/packs; nothing here is one")
        if remote:
            options["storage_options"] = storage_options
    return options


def _limits(
    limits: PackLimits | LimitsRule | str | None, budgets: Mapping[str, int] | None
) -> PackLimits | LimitsRule | None:
    """The limits or the rule with the budgets; None for "auto"."""
    if isinstance(limits, str):
        if limits != "auto":
            raise LimitsError(f'limits must be PackLimits, a LimitsRule or "auto"; got {limits!r}')
        return None
    if budgets and limits is not None:
        unlike = next((name for name in budgets if limits.budgets.get(name, budgets[name]) != budgets[name]), None)
        if unlike is not None:
            raise LimitsError(f"budgets says {budgets[unlike]} of {unlike!r}, the limits {limits.budgets[unlike]}")
        limits = replace(limits, budgets={**limits.budgets, **budgets})
    return limits


def _home(out: str | os.PathLike[str]) -> Path:
    """The folder whose lock keeps other builds away: `out`, or one that stands for its URL on this machine."""
    local = local_path(os.fspath(out))
    if local is not None:
        return Path(local)
    name = hashlib.sha256(os.fspath(out).rstrip("/").encode()).hexdigest()[:24]
    return default_folder() / "builds" / name


@contextmanager
def _carrier(
    job: Job,
    out: Store,
    home: Path,
    executor: Executor,
    work: str | os.PathLike[str] | None,
    storage_options: Mapping[str, Any] | None,
    progress: Progress,
    journal: Journal,
) -> Generator[Carrier]:
    """A table that all workers map where they are here and the output too; or else files that they send each other."""
    if isinstance(out, FolderStore) and not executor.cluster and work is None:
        yield MappedCarrier(job, out.folder, executor, progress, journal)
        return
    with opened_work(out, home, executor.here, work, storage_options) as between:
        yield SpilledCarrier(job, Cluster(executor, between, out, progress), journal)


def _disk_error(out: Path, error: OSError) -> OSError | BuildError:
    full = error.errno is None and out.is_dir() and shutil.disk_usage(out).free < 1 << 20  # numpy tells no errno
    if full or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BuildError(f"no space left for {out}: {error}. Free some and run the same command again: it goes on")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return BuildError(f"cannot write to {out}: {error}. Choose another folder")
    return error


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress wanted."""
