"""Processes that are forked from multiprocessing's server, which has imported what is heavy, once for all tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

HEAVY = ["numpy", "pandas", "pyarrow.parquet", "rdkit.Chem", "torch", "s3fs", "distributed"]
"""What the server imports before the first fork; names that are not installed are passed over."""


@contextmanager
def forked_dask() -> Iterator[None]:
    """Dask's workers are forked so; else each new one imports everything again."""
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context()  # whose first call chooses what is imported
        multiprocessing.set_forkserver_preload(HEAVY)
        yield


def read_packs(dataset: Any, wanted: Sequence[int], results: Any) -> None:
    """For a child: the targets of packs. It stands here, where the child has nothing else to import."""
    try:
        results.put([dataset[i]["y"].tolist() for i in wanted])
    except BaseException as error:  # else the parent would wait for ever
        results.put(repr(error))
