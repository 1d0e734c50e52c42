"""The output folder: what it holds before a build, and that nothing foreign is ever touched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError
from packer.shards.files import TEMPORARY
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN, Manifest, shard_name
from pipelines.journal import WORK

BUILD_FILE, SPLITS_FILE = "build.json", "splits.json"
CARD, REPORT = "README.md", "report.html"


@dataclass(frozen=True)
class Target:
    """One data set that a build writes: split name ("" without splits), and its folder."""

    name: str
    folder: Path


def data_set_files(num_shards: int) -> list[str]:
    """Every file of a data set of so many shards, with the card and the report that tell of it."""
    return [MANIFEST, GRAPHS, PLAN, CARD, REPORT, *(shard_name(i) for i in range(num_shards))]


def finished_targets(out: Path) -> dict[str, Manifest]:
    """Split name -> manifest of the complete build in `out` ("" without splits); {} where there is none."""
    names = [""] if (out / MANIFEST).is_file() else split_names(out)
    if not all((out / name / MANIFEST).is_file() for name in names):
        return {}
    try:
        return {name: Manifest.load(out / name) for name in names}
    except FormatError as error:
        raise BuildError(f"{out} holds a damaged data set: {error}. Remove it, or choose another folder") from error


def split_names(out: Path) -> list[str]:
    """The splits that `out`/splits.json lists; [] without such a file."""
    path = out / SPLITS_FILE
    if not path.is_file():
        return []
    try:
        names = list(json.loads(path.read_bytes())["splits"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not a list of splits: {error}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise FormatError(f"{path} names a split {name!r}, which is no folder name")
    return names


def own_files(out: Path, journalled: Mapping[str, Mapping[str, Any]]) -> set[Path]:
    """All files that a finished build (by its manifests) or an unfinished one (by its journal) may have in `out`.

    journalled: split name -> {"shards": number} of the unfinished build.
    """
    shards = {name: len(manifest.shards) for name, manifest in finished_targets(out).items()}
    for name, facts in journalled.items():
        shards[name] = max(shards.get(name, 0), int(facts["shards"]))
    files = {out / name for name in (BUILD_FILE, SPLITS_FILE, REPORT)} if shards else set[Path]()
    for name, count in shards.items():
        files |= {out / name / file for file in data_set_files(count)}
    return files | {file.with_name(file.name + TEMPORARY) for file in files}


def refuse_foreign(out: Path, own: Iterable[Path]) -> None:
    """Raise BuildError where `out` holds something, but no build (whose files are `own`)."""
    if out.exists() and not out.is_dir():
        raise BuildError(f"{out} is a file; give a folder that is empty or absent")
    if not out.is_dir() or list(own):
        return
    foreign = [entry for entry in sorted(out.iterdir()) if entry.name != WORK]
    if foreign:
        names = ", ".join(str(entry.relative_to(out)) for entry in foreign[:5])
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise BuildError(f"{out} holds something else: {names}{more}. Give a folder that is empty or absent")


def remove_own(out: Path, own: Iterable[Path]) -> None:
    """Remove these files, manifests first so that a half-removed data set is none; then the folders left empty."""
    files = sorted(own, key=lambda file: (file.name not in (SPLITS_FILE, MANIFEST), str(file)))
    for file in files:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in files} - {out}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def same_job(out: Path, job: Mapping[str, Any], targets: Mapping[str, Manifest]) -> list[str]:
    """What differs between the finished build in `out` and `job`, missing files included; [] where nothing does."""
    path = out / BUILD_FILE
    try:
        built = json.loads(path.read_bytes())["job"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{BUILD_FILE} does not say how it was built"]
    found = differences(built, job)
    for name, manifest in targets.items():
        sizes = {file: entry.bytes for file, entry in manifest.files.items()}
        sizes |= {shard.name: shard.bytes for shard in manifest.shards}
        for file, size in sizes.items():
            there = out / name / file
            if not there.is_file() or there.stat().st_size != size:
                found.append(f"{there.relative_to(out)} is missing or of another size")
    return found


def differences(there: Mapping[str, Any], here: Mapping[str, Any], at: str = "") -> list[str]:
    """One line for each value that differs between two plain dicts."""
    found: list[str] = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{at}{name}.")
        elif old != new:
            found.append(f"{at}{name} is {json.dumps(old)[:80]} there, {json.dumps(new)[:80]} here")
    return found
