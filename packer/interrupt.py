"""Ctrl-C as a request that steps look at: none is torn in the middle, and no signal is lost inside a native call."""

from __future__ import annotations

import signal
import threading
from typing import Any, Callable, TypeVar

Result = TypeVar("Result")
_LOOK = 0.1


class Interrupt:
    """Inside `with`, the first Ctrl-C sets `requested`; the next one raises KeyboardInterrupt as usual.

    A program with a SIGINT handler of its own keeps it, and so does every thread but the main one.
    """

    def __init__(self) -> None:
        self.requested = False
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
        results: list[Result] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_LOOK)
                if self.requested:
                    stop()
        finally:
            if thread.is_alive():  # a second Ctrl-C
                stop()
                thread.join()
        if errors:
            raise errors[0]
        return results[0]
