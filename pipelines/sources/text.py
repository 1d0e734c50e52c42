"""Text files, plain or gzipped, as their bytes are: what is not UTF-8 text is an error that says what it is."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from packer.errors import SourceError
from pipelines.sources.remote import RemoteText, line_ends, lines_of, parts_of

TextFile = Path | RemoteText

_GZIP = b"\x1f\x8b"
_OTHERS = (
    (b"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)", "compressed by bzip2"),
    (rb"\xfd7zXZ\x00", "compressed by xz"),
    (rb"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (rb"\x04\x22\x4d\x18", "compressed by lz4"),
    (rb"\x1f\x9d", "compressed by compress"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"PK(?:\x03\x04|\x05\x06)", "a zip archive, as .xlsx files are too"),
    (rb"PAR1\x15", "a Parquet file"),
    (rb"\xd0\xcf\x11\xe0", "an Office file"),
    (rb"\xff\xfe|\xfe\xff|\x00\x00\xfe\xff", "UTF-16 or UTF-32 text"),
)
"""What files that are not plain UTF-8 text begin with, and what they are. Gzipped ones are read."""


def digest(path: TextFile) -> str:
    """SHA-256 of a file's bytes as they lie on disk, or at its URL."""
    return path.sha256 if isinstance(path, RemoteText) else _digest(path, *_stamp(path))


@lru_cache(maxsize=16)
def _digest(path: Path, *_: int) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def written(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written to: its number, size and time. SourceError where it cannot be opened."""
    with open_file(path) as file:
        return _written(file)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    with open_file(path) as file:
        return (*_written(file), os.fstat(file.fileno()).st_ctime_ns)


def _written(file: io.BufferedReader) -> tuple[int, int, int]:
    """What changes when an open file is written to."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def has_changed(path: object, sha256: str, stated: str) -> SourceError:
    """The error that a file is not the one that was hashed when the job began."""
    return SourceError(
        f"{path} has changed while it was read: its SHA-256 is {sha256}, and was {stated} at the start. Run again when "
        "nothing writes to it"
    )


def open_file(path: TextFile) -> io.BufferedReader:
    """The file's bytes; SourceError where it cannot be opened."""
    if isinstance(path, RemoteText):
        return path.open()
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # whose end may never come
            raise SourceError(f"{path} is no plain file, but a pipe, a device or a socket: write it to a file first")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SourceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}. Check the path") from error


def count_lines(path: TextFile) -> int | None:
    """Lines of a plain file; None for a gzipped one (not worth decompressing it twice)."""
    if is_gzipped(path):
        return None
    return path.lines if isinstance(path, RemoteText) else _count_lines(path, *_stamp(path))


@lru_cache(maxsize=16)
def _count_lines(path: Path, *_: int) -> int:
    with open_file(path) as file:
        return lines_of(file)


def is_gzipped(path: TextFile) -> bool:
    with open_file(path) as file:
        return _is_gzipped(path, file)


def _is_gzipped(path: TextFile, file: Any) -> bool:
    """By what it begins with, whatever its name; what is called so and is not is damaged."""
    return path.name.lower().endswith(".gz") or file.peek(2).startswith(_GZIP)


@contextmanager
def text_of(path: TextFile, sha256: str | None) -> Generator[tuple[io.TextIOWrapper, Callable[[bool], None]]]:
    """A text file, decompressed where it is gzipped; what is wrong with its bytes is a SourceError.

    With it comes a function that raises where it is not the file of that hash: called with True, all has been read.
    """
    with open_file(path) as opened:
        hashed = _Hashed(opened)
        raw = io.BufferedReader(hashed, 1 << 16)
        known = isinstance(path, RemoteText)  # whose bytes are a copy, from which its hash is too
        start = () if known or sha256 is None else _written(opened)

        def check(whole: bool) -> None:
            if known or sha256 is None:
                return
            if whole:
                while raw.read(1 << 20):
                    pass
            if whole or _written(opened) != start:
                now = hashed.sha256.hexdigest() if whole else digest(path)
                if now != sha256:
                    raise has_changed(path, now, sha256)

        if sha256 is not None and digest(path) != sha256:
            raise has_changed(path, digest(path), sha256)
        with _damage(path):
            plain = _Plain(_unzipped(path, raw))
            with io.TextIOWrapper(cast(Any, plain), encoding="utf-8-sig", newline="") as text:
                try:
                    yield text, check
                except (UnicodeDecodeError, _NulByte) as error:
                    raise SourceError(f"{path}{_first_fault(path)}") from error


@contextmanager
def _damage(path: TextFile) -> Generator[None]:
    """What fails in decompressing is a SourceError."""
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(f"{path} is damaged: {error}. Restore it, or write it again") from error


def _unzipped(path: TextFile, raw: Any) -> Any:
    """The bytes of the text: of what the file holds, where it is gzipped, under whatever name.

    Where they are of something else than plain text, SourceError says of what.
    """
    gzipped = _is_gzipped(path, raw)
    file = cast(Any, gzip.GzipFile(fileobj=raw)) if gzipped else raw
    start = file.peek(16)[:16]
    for pattern, kind in (*_OTHERS, *([(_GZIP, "gzipped once more")] if gzipped else [])):
        if re.match(pattern, start, re.DOTALL):
            inside = ", once unzipped," if gzipped else ""
            raise SourceError(f"{path}{inside} is {kind}: write it as UTF-8 text, plain or gzipped")
    return file


def _first_fault(path: TextFile) -> str:
    """Where the first byte stands that no text has: ", line 7: ...". The file is read again for it."""
    with open_file(path) as opened, _damage(path):
        decoder, ends = codecs.getincrementaldecoder("utf-8")(), 0
        for part in parts_of(_unzipped(path, opened)):
            text, nul, _ = part.partition(b"\0")
            try:
                decoder.decode(text)
            except UnicodeDecodeError as error:
                line = 1 + ends + line_ends(error.object[: error.start])
                return f", line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8. Write it as UTF-8 text"
            ends += line_ends(text)
            if nul:
                return f", line {1 + ends}: a NUL byte, which no text holds. Restore the file"
    return " ends within a character: restore the file"


class _NulByte(Exception):
    """There is one among the bytes that were read."""


class _Plain(io.BufferedIOBase):
    """A file whose bytes are looked at for NUL, which the UTF-8 decoder and the csv module let pass."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return self._looked_at(self._file.read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._looked_at(self._file.read1(size))

    def _looked_at(self, data: bytes) -> bytes:
        if b"\0" in data:
            raise _NulByte
        return data


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self.sha256.update(memoryview(buffer)[:count])
        return count
