"""Where the files of a data set lie: a folder here, or a URL (`packer.files.remote`), perhaps behind a cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Mapping

from packer.errors import FormatError
from packer.files.local import LocalPlace
from packer.files.protocol import Place, Where

_LOCAL = re.compile("(?:file|local)://(?:localhost)?(/.*)")


def place_of(where: Where, storage_options: Mapping[str, Any] | None = None) -> Place:
    """The place that a folder's path or a data set's URL names; a place as it is.

    storage_options: for fsspec; only a URL can have some. Raises FormatError, MissingExtraError.
    """
    if not isinstance(where, (str, os.PathLike)):
        return where
    text = os.fspath(where)
    local = local_path(text)
    if local is None:
        from packer.files.remote import RemotePlace

        return RemotePlace(text, storage_options)
    if storage_options:
        raise FormatError(f"storage_options are for URLs such as s3://bucket/packs; {text} is a folder on this machine")
    return LocalPlace(Path(local).absolute())


def local_path(where: str) -> str | None:
    """The path of a folder of this machine, given as such or as a file:// URL; None for any other URL."""
    local = _LOCAL.fullmatch(where)
    return local[1] if local is not None else None if "://" in where else where
