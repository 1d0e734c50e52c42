"""Hashes and keys of whole numbers: values worked out with Python integers, and no two ids alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from packer.hashing import id_hashes, key_of, mixed, mixed_number, row_hashes

NUMBERS = st.integers(0, 2**64 - 1)
MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The published generator's next number after `state`, in Python integers."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_the_first_numbers_of_splitmix64() -> None:
    # The published test vector for seed 1234567: its state advances by the step each time.
    states = [(1234567 + i * 0x9E3779B97F4A7C15) & MASK for i in range(3)]
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [mixed_number(state) for state in states] == known
    assert mixed(np.array(states, dtype=np.uint64)).tolist() == known


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_arrays_and_numbers_agree(numbers: list[int]) -> None:
    expected = [splitmix64(number) for number in numbers]
    assert mixed(np.array(numbers, dtype=np.uint64)).tolist() == expected
    assert [mixed_number(number) for number in numbers] == expected


@given(st.integers(0, 2**40), st.integers(1, 2000), NUMBERS)
def test_ids_have_different_hashes_under_any_key(first: int, count: int, key: int) -> None:
    hashes = id_hashes(np.arange(first, first + count), key)
    assert len(np.unique(hashes)) == count
    at = count // 2  # the step carries id + 1 from key on; what follows is the finaliser alone
    assert hashes[at] == splitmix64((key + (first + at) * 0x9E3779B97F4A7C15) & MASK)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5), NUMBERS)
def test_rows_are_hashed_column_after_column(row: list[int], key: int) -> None:
    state = key
    for number in row:
        state = splitmix64(state ^ (number & MASK))
    assert row_hashes([np.array([number]) for number in row], key).tolist() == [state]
    assert key_of(*row) == row_hashes([np.array([number]) for number in row], 0)[0]


def test_keys_depend_on_order_and_number() -> None:
    keys = [key_of(), key_of(0), key_of(0, 0), key_of(1, 2), key_of(2, 1), key_of(-1)]
    assert len(set(keys)) == len(keys)
