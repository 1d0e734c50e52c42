"""What the files of a data set are written from: its folders, journalled with their checksums, are proven again.

Graphs are gathered from all over a table, so that no task could prove what it reads without reading everything. The
whole is proven instead: when a build goes on, and when all files are written. Where it fails, what was written does not
count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from packer.errors import FormatError
from packer.files.checked import Stretch, check_stretch, stretches
from pipelines.executors import Executor, SerialExecutor
from pipelines.stores.journal import Journal
from pipelines.stores.sealed import AGAIN, DamagedError

TABLE = "table"
_INPUT = "input"

Value = TypeVar("Value")


def add_input(journal: Journal, name: str, sums: int) -> None:
    """A folder of the work folder is on disk, and files are about to be written from it."""
    journal.add(_INPUT, name, sums=sums)


def drop_damaged(work: Path, journal: Journal, executor: Executor) -> None:
    """Forget what an earlier run has made, as far as it came from something that is not as that run wrote it."""
    inputs = _inputs(journal)
    if TABLE in inputs and _damage(work, {TABLE: inputs[TABLE]}, executor):
        journal.drop("scan", "block", "table", "plan", "file", _INPUT)
    elif _damage(work, inputs, executor):
        journal.drop("file", _INPUT)
    elif journal.find(_INPUT):
        journal.drop(_INPUT)  # they are made anew


def proven(write: Callable[[], Value], work: Path, journal: Journal, executor: Executor) -> Value:
    """What `write` gives; DamagedError if, at its end, something that it read is not as it was written."""
    try:
        result = write()
    except Exception as error:
        if not isinstance(error, OSError):  # a full disk says nothing of what was read
            _refuse(work, journal, SerialExecutor(), error)
        raise
    _refuse(work, journal, executor, None)
    return result


def _refuse(work: Path, journal: Journal, executor: Executor, error: Exception | None) -> None:
    damage = _damage(work, _inputs(journal), executor)
    if damage:
        journal.drop("file")
        raise DamagedError(f"{damage}: what was written from it does not count. {AGAIN}") from error


def _inputs(journal: Journal) -> dict[str, int]:
    """Folder of the work folder -> what `CheckedFolder.finish` gave."""
    return {name: line["sums"] for kind in ("table", _INPUT) for name, line in journal.find(kind).items()}


def _damage(work: Path, inputs: dict[str, int], executor: Executor) -> str | None:
    """What is wrong with these folders, or None."""

    def tasks() -> Iterator[Stretch]:
        for name, sums in inputs.items():
            yield from stretches((work / name).absolute(), sums)

    if not inputs:
        return None
    try:
        return next(filter(None, list(executor.map(check_stretch, tasks()))), None)
    except FormatError as error:
        return str(error)
