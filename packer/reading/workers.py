"""Worker processes and Ctrl-C: it reaches them too, but ending them is the matter of the process that started them.

A worker that an interrupt stops anywhere may hold a lock that its parent waits for when it ends the others.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import Any, Callable, Generator


class WorkerStart:
    """A worker_init_fn: SIGINT is left to the parent; then what the user wants done. Pickles when that does."""

    def __init__(self, then: Callable[[int], Any] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _hold(False)
        if self.then is not None:
            self.then(worker)


@contextmanager
def interrupts_held() -> Generator[None, None, None]:
    """SIGINT waits till the end, here and in the processes that this thread starts in the meantime."""
    held = _hold(True)
    try:
        yield
    finally:
        _hold(held)


def _hold(hold: bool) -> bool:
    """Whether this thread held SIGINT before. Where signals cannot be held, nothing happens."""
    if not hasattr(signal, "pthread_sigmask"):
        return False
    before = signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, {signal.SIGINT})
    return signal.SIGINT in before
