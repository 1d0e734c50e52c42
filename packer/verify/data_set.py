"""Prove a data set: every byte under its hash, every pack by the rules, every graph once."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterable, Iterator, Mapping

import numpy as np

from packer.errors import FormatError
from packer.files.atomic import FileEntry, sha256_of
from packer.files.cache import scratch_copies
from packer.files.open import place_of
from packer.files.protocol import Place, Where
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN, Manifest
from packer.shards.targets import target_stats
from packer.verify.content import DIFFERS, compare_content
from packer.verify.graphs import check_graphs, find_differences
from packer.verify.plan import check_plan
from packer.verify.shard import Fault, ShardResult, ShardTask, verify_shard

ALSO_ALLOWED = ("build.json", "README.md", "report.html", ".work")
"""What may lie beside the files that the manifest lists: notes of the build, outside every hash."""

_STRANGERS = 100
"""Files of others that are named one by one."""


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_shards` found. packs, graphs: how many were looked at; seconds: wall time; content: "equal",
    "differs" (which is a fault), or why the graphs were not compared with the content hash; "" where nobody asked."""

    faults: tuple[Fault, ...]
    packs: int
    graphs: int
    seconds: float
    content: str = ""

    @property
    def ok(self) -> bool:
        return not self.faults


def verify_shards(
    folder: Where,
    map: Callable[[Any, Iterable[Any]], Iterable[Any]] = map,
    storage_options: Mapping[str, Any] | None = None,
    content: bool = False,
) -> VerifyReport:
    """Check every file, checksum and invariant of a data set; nothing is raised for damage, all of it is reported.

    folder: where the data set lies: a path or an fsspec URL, whose bytes are then read there and not in any cache.
    map: as the built-in; an executor's runs one task a shard in other processes. storage_options: for fsspec. Memory
    does not grow with the data set. content: compare the graphs of a sound data set with the hash that was taken when
    they were scanned, too: on this machine, through a temporary folder (see `content_check`, also for its memory).
    The random key of the comparison of graphs (see `multiset`) does not show in the report. Raises MissingExtraError
    for a URL whose package is not installed.

        >>> result = build([Data(x=torch.eye(3))] * 5, "packs", PackLimits(10, 4, 4), workers=1)
        >>> verify_shards("packs").ok
        True
    """
    start = time.perf_counter()
    place = place_of(folder, storage_options)
    try:
        manifest = Manifest.load(place)
    except FormatError as error:
        return VerifyReport((Fault(MANIFEST, None, None, None, str(error)),), 0, 0, time.perf_counter() - start)
    key = int.from_bytes(os.urandom(8), "little")
    faults = list(_folder_faults(place, manifest))
    tasks = [ShardTask(place, manifest.sha256, shard, key) for shard in range(len(manifest.shards))]
    shards: list[ShardResult] = list(map(verify_shard, tasks))
    for result in shards:
        faults += result.faults
    faults += _target_faults(manifest, shards)
    with scratch_copies(place, manifest.sha256, manifest.files.values()) as copies:
        faults += _file_faults(copies, manifest, shards, key)
    packs, graphs = sum(result.packs for result in shards), sum(result.graphs for result in shards)
    report = VerifyReport(tuple(faults), packs, graphs, time.perf_counter() - start)
    return with_content({"": report}, {"": place})[""] if content else report


def with_content(
    reports: Mapping[str, VerifyReport], places: Mapping[str, Where], storage_options: Mapping[str, Any] | None = None
) -> dict[str, VerifyReport]:
    """The reports of all data sets of one build, by name, with what their graphs together are against the content hash.

    Nothing is compared unless all are sound.
    """
    if not all(report.ok for report in reports.values()):
        return dict(reports)
    start = time.perf_counter()
    try:
        verdict, problem = compare_content([place_of(places[name], storage_options) for name in reports])
    except FormatError as error:
        verdict, problem = DIFFERS, str(error)
    seconds = time.perf_counter() - start
    faults = (Fault(MANIFEST, None, None, "content_hash", problem),) if verdict == DIFFERS else ()
    return {
        name: replace(report, faults=faults, content=verdict or problem, seconds=report.seconds + seconds)
        for name, report in reports.items()
    }


def _folder_faults(place: Place, manifest: Manifest) -> Iterator[Fault]:
    """Files that the manifest does not list. Missing ones are found when they are opened."""
    listed = {MANIFEST, GRAPHS, PLAN, *ALSO_ALLOWED, *(shard.name for shard in manifest.shards)}
    strangers = sorted(name for name in place.names() or () if name not in listed)
    for name in strangers[:_STRANGERS]:
        yield Fault(name, None, None, None, "the manifest does not list it: not a file of this data set")
    if len(strangers) > _STRANGERS:
        more = len(strangers) - _STRANGERS
        yield Fault(strangers[_STRANGERS], None, None, None, f"nor does it list this one and {more - 1:,} more")


def _target_faults(manifest: Manifest, shards: list[ShardResult]) -> Iterator[Fault]:
    """What the manifest says of targets against the graphs, where all of these could be read; old manifests say
    nothing."""
    if not manifest.target_stats or not all(result.readable.all() and not result.faults for result in shards):
        return
    stats = target_stats([result.moments for result in shards], manifest.schema)
    for key, stated in manifest.target_stats.items():
        if stats[key] != stated:
            name, column, computed, written = next(
                (name, column, *pair)
                for name, rows in vars(stated).items()
                for column, pair in enumerate(zip(vars(stats[key])[name], rows))
                if pair[0] != pair[1]
            )
            problem = (
                f"the {name} of column {column} over the graphs in its packs is {computed!r}, the manifest says "
                f"{written!r}"
            )
            yield Fault(MANIFEST, None, None, key, problem)


def _file_faults(place: Place, manifest: Manifest, shards: list[ShardResult], key: int) -> Iterator[Fault]:
    """graphs.parquet and plan.parquet: hashes first; only a file as it was written is looked into."""
    sound: dict[str, bool] = {}
    for name, entry in manifest.files.items():
        try:
            actual = _hashed(place, name, entry)
            problem = (
                f"{actual.bytes} bytes with SHA-256 {actual.sha256}, the manifest says {entry.bytes}, {entry.sha256}"
            )
            sound[name] = actual == entry
        except FormatError as error:
            sound[name], problem = False, str(error)
        if not sound[name]:
            yield Fault(name, None, None, None, problem)
    if sound[GRAPHS]:
        result = check_graphs(place, manifest, key)
        yield from result.faults
        if result.sums is not None and not result.faults:
            yield from _differences(place, manifest, shards, result.sums)
        if sound[PLAN] and not result.faults:
            for problem in check_plan(place, manifest):
                yield Fault(PLAN, None, None, None, problem)


def _hashed(place: Place, name: str, entry: FileEntry) -> FileEntry:
    """Size and SHA-256 of a file; of one larger than it should be only the size (sha256 is "")."""
    file = place.open(name, entry)
    try:
        return FileEntry(file.size, "" if file.size > entry.bytes else sha256_of(file.read, file.size))
    finally:
        file.close()


def _differences(place: Place, manifest: Manifest, shards: list[ShardResult], stated: np.ndarray) -> Iterator[Fault]:
    if not shards:
        return
    readable = np.concatenate([result.readable for result in shards])
    sums = np.concatenate([result.sums for result in shards])
    yield from find_differences(place, manifest, np.flatnonzero(readable & (sums != stated)).tolist())
