"""Files as they lie: places here and far, whole writes, checksums, and strict readers of JSON and Parquet.

The names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packer.files.atomic import FileEntry as FileEntry
    from packer.files.atomic import write_bytes_atomically as write_bytes_atomically

_HOME = {
    "FileEntry": "atomic",
    "write_bytes_atomically": "atomic",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'packer.files' has no attribute {name!r}")
    return getattr(import_module(f"packer.files.{_HOME[name]}"), name)
