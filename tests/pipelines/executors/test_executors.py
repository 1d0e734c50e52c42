"""Executors: order, errors, death of a worker, what a worker imports."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from deadly import imported

from packer.errors import BuildError, FieldError
from pipelines.executors import Executor, ProcessExecutor, SerialExecutor, make_executor


def square(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    if number == 13:
        raise FieldError("graph 13 is unlucky")
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


@pytest.fixture(scope="module")
def engines(pool: ProcessExecutor) -> Iterator[dict[str, Executor]]:
    found: dict[str, Executor] = {"serial": SerialExecutor(), "process": pool}
    yield found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray does not wait for the processes that it ends
        for executor in found.values():
            executor.close()
        found.clear()
        gc.collect()


@pytest.fixture(params=["serial", "process", "dask", "ray"])
def executor(request: pytest.FixtureRequest, engines: dict[str, Executor]) -> Executor:
    """Each engine is started once, when a test first asks for it."""
    if request.param not in engines:
        pytest.importorskip("distributed" if request.param == "dask" else request.param)
        engines[request.param] = make_executor(request.param)
    return engines[request.param]


def test_results_come_in_the_order_of_the_items(executor: Executor) -> None:
    assert list(executor.map(square, range(12))) == [n * n for n in range(12)]
    assert list(executor.map(square, [])) == []


def test_the_first_failing_item_raises_in_its_turn(executor: Executor) -> None:
    seen: list[int] = []
    with pytest.raises(FieldError, match="graph 13 is unlucky"):
        seen.extend(executor.map(square, [2, 13, 3, 13]))
    assert list(executor.map(square, [4])) == [16], "the executor serves on after a failure"


def test_a_fault_of_ours_brings_the_workers_traceback(pool: ProcessExecutor) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in a worker:.*return 1 / number.*ZeroDivisionError"):
        list(pool.map(divide, [0]))


def test_items_are_taken_only_as_they_are_needed(executor: Executor) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = executor.map(square, items())
    assert next(results) == 0
    assert len(taken) <= 5  # at most two a worker in flight, and one more
    if hasattr(results, "close"):
        results.close()


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
