"""Executors whose workers die in the middle of their work. Workers import this, so it imports little."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.executors import Executor, ProcessExecutor


@dataclass(frozen=True)
class Deadly:
    """A task whose worker dies at it, but only once, if `marker` is a path that is not there yet."""

    fn: Any
    item: Any
    marker: str

    @property
    def label(self) -> str:
        return self.item.label


def perhaps_die(task: Deadly) -> Any:
    if task.marker and not Path(task.marker).exists():
        Path(task.marker).touch()
        result = task.fn(task.item)  # all is written, but nobody hears of it
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    return task.fn(task.item)


class Murdered:
    """An executor one of whose workers dies in the middle of each of the phases that are named: at the second task, or
    at the only one."""

    cluster = True

    def __init__(self, executor: Executor, folder: Path, functions: Iterable[Any]) -> None:
        self.executor, self.folder, self.functions = executor, folder, tuple(functions)

    @property
    def here(self) -> bool:
        return True

    def map(self, fn: Any, items: Iterable[Any]) -> Iterator[Any]:
        held = list(items)
        marker = str(self.folder / fn.__name__) if fn in self.functions else ""
        at = min(1, len(held) - 1)
        tasks = (Deadly(fn, item, marker if number == at else "") for number, item in enumerate(held))
        return self.executor.map(perhaps_die, tasks)

    def close(self) -> None:
        self.executor.close()


class Apart:
    """Tasks run here one after another, but as on a cluster: through files of the work store alone."""

    here, cluster = True, True

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(fn, items)

    def close(self) -> None:
        pass


class Stopped(Apart):
    """The same, interrupted when four files are written."""

    def map(self, fn: Any, items: Iterable[Any]) -> Iterator[Any]:
        from pipelines.building.spilled.gather import write_file

        for number, result in enumerate(super().map(fn, items)):
            if fn is write_file and number == 4:
                raise KeyboardInterrupt
            yield result


class Workers(ProcessExecutor):
    """The same in processes of their own."""

    cluster = True


def imported(_: int) -> list[str]:
    """What this process has imported of what is heavy."""
    return [name for name in ("torch", "torch_geometric", "rdkit", "numba", "numpy") if name in sys.modules]
