"""Tasks on a Ray cluster: one that runs already, or one that is started on this machine.

Ray starts, places and repeats tasks and carries what they return; data go through files of our own.
"""

from __future__ import annotations

import logging
import os
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

_REPEATS = 3
_STORE_BYTES = 128 << 20
"""Ray's own object store, where it is started here: results are small."""


class RayExecutor:
    """Tasks on the cluster at `address`, or in `workers` processes here where there is none.

    Ray is started, or connected to, at the first map; where the program has done so itself, that is used. A task whose
    worker dies is repeated three times; then it is a BuildError that names it.
    """

    cluster = True

    def __init__(self, workers: int = 2, address: str | None = None) -> None:
        check_workers(workers)
        self.num_workers, self.address = workers, address
        self._ours = False

    @property
    def here(self) -> bool:
        return self.address is None

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        ray, path = self._connected(), search_path()
        remote = ray.remote(answer).options(max_retries=_REPEATS, retry_exceptions=False)

        def cancel(references: Iterable[Any]) -> None:
            for reference in references:
                ray.cancel(reference, force=True)

        def fetch(reference: Any, item: Item) -> Any:
            try:
                failed, value = ray.get(reference)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                raise BuildError(
                    f"{label_of(item)}: {_REPEATS + 1} workers died at it ({str(error).splitlines()[0]}). Nothing is "
                    "lost: the same command resumes; fewer workers on a machine leave more memory for each"
                ) from None
            if failed:
                raise value
            return value

        most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield from in_order(lambda item: remote.remote(order(fn, item), path), fetch, cancel, items, most)

    def close(self) -> None:
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False

    def _connected(self) -> Any:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of a change to come
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray", "executor='ray' (--executor ray)") from error
        if ray.is_initialized():
            return ray
        if self.address is not None:
            check_answers(self.address, "Ray cluster")
        local: dict[str, Any] = {"num_cpus": self.num_workers, "object_store_memory": _STORE_BYTES}
        try:
            ray.init(
                address=self.address or "local",
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if self.address else local),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BuildError(
                f"no Ray cluster answers at {self.address}: {error}. Check the address; where the cluster asks for a "
                "token, set RAY_AUTH_MODE=token and put it into ~/.ray/auth_token"
            ) from error
        self._ours = True
        return ray
