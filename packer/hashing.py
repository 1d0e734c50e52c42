"""Keyed 64-bit hashes and permutations of whole numbers: the same on every platform and under every numpy version.

One mixer serves them all: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose finaliser is a bijection, so that
different numbers under one key have different hashes. Nothing here is meant to withstand someone who knows the key.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

STEP = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
"""SplitMix64's constants."""

_MASK = (1 << 64) - 1
_ROUNDS = 3  # of a permutation
_AT_ONCE = 1 << 15  # numbers permuted together: what is random about them stays in the cache


def finalised(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, uint64 -> uint64 of the same shape."""
    values = (values ^ (values >> np.uint64(SHIFTS[0]))) * np.uint64(FACTORS[0])
    values = (values ^ (values >> np.uint64(SHIFTS[1]))) * np.uint64(FACTORS[1])
    return values ^ (values >> np.uint64(SHIFTS[2]))


def mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's step and finaliser, uint64 -> uint64 of the same shape."""
    return finalised(values + np.uint64(STEP))


def mixed_number(number: int) -> int:
    """The same of one integer of 0..2^64 - 1."""
    number = (number + STEP) & _MASK
    number = (number ^ (number >> SHIFTS[0])) * FACTORS[0] & _MASK
    number = (number ^ (number >> SHIFTS[1])) * FACTORS[1] & _MASK
    return number ^ (number >> SHIFTS[2])


def key_of(*numbers: int) -> int:
    """One 64-bit key of some integers, in this order."""
    key = 0
    for number in numbers:
        key = mixed_number(key ^ (number & _MASK))
    return key


def id_hashes(ids: np.ndarray, key: int) -> np.ndarray:
    """Keyed hashes of whole numbers, pairwise different for different ids: uint64 of ids' shape."""
    return finalised((ids.astype(np.uint64) + np.uint64(1)) * np.uint64(STEP) + np.array([key], np.uint64))


def row_hashes(columns: Sequence[np.ndarray], key: int) -> np.ndarray:
    """uint64 [rows]: a keyed hash of each row of int columns [rows]. In place: a pass over rows, not over copies."""
    hashes = np.full(len(columns[0]), key, dtype=np.uint64)
    for column in columns:
        hashes ^= column.astype(np.int64).view(np.uint64)
        hashes += np.uint64(STEP)
        for shift, factor in zip(SHIFTS, FACTORS):
            hashes ^= hashes >> np.uint64(shift)
            hashes *= np.uint64(factor)
        hashes ^= hashes >> np.uint64(SHIFTS[2])
    return hashes


def shuffled(values: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The places of `values` (integers [n] in 0..size-1) in a shuffled 0..size-1, each by itself: int64 [n].

    A keyed permutation of 0..size-1, so any part of it can be had anywhere. Randomness: `seed` alone.
    """
    key = mixed(np.array([seed % (1 << 64)], dtype=np.uint64))
    places = np.empty(len(values), dtype=np.int64)
    for begin in range(0, len(values), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        places[part] = permuted(values[part].astype(np.uint64), permutations(np.array([size]), key))
    return places


def permutations(sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Keyed permutations of 0..size-1: uint64 [rows, 9] with size, mask, shift and three pairs (xor, odd factor).

    A round is a bijection on the b bits that cover size - 1: xor, multiplication by an odd number, xor with the own
    upper half. Values at or beyond size go through again until one is below (cycle walking): less than two passes on
    average, since 2^b < 2 * size. sizes: int64 [rows]; keys: uint64 [rows].
    """
    masks = covering_masks(sizes)
    rounds = [mixed(keys ^ np.uint64(part + 1)) | np.uint64(part % 2) for part in range(2 * _ROUNDS)]
    return np.stack([*(x.astype(np.uint64) for x in (sizes, masks, half_shifts(masks))), *rounds], axis=1)


def permuted(values: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """The image of each value: uint64 [n]. permutations: uint64 [n or 1, 3 + 2 * rounds], see `permutations`."""
    images = values.copy()
    permutations = np.broadcast_to(permutations, (len(values), permutations.shape[1]))
    todo = np.arange(len(values))
    while len(todo):
        size, mask, shift, *rounds = permutations[todo].T
        image = images[todo]
        for xor, factor in zip(rounds[::2], rounds[1::2]):
            image = ((image ^ xor) * factor) & mask
            image ^= image >> shift
        images[todo] = image
        todo = todo[image >= size]
    return images


def covering_masks(sizes: np.ndarray) -> np.ndarray:
    """The smallest 2^b - 1 that is at least size - 1 (0 for no items): int64."""
    masks = np.maximum(sizes - 1, 0)
    for bits in (1, 2, 4, 8, 16, 32):
        masks |= masks >> bits
    return masks


def half_shifts(masks: np.ndarray) -> np.ndarray:
    """Half the bits of each mask, rounded up, at least 1: int64."""
    bits = np.sum(masks[:, None] >> np.arange(63) & 1, axis=1)
    return np.maximum((bits + 1) // 2, 1)
