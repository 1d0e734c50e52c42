"""Whose turn it is to build into an object store, which has no locks: an owner that says so again and again.

An owner that a killed process left behind does not last: on the same machine it is seen that the process is gone, and
from another one that it has fallen silent.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from packer.errors import BuildError, FormatError, PackerError
from packer.files.checked import from_line, to_line
from pipelines.stores.store import Store
from pipelines.stores.work_folder import MARKER, OWNER, marker, read_marker

BEAT = 10.0
"""Seconds between two signs of life."""
SILENCE = 35.0
"""Seconds without one after which an owner of another machine counts as gone."""


@contextmanager
def owned(work: Store, destination: str) -> Generator[str]:
    """Own a work place in a store; gives its id, which stays as long as its marker. BuildError where another owns it.

    The first that is written there: where that is not possible, nothing has been read.
    """
    number = _marked(work, destination)
    me = {"run": uuid.uuid4().hex, **_process()}
    try:
        work.create(OWNER, to_line({**me, "beat": 0}))
    except BuildError:
        _await_silence(work, destination)
        work.put(OWNER, to_line({**me, "beat": 0}))
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(work, me, done), name="owner", daemon=True)
    beating.start()
    try:
        yield number
    finally:
        done.set()
        beating.join()
        with suppress(PackerError, OSError):
            work.remove([OWNER])


def _marked(work: Store, destination: str) -> str:
    """The id of the place, given to it by whoever came first."""
    known = read_marker(work)
    if known is None:
        with suppress(BuildError):  # another one was faster
            work.create(MARKER, marker(uuid.uuid4().hex, destination))
        known = read_marker(work)
    if known is None:
        raise BuildError(f"{work}: what was written there is gone: another build has just ended. Run again")
    return str(known["id"])


def _beat(work: Store, me: dict[str, Any], done: threading.Event) -> None:
    number = 0
    while not done.wait(BEAT):
        number += 1
        with suppress(PackerError, OSError):  # the build itself will say what is wrong with the store
            work.put(OWNER, to_line({**me, "beat": number}))


def _await_silence(work: Store, destination: str) -> None:
    """Return where the owner is gone; BuildError where it lives."""
    first = _read(work)
    end = time.monotonic() + SILENCE
    while first is not None and not _is_gone(first):
        if time.monotonic() > end:
            return
        time.sleep(min(0.5, SILENCE / 10))
        now = _read(work)
        if now is None:
            return
        if now != first or _is_here(first):
            raise BuildError(
                f"another build is writing to {destination}: process {now.get('pid')} of {now.get('host')}. Wait for "
                "it, or choose another place"
            )


def _read(work: Store) -> dict[str, Any] | None:
    if work.size(OWNER) is None:
        return None
    try:
        return dict(from_line(work.read(OWNER)))
    except (FormatError, ValueError, TypeError):  # gone meanwhile, or cut short
        return None


def _process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid()}


def _machine() -> str:
    """Within it a process has one number, until it starts anew."""
    parts: list[str] = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _is_here(owner: dict[str, Any]) -> bool:
    return bool(owner.get("machine")) and (owner.get("host"), owner.get("machine")) == (
        socket.gethostname(),
        _machine(),
    )


def _is_gone(owner: dict[str, Any]) -> bool:
    if not _is_here(owner):
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError, KeyError):
        return False
    return False
