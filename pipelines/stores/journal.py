"""The work folder of a build: one build at a time, and a journal of what is finished, so that the next one goes on."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError
from packer.files.checked import from_line, to_line
from pipelines.stores.store import OVERWRITE, FolderStore, Store
from pipelines.stores.work_folder import JOURNAL, LOCK, MARKER, TARGETS, WORK, check, mark, remove_own, work_store


@contextmanager
def locked(
    out: Path, patience: float = 3.0, name: str = WORK, destination: str = "", number: str | None = None
) -> Generator[int]:
    """Hold the lock of `out` (created where absent); gives its descriptor, which workers inherit.

    The kernel frees the lock when its last holder is gone. patience: seconds to wait for the workers of a killed build;
    name: of the work folder, marked as that of a build to `destination`, by `number` or a new id. BuildError, before
    anything is written, where it is a link or holds what no build wrote.
    """
    work = out / name
    check(work)
    existed = out.exists()
    until = time.monotonic() + patience
    while (handle := _try_lock(work)) is None:
        if time.monotonic() > until:
            raise BuildError(
                f"another build is writing to {out if name == WORK else work}: wait for it, or choose another folder"
            )
        time.sleep(0.05)
    try:
        mark(work, destination or str(out), number)
        yield handle
    finally:
        os.close(handle)
        if not existed and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _try_lock(work: Path) -> int | None:
    """The descriptor of the locked file, or None. Another build removes the file at its end: then it is made anew."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BuildError(f"{work.parent} is a file; give a folder that is empty or absent") from None
    handle = os.open(work / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == (work / LOCK).stat().st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


class Journal:
    """Lines of JSON behind their CRC-32, each stored before `add` returns: appended in a folder, where a line that a
    crash cut short does not count; written whole at each change in a store that cannot append. Any other line that is
    not as it was written is an error.

    Lines of the kind "target" name files outside the work folder, which nobody else knows for the build's own: they
    stand in a file beside it too, so that a damaged journal leaves no data set that can be neither gone on with nor
    replaced."""

    def __init__(self, work: Store, salvage: bool = False) -> None:
        """salvage: where all is to be made anew, what is left of a damaged one still tells which files are its own."""
        self._work = work
        self._lines: list[dict[str, Any]] = []
        self._torn_at: int | None = None
        if work.size(JOURNAL) is not None:
            name = str(work.folder / JOURNAL) if isinstance(work, FolderStore) else f"{JOURNAL} of {work}"
            self._lines, self._torn_at = _parsed(work.read(JOURNAL), name, salvage)
        self._targets = _targets_of(work)

    def find(self, kind: str) -> dict[str, dict[str, Any]]:
        """name -> line, of this kind; the last line of a name counts."""
        lines = {line["name"]: line for line in self._lines if line["kind"] == kind}
        return {**lines, **self._targets} if kind == "target" else lines  # what is written first, and whole, wins

    def add(self, kind: str, name: str, **facts: Any) -> None:
        line = {"kind": kind, "name": name, **facts}
        if kind == "target":
            self._targets[name] = line
            self._work.put(TARGETS, to_line(self._targets))
        if isinstance(self._work, FolderStore):
            self._append(self._work.folder / JOURNAL, to_line(line))
        else:
            self._work.put(JOURNAL, b"".join(map(to_line, [*self._lines, line])))
        self._lines.append(line)

    def note(self, kind: str, name: str, **facts: Any) -> None:
        """Add a line, unless it is there."""
        if self.find(kind).get(name) != {"kind": kind, "name": name, **facts}:
            self.add(kind, name, **facts)

    def drop(self, *kinds: str) -> None:
        """Forget all lines of these kinds."""
        if "target" in kinds and self._targets:
            self._work.remove([TARGETS])
            self._targets = {}
        left = [line for line in self._lines if line["kind"] not in kinds]
        if left != self._lines or self._torn_at is not None:
            self._work.put(JOURNAL, b"".join(map(to_line, left)))
            self._lines, self._torn_at = left, None

    def _append(self, path: Path, data: bytes) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            if self._torn_at is not None:
                os.ftruncate(handle, self._torn_at)
                self._torn_at = None
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(handle)
        finally:
            os.close(handle)


def _parsed(data: bytes, name: str, salvage: bool) -> tuple[list[dict[str, Any]], int | None]:
    complete = data[: data.rfind(b"\n") + 1]
    lines: list[dict[str, Any]] = []
    damaged = False
    for line in complete.split(b"\n")[:-1]:
        try:
            lines.append(from_line(line))
        except FormatError as error:
            damaged = True
            if not salvage:
                raise BuildError(f"{name} is damaged: {error}. Pass {OVERWRITE} to start afresh") from error
    lines = [line for line in lines if not damaged or line["kind"] == "target"]
    return lines, len(complete) if len(complete) < len(data) else None


def _targets_of(work: Store) -> dict[str, dict[str, Any]]:
    """What the file beside the journal says; nothing where it is damaged, for then the journal does."""
    try:
        return from_line(work.read(TARGETS)) if work.size(TARGETS) is not None else {}
    except FormatError:
        return {}


def clear(work: Path) -> None:
    """Remove what builds left in a work folder, by name, but the lock, the marker and the journal with its targets."""
    remove_own(work_store(work), keep=(LOCK, MARKER, JOURNAL, TARGETS))


def remove(work: Path) -> None:
    """Remove a work folder; the marker and the lock last. What no build wrote stays, and the folder with it."""
    (work / TARGETS).unlink(missing_ok=True)
    (work / JOURNAL).unlink(missing_ok=True)
    clear(work)
    (work / MARKER).unlink(missing_ok=True)
    (work / LOCK).unlink(missing_ok=True)
    if not any(work.iterdir()):
        work.rmdir()
