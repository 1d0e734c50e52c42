"""Where tasks run: here, in worker processes, or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from packer.errors import BuildError
from pipelines.executors.process import ProcessExecutor as ProcessExecutor
from pipelines.executors.protocol import Executor as Executor
from pipelines.executors.protocol import SerialExecutor as SerialExecutor
from pipelines.executors.protocol import check_workers as check_workers

EXECUTORS = ("process", "dask", "ray")


def make_executor(
    name: str = "process", workers: int = 2, address: str | None = None, inherit: Sequence[int] = ()
) -> Executor:
    """The executor of that name; the engines' packages are imported when it is first used.

    address: of a running Dask scheduler or Ray cluster, else one is started here with `workers` processes. inherit:
    file descriptors that worker processes hold open. Raises BuildError for an unknown name or an address of no use.
    """
    if name == "process":
        if address is not None:
            raise BuildError(f"the address {address} is that of a cluster: choose the executor dask or ray")
        return SerialExecutor() if workers == 1 else ProcessExecutor(workers, inherit)
    if name == "dask":
        from pipelines.executors.dask import DaskExecutor

        return DaskExecutor(workers, address)
    if name == "ray":
        from pipelines.executors.ray import RayExecutor

        return RayExecutor(workers, address)
    raise BuildError(f"unknown executor {name!r}; there are {', '.join(EXECUTORS)}")
