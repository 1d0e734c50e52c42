"""What a command looks at: a folder that a build wrote, or the URL of one in an object store."""

from __future__ import annotations

from pathlib import Path

from packer.errors import FormatError, MissingFileError
from packer.shards.manifest import MANIFEST
from packer.shards.place import place_of
from packer.shards.retry import shown
from pipelines.build_folder import SPLITS_FILE, split_names

Where = Path | str


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


def data_sets(at: Where) -> dict[str, Where]:
    """Split name ("" for the place itself) -> place of each data set. FormatError where there is none."""
    place = place_of(at)
    try:
        place.open(MANIFEST).close()
        return {"": at}
    except MissingFileError:
        names = split_names(place)
    if not names:
        raise FormatError(f"{label(at)} holds no packs: neither {MANIFEST} nor {SPLITS_FILE}; run graph-pack build")
    return {name: below(at, name) for name in names}
