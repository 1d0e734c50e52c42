"""Tasks on a Dask cluster: one that runs already, or one of processes on this machine.

Dask starts, places and repeats tasks and carries what they return; data go through files of our own.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from packer.errors import BuildError, MissingExtraError
from pipelines.executors.protocol import (
    Item,
    Result,
    answer,
    check_answers,
    check_workers,
    in_order,
    label_of,
    order,
    search_path,
)

_names = itertools.count()


class DaskExecutor:
    """Tasks where the scheduler at `address` places them, or in `workers` processes here where there is none.

    The connection is made at the first map. A worker that dies is replaced and its task repeated; a task that four
    workers died of is a BuildError that names it. Scripts need a `__main__` guard, for Dask's processes import them.
    """

    cluster = True

    def __init__(self, workers: int = 2, address: str | None = None) -> None:
        check_workers(workers)
        self.num_workers, self.address = workers, address
        self._client: Any = None
        self._cluster: Any = None

    @property
    def here(self) -> bool:
        return self.address is None

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        client, path = self._connected(), search_path()

        def submit(item: Item) -> Any:
            # A key of its own: equal items are two tasks, and nothing is taken from an earlier run.
            return client.submit(answer, order(fn, item), path, pure=False, key=f"{label_of(item)}-{next(_names)}")

        most = 2 * max(1, sum(client.nthreads().values()))
        yield from in_order(submit, _fetch, client.cancel, items, most)

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
        self._client = self._cluster = None

    def _connected(self) -> Any:
        if self._client is not None:
            return self._client
        try:
            import distributed
        except ImportError as error:
            raise MissingExtraError("dask and distributed", "dask", "executor='dask' (--executor dask)") from error
        if self.address is not None:
            check_answers(self.address, "Dask scheduler")
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # deaths of workers are told by our own errors
        try:
            if self.address is None:
                self._cluster = distributed.LocalCluster(
                    n_workers=self.num_workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",  # any port: with None it is 8787, which another cluster may have
                    silence_logs=logging.CRITICAL,
                )
            self._client = distributed.Client(self._cluster or self.address, timeout=30, set_as_default=False)
        except (OSError, ValueError) as error:
            self.close()
            raise BuildError(f"no Dask scheduler answers at {self.address}: {error}. Check the address") from error
        return self._client


def _fetch(future: Any, item: Any) -> Any:
    from distributed.scheduler import KilledWorker

    try:
        failed, value = future.result()
    except KilledWorker as error:
        raise BuildError(
            f"{label_of(item)}: {error.allowed_failures + 1} workers died at it, the last at "
            f"{getattr(error.last_worker, 'address', error.last_worker)}. Nothing is lost: the same command resumes; "
            "fewer workers on a machine leave more memory for each"
        ) from None
    if failed:
        raise value
    return value
