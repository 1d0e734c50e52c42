"""Where the tasks of a job write for each other: beside its output, or in a place that others use too."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from packer.errors import BuildError, PackerError
from packer.files.open import local_path
from packer.files.retry import redact
from pipelines.stores.journal import Journal, locked, remove
from pipelines.stores.owner import owned
from pipelines.stores.store import FolderStore, Store, store_of
from pipelines.stores.work_folder import (
    LOCK,
    MARKER,
    SCRATCH,
    WORK,
    check_store,
    marker,
    read_marker,
    work_store,
)


@contextmanager
def opened_work(
    out: Store,
    home: Path,
    here: bool,
    place: str | os.PathLike[str] | None,
    storage_options: Mapping[str, Any] | None,
) -> Generator[Store]:
    """The work store of the job that has `out`, for as long as nobody else builds there.

    home: the folder of this machine whose lock the job holds; here: whether all workers are on this machine; place:
    which others use too, for a folder of the job's own in it. That folder is named by the id of the work folder beside
    `out`, so that nobody else's is taken for it.
    """
    beside = out.below(WORK)
    with ExitStack() as stack:
        if isinstance(out, FolderStore):  # whose lock is held
            number = str((read_marker(beside) or {})["id"])
        else:
            stack.callback(tidy, beside)
            number = stack.enter_context(owned(beside, str(out)))
        if place is None:
            yield work_store(home / WORK) if here else beside
            return
        name, local = f"graph-pack-{number}", local_path(os.fspath(place))
        if local is None:
            work = store_of(place, home / WORK / SCRATCH, storage_options).below(name)
            _check_same(work, number)
            stack.callback(tidy, work)
            work.put(MARKER, marker(number, str(out)))
        else:
            folder = Path(local).absolute()
            work = work_store(folder / name)
            _check_same(work, number)
            stack.enter_context(locked(folder, name=name, destination=str(out), number=number))
            stack.callback(tidy, work)
        # As long as this says where the work is, the work folder beside the output stays, and with it the id.
        Journal(beside).note("work", "place", where=redact(os.fspath(place)))
        yield work


def _check_same(work: Store, number: str) -> None:
    """Raise BuildError unless a work folder is absent, empty, or that of this job."""
    known = read_marker(work) if check_store(work) else None
    if known is not None and known["id"] != number:
        raise BuildError(f"{work} is the work folder of a build to {known.get('destination')}: choose another place")


def tidy(work: Store) -> None:
    """Leave nothing of a work folder in which nothing is left to be gone on with."""
    with suppress(PackerError, OSError):
        if isinstance(work, FolderStore):
            if {path.name for path in work.folder.iterdir()} <= {LOCK, MARKER, SCRATCH}:
                remove(work.folder)
        elif set(work.names()) <= {MARKER}:
            work.remove([MARKER])
