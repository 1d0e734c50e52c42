"""The thread that decodes ahead: calls in order, errors to who asked, and no waiting at the end."""

import gc
import threading
import time
import weakref

import pytest

from packer.reading.calls import MOMENT, CallThread


def test_calls_are_made_in_order_and_errors_are_the_callers() -> None:
    thread = CallThread("test")
    made: list[int] = []
    first = [thread.submit(made.append, i) for i in range(5)]
    failed = thread.submit(lambda x: 1 // x, 0)
    assert thread.submit(lambda x: x + 1, 1).result() == 2
    assert made == [0, 1, 2, 3, 4] and all(future.done() for future in first)
    with pytest.raises(ZeroDivisionError):
        failed.result()
    thread.close()


def test_what_has_not_begun_is_not_made_after_the_end() -> None:
    thread, begun, go_on, made = CallThread("test"), threading.Event(), threading.Event(), []
    under_way = thread.submit(lambda seconds: begun.set() or go_on.wait(seconds), 60)
    assert begun.wait(60)
    cancelled, left = thread.submit(made.append, 1), thread.submit(made.append, 2)
    assert cancelled.cancel()
    begin = time.monotonic()
    thread.close()
    assert time.monotonic() - begin >= MOMENT
    assert not under_way.done(), "a call that waits for a store is not waited for"
    go_on.set()
    assert under_way.result(5) is True
    thread._thread.join(5)
    assert not thread._thread.is_alive() and made == []
    assert left.cancelled() and thread.submit(made.append, 3).cancelled(), "nobody is left waiting for them"


def test_a_result_is_let_go_of_with_its_future() -> None:
    class Block:
        pass

    thread = CallThread("test")
    future = thread.submit(lambda _: Block(), None)
    found = weakref.ref(future.result())
    thread.submit(lambda _: None, None).result()
    del future
    gc.collect()
    assert found() is None
    thread.close()
