"""What every executor keeps: `pipelines.executors.protocol.Executor`.

Results in the order of the items, an item's error in its turn, items taken only as they are needed, and an end after
which it may be used again.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from packer.errors import FieldError, MissingExtraError, PackerError
from pipelines.executors import Executor, ProcessExecutor, SerialExecutor, make_executor


def square(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    if number == 13:
        raise FieldError("graph 13 is unlucky")
    return number * number


def divide(number: int) -> float:
    return 1 / number


def needs_an_extra(number: int) -> int:
    raise MissingExtraError("nothing", "none", f"item {number}")


@dataclass(frozen=True)
class Scale:
    """An item that is a value of its own."""

    by: int
    values: tuple[int, ...]


def scaled(item: Scale) -> Scale:
    return Scale(1, tuple(item.by * value for value in item.values))


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Executor]]:
    started: dict[str, Executor] = {}
    yield started
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray does not wait for the processes that it ends
        for executor in started.values():
            executor.close()
            executor.close()  # nothing is left to let go of
        started.clear()
        gc.collect()


@pytest.fixture(params=["serial", "process", "dask", "ray"])
def executor(request: pytest.FixtureRequest, engines: dict[str, Executor]) -> Executor:
    """Each engine is started once, when a test first asks for it."""
    if request.param not in engines:
        if request.param in ("dask", "ray"):
            pytest.importorskip("distributed" if request.param == "dask" else "ray")
        engines[request.param] = SerialExecutor() if request.param == "serial" else make_executor(request.param)
    return engines[request.param]


def test_results_come_in_the_order_of_the_items(executor: Executor) -> None:
    assert list(executor.map(square, range(12))) == [n * n for n in range(12)]
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square, [5, 5])) == [25, 25], "equal items are two tasks"
    assert list(executor.map(scaled, [Scale(2, (1, 2)), Scale(3, ())])) == [Scale(1, (2, 4)), Scale(1, ())]


def test_the_first_failing_item_raises_in_its_turn(executor: Executor) -> None:
    seen: list[int] = []
    with pytest.raises(FieldError, match="graph 13 is unlucky"):
        seen.extend(executor.map(square, [2, 13, 3, 13]))
    assert seen in ([], [4])  # extend keeps what came before, or not, as the list wants it
    results = executor.map(square, [2, 13, 3])
    assert next(results) == 4
    with pytest.raises(FieldError, match="graph 13 is unlucky"):
        next(results)
    assert list(executor.map(square, [4])) == [16], "the executor serves on after a failure"


def test_an_error_says_what_went_wrong_wherever_it_did(executor: Executor) -> None:
    # A fault of ours brings the worker's traceback; what says which package is absent keeps its words.
    with pytest.raises((RuntimeError, ZeroDivisionError), match="division by zero"):
        list(executor.map(divide, [0]))
    with pytest.raises(
        (PackerError, MissingExtraError), match=r"item 7 needs nothing: pip install 'graph-packer\[none"
    ):
        list(executor.map(needs_an_extra, [7]))


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
    assert list(executor.map(square, [3])) == [9], "who stops early leaves it fit for use"


def test_where_its_tasks_run_is_known_before_the_first(executor: Executor) -> None:
    assert executor.here and executor.cluster == (not isinstance(executor, (SerialExecutor, ProcessExecutor)))


def test_what_was_closed_may_be_used_again(executor: Executor, request: pytest.FixtureRequest) -> None:
    if executor.cluster:
        pytest.skip("a cluster takes seconds to start again")
    executor.close()
    assert list(executor.map(square, [2, 3])) == [4, 9]
