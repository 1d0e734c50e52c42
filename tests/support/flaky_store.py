"""An fsspec file system in memory whose answers a test can spoil: `flaky://NAME/...`, no server and no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FlakyFileSystem(MemoryFileSystem):
    """Takes a `password` as other stores take credentials. `spoil(path, data)` may raise, or change what is sent."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    spoil: Callable[[str, bytes], bytes] | None = None
    reads: list[tuple[str, int, int]] = []  # noqa: RUF012

    def __init__(self, password: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.password = password

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://", 1))

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        type(self).reads.append((path.rpartition("/")[2], start, end))
        data = super().cat_file(path, start, end, **more)
        spoil = type(self).spoil
        return data if spoil is None else spoil(path, data)


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


def put(folder: Path, url: str) -> None:
    """The files of a folder, at a flaky:// URL."""
    fs, root = fsspec.core.url_to_fs(url)
    for path in folder.iterdir():
        fs.pipe_file(f"{root}/{path.name}", path.read_bytes())
