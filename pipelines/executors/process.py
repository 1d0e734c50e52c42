"""Tasks in worker processes of this machine.

A worker is a fresh Python process that imports only what its tasks need: it does not run the caller's main module
again (so a script that imports torch, or lacks a `__main__` guard, costs nothing) and sees this very packer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from packer.errors import BuildError
from pipelines.executors.protocol import Item, Result, check_workers, label_of, order, search_path


class ProcessExecutor:
    """Tasks in `workers` processes, started at the first map and kept until close.

    A worker that dies is a BuildError that names it and its task. Workers die with this process, however it ends.
    inherit: file descriptors that workers hold open as long as they live (a lock).
    """

    here, cluster = True, False

    def __init__(self, workers: int, inherit: Sequence[int] = ()) -> None:
        check_workers(workers)
        self.num_workers = workers
        self._inherit = tuple(inherit)
        self._workers: list[_Worker] = []

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        try:
            yield from self._map(fn, iter(items))
        except BaseException:
            self._kill()  # whoever is still busy works for nobody
            raise

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            try:
                worker.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers = []

    def _map(self, fn: Callable[[Item], Result], items: Iterator[Item]) -> Iterator[Result]:
        owed: deque[int] = deque()  # numbers of the tasks whose results are still owed
        answers: dict[int, tuple[bool, Any]] = {}
        busy: dict[Connection, tuple[_Worker, int, Any]] = {}
        sent, more = 0, True
        while True:
            # At most two results a worker wait for a slow first one: memory stays bounded.
            while more and len(busy) < self.num_workers and len(owed) < 2 * self.num_workers:
                try:
                    item = next(items)
                except StopIteration:
                    more = False
                    break
                worker = self._idle_worker(busy)
                worker.send(order(fn, item), item)
                busy[worker.connection] = (worker, sent, item)
                owed.append(sent)
                sent += 1
            if not owed:
                return
            if owed[0] in answers:
                failed, value = answers.pop(owed.popleft())
                if failed:
                    raise value
                yield value
                continue
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker, number, item = busy.pop(ready)
                answers[number] = worker.receive(item)
                more = more and not answers[number][0]  # what would follow a failure is not begun

    def _idle_worker(self, busy: dict[Connection, Any]) -> _Worker:
        for worker in self._workers:
            if worker.connection not in busy:
                return worker
        worker = _Worker.start(len(self._workers), self._inherit)
        self._workers.append(worker)
        return worker

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()
        self._workers = []


# `-P` keeps the working folder off the path; packer and pipelines are loaded from where the parent has them.
_BOOTSTRAP = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
for name, folder in (("packer", sys.argv[2]), ("pipelines", sys.argv[3])):
    spec = spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
from pipelines.executors.worker import main
main(int(sys.argv[1]), int(sys.argv[4]), sys.argv[5:])
"""


class _Starter:
    """Starts processes from a thread that lives as long as this process.

    Linux ends a worker with the *thread* that started it (PR_SET_PDEATHSIG), and the thread that maps may end before
    the executor is used again.
    """

    def __init__(self) -> None:
        self._lock, self._process_id = threading.Lock(), -1
        self._asked: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]]] = SimpleQueue()

    def start(self, begin: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process_id != os.getpid():  # the first time, and after a fork, which threads do not survive
                self._asked, self._process_id = SimpleQueue(), os.getpid()
                # A daemon: it must outlive threads of the caller's that go on after the main one.
                threading.Thread(target=_serve, args=(self._asked,), name="graph-packer workers", daemon=True).start()
        answer: SimpleQueue[Any] = SimpleQueue()
        self._asked.put((begin, answer))
        failed, result = answer.get()
        if failed:
            raise result
        return result


def _serve(asked: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]]]) -> None:
    while True:
        begin, answer = asked.get()
        try:
            answer.put((False, begin()))
        except BaseException as error:
            answer.put((True, error))
        del begin, answer


_starter = _Starter()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starter.__init__)  # a lock that another thread held, too


@dataclass(frozen=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    connection: Connection

    @classmethod
    def start(cls, number: int, inherit: Sequence[int]) -> _Worker:
        import packer
        import pipelines

        folders = [str(Path(str(module.__file__)).resolve().parent) for module in (packer, pipelines)]
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), *folders, str(os.getpid()), *search_path()]
            process = _starter.start(
                partial(
                    subprocess.Popen,
                    [sys.executable, "-P", "-c", _BOOTSTRAP, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *inherit),
                )
            )
        return cls(number, process, Connection(ours.detach()))

    def send(self, task: bytes, item: Any) -> None:
        try:
            self.connection.send_bytes(task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death(item) from None

    def receive(self, item: Any) -> tuple[bool, Any]:
        """(failed, result or exception)."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return True, self._death(item)

    def _death(self, item: Any) -> BuildError:
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(timeout=10)
        if status is None:
            how = "closed its connection"
        elif status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
            how += " (the kernel does that when memory runs out)" if status == -signal.SIGKILL else ""
        else:
            how = f"ended with exit status {status}"
        task = label_of(item)
        return BuildError(
            f"worker {self.number} (process {self.process.pid}) {how} at {task}. Nothing is lost: the same command "
            "resumes; fewer workers (--workers) need less memory"
        )
