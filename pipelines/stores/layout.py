"""The names of the files of a build, and of its splits."""

from __future__ import annotations

import re
from typing import Any

from packer.errors import BuildError, FormatError, MissingFileError
from packer.files.canonical import MAX_BYTES, bounded_loads
from packer.files.protocol import Place

BUILD_FILE, SPLITS_FILE = "build.json", "splits.json"

CARD, REPORT = "README.md", "report.html"

_MOST_BYTES = 1 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def read_json(place: Place, name: str, most: int = MAX_BYTES) -> Any:
    """What a file of JSON says, of which `most` bytes are read. Raises OSError, and FormatError for what is no JSON."""
    file = place.open(name)
    try:
        return bounded_loads(bytes(file.read(0, min(file.size, most))), name)
    finally:
        file.close()


def inside(split: str, file: str) -> str:
    """The name of a file of a data set, from where the build is; split: "" without splits."""
    return f"{split}/{file}" if split else file


def split_names(place: Place) -> list[str]:
    """The splits that its splits.json lists; [] where there is none. FormatError for what is no list of splits."""
    try:
        names = [str(name) for name in read_json(place, SPLITS_FILE, _MOST_BYTES)["splits"]]
        for name in names:
            check_name(name)
    except MissingFileError:
        return []
    except (ValueError, KeyError, TypeError, BuildError) as error:
        raise FormatError(f"{SPLITS_FILE} of {place} is not a list of splits: {error}") from error
    return names


def check_name(name: str) -> None:
    """A split names a folder."""
    if not _NAME.fullmatch(name):
        raise BuildError(f"a split is named by letters, digits, - and _; got {name!r}")
