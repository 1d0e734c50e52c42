"""How large the graphs are: the only thing that a plan looks at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Mapping, Tuple, Union, cast

import numpy as np

from packer.errors import SizesError
from packer.graphs.axes import BUDGET, Axis, by_level, check_keys, check_names

NodeSizes = Union[np.ndarray, Mapping[str, np.ndarray]]
EdgeSizes = Union[np.ndarray, Mapping[Tuple[str, str, str], np.ndarray]]

# A table of this many cells finds distinct sizes by counting, far faster than by sorting.
_MAX_CELLS = 1 << 24


@dataclass(frozen=True, eq=False)
class GraphSizes:
    """Sizes of the graphs of a data set, in source order.

    num_nodes, num_edges: int arrays [graphs], edges directed as PyG counts them; for heterogeneous graphs dicts of such
    arrays by node type and edge type. count: None, or int [rows]: then row i owns count[i] consecutive graph ids.
    num, budgets: name -> int [graphs], the rows of further axes ("triplet"), and numbers whose sum a pack limits.
    Raises SizesError for a negative number, a graph without nodes, arrays of unequal length, or no graph at all.

        >>> GraphSizes(num_nodes=np.array([3, 5]), num_edges=np.array([4, 8])).num_graphs
        2
    """

    num_nodes: NodeSizes
    num_edges: EdgeSizes
    count: np.ndarray | None = None
    num: Mapping[str, np.ndarray] = field(default_factory=dict)
    budgets: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths: set[int] = set()
        check_names(self.num, self.budgets, SizesError)
        for name in ("num_nodes", "num_edges", "num", "budgets"):
            counts: Any = getattr(self, name)
            if isinstance(counts, Mapping):
                by_type = cast("Mapping[Any, Any]", counts)
                clean: Any = {key: _whole(f"{name}[{key!r}]", by_type[key]) for key in by_type}
                lengths.update(len(values) for values in clean.values())
            else:
                clean = _whole(name, counts)
                lengths.add(len(clean))
            object.__setattr__(self, name, clean)
        if self.count is not None:
            object.__setattr__(self, "count", _whole("count", self.count))
            lengths.add(len(self.count))
        if len(lengths) != 1:
            raise SizesError(f"num_nodes, num_edges and count must have one entry a graph each; got lengths {lengths}")
        if lengths == {0} or self.num_graphs == 0:
            raise SizesError("no graphs: the sizes are empty")
        check_keys(self.axes, SizesError)
        total = sum(self.columns[axis.key] for axis in self.axes if axis.level == "node")
        if np.min(total) < 1:
            raise SizesError(
                f"graph {self.first_id(int(np.argmin(total)))} has no nodes ({int(np.sum(total < 1))} such in all): "
                "leave such graphs out, or skip them at the build with on_empty='skip' (--on-empty skip)"
            )

    @classmethod
    def from_histogram(cls, num_nodes: NodeSizes, num_edges: EdgeSizes, count: np.ndarray) -> GraphSizes:
        """Sizes given as a histogram: row i owns count[i] consecutive graph ids. Nothing here grows with the counts."""
        return cls(num_nodes, num_edges, count)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Node axes, then edge axes, further axes, budgets."""
        return tuple(self._by_axis)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Axis key -> int [rows]."""
        return {axis.key: values for axis, values in self._by_axis.items()}

    @cached_property
    def _by_axis(self) -> dict[Axis, np.ndarray]:
        by_axis: dict[Axis, Any] = {}
        for level, counts in (("node", self.num_nodes), ("edge", self.num_edges)):
            by_type: Mapping[Any, Any] = counts if isinstance(counts, Mapping) else {None: counts}
            by_axis.update((Axis(level, type_), values) for type_, values in by_type.items())
        by_axis.update((Axis(name), values) for name, values in self.num.items())
        by_axis.update((Axis(BUDGET, name), values) for name, values in self.budgets.items())
        return by_axis

    @cached_property
    def num_graphs(self) -> int:
        if self.count is not None:
            return sum(self.count.tolist())
        return len(next(iter(self.columns.values())))

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(sizes int64 [distinct, axes], ascending; count int64 [distinct]; int32 [rows], the size of each)."""
        columns = list(self.columns.values())
        key, spans = _joint_key(columns)
        if key is None:
            rows = np.stack(columns, axis=1).astype(np.int64)
            sizes, first, of_row = np.unique(rows, axis=0, return_index=True, return_inverse=True)
            of_row = of_row.reshape(-1)
        elif int(np.prod(spans)) <= _MAX_CELLS:
            present = np.zeros(int(np.prod(spans)), dtype=bool)
            present[key] = True
            cells = np.flatnonzero(present)
            number = np.zeros(len(present), dtype=np.int32)
            number[cells] = np.arange(len(cells), dtype=np.int32)
            of_row = number[key]
            first = np.empty(len(cells), dtype=np.int64)
            first[of_row[::-1]] = np.arange(len(key) - 1, -1, -1)
        else:
            _, first, of_row = np.unique(key, return_index=True, return_inverse=True)
        sizes = np.stack([column[first] for column in columns], axis=1).astype(np.int64)
        of_row = of_row.astype(np.int32, copy=False)
        if self.count is None:
            return sizes, np.bincount(of_row, minlength=len(sizes)).astype(np.int64), of_row
        count = np.zeros(len(sizes), dtype=np.int64)
        np.add.at(count, of_row, self.count)
        return sizes, count, of_row

    def first_id(self, row: int) -> int:
        """The id of the graph of a row, of several the first."""
        return row if self.count is None else sum(self.count[:row].tolist())


def _whole(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise SizesError(f"{name} must have one dimension [graphs]; got shape {list(array.shape)}")
    if array.dtype.kind not in "iu" and len(array):
        raise SizesError(f"{name} must hold whole numbers; got dtype {array.dtype}")
    if len(array) and array.min() < 0:
        at = int(np.argmin(array))
        raise SizesError(f"{name} must not be negative; entry {at} is {array[at]}")
    if len(array) and name != "count" and array.max() >= 2**31:
        at = int(np.argmax(array))
        raise SizesError(f"{name} must be below 2147483648; entry {at} is {array[at]}")
    return array


def _joint_key(columns: list[np.ndarray]) -> tuple[np.ndarray | None, list[int]]:
    """One integer a row that orders rows lexicographically, where 62 bits suffice."""
    spans = [int(column.max()) + 1 for column in columns]
    cells = 1
    for span in spans:
        cells *= span
    if cells >= 2**62:
        return None, spans
    key = columns[0].astype(np.int64)
    for column, span in zip(columns[1:], spans[1:]):
        key *= span
        key += column
    return key, spans


def sizes_digest(sizes: GraphSizes) -> str:
    """SHA-256 over axis names and sizes in source order: the same for equal data sets, however they were given."""
    digest = hashlib.sha256()
    for axis in sizes.axes:
        rows = sizes.columns[axis.key]
        rows = rows if sizes.count is None else np.repeat(rows, sizes.count)
        digest.update(axis.key.encode() + b"\0")
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return digest.hexdigest()


def select_sizes(sizes: GraphSizes, rows: np.ndarray) -> GraphSizes:
    """The sizes of these graphs, in that order."""
    return with_columns(sizes.axes, {key: values[rows] for key, values in sizes.columns.items()})


def with_columns(
    axes: tuple[Axis, ...], columns: Mapping[str, np.ndarray], count: np.ndarray | None = None
) -> GraphSizes:
    """Sizes from one array an axis; count: see GraphSizes."""
    nodes, edges, num, budgets = by_level({axis: columns[axis.key] for axis in axes})
    return GraphSizes(nodes, edges, count, num, budgets)


def histogram_of(sizes: GraphSizes) -> GraphSizes:
    """The distinct sizes, ascending, with how many graphs have each."""
    distinct, count, _ = sizes.distinct
    columns = {axis.key: distinct[:, number] for number, axis in enumerate(sizes.axes)}
    return with_columns(sizes.axes, columns, count)
