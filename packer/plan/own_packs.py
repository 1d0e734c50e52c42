"""Packs that somebody else decided on: checked for what every plan keeps."""

from __future__ import annotations

from itertools import chain
from typing import Any, Iterable, Sequence

import numpy as np

from packer.errors import PlanError
from packer.graphs.sizes import GraphSizes
from packer.limits.fit import argument, need_of
from packer.limits.pack_limits import PackLimits


def check_packs(
    sizes: GraphSizes, limits: PackLimits, packs: Iterable[Sequence[int] | np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(graph_ids int64 [graphs], pack_offsets int64 [packs+1]) of packs that hold each graph once, within the limits.

    Time O(graphs), beyond one look at each given pack. Raises PlanError.
    """
    ids, offsets = _flat(packs)
    if len(offsets) == 1:
        raise PlanError(f"no packs were given for {sizes.num_graphs} graphs")
    _check_each_once(ids, offsets, sizes.num_graphs)
    _check_within(ids, offsets, sizes, limits)
    return ids, offsets


def _flat(packs: Iterable[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lists: list[Any] = []
    if not hasattr(packs, "__iter__"):
        raise PlanError(f"packs must be sequences of graph ids, one a pack; got {packs!r}")
    for number, pack in enumerate(packs):
        given: Any = pack
        if isinstance(given, (str, bytes)) or not hasattr(given, "__len__"):
            raise PlanError(f"pack {number} must be a sequence of graph ids; got {given!r}")
        lists.append(given.tolist() if hasattr(given, "tolist") else given)
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    if len(lists) and not lengths.all():
        raise PlanError(f"pack {int(np.argmin(lengths))} is empty, of {len(lists)}: leave such packs out")
    flat: list[Any] = list(chain.from_iterable(lists))
    try:
        ids = np.array(flat)
    except (ValueError, OverflowError):
        ids = np.array([], dtype=object)
    bools = not {bool, np.bool_}.isdisjoint(map(type, flat))  # which numpy takes for numbers beside others
    if len(flat) and (ids.dtype.kind not in "iu" or ids.ndim != 1 or bools):
        wrong = next((i for i, value in enumerate(flat) if not _is_whole(value)), 0)
        pack = int(np.searchsorted(np.cumsum(lengths), wrong, side="right"))
        raise PlanError(f"pack {pack} must hold graph ids, which are whole numbers; got {flat[wrong]!r}")
    return ids.astype(np.int64), np.append(0, np.cumsum(lengths))


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_)) and abs(value.__index__()) < 2**63


def _check_each_once(ids: np.ndarray, offsets: np.ndarray, num_graphs: int) -> None:
    def pack_of(at: int) -> int:
        return int(np.searchsorted(offsets, at, side="right")) - 1

    outside = np.flatnonzero((ids < 0) | (ids >= num_graphs))
    if len(outside):
        raise PlanError(
            f"pack {pack_of(int(outside[0]))} names graph {ids[outside[0]]}, of graphs 0 to {num_graphs - 1}"
        )
    times = np.bincount(ids, minlength=num_graphs)
    if (times > 1).any():
        graph = int(np.argmax(times > 1))
        packs = [pack_of(at) for at in np.flatnonzero(ids == graph)[:2].tolist()]
        where = f"twice in pack {packs[0]}" if packs[0] == packs[1] else f"in packs {packs[0]} and {packs[1]}"
        raise PlanError(f"graph {graph} stands {where}: a graph belongs to one pack; {int((times > 1).sum())} repeat")
    if not times.all():
        raise PlanError(
            f"graph {int(np.argmin(times))} is in no pack, as are {int((times == 0).sum())} of {num_graphs} in all: "
            "give them packs, or plan and build from a source without them"
        )


def _check_within(ids: np.ndarray, offsets: np.ndarray, sizes: GraphSizes, limits: PackLimits) -> None:
    """PlanError naming the first pack that is too full, with what it takes and what there is."""
    distinct, _, of_row = sizes.distinct
    need, capacity = need_of(distinct, sizes.axes, limits)
    size_of_graph = of_row if sizes.count is None else np.repeat(of_row, sizes.count)
    taken = np.add.reduceat(need[size_of_graph[ids]], offsets[:-1], axis=0)
    too_full = np.flatnonzero((taken > capacity).any(axis=1))
    if not len(too_full):
        return
    pack = int(too_full[0])
    graphs = int(offsets[pack + 1] - offsets[pack])
    also = f"; {len(too_full)} packs are too full in all" if len(too_full) > 1 else ""
    remedy = "move graphs to another pack"
    most = int(limits.num_graphs or graphs)
    reserve = limits.padding.graphs
    if limits.num_graphs is not None and graphs > most - reserve:
        less = f" ({most}, less {reserve} for padding)" if reserve else ""
        raise PlanError(
            f"pack {pack} holds {graphs} graphs; a pack offers {most - reserve}{less}{also}. Raise num_graphs "
            f"(--num-graphs) to {graphs + reserve} or more, or {remedy}"
        )
    held = distinct[size_of_graph[ids[offsets[pack] : offsets[pack + 1]]]]
    slots = limits.slots(sizes.axes)
    for number, axis in enumerate(sizes.axes):
        limit = slots[axis.key]
        rows = np.maximum(held[:, number], 1) if limits.padding.takes_a_row(axis.level) else held[:, number]
        total = int(rows.sum())
        reserve = limits.padding.reserved(axis.level, most - graphs)
        if limit is not None and total > limit - reserve:
            name, flag = argument(axis)
            less = f" ({limit}, less {reserve} for padding)" if reserve else ""
            raise PlanError(
                f"pack {pack} holds {total} {axis.rows}, in {graphs} graphs; a pack offers {limit - reserve}{less}"
                f"{also}. Raise {name} ({flag}) to {total + reserve} or more, or {remedy}"
            )
    raise AssertionError(f"pack {pack} takes {taken[pack].tolist()} of {capacity.tolist()}")
