"""Where workers would put graphs, by the tasks that a driver sent: in range, each slot once, as plain integers say."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
from simulated import LIMITS, Sample

from packer.algorithms.assign import Slots, pack_offsets
from pipelines.building.spilled import route
from pipelines.building.spilled.groups import GroupGraphs
from pipelines.building.spilled.route import RouteTask

REFERENCE = 500
"""Graphs of each group whose place is computed in Python's integers too, which have no width."""
_WIDE = (1 << 64) - 1


@dataclass(frozen=True)
class Places:
    """Some graphs of a plan. kinds, ranks: what they are; packs, positions: where they go; int64 [graphs] each."""

    slots: Slots
    num_packs: int
    kinds: np.ndarray
    ranks: np.ndarray
    packs: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Checked:
    """Faults are raised; these are the extremes of what was found right."""

    groups: int
    graphs: int
    largest_rank: int
    largest_pack: int
    complete: bool


def check(tasks: list[RouteTask], sample: Sample, *, complete: bool) -> Checked:
    """Place the graphs of some groups as a worker does. complete: they are all groups, so that every slot is filled.

    Raises AssertionError where a pack or a position is out of range, where two graphs share a slot, or where compiled
    code, numpy and plain integers differ.
    """
    found = [_place(task, sample) for task in tasks]
    packs, positions = (np.concatenate([getattr(one, name) for one in found]) for name in ("packs", "positions"))
    slots, num_packs = found[0].slots, found[0].num_packs
    assert packs.min() >= 0 and packs.max() < num_packs, f"pack {packs.max()} of {num_packs}"
    assert positions.min() >= 0 and positions.max() < LIMITS.num_graphs - 1, f"position {positions.max()}"
    if complete:
        filled = np.bincount(pack_offsets(slots)[packs] + positions)
        assert len(filled) == len(packs) and (filled == 1).all(), "the slots are not each filled once"
    else:
        order = np.lexsort((positions, packs))
        same = (np.diff(packs[order]) == 0) & (np.diff(positions[order]) == 0)
        assert not same.any(), f"{same.sum()} slots are filled twice"
    for one in found:
        _check_integers(one)
    return Checked(len(tasks), len(packs), max(int(one.ranks.max()) for one in found), int(packs.max()), complete)


def _place(task: RouteTask, sample: Sample) -> Places:
    group, way = task.task.group, task.ways[0]
    count = sample.draw(group.number, group.records)
    order = np.random.default_rng(group.number).permutation(np.repeat(np.arange(len(count)), count))
    ids = np.arange(group.first_id, group.first_id + group.records)
    graphs = GroupGraphs(
        ids, np.zeros_like(ids), ids, sample.sizes[order], np.ones(len(ids), bool), np.zeros((2, 0)), {}, None
    )
    packs, positions = route._pack_positions(graphs, np.arange(len(ids)), way)
    assert way.plan is not None
    sizes, kind_of_size, slots = route._slots(way.plan)
    kind = dict(zip(map(tuple, sizes.tolist()), kind_of_size.tolist(), strict=True))
    kind_of_draw = np.array([kind.get(tuple(size), -1) for size in sample.sizes.tolist()])  # -1: no group has it
    kinds, ranks = kind_of_draw[order], np.empty(len(ids), dtype=np.int64)
    route.rank(kinds, way.starts.copy(), ranks)
    return Places(slots, sum(slots.pattern_counts.tolist()), kinds, ranks, packs, positions)


def _check_integers(found: Places) -> None:
    """The same places without numba, and in integers of any width."""
    some = np.linspace(0, len(found.kinds) - 1, REFERENCE).astype(np.int64)
    given = np.stack([found.packs[some], found.positions[some]])
    with patch("packer.algorithms.assign.numba_is_here", lambda: False):
        numpy = route.slot_of(found.slots, found.kinds[some], found.ranks[some])
    assert np.array_equal(given, numpy), "compiled code and numpy differ"
    pairs = zip(found.kinds[some].tolist(), found.ranks[some].tolist(), strict=True)
    plain = np.array([_place_of(found.slots, kind, rank) for kind, rank in pairs]).T
    assert np.array_equal(given, plain), "machine integers and plain ones differ"


def _place_of(slots: Slots, kind: int, rank: int) -> tuple[int, int]:
    """`slot_of` one graph, written again."""
    low, high = slots.size_entry[kind : kind + 2].tolist()
    starts = slots.entry_start[: high + 1].tolist()
    slot = starts[low] + _permuted(rank, slots.size_permutations[kind].tolist())
    entry = bisect_right(starts, slot, low, high) - 1
    first_pack, multiplicity, before, *inside = slots.entries[entry].tolist()
    number = first_pack + (slot - starts[entry]) // multiplicity
    mixed = number + int(slots.slot_key[0]) + 0x9E3779B97F4A7C15 & _WIDE
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _WIDE
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _WIDE
    mixed ^= mixed >> 31
    rounds = [mixed, mixed >> 16 | 1, mixed >> 32, mixed >> 48 | 1]
    position = _permuted(before + (slot - starts[entry]) % multiplicity, [*inside, *rounds])
    return _permuted(number, slots.pack_permutation[0].tolist()), position


def _permuted(value: int, permutation: list[int]) -> int:
    size, mask, shift, *rounds = permutation
    while True:
        for xor, factor in zip(rounds[::2], rounds[1::2], strict=True):
            value = (value ^ xor) * factor & mask
            value ^= value >> shift
        if value < size:
            return value
