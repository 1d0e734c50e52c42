"""A thread that makes calls in order, and that nobody waits for longer than a moment.

The pool of the standard library will not do: both it and the interpreter wait for its threads, however long a store
that accepts and never answers lets them stand.
"""

from __future__ import annotations

import atexit
import threading
import time
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Callable, TypeVar
from weakref import WeakSet

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MOMENT = 0.5
"""Seconds to wait for a call under way: enough to decode a block; what takes longer waits for a store."""


class CallThread:
    """One thread; `submit` queues a call, `close` makes an end.

    A call under way at the end goes on by itself for as long as it takes, and its result is nobody's.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=_serve, args=(self._calls, self._closed), name=name, daemon=True)
        self._thread.start()
        _threads.add(self)

    def submit(self, function: Callable[[Argument], Result], argument: Argument) -> Future[Result]:
        """The result that the call will have; after the end it is cancelled."""
        call = _Call(function, argument)
        self._calls.put(call)
        if self._closed.is_set():
            call.future.cancel()
        return call.future

    def close(self, until: float | None = None) -> None:
        """Make no further call; wait for the one under way for a MOMENT, or until a time of the monotonic clock."""
        _threads.discard(self)  # it is waited for once
        self._closed.set()
        self._calls.put(None)
        self._thread.join(MOMENT if until is None else max(0.0, until - time.monotonic()))


class _Call:
    def __init__(self, function: Callable[[Any], Any], argument: Any) -> None:
        self.function, self.argument = function, argument
        self.future: Future[Any] = Future()

    def make(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.function(self.argument))
        except BaseException as error:
            self.future.set_exception(error)
            del self  # the error knows this frame


def _serve(calls: SimpleQueue[_Call | None], closed: threading.Event) -> None:
    call = calls.get()
    while call is not None and not closed.is_set():
        call.make()
        call = None  # its result is the caller's alone, also while there is nothing to do
        call = calls.get()
    while call is not None or not calls.empty():  # nobody waits for what will not be made
        if call is not None:
            call.future.cancel()
        call = None if calls.empty() else calls.get()


_threads: WeakSet[CallThread] = WeakSet()


@atexit.register
def _end() -> None:
    """A program may end in the middle of a loop. What runs native code then had better come to its end first."""
    until = time.monotonic() + MOMENT
    for thread in list(_threads):
        thread.close(until)
