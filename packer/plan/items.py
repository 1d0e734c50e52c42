"""Graphs under limits as a packing problem."""

from __future__ import annotations

from packer.algorithms.items import Items
from packer.graphs.sizes import GraphSizes
from packer.limits.fit import check_fit, need_of
from packer.limits.pack_limits import PackLimits


def items_of(sizes: GraphSizes, limits: PackLimits) -> Items:
    """The packing problem that `sizes` under `limits` is. Raises SizesError naming the first graph that cannot fit."""
    check_fit(sizes, limits)
    distinct, count, of_row = sizes.distinct
    need, capacity = need_of(distinct, sizes.axes, limits)
    return Items.from_need(need, capacity, count, of_row, sizes.count)
