"""The other end of ProcessExecutor: a process that runs one task after another until its parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing.connection import Connection

from pipelines.executors.protocol import answer

_PR_SET_PDEATHSIG = 1


def main(channel: int, parent: int, path: list[str]) -> None:
    """Serve the tasks that arrive on file descriptor `channel`; path: the parent's sys.path, searched last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _die_with(parent)
    connection = Connection(channel)
    while True:
        try:
            task = connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        try:
            connection.send(answer(task, path))
        except BrokenPipeError:
            return


def _die_with(parent: int) -> None:
    """On Linux the kernel ends this process with its parent, in the middle of a task; elsewhere it ends after one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
