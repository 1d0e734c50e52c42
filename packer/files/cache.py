"""Copies of a remote data set's files in a folder here: whole, compared with their SHA-256, a bounded number of bytes.

A copy is named after its data set's manifest and itself, so that a data set built anew under the same URL never meets
the old one's. It appears by a rename when it is complete and proven. Any number of processes may share a folder: what
is right depends on renames alone, locks only spare them from fetching the same file at once and keep the bound exact.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
import warnings
from pathlib import Path
from typing import Generator, Iterable, Iterator, NamedTuple

from packer.errors import FormatError, MissingFileError
from packer.files.atomic import TEMPORARY, open_plain
from packer.files.local import LocalFile
from packer.files.protocol import Entry, Place, PlacedFile
from packer.files.remote import RemotePlace

CACHE_BYTES = 8 << 30

_COPY = re.compile(r"([0-9a-f]{64})\.(?:shard-\d{5,}|graphs|plan)\.parquet(\.[0-9a-f]{32}\.tmp)?")
"""Names of copies, and of those under way: nothing else in the folder is counted or removed."""
_ABANDONED = 3600.0
"""Seconds without a write after which a copy under way counts as left behind by a process that was killed."""
_WAIT = 300.0
"""Seconds to wait while another process fetches a file, then to fetch it too: it may have been stopped."""
_PAUSE = 0.05


def cached(place: Place, manifest: str, cache_dir: str | os.PathLike[str] | None, cache_bytes: int) -> Place:
    """The place as a data set is read from it: through a cache where it is remote and cache_bytes is not 0.

    manifest: its SHA-256, which names the data set.
    """
    if cache_bytes < 0:
        raise FormatError(f"cache_bytes must be at least 0 (no cache); got {cache_bytes}")
    if not isinstance(place, RemotePlace) or cache_bytes == 0:
        return place
    return CachedPlace(place, default_folder() if cache_dir is None else Path(cache_dir), manifest, cache_bytes)


@contextlib.contextmanager
def scratch_copies(place: Place, manifest: str, entries: Iterable[Entry]) -> Generator[Place, None, None]:
    """The place with room for copies of some of its files, for as long as the context lasts."""
    if isinstance(place, RemotePlace):
        with tempfile.TemporaryDirectory() as folder:
            yield CachedPlace(place, Path(folder), manifest, sum(entry.bytes for entry in entries))
    else:
        yield place


def default_folder() -> Path:
    """$XDG_CACHE_HOME/graph-packer, or ~/.cache/graph-packer."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise FormatError("this user has no home to keep a cache in: pass cache_dir, or cache_bytes=0") from error
    return root / "graph-packer"


class CachedPlace:
    """A remote data set whose files are copied when they are first opened, and read here from then on.

    What finds no room is read from the store instead: a data set pushes out the copies of others, used least recently
    first, but never its own, which it would have to fetch again in the next epoch. Where the folder cannot be written
    to (no permission, a full disk) there is a warning, and everything is read from the store.
    """

    def __init__(self, remote: RemotePlace, folder: Path, manifest: str, most_bytes: int) -> None:
        self.remote = remote
        self.folder = folder.absolute()
        self.manifest = manifest
        self.most_bytes = most_bytes

    def __str__(self) -> str:
        return str(self.remote)

    def names(self) -> list[str] | None:
        return self.remote.names()

    def open(self, name: str, entry: Entry | None = None) -> PlacedFile:
        """Files of which no entry says what they are to hold are not copied."""
        if entry is None:
            return self.remote.open(name)
        try:
            copy = self._find(name, entry) or self._fetch(name, entry)
        except OSError as error:
            warnings.warn(
                f"no copies of {self} are kept in {self.folder}: {error.strerror or error}. Its packs are read over "
                "the network every time: make room, or pass another cache_dir",
                RuntimeWarning,
                stacklevel=2,
            )
            copy = None
        return copy or self.remote.open(name, entry)

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.manifest}.{name}"

    def _find(self, name: str, entry: Entry) -> LocalFile | None:
        """The copy, if there is one; it counts as used now. What cannot be one makes room."""
        path = self._path(name)
        try:
            fd, size = open_plain(path)
        except FormatError as error:
            if path.is_symlink():
                path.unlink(missing_ok=True)
            elif not isinstance(error, MissingFileError):
                raise OSError(str(error)) from error
            return None
        file = LocalFile(fd, size, name, lambda: self._anew(name, entry))
        if size != entry.bytes:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # someone else's, or on a read-only disk
            os.utime(fd)
        return file

    def _anew(self, name: str, entry: Entry) -> PlacedFile:
        self._path(name).unlink(missing_ok=True)
        return self.open(name, entry)

    def _fetch(self, name: str, entry: Entry) -> LocalFile | None:
        """Make the copy, and open it; None where there is no room for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _turn(self._path(name + ".lock"), _WAIT, remove=True):
            copy = self._find(name, entry)  # another process may have been faster
            if copy is not None:
                return copy
            size = self.remote.open(name, entry).size
            if size != entry.bytes:
                raise FormatError(f"{name} of {self} has {size} bytes, the manifest says {entry.bytes}")
            temporary = self._reserve(name, size)
            if temporary is None:
                return None
            try:
                self._copy(name, entry, temporary)
                temporary.replace(self._path(name))
            finally:
                temporary.unlink(missing_ok=True)
            return self._find(name, entry)

    def _copy(self, name: str, entry: Entry, temporary: Path) -> None:
        """Fetch a file, and once more where its SHA-256 is not the one that the manifest says."""
        fd = os.open(str(temporary), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            sha256 = self.remote.copy(name, entry.bytes, fd)
            if sha256 != entry.sha256:
                os.lseek(fd, 0, os.SEEK_SET)
                sha256 = self.remote.copy(name, entry.bytes, fd)
            os.fsync(fd)
        finally:
            os.close(fd)
        if sha256 == entry.sha256:
            return
        raise FormatError(
            f"{name} of {self} is damaged: fetched twice, its SHA-256 is {sha256}, the manifest says {entry.sha256}. "
            "Open the data set again if it has been built anew meanwhile; else restore the file from a copy, or build "
            "the data set anew"
        )

    def _reserve(self, name: str, size: int) -> Path | None:
        """An empty file of this size, under a name of its own; None where no room can be made for it."""
        with _turn(self.folder / "graph-packer.lock", _WAIT):
            copies = list(_copies(self.folder))
            room = self.most_bytes - sum(copy.bytes for copy in copies)
            others = [copy for copy in copies if copy.complete and copy.manifest != self.manifest]
            if room + sum(copy.bytes for copy in others) < size:
                return None
            for copy in sorted(others, key=lambda copy: copy.used):
                if room >= size:
                    break
                copy.path.unlink(missing_ok=True)
                room += copy.bytes
            temporary = self._path(f"{name}.{os.urandom(16).hex()}{TEMPORARY}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(str(temporary), flags, 0o666)
            try:
                os.ftruncate(fd, size)  # from here on others count it
            finally:
                os.close(fd)
            return temporary


class _Copy(NamedTuple):
    path: Path
    manifest: str
    complete: bool
    bytes: int
    used: float


def _copies(folder: Path) -> Iterator[_Copy]:
    """The copies in a cache's folder; those that nobody goes on with are removed."""
    for entry in os.scandir(folder):
        name = _COPY.fullmatch(entry.name)
        if name is None:
            continue
        path = Path(entry.path)
        try:
            about = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if name[2] and time.time() - about.st_mtime > _ABANDONED:
            path.unlink(missing_ok=True)
            continue
        yield _Copy(path, name[1], name[2] is None, about.st_size, about.st_mtime)


@contextlib.contextmanager
def _turn(path: Path, seconds: float, remove: bool = False) -> Generator[None, None, None]:
    """Hold a lock that other processes and threads respect. After so many seconds, or where the file system has no
    locks, go on without it: whoever holds it may have been stopped, and nothing right depends on it.

    remove: leave no file. Who waits for the removed one still gets it, whoever comes next does not wait for them.
    """
    fd = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE)
            except OSError:
                break
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        # Not by closing alone: a process forked meanwhile has the descriptor too, and would keep the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
