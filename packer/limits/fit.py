"""What the padding of a pack takes, and which graphs do not fit: the only place that knows."""

from __future__ import annotations

from typing import Iterable

import numpy as np

from packer.errors import LimitsError, SizesError
from packer.graphs.axes import BUDGET, Axis
from packer.graphs.sizes import GraphSizes, histogram_of
from packer.limits.pack_limits import PackLimits


def need_of(sizes: np.ndarray, axes: Iterable[Axis], limits: PackLimits) -> tuple[np.ndarray, np.ndarray]:
    """The limits rule as plain vector packing: (need int64 [rows, dims], capacity int64 [dims]).

    sizes: int64 [rows, axes]. Dimensions: each axis that has a limit, then the number of graphs if it has one.
    """
    axes = tuple(axes)
    if limits.budgets and not any(axis.level == BUDGET for axis in axes):
        raise LimitsError(f"budgets limits {next(iter(limits.budgets))!r} (--budget), which the sizes of graphs lack")
    slots, padding, graphs = list(limits.slots(axes).values()), limits.padding, limits.num_graphs
    kept = [i for i, limit in enumerate(slots) if limit is not None]
    need = sizes[:, kept].astype(np.int64)
    capacity: list[int] = []
    for column, (axis, limit) in enumerate((axes[i], slots[i]) for i in kept):
        if padding.takes_a_row(axis.level):
            # r graphs leave a row for each of the other G - r slots: sum(rows) + G - r <= limit.
            need[:, column] = np.maximum(need[:, column], 1) - 1
            capacity.append(limit - int(graphs or 0))
        else:
            capacity.append(limit - padding.reserved(axis.level, 1))
    if graphs is not None:
        need = np.column_stack([need, np.ones(len(need), dtype=np.int64)])
        capacity.append(graphs - limits.padding.graphs)
    return np.ascontiguousarray(need), np.array(capacity, dtype=np.int64)


def check_fit(sizes: GraphSizes, limits: PackLimits) -> None:
    """Raise a SizesError that names the first graph too large for an empty pack, with the limit that would take it."""
    if not _distinct_fitting(sizes, limits).all():
        fits = fitting(sizes, limits)
        row = int(np.argmin(fits))
        raise do_not_fit(sizes, limits, fits, row, sizes.first_id(row))


def fitting(sizes: GraphSizes, limits: PackLimits) -> np.ndarray:
    """bool [graphs]: which graphs fit an empty pack."""
    return _distinct_fitting(sizes, limits)[sizes.distinct[2]]


def _distinct_fitting(sizes: GraphSizes, limits: PackLimits) -> np.ndarray:
    """bool [distinct sizes]."""
    need, capacity = need_of(sizes.distinct[0], sizes.axes, limits)
    return np.all(need <= capacity, axis=1)


def do_not_fit(sizes: GraphSizes, limits: PackLimits, fits: np.ndarray, row: int, graph_id: int) -> SizesError:
    """The error that some graphs are too large, naming the first: that of `row`. fits: bool [rows of sizes]."""
    many = int((~fits).sum()) if sizes.count is None else sum(sizes.count[~fits].tolist())
    all_of_them = f"; {_would_hold_all(sizes, limits)} would hold them all" if many > 1 else ""
    return SizesError(
        f"graph {graph_id} {too_large(sizes, limits, row)}; "
        f"{many} of {sizes.num_graphs} graphs do not fit{all_of_them}. "
        "Raise the limit, or pass oversize='skip' (--oversize skip) to leave such graphs out, or 'trim-both' to cut "
        "them down (they are counted)"
    )


def none_fits(sizes: GraphSizes, limits: PackLimits) -> SizesError:
    """The error that all graphs are too large."""
    least = histogram_of(sizes)
    return SizesError(
        f"none of the {sizes.num_graphs} graphs fits the limits: the one with the fewest nodes "
        f"{too_large(least, limits, 0)}"
    )


def too_large(sizes: GraphSizes, limits: PackLimits, row: int) -> str:
    """Why a graph of row `row` does not fit: what it needs, what a pack offers, what would do."""
    slots = limits.slots(sizes.axes)
    reasons: list[str] = []
    for axis in sizes.axes:
        has, limit, reserved = int(sizes.columns[axis.key][row]), slots[axis.key], reserved_beside_one(axis, limits)
        if limit is not None and has > limit - reserved:
            less = f" ({limit}, less {reserved} for padding)" if reserved else ""
            wider = _with_number(axis, has + reserved)
            reasons.append(f"{has} {axis.rows}; a pack offers {limit - reserved}{less}: {wider} would do")
    return f"needs {', and '.join(reasons)}"


def _would_hold_all(sizes: GraphSizes, limits: PackLimits) -> str:
    slots = limits.slots(sizes.axes)
    most = {axis: int(sizes.columns[axis.key].max()) + reserved_beside_one(axis, limits) for axis in sizes.axes}
    return " and ".join(
        _with_number(axis, needed)
        for axis, needed in most.items()
        if (limit := slots[axis.key]) is not None and needed > limit
    )


def reserved_beside_one(axis: Axis, limits: PackLimits) -> int:
    """Rows of an axis that the padding of a pack with one real graph takes at least."""
    return limits.padding.reserved(axis.level, (limits.num_graphs or 1) - 1)


def argument(axis: Axis) -> tuple[str, str]:
    """The limit of an axis, as Python and as the command name it."""
    if axis.level == BUDGET:
        return f"budgets[{axis.key!r}]", f"--budget {axis.key}="
    if axis.level not in ("node", "edge"):
        return f"num[{axis.key!r}]", f"--num {axis.key}="
    flag = f"--num-{axis.level}s"
    return (f"num_{axis.level}s", flag) if axis.type is None else (f"num_{axis.level}s[{axis.type!r}]", flag)


def _with_number(axis: Axis, slots: int) -> str:
    name, flag = argument(axis)
    if axis.level in ("node", "edge"):
        flag += " " if axis.type is None else f" {axis.key}="
    return f"{name}={slots} ({flag}{slots})"
