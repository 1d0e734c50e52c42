"""Files as they lie: places here and far, whole writes, checksums, and strict readers of JSON and Parquet.

The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import on_first_use

if TYPE_CHECKING:
    from packer.files.atomic import FileEntry as FileEntry
    from packer.files.atomic import write_bytes_atomically as write_bytes_atomically

_HOME = {
    "FileEntry": "atomic",
    "write_bytes_atomically": "atomic",
}
__getattr__ = on_first_use(__name__, _HOME)
