"""How large the graphs are: the only thing that a plan looks at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Iterable, Mapping, Tuple, Union, cast

import numpy as np

from packer.errors import LimitsError, SizesError
from packer.fields import Axis
from packer.limits import PackLimits

NodeSizes = Union[np.ndarray, Mapping[str, np.ndarray]]
EdgeSizes = Union[np.ndarray, Mapping[Tuple[str, str, str], np.ndarray]]

# A table of this many cells finds distinct sizes by counting, far faster than by sorting.
_MAX_CELLS = 1 << 24


@dataclass(frozen=True, eq=False)
class GraphSizes:
    """Sizes of the graphs of a data set, in source order.

    num_nodes, num_edges: int arrays [graphs], edges directed as PyG counts them; for heterogeneous graphs dicts of such
    arrays by node type and edge type. count: None, or int [rows]: then row i owns count[i] consecutive graph ids.
    Raises SizesError for a negative number, a graph without nodes, arrays of unequal length, or no graph at all.
    """

    num_nodes: NodeSizes
    num_edges: EdgeSizes
    count: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths: set[int] = set()
        for name in ("num_nodes", "num_edges"):
            given: Any = getattr(self, name)
            if isinstance(given, Mapping):
                by_type = cast("Mapping[Any, Any]", given)
                clean: Any = {key: _whole(f"{name}[{key!r}]", by_type[key]) for key in by_type}
                lengths.update(len(values) for values in clean.values())
            else:
                clean = _whole(name, given)
                lengths.add(len(clean))
            object.__setattr__(self, name, clean)
        if self.count is not None:
            object.__setattr__(self, "count", _whole("count", self.count))
            lengths.add(len(self.count))
        if len(lengths) != 1:
            raise SizesError(f"num_nodes, num_edges and count must have one entry a graph each; got lengths {lengths}")
        if lengths == {0} or self.num_graphs == 0:
            raise SizesError("no graphs: the sizes are empty")
        total = sum(self.columns[axis.key] for axis in self.axes if axis.level == "node")
        if np.min(total) < 1:
            raise SizesError(
                f"graph {self._first_id(np.argmin(total))} has no nodes ({int(np.sum(total < 1))} such in all): "
                "leave such graphs out, or skip them at the build with --on-empty skip"
            )

    @classmethod
    def from_histogram(cls, num_nodes: NodeSizes, num_edges: EdgeSizes, count: np.ndarray) -> GraphSizes:
        """Sizes given as a histogram: row i owns count[i] consecutive graph ids. Nothing here grows with the counts."""
        return cls(num_nodes, num_edges, count)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Node axes, then edge axes."""
        return tuple(
            Axis(level, key)
            for level, given in (("node", self.num_nodes), ("edge", self.num_edges))
            for key in (given if isinstance(given, Mapping) else (None,))
        )

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Axis key -> int [rows]."""
        nodes: Any = self.num_nodes
        edges: Any = self.num_edges
        given = {"node": nodes, "edge": edges}
        return {a.key: given[a.level] if a.type is None else given[a.level][a.type] for a in self.axes}

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

    def _first_id(self, row: Any) -> int:
        return int(row) if self.count is None else sum(self.count[: int(row)].tolist())


def need_of(sizes: np.ndarray, axes: Iterable[Axis], limits: PackLimits) -> tuple[np.ndarray, np.ndarray]:
    """The limits rule as plain vector packing: (need int64 [rows, dims], capacity int64 [dims]).

    sizes: int64 [rows, axes]. Dimensions: each axis that has a limit, then the number of graphs if it has one.
    """
    slots = list(limits.slots(axes).values())
    graphs = limits.num_graphs
    kept = [i for i, limit in enumerate(slots) if limit is not None]
    need = sizes[:, kept].astype(np.int64)
    capacity = [slots[i] for i in kept]
    if limits.null_graphs == "all":
        assert graphs is not None
        need = np.maximum(need, 1) - 1
        capacity = [limit - graphs for limit in capacity]
    elif limits.null_graphs == "one":
        capacity = [limit - 1 for limit in capacity]
    if graphs is not None:
        need = np.column_stack([need, np.ones(len(need), dtype=np.int64)])
        capacity.append(graphs if limits.null_graphs == "none" else graphs - 1)
    return np.ascontiguousarray(need), np.array(capacity, dtype=np.int64)


def check_fit(sizes: GraphSizes, limits: PackLimits) -> None:
    """Raise a SizesError that names the first graph too large for an empty pack, with the limit that would take it."""
    distinct, _, of_row = sizes.distinct
    need, capacity = need_of(distinct, sizes.axes, limits)
    too_large: np.ndarray = np.any(need > capacity, axis=1)
    if not too_large.any():
        return
    rows = np.flatnonzero(too_large[of_row])
    many = len(rows) if sizes.count is None else sum(sizes.count[rows].tolist())
    graph, size = sizes._first_id(rows[0]), distinct[of_row[rows[0]]]  # pyright: ignore[reportPrivateUsage]
    slots = list(limits.slots(sizes.axes).values())
    for axis, has, limit in zip(sizes.axes, size.tolist(), slots):
        if limit is None:
            continue
        graphs = limits.num_graphs or 0
        reserved = {"all": graphs - 1, "one": 1, "none": 0}[limits.null_graphs]
        if has > limit - reserved:
            name = f"num_{axis.level}s" + ("" if axis.type is None else f"[{axis.type!r}]")
            flag = f"--num-{axis.level}s"
            less = f" ({limit}, less {reserved} for padding)" if reserved else ""
            raise SizesError(
                f"graph {graph} needs {has} {axis.level}s{'' if axis.type is None else f' of type {axis.type!r}'}; "
                f"a pack offers {limit - reserved}{less}; {many} graphs do not fit in all. Raise {name} ({flag}) to "
                f"{has + reserved} or more, or leave such graphs out (--oversize skip)"
            )
    raise LimitsError(f"no graph fits into a pack: {limits}")


def _whole(name: str, given: Any) -> np.ndarray:
    array = np.asarray(given)
    if array.ndim != 1:
        raise SizesError(f"{name} must have one dimension [graphs]; got shape {list(array.shape)}")
    if array.dtype.kind not in "iu" and len(array):
        raise SizesError(f"{name} must hold whole numbers; got dtype {array.dtype}")
    if len(array) and array.min() < 0:
        at = int(np.argmin(array))
        raise SizesError(f"{name} must not be negative; entry {at} is {array[at]}")
    if len(array) and name.startswith("num_") and array.max() >= 2**31:
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
