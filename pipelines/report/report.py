"""A report of a folder that a build wrote: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from packer.errors import FormatError
from packer.shards import write_bytes_atomically
from packer.shards.manifest import MANIFEST
from pipelines.build_folder import REPORT, split_names
from pipelines.report.facts import read_facts
from pipelines.report.page import page


def write_report(
    folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, verify: bool = True
) -> tuple[Path, int]:
    """Write the report of a data set, or of all splits of a build: its path, FOLDER/report.html by default, and how
    many faults it tells.

    verify: check every byte first and tell what is wrong. Needs the extra `report`. Raises FormatError where the folder
    holds no packs.
    """
    place = Path(folder)
    if (place / MANIFEST).is_file():
        folders = {"": place}
    else:
        folders = {name: place / name for name in (split_names(place) if place.is_dir() else [])}
    if not folders:
        raise FormatError(f"{place} holds no packs: neither {MANIFEST} nor splits.json; run graph-pack build")
    facts = [read_facts(where, name, verify) for name, where in folders.items()]
    text = page(facts)
    target = Path(out) if out is not None else place
    target = target / REPORT if target.is_dir() else target
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(target.parent, target.name, text.encode())
    return target, sum(len(found.faults or ()) for found in facts)
