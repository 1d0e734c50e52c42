"""Files of a data set: written whole or not at all, opened without following links, read in bounded pieces."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from packer.errors import FormatError, MissingFileError

TEMPORARY = ".tmp"
"""Ending of a file that is being written."""
_PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of a whole file."""

    bytes: int
    sha256: str


class AtomicFile:
    """A file that appears under its name only by `commit`, complete and on disk; `discard` leaves nothing.

    A file-like object for pyarrow; it counts and hashes what is written to it.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self._final = Path(folder) / name
        self._temporary = self._final.with_name(name + TEMPORARY)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(str(self._temporary), flags, 0o666)
        self._hash = hashlib.sha256()
        self.position = 0
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.write(self._fd, view[done:])
        self._hash.update(view)
        self.position += len(view)
        return len(view)

    def tell(self) -> int:
        return self.position

    def flush(self) -> None:
        """Nothing is buffered here."""

    def close(self) -> None:
        """pyarrow's end of writing; only `commit` finishes the file."""

    def commit(self) -> FileEntry:
        """Flush to disk, give the file its name, flush the folder."""
        try:
            _settle(self._fd, self._temporary, self._final)
        except BaseException:
            self.discard()
            raise
        self._close()
        return FileEntry(self.position, self._hash.hexdigest())

    def discard(self) -> None:
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._fd)


def write_bytes_atomically(folder: str | os.PathLike[str], name: str, data: bytes) -> FileEntry:
    """Write a small file: temporary name, fsync, rename, fsync of the folder. Raises OSError."""
    file = AtomicFile(folder, name)
    try:
        file.write(data)
    except BaseException:
        file.discard()
        raise
    return file.commit()


def put_in_place(written: Path, final: Path) -> None:
    """Give a file that is written and closed its name: fsync, rename, fsync of the folder. Raises OSError.

    written: in the file system of `final`; where this fails, the caller removes it.
    """
    fd = os.open(str(written), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _settle(fd, written, final)
    finally:
        os.close(fd)


def _settle(fd: int, written: Path, final: Path) -> None:
    """The bytes first, then the name, then the folder: whatever is lost, what has the name is whole."""
    os.fsync(fd)
    written.replace(final)
    sync_folder(final.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make names in `folder` survive a power cut."""
    fd = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_plain(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(descriptor, bytes) of a plain file. A link, a pipe or a device is refused, and never waited for.

    Raises MissingFileError, FormatError; the text names the file.
    """
    name = Path(path).name
    try:
        fd = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{name} is missing from {Path(path).parent}") from error
    except OSError as error:
        if Path(path).is_symlink():
            raise FormatError(f"{name} is a symbolic link; a data set holds plain files only") from error
        raise FormatError(f"{name} cannot be opened: {error.strerror}") from error
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)
        raise FormatError(f"{name} is not a plain file")
    return fd, about.st_size


def read_exactly(fd: int, offset: int, size: int, name: str) -> bytearray:
    """Bytes [offset, offset + size) in memory of our own. Raises FormatError where the file ends before."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        try:
            got = os.preadv(fd, [view[done:]], offset + done)
        except OSError as error:
            raise FormatError(f"{name} cannot be read at byte {offset + done}: {error.strerror}") from error
        if got == 0:
            raise FormatError(f"{name} ends at byte {offset + done}, inside a piece that goes on to {offset + size}")
        done += got
    return data


def hash_file(path: str | os.PathLike[str]) -> FileEntry:
    """Size and SHA-256 of a plain file."""
    fd, size = open_plain(path)
    try:
        return FileEntry(size, sha256_of(partial(read_exactly, fd, name=Path(path).name), size))
    finally:
        os.close(fd)


def sha256_of(read: Callable[[int, int], bytearray], size: int) -> str:
    """The SHA-256 of a file of `size` bytes, in hexadecimal. read(offset, size): bytes of it."""
    digest = hashlib.sha256()
    for offset in range(0, size, _PIECE):
        digest.update(read(offset, min(_PIECE, size - offset)))
    return digest.hexdigest()
