"""What a place is, and a file of it, whether here or far away."""

from __future__ import annotations

import os
from typing import Protocol, Union


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
