"""What the place of a build holds before it, and that nothing foreign is ever touched."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError
from packer.files.atomic import TEMPORARY
from packer.shards.manifest import GRAPHS, MANIFEST, PLAN, Manifest, shard_name
from pipelines.stores.layout import BUILD_FILE, CARD, REPORT, SPLITS_FILE, inside, read_json, split_names
from pipelines.stores.store import FolderStore, Store
from pipelines.stores.work_folder import WORK

_IN_A_DATA_SET = re.compile(
    rf"(?:{'|'.join(map(re.escape, (MANIFEST, GRAPHS, PLAN, CARD, BUILD_FILE)))}|shard-\d+\.parquet)(?:\.tmp)?"
)


def finished_targets(out: Store) -> dict[str, Manifest]:
    """Split name -> manifest of the complete build in `out` ("" without splits); {} where there is none."""
    names = [""] if out.size(MANIFEST) is not None else split_names(out.place)
    if any(out.size(inside(name, MANIFEST)) is None for name in names):
        return {}
    try:
        return {name: Manifest.load(out.below(name).place) for name in names}
    except FormatError as error:
        raise BuildError(f"{out} holds a damaged data set: {error}. Remove it, or choose another folder") from error


def own_files(out: Store, journalled: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """All files that a finished build (by its manifests) or an unfinished one (by its journal) may have in `out`.

    journalled: split name -> {"shards": number} of the unfinished build.
    """
    shards = {name: len(manifest.shards) for name, manifest in finished_targets(out).items()}
    for name, facts in journalled.items():
        shards[name] = max(shards.get(name, 0), int(facts["shards"]))
    files = {BUILD_FILE, SPLITS_FILE, REPORT} if shards else set[str]()
    for name, count in shards.items():
        files |= {inside(name, file) for file in (MANIFEST, GRAPHS, PLAN, CARD, REPORT)}
        files |= {inside(name, shard_name(number)) for number in range(count)}
    return files | {file + TEMPORARY for file in files}


def refuse_foreign(out: Store, own_names: Collection[str]) -> None:
    """Raise BuildError where `out` holds something, but no build (whose files are `own_names`)."""
    if own_names:
        return
    foreign = _some_of(name for name in out.names() if not name.startswith(f"{WORK}/"))
    if foreign:
        raise BuildError(f"{out} holds something else: {foreign}. Give a folder that is empty or absent")


def refuse_strangers(out: Store, splits: Iterable[str], own_names: Collection[str]) -> None:
    """Raise BuildError where the data sets that are to be written would be written over something (not `own_names`), or
    through a link to somewhere else."""
    for split in splits if own_names else ():  # or else `refuse_foreign` has seen that nothing is there
        if isinstance(out, FolderStore) and split and (out.folder / split).is_symlink():
            raise BuildError(f"{out.folder / split} is a symbolic link: a build would write where it points. Remove it")
        names = out.below(split).names() if split else (name for name in out.names() if _IN_A_DATA_SET.fullmatch(name))
        foreign = _some_of(name for name in (inside(split, name) for name in names) if name not in own_names)
        if foreign:
            raise BuildError(
                f"{out} holds {foreign}, which no build wrote, where a data set is to be. Nothing is removed: move it "
                "away, or choose another place"
            )


def _some_of(names: Iterable[str]) -> str:
    """The first of them, for an error; "" where there are none."""
    first = list(islice(names, 6))
    return ", ".join(first[:5]) + " and more" * (len(first) > 5)


def remove_files(out: Store, names: Collection[str]) -> None:
    """Remove these files, manifests first so that a half-removed data set is none; and the folders left empty."""
    out.remove(sorted(names, key=lambda name: (Path(name).name not in (SPLITS_FILE, MANIFEST), name)))


def remove_half_written(out: Store, names: Iterable[str]) -> None:
    """Remove what a killed process left of files (`names`) that have been written by another way since."""
    if isinstance(out, FolderStore):  # in object stores files appear whole
        out.remove([name for name in names if name.endswith(TEMPORARY)])


def check_replaceable(path: Path, begins: Collection[bytes]) -> None:
    """Raise BuildError where a file that a command was told to write would replace something of another kind.

    begins: how files of its kind begin; another plain file, such as the source, stays, and so does a data set's own.
    """
    of_a_data_set = _IN_A_DATA_SET.fullmatch(path.name) and (path.parent / MANIFEST).exists()
    if not of_a_data_set and not path.is_file():
        return
    if not of_a_data_set:
        with path.open("rb") as file:
            start = file.read(max(map(len, begins)))
        if not start or start.startswith(tuple(begins)):
            return
    reason = "belongs to the data set there" if of_a_data_set else "holds something else"
    raise BuildError(f"{path} {reason} and is not replaced: name another file")


def same_job(out: Store, job: Mapping[str, Any], targets: Mapping[str, Manifest]) -> list[str]:
    """What differs between the finished build in `out` and `job`, missing files included; [] where nothing does."""
    try:
        built = read_json(out.place, BUILD_FILE)["job"]
    except (OSError, ValueError, KeyError, TypeError):  # FormatError is a ValueError
        return [f"{BUILD_FILE} does not say how it was built"]
    differing = differences(built, job)
    for name, manifest in targets.items():
        sizes = {file: entry.bytes for file, entry in manifest.files.items()}
        sizes |= {shard.name: shard.bytes for shard in manifest.shards}
        differing += [
            f"{inside(name, file)} is missing or of another size"
            for file, size in sizes.items()
            if out.size(inside(name, file)) != size
        ]
    return differing


def differences(stored: Mapping[str, Any], here: Mapping[str, Any], at: str = "") -> list[str]:
    """One line for each value that differs between two plain dicts."""
    lines: list[str] = []
    for name in sorted({*stored, *here}):
        old, new = stored.get(name), here.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{at}{name}.")
        elif old != new:
            lines.append(f"{at}{name} is {json.dumps(old)[:80]} there, {json.dumps(new)[:80]} here")
    return lines
