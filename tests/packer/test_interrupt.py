"""Ctrl-C while a plan is made: the best plan so far comes back, wherever the signal arrives."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from paths import ROOT

from packer.interrupt import Interrupt, Unfinished

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")


def test_the_first_ctrl_c_is_a_request_and_the_second_an_exception():
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_s_own_is_left_alone():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
        assert heard == [1] and not interrupt.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_native_call_is_stopped_and_its_error_comes_through():
    with Interrupt() as interrupt:
        assert interrupt.run(lambda: 7, stop=lambda: None) == 7
        with pytest.raises(ZeroDivisionError):
            interrupt.run(lambda: 1 / 0, stop=lambda: None)


def test_a_call_that_nothing_stops_is_left_to_end_by_itself():
    with Interrupt() as interrupt:
        assert interrupt.run_unstoppable(lambda: 7, 60) == 7
        with pytest.raises(ZeroDivisionError):
            interrupt.run_unstoppable(lambda: 1 / 0, 60)
        done = threading.Event()
        with pytest.raises(Unfinished):
            interrupt.run_unstoppable(done.wait, 0.01)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Unfinished):
            interrupt.run_unstoppable(done.wait, 60)
        done.set()


CHILD = """
import os, signal, sys, threading, time
import numpy as np
from packer import pack_vectors
need, capacity = np.random.default_rng(0).integers(1, 101, (400, 10)), np.full(10, 300)
pack_vectors(need, capacity, work_limit=0.5)
for delay in map(float, sys.argv[1:]):
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    packing = pack_vectors(need, capacity, time_limit=60, work_limit=1e9)
    items = packing.item_ids.tolist()
    print(packing.status, packing.stopped_by, sorted(items) == list(range(400)), packing.lower_bound > 0)
"""


def test_ctrl_c_gives_the_best_plan_so_far():
    pytest.importorskip("ortools")
    # From the first heuristics through annealing, LP, pricing and CP-SAT, all of which are native calls.
    delays = ["0.01", "0.05", "0.15", "0.3", "0.5", "0.7", "1.1", "1.6", "2.3"]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *delays],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == ["feasible interrupt True True"] * len(delays)
