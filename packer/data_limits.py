"""Limits that follow from the graphs: from the sizes of a data set, or from the batches of a loader."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generator, Iterable, Iterator, Mapping

import numpy as np

from packer.attributes import Attributes
from packer.errors import LimitsError, SizesError, SourceError
from packer.fields import HOMOGENEOUS, Axis
from packer.limits import NULL_GRAPHS, PackLimits
from packer.scan_graphs import block_of_storage, count_rows, reads_from_storage
from packer.scan_items import check_source, describe_error, graphs_of, length_of
from packer.sizes import GraphSizes

RULES = ("max", "mean", "batches")
"""How limits can follow from sizes, besides a share of the graphs."""

_STORED = 8192
_BATCHES = 1000  # as many as a loader is asked for
_GUESS = "Unable to accurately infer 'num_nodes'"  # how PyG's warning begins


@dataclass(frozen=True)
class LimitsRule:
    """Limits for `num_graphs` graph slots, the other slots following from the sizes of the graphs.

    by: "max": largest graph * (num_graphs - 1) + 1, so that any num_graphs - 1 graphs fit; a number q above 0 and up
    to 1: the same with the smallest size that a share q of the graphs does not exceed; "mean": mean * num_graphs,
    rounded down; "batches": the largest of the first 1,000 batches of num_graphs - 1 consecutive graphs, plus 1, which
    is what `limits_from_loader` finds in an unshuffled PyG loader of such batches. Each is found for every node type
    and edge type by itself, and raised where null_graphs wants more. Under all but "max" and 1.0 single graphs may be
    too large. Raises LimitsError.
    """

    num_graphs: int
    by: str | float = "max"
    null_graphs: str = "all"

    @property
    def first_graphs(self) -> int | None:
        """How many graphs from the first on decide, where their order matters; None: all do, in any order."""
        return _BATCHES * (int(self.num_graphs) - 1) if self.by == "batches" else None

    def __post_init__(self) -> None:
        if isinstance(self.num_graphs, bool) or not hasattr(self.num_graphs, "__index__") or self.num_graphs < 2:
            raise LimitsError(
                f"num_graphs must be a whole number, at least 2, one of them for padding; got {self.num_graphs}"
            )
        is_share = isinstance(self.by, (int, float)) and 0 < self.by <= 1
        if self.by not in RULES and not is_share:
            raise LimitsError(
                f"by must be {', '.join(map(repr, RULES))} or a share above 0 and up to 1; got {self.by!r}"
            )
        if self.null_graphs not in NULL_GRAPHS:
            raise LimitsError(f"null_graphs must be one of {', '.join(NULL_GRAPHS)}; got {self.null_graphs!r}")

    def limits(self, sizes: GraphSizes) -> PackLimits:
        """The limits for graphs of these sizes."""
        graphs = int(self.num_graphs)
        count = sizes.count if sizes.count is not None else np.ones(len(next(iter(sizes.columns.values()))), np.int64)
        slots = {axis: self._slots(sizes.columns[axis.key], count) for axis in sizes.axes}
        return _limits(slots, graphs, self.null_graphs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"num_graphs": int(self.num_graphs), "by": self.by, "null_graphs": self.null_graphs}

    def _slots(self, values: np.ndarray, count: np.ndarray) -> int:
        if self.by == "mean":
            total = sum(value * number for value, number in zip(values.tolist(), count.tolist()))
            return total * int(self.num_graphs) // sum(count.tolist())
        if self.by == "batches":
            most = _BATCHES * (int(self.num_graphs) - 1)
            taken = np.diff(np.minimum(np.cumsum(np.minimum(count, most)), most), prepend=0)
            first = np.repeat(values, taken).astype(np.int64)
            return int(np.add.reduceat(first, np.arange(0, len(first), int(self.num_graphs) - 1)).max()) + 1
        share = 1.0 if self.by == "max" else float(self.by)
        order = np.argsort(values, kind="stable")
        below = np.cumsum(count[order])
        at = np.searchsorted(below, np.ceil(share * below[-1]))
        return int(values[order[at]]) * (int(self.num_graphs) - 1) + 1


def sizes_of_dataset(dataset: Any, guess_num_nodes: bool = False) -> GraphSizes:
    """Sizes of the graphs of a PyG data set, a list or another iterable of Data or HeteroData; or GraphSizes as it is.

    Graphs without nodes are passed over, as no pack takes them. guess_num_nodes: as `build` has it. Raises SourceError
    and SizesError.
    """
    if isinstance(dataset, GraphSizes):
        return dataset
    columns: dict[Axis, np.ndarray] = {}
    graphs = 0
    for found, number in _counted(dataset, guess_num_nodes):
        for axis in {**columns, **found}:
            earlier = columns.get(axis, np.zeros(graphs, dtype=np.int64))
            columns[axis] = np.append(earlier, found.get(axis, np.zeros(number, dtype=np.int64)))
        graphs += number
    nodes = sum((columns[axis] for axis in columns if axis.level == "node"), np.zeros(graphs, dtype=np.int64))
    by_level: dict[str, Any] = {"node": {}, "edge": {}}
    for axis in columns:
        by_level[axis.level][axis.type] = columns[axis][nodes > 0]
    if not (nodes > 0).any():
        raise SizesError(f"none of the {graphs} graphs has nodes: there is nothing to find limits from")
    node_sizes, edge_sizes = (found.get(None, found) for found in by_level.values())
    return GraphSizes(node_sizes, edge_sizes)


def limits_from_dataset(
    dataset: Any, num_graphs: int, by: str | float = "max", null_graphs: str = "all", guess_num_nodes: bool = False
) -> PackLimits:
    """See PackLimits.from_dataset."""
    return LimitsRule(num_graphs, by, null_graphs).limits(sizes_of_dataset(dataset, guess_num_nodes))


def limits_from_loader(
    loader: Iterable[Any], sample_limit: int = _BATCHES, null_graphs: str = "all", guess_num_nodes: bool = False
) -> PackLimits:
    """See PackLimits.from_loader."""
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
    return _limits({axis: count + 1 for axis, count in largest.items()}, graphs + 1, null_graphs)


def _limits(slots: Mapping[Axis, int], graphs: int, null_graphs: str) -> PackLimits:
    """Limits of these slots, or of as many more as `null_graphs` wants."""
    by_level: dict[str, Any] = {"node": {}, "edge": {}}
    for axis, number in slots.items():
        least = graphs if null_graphs == "all" else 2 if axis.level == "node" else 1
        by_level[axis.level][axis.type] = max(number, least)
    nodes, edges = (found.get(None, found) for found in by_level.values())
    # Heterogeneous graphs that have no edge type at all take any number.
    return PackLimits(nodes, edges or graphs, graphs, null_graphs)


def _counted(dataset: Any, guess: bool) -> Iterator[tuple[dict[Axis, np.ndarray], int]]:
    """Axis -> int64 [graphs] for consecutive graphs, and their number."""
    check_source(dataset, f"a {type(dataset).__name__}")
    if hasattr(type(dataset), "indices") and reads_from_storage(dataset):
        attributes = Attributes(guess_num_nodes=guess)
        for start in range(0, len(dataset), _STORED):
            block = block_of_storage(dataset, start, min(start + _STORED, len(dataset)), attributes)
            yield {axis: block.counts[axis.key] for axis in block.statistics.axes or HOMOGENEOUS}, len(block.ids)
        return
    rest = enumerate(graphs_of(dataset, f"a {type(dataset).__name__}"))
    while chunk := [count_rows(graph, number, guess) for number, graph in islice(rest, _STORED)]:
        axes = dict.fromkeys(axis for counts in chunk for axis in counts)
        yield {axis: np.array([c.get(axis, 0) for c in chunk], dtype=np.int64) for axis in axes}, len(chunk)


def _repeated(loader: Iterable[Any], limit: int, guess: bool) -> Iterator[Any]:
    """The loader's batches, pass after pass (a shuffled loader mixes anew), up to `limit` in all."""
    seen = 0
    while True:
        before = seen
        with _guesses(guess):
            rest = _started(loader, guess)
        while seen < limit:
            try:
                with _guesses(guess):
                    batch = next(rest)
            except StopIteration:
                break
            except Exception as error:
                what = describe_error(error)
                if isinstance(error, UserWarning) and "'num_nodes'" in what:
                    what = (
                        "the number of nodes of a graph is not given: set num_nodes, or say that PyG's guess is right "
                        "(guess_num_nodes=True)"
                    )
                raise SourceError(f"batch {seen} of the loader: {what}") from error
            seen += 1
            yield batch
        _check_length(loader, seen - before, seen == limit)
        if seen in (before, limit):
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
    own = loader.worker_init_fn
    loader.worker_init_fn = partial(_in_worker, own, guess)
    try:
        return iter(loader)
    finally:
        loader.worker_init_fn = own


def _in_worker(own: Any, guess: bool, number: int) -> None:
    _filter_guesses(guess)
    if own is not None:
        own(number)


def _check_length(loader: Iterable[Any], batches: int, cut: bool) -> None:
    """Raise SourceError for a pass that ended before the loader's length: a data set's StopIteration ends it so."""
    sampler = getattr(loader, "batch_sampler", None)
    stated = length_of(loader, "the loader") if sampler is not None and not cut else None
    if stated is not None and batches < stated:
        raise SourceError(
            f"the loader gave {batches} of its {stated} batches: an item of its data set raises StopIteration, or its "
            "length is wrong"
        )
