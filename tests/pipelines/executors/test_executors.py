"""Worker processes: errors, the death of a worker, what a worker imports, which thread they belong to."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from deadly import imported

from packer.errors import BuildError
from pipelines.executors import ProcessExecutor


def square(number: int) -> int:
    return number * number


def divide(number: int) -> float:
    return 1 / number


@dataclass(frozen=True)
class Task:
    label: str
    kill: bool


def perhaps_die(task: Task) -> str:
    if task.kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.label


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(2)
    yield executor
    executor.close()


def test_a_fault_of_ours_brings_the_workers_traceback(pool: ProcessExecutor) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in a worker:.*return 1 / number.*ZeroDivisionError"):
        list(pool.map(divide, [0]))


def test_a_killed_worker_is_an_error_that_names_it_and_its_task(pool: ProcessExecutor) -> None:
    tasks = [Task("shard-00000", False), Task("shard-00001", True), Task("shard-00002", False)]
    with pytest.raises(BuildError, match=r"worker \d \(process \d+\) was killed by SIGKILL .* at shard-00001"):
        list(pool.map(perhaps_die, tasks))
    assert list(pool.map(perhaps_die, tasks[:1])) == ["shard-00000"]


def test_workers_import_only_what_their_tasks_need(pool: ProcessExecutor) -> None:
    assert list(pool.map(imported, [0])) == [[]]


def test_no_worker_is_left_behind() -> None:
    executor = ProcessExecutor(1)
    list(executor.map(square, [1]))
    process = executor._workers[0].process
    executor.close()
    assert process.returncode == 0


def test_a_pool_needs_a_worker() -> None:
    with pytest.raises(BuildError, match="workers must be at least 1; got 0"):
        ProcessExecutor(0)


def test_workers_outlive_the_thread_that_used_them_first() -> None:
    """Linux ends a process with the thread that started it, if so asked: then the next use blamed the memory."""
    executor, found = ProcessExecutor(2), []
    thread = threading.Thread(target=lambda: found.extend(executor.map(square, range(6))))
    thread.start()
    thread.join()
    before = [worker.process.pid for worker in executor._workers]
    time.sleep(0.1)
    assert found == list(executor.map(square, range(6))) == [0, 1, 4, 9, 16, 25]
    assert [worker.process.pid for worker in executor._workers] == before
    executor.close()


def test_a_thread_may_build_after_the_main_one_has_ended() -> None:
    code = """
        import threading, time
        from pipelines.executors import ProcessExecutor

        def work():
            threading.main_thread().join()
            executor = ProcessExecutor(2)
            print(sum(executor.map(abs, range(-5, 5))), flush=True)
            executor.close()

        threading.Thread(target=work).start()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "25\n", "")
