"""Whose the files of a work folder are: a closed set of names, a marker, and links that are never followed.

A build removes what it left for itself by name alone, and only where a marker says that a build wrote there. Whatever
else lies there is somebody's, and named in an error before anything is read.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError
from packer.files.atomic import write_bytes_atomically
from packer.files.checked import from_line, to_line
from packer.files.open import local_path
from packer.files.retry import redact
from pipelines.stores.store import FolderStore, Store

WORK, JOURNAL, SCRATCH = ".work", "journal.jsonl", "scratch"
LOCK = "lock"
CLAIM = "job.json"
"""Says which job is writing to a place, in its work folder; another one is refused, even on another machine."""
TARGETS = "targets.json"
"""Says which files a build may have written to its output, as the journal does: either is enough to know them again."""
MARKER = "graph-pack.json"
"""Says that a build wrote to this work folder, and which: an id that no two have."""
OWNER = "owner.json"
"""Says which process is building into an object store, which has no locks."""
KEPT = (LOCK, TARGETS, JOURNAL, CLAIM, MARKER, OWNER)
"""What stays while the rest of a work folder is made anew."""

_SPLIT = r"(?:[A-Za-z0-9._-]+/)?"
_OWN = re.compile(
    "(?:"
    + "|".join(
        (
            "|".join(map(re.escape, (*KEPT, "scan.json", "content.json"))),
            r"(?:blocks|facts)/\d{6,}",
            rf"(?:routed|graphs)/{_SPLIT}\d{{6,}}",
            rf"entries/{_SPLIT}(?:graphs|shard-\d{{5,}})\.parquet\.json",
            r"(?:table|trimmed)/(?:\d{3,}\.bin|strings\.arrow|table\.json|lost\.npy|sums\.json)",
            r"plan-[A-Za-z0-9_-]*/(?:rows\.npy|pack_offsets\.npy|members\.npy|sums\.json)",
            r"scratch/[0-9a-f]{32}/(?:file|plan\.parquet|graphs\.parquet|shard-\d{5,}\.parquet)",
        )
    )
    + r")(?:\.tmp|\.partial)?"
)
_OWN_FOLDER = re.compile(
    r"blocks|facts|table|trimmed|plan-[A-Za-z0-9_-]*|(?:routed|graphs|entries)(?:/[A-Za-z0-9._-]+)?"
    r"|scratch(?:/[0-9a-f]{32})?"
)
_UNMARKED = (LOCK, MARKER + ".tmp")
"""What there is before the marker."""
_FORMAT = "graph-pack work"
_CLIENTS = {"s3a": "s3", "gcs": "gs"}
_SHOWN = 5


def work_store(work: Path) -> FolderStore:
    """The store of a work folder on this machine."""
    return FolderStore(work, work / SCRATCH)


def is_own(name: str) -> bool:
    """Whether a build gives this name to a file in its work folder; nothing of another name is ever removed there."""
    return _OWN.fullmatch(name) is not None


def check_apart(out: str | os.PathLike[str], work: str | os.PathLike[str] | None) -> None:
    """Raise BuildError where one lies in the other, or both are one: neither may be in the other's way."""
    if work is None:
        return
    ours, theirs = _parts(out), _parts(work)
    outer, inner = sorted((ours, theirs), key=lambda parts: len(parts[1]))
    if inner[0] == outer[0] and (inner[1][: len(outer[1])] == outer[1] or _same(inner, outer)):
        raise BuildError(
            f"the work place {redact(os.fspath(work))} and the output {redact(os.fspath(out))} lie in one another: "
            "name a place for the work that is neither the output, nor in it, nor around it"
        )


def _parts(where: str | os.PathLike[str]) -> tuple[str, tuple[str, ...]]:
    """(kind of store, path in it, a name each), links and dots resolved."""
    text = os.fspath(where)
    local = local_path(text)
    if local is not None:
        return "", Path(os.path.realpath(local)).parts
    protocol, _, path = text.rpartition("::")[2].partition("://")
    names = os.path.normpath("/" + path.rpartition("@")[2].strip("/")).strip("/").split("/")
    return _CLIENTS.get(protocol.lower(), protocol.lower()), tuple(name for name in names if name)


def _same(inner: tuple[str, tuple[str, ...]], outer: tuple[str, tuple[str, ...]]) -> bool:
    """Whether a folder lies in another under a second name, as where a disk is mounted twice."""
    if inner[0] or not Path(*outer[1]).exists():
        return False
    path, other = Path(*inner[1]), Path(*outer[1])
    return any(above.exists() and above.samefile(other) for above in (path, *path.parents))


def check(work: Path) -> None:
    """Raise BuildError where a work folder is a link, or holds links or what no build wrote. Nothing is changed."""
    if work.is_symlink():
        raise BuildError(f"{work} is a symbolic link: a build would write where it points. Remove it, or move it away")
    if not work.is_dir():
        if work.exists():
            raise BuildError(f"{work} is a file; a build keeps its work there. Move it away")
        return
    foreign, unmarked = list[str](), list[str]()
    for name, kind, size in _entries(work):
        if kind or not is_own(name) or (name == LOCK and size):  # ours is empty
            foreign.append(f"{name} ({kind})" if kind else name)
        elif name not in _UNMARKED:
            unmarked.append(name)
    refuse(work, foreign, unmarked, unmarked and read_marker(work_store(work)) is None)


def check_store(work: Store) -> bool:
    """The same of a work place in any store; whether it has a marker."""
    if isinstance(work, FolderStore):
        check(work.folder)
        return read_marker(work) is not None
    names = list(work.names())
    marked = MARKER in names
    refuse(work, [name for name in names if not is_own(name)], names, bool(names) and not marked)
    return marked


def refuse(work: Any, foreign: Collection[str], ours: Collection[str], unmarked: Any) -> None:
    """Raise BuildError where there is something foreign; or something by our names, but no marker."""
    if not foreign and not unmarked:
        return
    names = sorted(foreign or ours)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    why = "which no build wrote" if foreign else f"and no {MARKER} says that a build wrote it"
    raise BuildError(
        f"{work} is where a build keeps its work, and holds {', '.join(names[:_SHOWN])}{more}, {why}. Nothing is "
        "removed: move it away, or choose another place"
    )


def read_marker(work: Store) -> dict[str, Any] | None:
    """What the marker of a work place says; None where there is none. BuildError for one that is not ours."""
    if work.size(MARKER) is None:
        return None
    try:
        stored = from_line(work.read(MARKER))
        if stored["format"] == _FORMAT and re.fullmatch("[0-9a-f]{32}", stored["id"]):
            return stored
    except (FormatError, ValueError, TypeError, KeyError):
        pass
    raise BuildError(
        f"{MARKER} of {work} is not as a build writes it: what lies there may be somebody's. Move it away, or choose "
        "another place"
    )


def mark(work: Path, destination: str, number: str | None = None) -> None:
    """Mark a work folder as a build's, before anything else is written to it. The caller has its lock."""
    if read_marker(work_store(work)) is None:
        write_bytes_atomically(work, MARKER, marker(number or uuid.uuid4().hex, destination))


def marker(number: str, destination: str) -> bytes:
    """The content of a marker. number: the id; destination: where the build writes."""
    return to_line({"format": _FORMAT, "version": 1, "id": number, "destination": redact(destination)})


def remove_own(work: Store, keep: Collection[str] = (), below: tuple[str, ...] = ()) -> None:
    """Remove what builds left in a work place, by name. keep: but these; below: only of these folders."""
    names = [name for name in work.names() if is_own(name) and name not in keep]
    work.remove_all([name for name in names if not below or name.split("/", 1)[0] in below])
    if isinstance(work, FolderStore):
        _remove_empty(work.folder)


def _entries(work: Path) -> Iterator[tuple[str, str, int]]:
    """(name, what it is, "" for a plain file, bytes) of all below a folder but folders. Links are not followed."""
    for root, folders, files in os.walk(work):
        for path in (Path(root, name) for name in (*folders, *files)):
            try:
                about = path.lstat()
            except FileNotFoundError:  # another build has just ended
                continue
            kind = "" if stat.S_ISREG(about.st_mode) else "a symbolic link" if path.is_symlink() else "no plain file"
            if not stat.S_ISDIR(about.st_mode):
                yield str(path.relative_to(work)), kind, about.st_size


def _remove_empty(work: Path) -> None:
    for root in [Path(root) for root, _, _ in os.walk(work, topdown=False)]:
        if _OWN_FOLDER.fullmatch(str(root.relative_to(work))) and not any(root.iterdir()):
            root.rmdir()
