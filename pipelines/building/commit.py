"""The last stages of a build: a stored plan and the files of each data set, then the manifests."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from packer.errors import BuildError
from packer.files.atomic import FileEntry, hash_file
from packer.graphs.schema import Schema
from packer.graphs.sizes import select_sizes
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan
from packer.shards import GraphCounts, Manifest, ShardEntry, shard_name
from packer.shards.graphs_file import TOO_LARGE, TRIMMED
from packer.shards.layout import Layout
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN
from pipelines.building import plan as planning
from pipelines.building.card import card_text, card_title
from pipelines.building.inputs import add_input
from pipelines.building.mapped.shards import GraphsTask, PackSource, ShardTask, hash_of_file, run_task, save_plan_arrays
from pipelines.building.members import Members
from pipelines.building.options import Progress, as_stage
from pipelines.building.request import Job, versions
from pipelines.building.scan import ScanResult
from pipelines.executors import Executor
from pipelines.sources.protocol import Skip
from pipelines.stores.journal import WORK, Journal
from pipelines.stores.layout import BUILD_FILE, CARD, SPLITS_FILE, inside
from pipelines.stores.store import Store


@dataclass(frozen=True)
class Target:
    """One data set that is being written: its folder, graphs, plan, and the tasks that write its files."""

    name: str
    folder: Path
    members: Members
    plan: PackPlan
    plan_file: FileEntry
    layout: Layout
    tasks: tuple[GraphsTask | ShardTask, ...]


def prepare(
    job: Job,
    scan: ScanResult,
    limits: PackLimits,
    out: Path,
    journal: Journal,
    name: str,
    graphs: Members,
    layout: Layout,
    progress: Progress,
) -> Target:
    """Make or load the plan, store it, and lay out the shards."""
    folder = out / name
    sizes = select_sizes(scan.table.sizes(), graphs.rows)
    stored = journal.find("plan").get(name)
    if stored is not None:
        if hash_file(folder / PLAN).sha256 != stored["sha256"]:
            raise BuildError(f"{folder / PLAN} is not the plan that the unfinished build stored: pass --overwrite")
        plan = PackPlan.load(folder / PLAN).of(sizes)
        entry = FileEntry(stored["bytes"], stored["sha256"])
    else:
        plan = planning.obtain_plan(sizes, limits, job.plan, as_stage(progress))
        journal.add("target", name, shards=0)
        folder.mkdir(exist_ok=True)
        entry = planning.store_plan(plan, folder / PLAN, by_graph=False)
        journal.add("plan", name, bytes=entry.bytes, sha256=entry.sha256)
    arrays = out / WORK / f"plan-{name}"
    sums = save_plan_arrays(arrays, graphs.rows[plan.graph_ids], plan.pack_offsets, graphs.source_ids)
    add_input(journal, arrays.name, sums)
    source = PackSource(str(scan.folder.absolute()), str(arrays.absolute()), limits, job=uuid.uuid4().hex)
    firsts = range(0, plan.num_packs, layout.packs_per_shard)
    journal.add("target", name, shards=len(firsts))
    skips = scan.skips.among(graphs.source_ids)
    shards = [
        ShardTask(
            source,
            str(folder.absolute()),
            number,
            first,
            min(first + layout.packs_per_shard, plan.num_packs),
            layout.packs_per_block,
            job.compression,
            layout.uncompressed,
        )
        for number, first in enumerate(firsts)
    ]
    return Target(
        name, folder, graphs, plan, entry, layout, (GraphsTask(source, str(folder.absolute()), skips), *shards)
    )


def write_files(
    targets: list[Target], journal: Journal, executor: Executor, progress: Progress
) -> dict[str, dict[str, dict[str, Any]]]:
    """Write what is not there yet, as it was written; target name -> file name -> entry as plain values."""
    total = sum(target.plan.num_packs for target in targets)
    done = {name: line["entry"] for name, line in journal.find("file").items()}
    tasks = {f"{target.name}/{Path(task.label).name}": task for target in targets for task in target.tasks}
    there = {name: task for name, task in tasks.items() if name in done}
    found_there = zip(there, executor.map(hash_of_file, there.values()), strict=True)
    entries = {name: done[name] for name, sha256 in found_there if sha256 == done[name]["sha256"]}
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


@dataclass(frozen=True)
class Contents:
    """What a data set holds, as far as its manifest says. split: its name, "" without splits."""

    split: str
    schema: Schema
    plan: PackPlan
    plan_file: FileEntry
    layout: Layout
    counts: GraphCounts
    content_hash: str


def contents(scan: ScanResult, target: Target) -> Contents:
    """Of a data set whose graphs stand in the table of a scan."""
    graphs = target.members
    own = next(task for task in target.tasks if isinstance(task, GraphsTask))
    reasons = Counter(skip.reason for skip in own.skips)
    reasons[TOO_LARGE] += len(graphs.source_ids) - len(graphs.rows) - len(own.skips)
    trimmed = 0 if scan.trimmed is None else int(scan.trimmed[graphs.rows].sum())
    counts = counts_of(len(graphs.source_ids), len(graphs.rows), trimmed, reasons)
    schema = scan.table.schema
    return Contents(target.name, schema, target.plan, target.plan_file, target.layout, counts, scan.content_hash)


def counts_of(graphs: int, in_packs: int, trimmed: int, skipped: Counter[str]) -> GraphCounts:
    """graphs: of the source; in_packs: trimmed ones among them; skipped: reason -> graphs that are in no pack."""
    reasons = {reason: number for reason, number in (skipped + Counter({TRIMMED: trimmed})).items() if number}
    return GraphCounts(graphs, in_packs - trimmed, trimmed, skipped.total(), reasons=dict(sorted(reasons.items())))


def manifest_of(job: Job, held: Contents, files: Mapping[str, dict[str, Any]]) -> Manifest:
    """What the data set is; files: file name -> entry as plain values, graphs.parquet and the shards."""
    plan = held.plan
    source = job.source.key()
    if job.splits is not None:
        source["split"] = {"name": held.split, **job.splits.key()}
    shards = [files[shard_name(number)] for number in range(len(files) - 1)]
    return Manifest(
        schema=held.schema,
        limits=plan.limits,
        num_packs=plan.num_packs,
        packs_per_block=held.layout.packs_per_block,
        compression=job.compression,
        uncompressed=held.layout.uncompressed,
        shards=tuple(_shard_entry(shard) for shard in shards),
        counts=held.counts,
        plan={
            "algorithm": plan.algorithm,
            "seed": plan.seed,
            "num_packs": plan.num_packs,
            "lower_bound": plan.lower_bound,
            "status": plan.status,
            "stopped_by": plan.stopped_by,
        },
        files={PLAN: held.plan_file, GRAPHS: FileEntry(**files[GRAPHS])},
        source=source,
        content_hash=held.content_hash,
        versions=versions(),
    )


def _shard_entry(stored: Mapping[str, Any]) -> ShardEntry:
    members: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    return ShardEntry(**members)


def commit(
    out: Store,
    job: Job,
    key: Mapping[str, Any],
    manifests: Mapping[str, Manifest],
    ambiguous: Sequence[str],
    skips: Sequence[Skip],
    seconds: Mapping[str, float],
) -> None:
    """All files are there: say so, manifests last."""
    about = {
        "job": key,
        "given": job.given(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "ambiguous_fields": list(ambiguous),
        "skipped": [{"graph": s.graph_id, "where": s.where, "reason": s.reason} for s in islice(skips, 10_000)],
    }
    out.put(BUILD_FILE, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")
    for name, manifest in manifests.items():
        out.put(inside(name, CARD), card_text(manifest, card_title(name), job.licence, ambiguous).encode())
    for name, manifest in manifests.items():
        out.create(inside(name, MANIFEST), manifest.to_bytes())
    if job.splits is not None:
        listed = {"splits": {name: {"manifest_sha256": manifest.sha256} for name, manifest in manifests.items()}}
        out.put(SPLITS_FILE, json.dumps(listed, indent=1, allow_nan=False).encode() + b"\n")
