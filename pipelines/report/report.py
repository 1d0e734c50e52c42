"""A report of a folder that a build wrote: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packer.errors import FormatError, PackerError
from packer.files.atomic import write_bytes_atomically
from pipelines.building.target import check_replaceable
from pipelines.report.facts import read_facts
from pipelines.report.page import page
from pipelines.stores.layout import REPORT
from pipelines.stores.locations import data_sets, label, where

_BEGINS = b"<!doctype html>"
"""As every page does."""


def write_report(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    verify: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[Path, int]:
    """Write the report of a data set, or of all splits of a build: its path, FOLDER/report.html by default, and how
    many faults it tells.

    folder: a path or a URL, for which storage_options go to fsspec and `out` must be given: a page is written here.
    verify: check every byte first and tell what is wrong. Needs the extra `report`. Raises FormatError where the folder
    holds no packs, PackerError where the page cannot be written.
    """
    place = where(folder)
    if out is None and isinstance(place, str):
        raise FormatError(
            f"the report of {label(place)} is written on this machine: say where with out=FILE (--out FILE)"
        )
    target = Path(place if out is None else out)
    target = target / REPORT if target.is_dir() else target
    if out is not None:
        check_replaceable(target, (_BEGINS,))
    places = data_sets(place, storage_options)
    facts = [read_facts(at, name, verify, storage_options) for name, at in places.items()]
    text = page(facts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(target.parent, target.name, text.encode())
    except OSError as error:
        raise PackerError(
            f"cannot write {target}: {error.strerror or error}. Name another file with out=FILE (--out FILE)"
        ) from error
    return target, sum(len(told.faults or ()) for told in facts)
