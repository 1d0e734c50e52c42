"""Folders and files of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from packer.files.atomic import open_plain, read_exactly
from packer.files.protocol import Entry, PlacedFile


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
