"""What a command looks at: a folder that a build wrote, or the URL of one in an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError, MissingFileError
from packer.files.open import local_path, place_of
from packer.files.retry import redact
from packer.shards.manifest import MANIFEST
from pipelines.stores.layout import SPLITS_FILE, check_name, split_names

Where = Path | str


def where(location: str | os.PathLike[str]) -> Where:
    """What a user names: text with :// is a URL, but for one of a folder of this machine."""
    text = os.fspath(location)
    local = local_path(text)
    return text.rstrip("/") if local is None else Path(local)


def below(place: Where, name: str) -> Where:
    """The data set of a split; the place itself for the name ""."""
    if isinstance(place, Path):
        return place / name
    return f"{place}/{name}" if name else place


def above(place: Where) -> Where:
    """What a split's data set lies in."""
    return place.resolve().parent if isinstance(place, Path) else place.rpartition("/")[0]


def name_of(place: Where) -> str:
    """Its own name, without what it lies in."""
    return place.resolve().name if isinstance(place, Path) else label(place).rpartition("/")[2]


def label(place: Where, name: str = "") -> str:
    """How output calls it: without the password that a URL may hold."""
    return redact(str(below(place, name)))


def data_sets(at: Where, storage_options: Mapping[str, Any] | None = None) -> dict[str, Where]:
    """Split name ("" for the place itself) -> place of each data set. FormatError where there is none."""
    if is_data_set(at, storage_options):
        return {"": at}
    names = split_names(place_of(at, storage_options))
    if not names:
        raise FormatError(f"{label(at)} holds no packs: neither {MANIFEST} nor {SPLITS_FILE}; run graph-pack build")
    return {name: below(at, name) for name in names}


def is_data_set(at: Where, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether a manifest lies there."""
    try:
        place_of(at, storage_options).open(MANIFEST).close()
    except MissingFileError:
        return False
    return True


def data_sets_below(at: Where, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Names of the data sets in a place: those that a build lists, or else, of several builds, what is found there."""
    place = place_of(at, storage_options)
    names = split_names(place)
    if names:
        return names
    try:
        listed = sorted(place.names() or ())
    except OSError:  # no folder
        return []
    return [name for name in listed if _may_be_split(name) and is_data_set(below(at, name), storage_options)]


def _may_be_split(name: str) -> bool:
    try:
        check_name(name)
    except BuildError:
        return False
    return True
