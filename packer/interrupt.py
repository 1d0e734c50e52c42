"""Ctrl-C as a request that steps look at: none is torn in the middle, and no signal is lost inside a native call."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, Callable, Generic, TypeVar

Result = TypeVar("Result")
_LOOK = 0.1
_WHILE = 0.2
"""Seconds between two looks; and after which a call takes a while."""


class Unfinished(RuntimeError):
    """A native call that cannot be stopped was left to end by itself."""


class Interrupt:
    """Inside `with`, the first Ctrl-C sets `requested`; the next one raises KeyboardInterrupt as usual.

    A program with a SIGINT handler of its own keeps it, and so does every thread but the main one.
    """

    def __init__(self) -> None:
        self.requested = False
        self.late = False
        """Nobody waits any more for what runs: it is to end."""
        self._listens = False

    def __enter__(self) -> Interrupt:
        main = threading.current_thread() is threading.main_thread()
        self._listens = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._listens:
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hear(self, *_: object) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(self, call: Callable[[], Result], stop: Callable[[], Any]) -> Result:
        """The result of `call`, a long native call; a request calls `stop`, which must make it return early.

        It runs in a thread: Python hears of signals only between the steps of the main one.
        """
        if not self._listens:
            return call()
        running = _Running(call)
        try:
            while running.wait(_LOOK):
                if self.requested:
                    stop()
        finally:
            if running.wait(0):  # a second Ctrl-C
                stop()
                running.wait(None)
        return running.result()

    def run_until(self, call: Callable[[], Result], end: float, meanwhile: Callable[[], Any]) -> Result | None:
        """The result of `call`, or None at `end` (of time.perf_counter): it is left to see by itself that it is late.

        It runs in a thread, so that no step of it, however long, keeps the caller waiting: what compiles, solves or
        loads need not look at the clock for that. meanwhile: called here if it takes a while. A request is not waited
        for here: `call` sees it.
        """
        running = _Running(call)
        try:
            if running.wait(min(_WHILE, max(0.0, 0.25 * (end - time.perf_counter())))):
                meanwhile()
                while running.wait(min(_LOOK, max(0.0, end - time.perf_counter()))):
                    if time.perf_counter() >= end:
                        self.late = True
                        return None
        except BaseException:  # a second Ctrl-C: nobody waits for it any more
            self.late = True
            raise
        return running.result()

    def run_unstoppable(self, call: Callable[[], Result], seconds: float) -> Result:
        """The same for a call that nothing stops: on a request or after `seconds` it is left to end by itself.

        Raises Unfinished then. Its thread goes on, and the process ends only after it.
        """
        running, end = _Running(call), time.monotonic() + seconds
        while running.wait(_LOOK):
            if self.requested or time.monotonic() > end:
                raise Unfinished
        return running.result()


class _Running(Generic[Result]):
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._results: list[Result] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:
            self._errors.append(error)

    def wait(self, seconds: float | None) -> bool:
        """True while it runs still, after at most so long."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def result(self) -> Result:
        if self._errors:
            raise self._errors[0]
        return self._results[0]
