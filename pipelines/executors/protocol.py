"""What a job needs of whatever runs its tasks. It maps a top-level function over items and never learns more."""

from __future__ import annotations

import pickle
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from packer.errors import BuildError, MissingExtraError, PackerError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 10.0
"""Seconds that a cluster has to accept a connection."""


class Executor(Protocol):
    """What runs tasks.

    here: on this machine, so that tasks see its folders; cluster: it is made for many machines, so graphs go from task
    to task through files of a store that all of them reach.
    """

    @property
    def here(self) -> bool: ...

    @property
    def cluster(self) -> bool: ...

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """fn(item) for each item, in the order of items; fn is a picklable top-level function.

        A task may run twice, at the same time even: it writes whole files or none, and the same ones each time. The
        first failing item's exception is raised in its turn. Items are taken as they are needed.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; it may be used again."""
        ...


class SerialExecutor:
    """Every task in this process, one after another."""

    here, cluster = True, False

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(fn, items)

    def close(self) -> None:
        pass


def search_path() -> list[str]:
    """Where this process finds modules, for workers to look there last."""
    return [str(Path(entry).resolve()) for entry in sys.path if entry]


def order(fn: Callable[[Item], Result], item: Item) -> bytes:
    """A function and its item, to be sent to a worker; the inverse is in `answer`."""
    return pickle.dumps((fn, item))


def answer(task: bytes, path: Iterable[str] = ()) -> tuple[bool, Any]:
    """(failed, the result or the error) of a task: what a worker sends back. path: where to look for modules last."""
    sys.path += [entry for entry in path if entry not in sys.path]
    try:
        fn, item = pickle.loads(task)
        return False, fn(item)
    except Exception as error:
        return True, _portable(error)


def _portable(error: Exception) -> Any:
    """The error itself where the parent can do something with it; its traceback as text where it is a fault of ours."""
    if isinstance(error, MissingExtraError):
        return PackerError(str(error))  # its own arguments would not survive pickling
    if isinstance(error, (PackerError, OSError)):
        return error
    return RuntimeError("in a worker:\n" + "".join(traceback.format_exception(error)).rstrip())


def check_workers(workers: Any) -> None:
    """Raise BuildError unless it is a number of processes."""
    if isinstance(workers, bool) or not hasattr(workers, "__index__"):
        raise BuildError(f"workers must be a whole number; got {workers!r}")
    if workers < 1:
        raise BuildError(f"workers must be at least 1; got {workers}")


def check_answers(address: str, engine: str) -> None:
    """Raise BuildError if nobody listens at HOST:PORT (or SCHEME://HOST:PORT): engines keep trying for minutes."""
    url = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        host, port = url.hostname, url.port
    except ValueError as error:
        raise BuildError(f"{address} is no address of {engine}: {error}") from None
    if host is None or port is None:
        return  # a word of the engine's own, such as "auto"
    try:
        socket.create_connection((host, port), timeout=_PATIENCE).close()
    except OSError as error:
        raise BuildError(f"no {engine} answers at {address}: {error}. Check the address, and that it runs") from None


def label_of(item: Any) -> str:
    """A task in a few words."""
    return getattr(item, "label", None) or repr(item)[:80]


def in_order(
    submit: Callable[[Any], Any],
    fetch: Callable[[Any, Any], Any],
    cancel: Callable[[Iterable[Any]], object],
    items: Iterable[Any],
    most: int,
) -> Iterator[Any]:
    """fetch(submit(item), item) for each item, in their order, with at most `most` under way.

    The items that are taken, and the results that wait for an earlier one, stay bounded.
    """
    waiting: deque[tuple[Any, Any]] = deque()
    try:
        for item in items:
            waiting.append((submit(item), item))
            if len(waiting) >= most:
                yield fetch(*waiting.popleft())
        while waiting:
            yield fetch(*waiting.popleft())
    finally:
        cancel([task for task, _ in waiting])  # what would follow a failure works for nobody
