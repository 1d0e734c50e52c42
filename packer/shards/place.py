"""Where the files of a data set lie: a folder here, or a URL (`packer.shards.remote`), perhaps behind a cache."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol, Union

from packer.errors import FormatError
from packer.shards.files import open_plain, read_exactly

_LOCAL = re.compile("(?:file|local)://(?:localhost)?(/.*)")


class Entry(Protocol):
    """What the manifest says of a file: a FileEntry or a ShardEntry."""

    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


class PlacedFile(Protocol):
    """A file open for reading. Its size is what was found, not what a manifest says."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytearray:
        """Bytes [offset, offset + size) in memory of the caller's own. FormatError where there are fewer."""
        ...

    def local(self) -> PlacedFile:
        """The file as one of this machine: itself, or a copy that goes when it is closed."""
        ...

    def renewed(self) -> PlacedFile | None:
        """The file as a new copy from where it came; None where what is read is no copy."""
        ...

    def close(self) -> None: ...


class Place(Protocol):
    """A place that files are opened in by their plain names. Values: they pickle, and str() is fit to be shown."""

    def open(self, name: str, entry: Entry | None = None) -> PlacedFile:
        """entry: what the manifest says of the file, for places that keep copies.

        MissingFileError where it is not there, FormatError where it cannot be opened.
        """
        ...

    def names(self) -> list[str] | None:
        """Names of all that lies there; None from a store that does not tell."""
        ...


Where = Union[str, "os.PathLike[str]", Place]


def place_of(where: Where, storage_options: Mapping[str, Any] | None = None) -> Place:
    """The place that a folder's path or a data set's URL names; a place as it is.

    storage_options: for fsspec; only a URL can have some. Raises FormatError, MissingExtraError.
    """
    if not isinstance(where, (str, os.PathLike)):
        return where
    text = os.fspath(where)
    local = local_path(text)
    if local is None:
        from packer.shards.remote import RemotePlace

        return RemotePlace(text, storage_options)
    if storage_options:
        raise FormatError(f"storage_options are for URLs such as s3://bucket/packs; {text} is a folder on this machine")
    return LocalPlace(Path(local).absolute())


def local_path(where: str) -> str | None:
    """The path of a folder of this machine, given as such or as a file:// URL; None for any other URL."""
    local = _LOCAL.fullmatch(where)
    return local[1] if local is not None else None if "://" in where else where


@dataclass(frozen=True)
class LocalPlace:
    """A folder of this machine. Plain files only: links, pipes and devices are refused."""

    folder: Path

    def open(self, name: str, entry: Entry | None = None) -> LocalFile:
        return LocalFile(*open_plain(self.folder / name), name)

    def names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]

    def __str__(self) -> str:
        return str(self.folder)


class LocalFile:
    """An open descriptor and the size it had; closed with the last reference at the latest.

    renew: for a copy of something remote, gives another one.
    """

    def __init__(self, fd: int, size: int, name: str, renew: Callable[[], PlacedFile] | None = None) -> None:
        self._fd = fd
        self._name = name
        self._renew = renew
        self.size = size

    def read(self, offset: int, size: int) -> bytearray:
        return read_exactly(self._fd, offset, size, self._name)

    def local(self) -> PlacedFile:
        return self

    def renewed(self) -> PlacedFile | None:
        return None if self._renew is None else self._renew()

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()
