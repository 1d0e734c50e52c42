"""From patterns to ids: which graph goes into which pack, as a pure function of (size, rank inside the size, seed).

The items of one size are numbered by rank, in the order of their ids; the slots that the patterns offer to that size
are numbered too, and a keyed permutation maps the one to the other. A worker that knows only the sizes of its own
graphs, and how many of each came before, finds their packs alone.

Three permutations, all of them keyed by the seed: ranks to slots inside a size, packs to their index in the output (so
that packs of one pattern do not stand together), and slots inside a pack (so that they are not sorted by size).

Each step is written twice, as a loop that numba compiles and as numpy over a block; both give the same integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

import numpy as np

from packer.algorithms.instance import Patterns
from packer.algorithms.jit import kernel, numba_is_here
from packer.errors import PlanError
from packer.hashing import FACTORS, SHIFTS, STEP, covering_masks, half_shifts, mixed, permutations, permuted

BLOCK = 1 << 15  # items handled at a time: all that is random about a block stays in the cache


@dataclass(frozen=True)
class Runs:
    """Items whose ids are consecutive by size: run r is `lengths[r]` items of size `size_ids[r]`. int64 [runs] each."""

    size_ids: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Slots:
    """Where each slot of each size lies; what `slot_of` reads.

    An entry is one size in one pattern; entries are sorted by (size, pattern). Packs are numbered pattern by pattern
    before they are permuted.

    size_entry: int64 [sizes+1], entries before each size.
    entry_start: int64 [entries+1], slots of all sizes before each entry.
    entries: int64 [entries, 6]: number of the pattern's first pack, multiplicity, slots before the entry in its
    pattern; size, mask and shift of a permutation of the pattern's slots.
    size_permutations, pack_permutation: uint64 [sizes, 9] and [1, 9], see `permutations`; slot_key: uint64 [1].
    pattern_lengths, pattern_counts: int64 [patterns], slots of a pack and packs.
    """

    size_entry: np.ndarray
    entry_start: np.ndarray
    entries: np.ndarray
    size_permutations: np.ndarray
    pack_permutation: np.ndarray
    slot_key: np.ndarray
    pattern_lengths: np.ndarray
    pattern_counts: np.ndarray

    @property
    def size_counts(self) -> np.ndarray:
        """How many items of each size the patterns hold: int64 [sizes]."""
        return np.diff(self.entry_start[self.size_entry])


def make_slots(patterns: Patterns, seed: int) -> Slots:
    """The table of all slots. seed: any integer. Time and memory by the number of entries, whatever the counts."""
    pattern = np.repeat(np.arange(len(patterns)), np.diff(patterns.ptr))
    by_size = np.argsort(patterns.size_ids, kind="stable")
    sizes = int(patterns.size_ids.max(initial=-1)) + 1
    before = _starts(patterns.multiplicity)
    lengths = np.diff(before[patterns.ptr])
    entry_start = _starts((patterns.multiplicity * patterns.counts[pattern])[by_size])
    size_entry = np.searchsorted(patterns.size_ids[by_size], np.arange(sizes + 1))
    columns = (
        _starts(patterns.counts)[pattern],
        patterns.multiplicity,
        before[:-1] - before[patterns.ptr[pattern]],
        lengths[pattern],
        covering_masks(lengths)[pattern],
        half_shifts(covering_masks(lengths))[pattern],
    )
    keys = mixed(np.arange(2 + sizes, dtype=np.uint64) + mixed(np.array([seed % (1 << 64)], dtype=np.uint64)))
    return Slots(
        size_entry=size_entry,
        entry_start=entry_start,
        entries=np.ascontiguousarray(np.stack(columns, axis=1)[by_size]),
        size_permutations=permutations(np.diff(entry_start[size_entry]), keys[2:]),
        pack_permutation=permutations(np.array([patterns.num_packs]), keys[:1]),
        slot_key=keys[1:2],
        pattern_lengths=lengths,
        pattern_counts=patterns.counts,
    )


def slot_of(slots: Slots, size_ids: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pack, position inside the pack) of graphs: int64 [graphs] each, a pure function of the arguments.

    size_ids: integers [graphs]; ranks: int64 [graphs], how many earlier graphs have the same size. Raises PlanError for
    a size or rank that the patterns do not hold.
    """
    counts = slots.size_counts
    known = (size_ids >= 0) & (size_ids < len(counts)) & (ranks >= 0)
    known[known] = ranks[known] < counts[size_ids[known]]
    if not known.all():
        at = int(np.argmin(known))
        raise PlanError(
            f"graph {at} of those asked for has rank {int(ranks[at])} in size {int(size_ids[at])}; the patterns hold "
            f"{len(counts)} sizes and {counts[size_ids[at]] if 0 <= size_ids[at] < len(counts) else 0} slots of that "
            "size. Ask with the sizes that the plan was made for, ranks counted from 0"
        )
    packs, positions = np.empty(len(ranks), dtype=np.int64), np.empty(len(ranks), dtype=np.int64)
    for begin in range(0, len(ranks), BLOCK):
        part = slice(begin, begin + BLOCK)
        _locate(slots, size_ids[part], ranks[part], packs[part], positions[part])
    return packs, positions


def pack_offsets(slots: Slots) -> np.ndarray:
    """Where each pack of the output begins, and the end: int64 [packs+1]. Time and memory O(packs)."""
    offsets = np.zeros(sum(slots.pattern_counts.tolist()) + 1, dtype=np.int64)
    if numba_is_here():
        _lengths_loop(slots.pattern_lengths, slots.pattern_counts, slots.pack_permutation[0], offsets)
    else:
        for first, pattern in _blocks(Runs(np.arange(len(slots.pattern_counts)), slots.pattern_counts)):
            packs = permuted(np.arange(first, first + len(pattern), dtype=np.uint64), slots.pack_permutation)
            offsets[packs.astype(np.int64) + 1] = slots.pattern_lengths[pattern]
    return np.cumsum(offsets, out=offsets)


def assign_ids(size_of_item: np.ndarray | Runs, patterns: Patterns, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill the patterns with ids: (item_ids int64 [items], pack_offsets int64 [packs+1]).

    size_of_item: integers [items], or Runs where ids are consecutive by size; seed: any integer. Pack p holds
    item_ids[pack_offsets[p]:pack_offsets[p+1]], each item where `slot_of` says. Raises PlanError when the patterns hold
    other sizes than the items. Time O(items), without numba about 6 times as much; memory 8 bytes an item and 8 a pack
    beyond the input.
    """
    slots = make_slots(patterns, seed)
    _check_counts(size_of_item, slots.size_counts)
    offsets = pack_offsets(slots)
    item_ids = np.empty(int(offsets[-1]), dtype=np.int64)
    seen = np.zeros(len(slots.size_counts), dtype=np.int64)
    ranks, packs, positions = (np.empty(BLOCK, dtype=np.int64) for _ in range(3))
    for first, size_ids in _blocks(size_of_item):
        items = len(size_ids)
        rank(size_ids, seen, ranks[:items])
        _locate(slots, size_ids, ranks[:items], packs[:items], positions[:items])
        _write(item_ids, offsets, packs[:items], positions[:items], first)
    return item_ids, offsets


def _blocks(size_of_item: np.ndarray | Runs) -> Iterator[tuple[int, np.ndarray]]:
    """(id of the first item, size ids) of at most BLOCK items at a time."""
    if isinstance(size_of_item, np.ndarray):
        for first in range(0, len(size_of_item), BLOCK):
            yield first, size_of_item[first : first + BLOCK]
        return
    ends = np.cumsum(size_of_item.lengths)
    items = int(ends[-1]) if len(ends) else 0
    for first in range(0, items, BLOCK):
        last = min(first + BLOCK, items)
        runs = slice(*np.searchsorted(ends, [first, last - 1], side="right") + [0, 1])
        begins = ends[runs] - size_of_item.lengths[runs]
        yield first, np.repeat(size_of_item.size_ids[runs], np.minimum(ends[runs], last) - np.maximum(begins, first))


def _check_counts(size_of_item: np.ndarray | Runs, offered: np.ndarray) -> None:
    size_ids = size_of_item.size_ids if isinstance(size_of_item, Runs) else size_of_item
    largest = int(size_ids.max()) if len(size_ids) else -1
    count = np.zeros(max(largest + 1, len(offered)), dtype=np.int64)
    if isinstance(size_of_item, Runs):
        np.add.at(count, size_ids, size_of_item.lengths)
    else:
        for _, block in _blocks(size_ids):  # bincount converts to int64: block by block that costs no memory
            count += np.bincount(block, minlength=len(count))
    slots = np.zeros(len(count), dtype=np.int64)
    slots[: len(offered)] = offered
    wrong = np.flatnonzero(count != slots)
    if len(wrong):
        raise PlanError(
            f"the patterns offer {slots[wrong[0]]} slots for size {wrong[0]}, but there are {count[wrong[0]]} items "
            f"of it ({len(wrong)} sizes differ): the patterns were made for other items"
        )


# --- one block: compiled where numba is installed, numpy where it is not ----------------------------------------------


def rank(size_ids: np.ndarray, seen: np.ndarray, ranks: np.ndarray) -> None:
    """Write the rank of each item inside its size to `ranks` (int64 [items]), and count the items in `seen`.

    size_ids: integers [items]; seen: int64 [sizes], how many items of each size came before.
    """
    if numba_is_here():
        _rank_loop(size_ids, seen, ranks)
        return
    order = np.argsort(size_ids, kind="stable")
    count = np.bincount(size_ids, minlength=len(seen))
    ranks[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count - seen, count)
    seen += count


@kernel
def _rank_loop(size_ids: np.ndarray, seen: np.ndarray, ranks: np.ndarray) -> None:
    for item in range(len(size_ids)):
        ranks[item] = seen[size_ids[item]]
        seen[size_ids[item]] += 1


def _locate(slots: Slots, size_ids: np.ndarray, ranks: np.ndarray, packs: np.ndarray, positions: np.ndarray) -> None:
    """Write pack and position of each item."""
    if numba_is_here():
        tables = (slots.size_entry, slots.entry_start, slots.entries, slots.size_permutations, slots.pack_permutation)
        _locate_loop(size_ids, ranks, *tables, slots.slot_key, packs, positions)
        return
    first_slot = slots.entry_start[slots.size_entry[size_ids]]
    slot = first_slot + permuted(ranks.astype(np.uint64), slots.size_permutations[size_ids]).astype(np.int64)
    entry = np.searchsorted(slots.entry_start, slot, side="right") - 1
    first_pack, multiplicity, before, *_ = slots.entries[entry].T
    pack_of_entry, copy = np.divmod(slot - slots.entry_start[entry], multiplicity)
    number = (first_pack + pack_of_entry).astype(np.uint64)
    packs[:] = permuted(number, slots.pack_permutation)
    hashed = mixed(number + slots.slot_key)
    one = np.uint64(1)
    rounds = [hashed, hashed >> np.uint64(16) | one, hashed >> np.uint64(32), hashed >> np.uint64(48) | one]
    in_pack = np.stack([*slots.entries[entry, 3:].T.astype(np.uint64), *rounds], axis=1)
    positions[:] = permuted((before + copy).astype(np.uint64), in_pack)


@kernel
def _locate_loop(
    size_ids: np.ndarray,
    ranks: np.ndarray,
    size_entry: np.ndarray,
    entry_start: np.ndarray,
    entries: np.ndarray,
    size_permutations: np.ndarray,
    pack_permutation: np.ndarray,
    slot_key: np.ndarray,
    packs: np.ndarray,
    positions: np.ndarray,
) -> None:
    one, quarter, half, most = np.uint64(1), np.uint64(16), np.uint64(32), np.uint64(48)
    for item in range(len(size_ids)):
        size_id = size_ids[item]
        # Rank to slot of this size: a permutation, so that no two items meet and none is predictable.
        low, high = size_entry[size_id], size_entry[size_id + 1]
        slot = entry_start[low] + np.int64(_permuted(np.uint64(ranks[item]), size_permutations[size_id]))
        # Slot to entry, one size in one pattern: bisection over the slots before each entry.
        while high - low > 1:
            middle = (low + high) >> 1
            if entry_start[middle] <= slot:
                low = middle
            else:
                high = middle
        # Entry to pack: the pattern's packs offer `multiplicity` slots each; packs are permuted over the output.
        inside, multiplicity = slot - entry_start[low], entries[low, 1]
        pack = inside if multiplicity == 1 else inside // multiplicity
        copy = inside - pack * multiplicity
        number = np.uint64(entries[low, 0] + pack)
        packs[item] = np.int64(_permuted(number, pack_permutation[0]))
        # Position inside the pack: a permutation of its slots whose four keys are one hash of the pack's number. Its
        # values go over the next power of two; one beyond the pack is permuted on until it lies inside.
        hashed = _mixed_one(number + slot_key[0])
        size, mask, shift = np.uint64(entries[low, 3]), np.uint64(entries[low, 4]), np.uint64(entries[low, 5])
        position = np.uint64(entries[low, 2] + copy)
        while True:
            position = ((position ^ hashed) * (hashed >> quarter | one)) & mask
            position ^= position >> shift
            position = ((position ^ (hashed >> half)) * (hashed >> most | one)) & mask
            position ^= position >> shift
            if position < size:
                break
        positions[item] = np.int64(position)


def _write(item_ids: np.ndarray, offsets: np.ndarray, packs: np.ndarray, positions: np.ndarray, first: int) -> None:
    """Put ids first, first + 1, ... into their slots."""
    if numba_is_here():
        _write_loop(item_ids, offsets, packs, positions, first)
    else:
        item_ids[offsets[packs] + positions] = np.arange(first, first + len(packs))


@kernel
def _write_loop(
    item_ids: np.ndarray, offsets: np.ndarray, packs: np.ndarray, positions: np.ndarray, first: int
) -> None:
    for item in range(len(packs)):
        item_ids[offsets[packs[item]] + positions[item]] = first + item


@kernel
def _mixed_one(value: np.uint64) -> np.uint64:
    """`mixed` of one number."""
    value += np.uint64(STEP)
    value = (value ^ (value >> np.uint64(SHIFTS[0]))) * np.uint64(FACTORS[0])
    value = (value ^ (value >> np.uint64(SHIFTS[1]))) * np.uint64(FACTORS[1])
    return value ^ (value >> np.uint64(SHIFTS[2]))


@kernel
def _lengths_loop(
    pattern_lengths: np.ndarray, pattern_counts: np.ndarray, permutation: np.ndarray, offsets: np.ndarray
) -> None:
    """Write the length of each pack behind its index: offsets[index + 1]."""
    number = np.uint64(0)
    for pattern in range(len(pattern_counts)):
        for _ in range(pattern_counts[pattern]):
            offsets[np.int64(_permuted(number, permutation)) + 1] = pattern_lengths[pattern]
            number += np.uint64(1)


@kernel
def _permuted(value: np.uint64, permutation: np.ndarray) -> np.uint64:
    """The image of one value under one row of `permutations`."""
    size, mask, shift = permutation[0], permutation[1], permutation[2]
    while True:
        value = ((value ^ permutation[3]) * permutation[4]) & mask
        value ^= value >> shift
        value = ((value ^ permutation[5]) * permutation[6]) & mask
        value ^= value >> shift
        value = ((value ^ permutation[7]) * permutation[8]) & mask
        value ^= value >> shift
        if value < size:
            return value


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Where consecutive parts begin, and the end: int64 [parts+1]."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
