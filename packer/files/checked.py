"""Files of a job that is under way: written once, with a checksum of each piece, and compared with it before use.

A folder of such files has `sums.json`, one line under its own checksum, that lists them; it comes last, when all else
is on disk. Who keeps the checksum of that line can prove the whole folder later, in tasks of bounded size.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from packer.errors import FormatError
from packer.files.atomic import sync_folder, write_bytes_atomically

SUMS = "sums.json"

_PIECE = 1 << 20
_AT_ONCE = 64
"""Pieces that one task compares."""


def to_line(value: Any) -> bytes:
    """A plain value as a line of JSON behind its CRC-32. Equal values give equal lines."""
    text = json.dumps(value, sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def from_line(line: bytes) -> Any:
    """The inverse of `to_line`, with or without the line's end. Raises FormatError for anything else."""
    stated, _, text = line.rstrip(b"\n").partition(b" ")
    crc32 = b"%08x" % zlib.crc32(text)
    if stated != crc32:
        raise FormatError(f"the CRC-32 of {bytes(text[:40])!r}... is {crc32.decode()}, not {bytes(stated[:8])!r}")
    return json.loads(text)


class CheckedFile:
    """A file object that keeps the CRC-32 of each piece of what is written to it; `close` puts it on disk."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._sums: list[int] = []
        self._crc32 = self._filled = self._size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        self._file.write(view)
        at = 0
        while at < len(view):
            part = view[at : at + _PIECE - self._filled]
            self._crc32 = zlib.crc32(part, self._crc32)
            self._filled += len(part)
            at += len(part)
            if self._filled == _PIECE:
                self._sums.append(self._crc32)
                self._crc32 = self._filled = 0
        self._size += len(view)
        return len(view)

    @property
    def entry(self) -> dict[str, Any]:
        """bytes, and the CRC-32 of each piece."""
        return {"bytes": self._size, "crc32": [*self._sums, self._crc32] if self._filled else list(self._sums)}

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """`close` does."""

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Close it as it is."""
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


class CheckedFolder:
    """A folder whose files are written by `create`, closed by the caller, and listed by `finish`."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / SUMS).unlink(missing_ok=True)
        self._files: dict[str, CheckedFile] = {}

    def create(self, name: str) -> CheckedFile:
        self._files[name] = CheckedFile(self.folder / name)
        return self._files[name]

    def put(self, name: str, data: bytes) -> None:
        """Write a small file."""
        file = self.create(name)
        file.write(data)
        file.close()

    def finish(self) -> int:
        """Put all on disk, names included; the checksum by which `stretches` knows the folder again."""
        for file in self._files.values():
            file.close()
        sync_folder(self.folder)
        line = to_line({name: file.entry for name, file in self._files.items()})
        write_bytes_atomically(self.folder, SUMS, line)
        sync_folder(self.folder.parent)
        return zlib.crc32(line)

    def discard(self) -> None:
        """Close all files as they are."""
        for file in self._files.values():
            file.discard()


def sums_of(folder: Path | str) -> int:
    """What `finish` gave, of a folder that it has just finished."""
    return zlib.crc32((Path(folder) / SUMS).read_bytes())


class Stretch(NamedTuple):
    """Pieces of a file that one task compares. start: of the first one; bytes: of the whole file; crc32: by piece."""

    path: str
    start: int
    bytes: int
    crc32: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"the checksums of {self.path}"


def stretches(folder: Path | str, sums: int) -> Iterator[Stretch]:
    """The tasks that prove a folder. sums: what `finish` gave. Raises FormatError where its list is not that one."""
    path = Path(folder) / SUMS
    try:
        line = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error
    if zlib.crc32(line) != sums:
        raise FormatError(f"{path} has the CRC-32 {zlib.crc32(line):08x}; {sums:08x} was written")
    for name, entry in from_line(line).items():
        checksums = entry["crc32"]
        for first in range(0, max(len(checksums), 1), _AT_ONCE):
            part = tuple(checksums[first : first + _AT_ONCE])
            yield Stretch(str(path.with_name(name)), first * _PIECE, entry["bytes"], part)


def check_stretch(stretch: Stretch) -> str | None:
    """What is wrong with these pieces of a file; None where each is as it was written. A task for `map`."""
    try:
        with Path(stretch.path).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != stretch.bytes:
                return f"{stretch.path} has {size} bytes; {stretch.bytes} were written"
            held = memoryview(bytearray(_PIECE))
            for number, stated in enumerate(stretch.crc32):
                at = stretch.start + number * _PIECE
                crc32 = zlib.crc32(held[: os.preadv(file.fileno(), [held], at)])
                if crc32 != stated:
                    return f"{stretch.path} has the CRC-32 {crc32:08x} from byte {at} on; {stated:08x} was written"
    except OSError as error:
        return f"{stretch.path} cannot be read: {error.strerror}"
    return None
