"""The last stage of a build: what its data sets hold, said in their manifests."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from packer.files.atomic import FileEntry
from packer.shards import GraphCounts, Manifest, ShardEntry, shard_name
from packer.shards.graphs_file import TRIMMED
from packer.shards.layout import Layout
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN
from packer.shards.targets import target_stats
from pipelines.building.card import card_text, card_title
from pipelines.building.carrier import Scanned, Target
from pipelines.building.mapped.shards import TARGETS
from pipelines.building.request import Job, versions
from pipelines.sources.protocol import Skip
from pipelines.stores.layout import BUILD_FILE, CARD, SPLITS_FILE, inside
from pipelines.stores.store import Store


def counts_of(graphs: int, in_packs: int, trimmed: int, skipped: Counter[str]) -> GraphCounts:
    """graphs: of the source; in_packs: trimmed ones among them; skipped: reason -> graphs that are in no pack."""
    reasons = {reason: number for reason, number in (skipped + Counter({TRIMMED: trimmed})).items() if number}
    return GraphCounts(graphs, in_packs - trimmed, trimmed, skipped.total(), reasons=dict(sorted(reasons.items())))


def manifest_of(
    job: Job, scanned: Scanned, target: Target, layout: Layout, counts: GraphCounts, files: Mapping[str, dict[str, Any]]
) -> Manifest:
    """What a data set holds; files: file name -> entry as plain values, graphs.parquet and the shards."""
    plan = target.plan
    source = job.source.key()
    if job.splits is not None:
        source["split"] = {"name": target.split, **job.splits.key()}
    shards = [dict(files[shard_name(number)]) for number in range(len(files) - 1)]
    stats = target_stats([shard.pop(TARGETS) for shard in shards], scanned.schema)
    return Manifest(
        schema=scanned.schema,
        limits=plan.limits,
        num_packs=plan.num_packs,
        packs_per_block=layout.packs_per_block,
        compression=job.compression,
        uncompressed=layout.uncompressed,
        shards=tuple(_shard_entry(shard) for shard in shards),
        counts=counts,
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
        content_hash=scanned.content_hash,
        versions=versions(),
        target_stats=stats,
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
        "given": job.as_named(),
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
