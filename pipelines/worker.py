"""The other end of ProcessExecutor: a process that runs one task after another until its parent is gone."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from packer.errors import MissingExtraError, PackerError

_PR_SET_PDEATHSIG = 1


def main(channel: int, parent: int, path: list[str]) -> None:
    """Serve the tasks that arrive on file descriptor `channel`; path: the parent's sys.path, searched last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _die_with(parent)
    sys.path += [entry for entry in path if entry not in sys.path]
    connection = Connection(channel)
    while True:
        try:
            name, item = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            connection.send((False, pickle.loads(name)(item)))
        except BrokenPipeError:
            return
        except Exception as error:
            connection.send((True, _portable(error)))


def _die_with(parent: int) -> None:
    """On Linux the kernel ends this process with its parent, in the middle of a task; elsewhere it ends after one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _portable(error: Exception) -> Any:
    """The error itself where the parent can do something with it; its traceback as text where it is a fault of ours."""
    if isinstance(error, MissingExtraError):
        return PackerError(str(error))  # its own arguments would not survive pickling
    if isinstance(error, (PackerError, OSError)):
        return error
    return RuntimeError("in a worker:\n" + "".join(traceback.format_exception(error)).rstrip())
