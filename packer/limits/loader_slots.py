"""How many slots the batches of a loader take."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from typing import Any, Generator, Iterable, Iterator

from packer.errors import LimitsError, SourceError
from packer.graphs.axes import Axis
from packer.limits.slot_rules import Slots, with_padding
from packer.scan.counts import count_rows
from packer.scan.items import describe_error, length_of

_GUESS = "Unable to accurately infer 'num_nodes'"  # how PyG's warning begins


def slots_of_loader(loader: Iterable[Any], sample_limit: int, null_graphs: str, guess_num_nodes: bool) -> Slots:
    """What PackLimits takes, see PackLimits.from_loader."""
    if sample_limit < 1:
        raise LimitsError(f"sample_limit must be at least 1; got {sample_limit}")
    largest: dict[Axis, int] = {}
    graphs = 0
    for number, batch in enumerate(_repeated(loader, sample_limit, guess_num_nodes)):
        for axis, count in count_rows(batch, number, guess_num_nodes).items():
            largest[axis] = max(largest.get(axis, 0), count)
        graphs = max(graphs, int(getattr(batch, "num_graphs", 1)))
    if not largest:
        raise SourceError("the loader gives no batch: there is nothing to find limits from")
    return with_padding({axis: count + 1 for axis, count in largest.items()}, graphs + 1, null_graphs)


def _repeated(loader: Iterable[Any], limit: int, guess: bool) -> Iterator[Any]:
    """The loader's batches, pass after pass (a shuffled loader mixes anew), up to `limit` in all."""
    count = 0
    while True:
        before = count
        with _guesses(guess):
            rest = _started(loader, guess)
        while count < limit:
            try:
                with _guesses(guess):
                    batch = next(rest)
            except StopIteration:
                break
            except Exception as error:
                reason = describe_error(error)
                if isinstance(error, UserWarning) and "'num_nodes'" in reason:
                    reason = (
                        "the number of nodes of a graph is not given: set num_nodes, or say that PyG's guess is right "
                        "(guess_num_nodes=True)"
                    )
                raise SourceError(f"batch {count} of the loader: {reason}") from error
            count += 1
            yield batch
        _check_length(loader, count - before, count == limit)
        if count in (before, limit):
            return


@contextmanager
def _guesses(allowed: bool) -> Generator[None, None, None]:
    """PyG guesses a number of nodes while it joins graphs, aloud: silenced where allowed, else an error."""
    with warnings.catch_warnings():
        _filter_guesses(allowed)
        yield


def _filter_guesses(allowed: bool) -> None:
    warnings.filterwarnings("ignore" if allowed else "error", _GUESS)


def _started(loader: Any, guess: bool) -> Iterator[Any]:
    """iter(loader), whose worker processes, however they start, take guesses as this process does."""
    if not getattr(loader, "num_workers", 0) or not hasattr(loader, "worker_init_fn"):
        return iter(loader)
    init_fn = loader.worker_init_fn
    loader.worker_init_fn = partial(_in_worker, init_fn, guess)
    try:
        return iter(loader)
    finally:
        loader.worker_init_fn = init_fn


def _in_worker(init_fn: Any, guess: bool, number: int) -> None:
    _filter_guesses(guess)
    if init_fn is not None:
        init_fn(number)


def _check_length(loader: Iterable[Any], batches: int, cut: bool) -> None:
    """Raise SourceError for a pass that ended before the loader's length: a data set's StopIteration ends it so."""
    sampler = getattr(loader, "batch_sampler", None)
    stated = length_of(loader, "the loader") if sampler is not None and not cut else None
    if stated is not None and batches < stated:
        raise SourceError(
            f"the loader gave {batches} of its {stated} batches: an item of its data set raises StopIteration, or its "
            "length is wrong"
        )
