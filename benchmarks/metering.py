"""What a job's tasks and its driver spend: an executor that asks another one to run tasks, and a store that counts.

Workers import this module, so it is none that is run as a script. Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

_used: Counter[str] = Counter()
"""What stores were asked for in this process."""


@dataclass(frozen=True)
class CountingStore:
    """A store for what tasks write for each other, which counts the bytes and the requests of this process."""

    inner: Any

    def __str__(self) -> str:
        return str(self.inner)

    def below(self, name: str) -> CountingStore:
        return CountingStore(self.inner.below(name))

    def names(self) -> Iterable[str]:
        return self.inner.names()

    def size(self, name: str) -> int | None:
        _used["asked"] += 1
        return self.inner.size(name)

    def read(self, name: str) -> bytes:
        data = self.inner.read(name)
        _used.update(gets=1, read=len(data))
        return data

    def ranges(self, name: str, wanted: Any) -> list[bytes]:
        found = self.inner.ranges(name, wanted)
        _used.update(gets=len(found), read=sum(map(len, found)))
        return found

    def put(self, name: str, data: bytes) -> None:
        _used.update(puts=1, written=len(data))
        self.inner.put(name, data)

    def remove_all(self, names: Any) -> None:
        self.inner.remove_all(names)


@dataclass(frozen=True)
class Spent:
    """Of one task. kind: of its item; cpu: seconds of its worker; peak: bytes of memory that the worker held at most;
    returned: bytes of the pickled result; store: what it asked of the store."""

    kind: str
    cpu: float
    peak: int
    returned: int
    store: dict[str, int]


@dataclass(frozen=True)
class Measured:
    """A task that tells what it spent: (fn(item), Spent)."""

    fn: Callable[[Any], Any]

    def __call__(self, item: Any) -> tuple[Any, Spent]:
        _used.clear()
        reset_peak()
        start = time.process_time()
        result = self.fn(item)
        cpu = time.process_time() - start
        spent = Spent(type(item).__name__, cpu, memory("VmHWM"), len(pickle.dumps(result)), dict(_used))
        return result, spent


@dataclass
class Phase:
    """One map of tasks. wall: seconds from its start to its end; waited: of these, the driver for tasks; sent: bytes of
    the pickled items."""

    name: str
    wall: float = 0.0
    waited: float = 0.0
    sent: int = 0
    tasks: list[Spent] = field(default_factory=list)


class MeteredExecutor:
    """Another executor's workers, and what each map of tasks took, in `phases`."""

    def __init__(self, inner: Any) -> None:
        self.here, self.cluster = inner.here, inner.cluster
        self.phases: list[Phase] = []
        self._inner = inner

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        phase = Phase(name_of(fn))
        self.phases.append(phase)
        begin = time.perf_counter()
        results = self._inner.map(Measured(fn), self._sized(items, phase))
        while True:
            # What this thread computes meanwhile (taking items, pickling them) is no waiting.
            start, busy = time.perf_counter(), time.thread_time()
            found = next(results, None)
            phase.waited += time.perf_counter() - start - (time.thread_time() - busy)
            if found is None:
                break
            phase.tasks.append(found[1])
            yield found[0]
        phase.wall += time.perf_counter() - begin

    def close(self) -> None:
        self._inner.close()

    def warm(self, workers: int) -> None:
        """Start the workers, and let each import and compile what its tasks need."""
        for _ in self._inner.map(warm, range(2 * workers)):
            pass

    def _sized(self, items: Iterable[Any], phase: Phase) -> Iterator[Any]:
        for item in items:
            start = time.thread_time()
            phase.sent += len(pickle.dumps(item))
            # Measuring is not the job's.
            phase.waited += time.thread_time() - start
            yield item


def warm(_: int) -> None:
    """What tasks import, and what they compile."""
    import numpy as np

    from packer import GraphSizes, PackLimits, make_plan
    from packer.algorithms.assign import rank
    from pipelines.building.spilled import gather, route  # noqa: F401
    from pipelines.sources.molecules import featurise

    featurise(["CCO"])
    rank(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    _ = make_plan(GraphSizes(np.ones(2, np.int64), np.ones(2, np.int64)), PackLimits(4, 4, 2), "stream").graph_ids
    time.sleep(0.2)  # so that another worker takes the next one


def name_of(fn: Any) -> str:
    return name_of(fn.func) if isinstance(fn, partial) else fn.__name__


def memory(what: str, pid: int | str = "self") -> int:
    """VmHWM (the peak) or VmRSS of a process, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) << 10
    return 0


def reset_peak() -> None:
    """Let VmHWM of this process start anew from what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def tree_cpu() -> float:
    """CPU seconds of this process and of all that descend from it, those included that have ended and were reaped."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)], ticks[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    total, ours = 0, {os.getpid()}
    while ours:
        total += sum(ticks[pid] for pid in ours)
        ours = {pid for pid, parent in parents.items() if parent in ours}
    return total / CLOCK_TICKS
