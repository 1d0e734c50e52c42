"""Source files at a URL: fetched once by the process that reads the source, and read from that copy.

Tasks carry the rows that they are about, so workers, wherever they run, need neither the file nor the credentials.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from packer.errors import MissingFileError, SourceError
from packer.files.local import LocalPlace
from packer.files.open import place_of
from packer.files.protocol import Place
from packer.files.remote import RemotePlace
from packer.files.retry import redact

_VERSION = ("size", "ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""What stores tell of a file that is another one when it has been written again."""


class RemoteText:
    """A file of a place, for what takes a Path of a text file: `name` and `open`, and str() to be shown.

    Its bytes are copied when they are first needed, into a temporary file that has no name and goes with this object:
    hash, count and rows are of the same bytes, whatever happens to the file meanwhile. Raises SourceError where it is
    not there, or is written to while it is copied; StoreError where the store refuses, keeps failing, or finds no room.
    """

    def __init__(self, place: RemotePlace, name: str) -> None:
        self._place = place
        self.name = name

    def __str__(self) -> str:
        return f"{self._place}/{self.name}"

    def __repr__(self) -> str:
        return f"RemoteText({str(self)!r})"

    def open(self) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._bytes))

    @property
    def data(self) -> memoryview:
        return self._bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()

    @cached_property
    def lines(self) -> int:
        with self.open() as file:
            return lines_of(file)

    @cached_property
    def _bytes(self) -> memoryview:
        try:
            before = self._version()
            file = self._place.open(self.name)
            data = file.map() if file.size else memoryview(b"")
            after = self._version()
        except MissingFileError:
            raise SourceError(f"cannot read {self}: there is no such file. Check the URL") from None
        if before != after:
            raise SourceError(f"{self} was written to while it was read: run again when it is complete")
        return data

    def _version(self) -> dict[str, str]:
        def ask(fs: Any, root: str) -> dict[str, str]:
            fs.invalidate_cache()
            about: Mapping[str, Any] = fs.info(f"{root}/{self.name}")
            return {key: str(about[key]) for key in _VERSION if key in about}

        return self._place.ask(ask, self.name, "asking for its size")


def parts_of(file: Any) -> Iterator[bytes]:
    """A file's bytes, about 1 MiB at a time, never parted between a carriage return and the line feed after it."""
    while part := file.read(1 << 20):
        while part.endswith(b"\r") and (more := file.read(1)):
            part += more
        yield part


def line_ends(data: bytes) -> int:
    """Lines that end in these bytes: in a line feed, a carriage return, or both."""
    returns = data.count(b"\r")
    return data.count(b"\n") + (returns - data.count(b"\r\n") if returns else 0)


def lines_of(file: Any) -> int:
    """Lines of a file, the last one with or without an end."""
    ends, last = 0, b"\n"
    for last in parts_of(file):
        ends += line_ends(last)
    return ends + (not last.endswith((b"\n", b"\r")))


class _Reader(io.RawIOBase):
    """Bytes as a file; several may read the same ones, each at its own position."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), len(self._data) - self._at)
        buffer[:count] = self._data[self._at : self._at + count]
        self._at += count
        return count


def text_file(text: str, storage_options: Mapping[str, Any] | None = None) -> Path | RemoteText:
    """The file that a path or a URL names. Reads nothing. Raises SourceError, FormatError, MissingExtraError."""
    if "://" not in text:
        if storage_options:
            raise SourceError(f"storage_options are for URLs such as s3://bucket/molecules.csv; {text} is a file here")
        return Path(text)
    folder, _, name = text.rpartition("/")
    if "?" in text or "#" in text:
        raise SourceError(f"{redact(text)}: a source's URL cannot have a query. Pass credentials as storage_options")
    if not name or folder.endswith(":/"):
        raise SourceError(f"{redact(text)} names no file: write it as s3://bucket/molecules.csv")
    place: Place = place_of(folder + "/", storage_options)
    if isinstance(place, LocalPlace):
        return place.folder / name
    assert isinstance(place, RemotePlace), "what place_of makes of a URL"
    return RemoteText(place, name)
