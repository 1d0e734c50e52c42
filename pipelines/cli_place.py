"""What a command looks at: a folder that a build wrote, or the URL of one in an object store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError, MissingFileError
from packer.shards.manifest import MANIFEST
from packer.shards.place import Place, place_of
from packer.shards.retry import shown
from pipelines.build_folder import SPLITS_FILE
from pipelines.splits import check_name

Where = Path | str
_MOST_BYTES = 1 << 20


def where(text: str) -> Where:
    """A command's argument: text with :// is a URL."""
    return text.rstrip("/") if "://" in text else Path(text)


def below(place: Where, name: str) -> Where:
    """The data set of a split; the place itself for the name ""."""
    if isinstance(place, Path):
        return place / name
    return f"{place}/{name}" if name else place


def label(place: Where, name: str = "") -> str:
    """How output calls it: without the password that a URL may hold."""
    return shown(str(below(place, name)))


def url_data_sets(url: str) -> dict[str, Where]:
    """Split name ("" for the URL itself) -> URL of each data set. FormatError where there is none."""
    place = place_of(url)
    try:
        place.open(MANIFEST).close()
        return {"": url}
    except MissingFileError:
        names = _split_names(place)
    if not names:
        raise FormatError(f"{place} holds no packs: neither {MANIFEST} nor {SPLITS_FILE}; run graph-pack build")
    return {name: below(url, name) for name in names}


def _split_names(place: Place) -> list[str]:
    """The splits that `splits.json` lists; [] where there is none."""
    try:
        file = place.open(SPLITS_FILE)
    except MissingFileError:
        return []
    try:
        found: Any = json.loads(bytes(file.read(0, min(file.size, _MOST_BYTES))))
        names = [str(name) for name in found["splits"]]
        for name in names:
            check_name(name)
    except (ValueError, KeyError, TypeError, BuildError) as error:
        raise FormatError(f"{SPLITS_FILE} of {place} is not a list of splits: {error}") from error
    finally:
        file.close()
    return names
