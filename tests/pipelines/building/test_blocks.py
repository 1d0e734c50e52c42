"""What the driver keeps of blocks, and how it adds up their sizes."""

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.building.spilled.blocks import Block, Blocks
from pipelines.building.spilled.phases import _summed


def test_blocks_as_numbers_are_a_sequence_of_blocks():
    blocks = [Block(0, 0, 4, 3, 100), Block(1, 4, 2, 0, 20), Block(2, 6, 5, 5, 1 << 40)]
    held = Blocks.of(array("q", [number for block in blocks for number in block]))
    assert list(held) == blocks
    assert len(held) == 3 and held[-1] == blocks[2] and list(held[1:]) == blocks[1:]
    assert held.num_records == 11 and held.graphs.tolist() == [3, 0, 5]
    assert all(type(number) is int for number in held[0]), "they are sent to workers"


def test_no_blocks():
    held = Blocks.of(array("q"))
    assert list(held) == [] and held.num_records == 0 and not held.graphs.any()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 1 << 40))))
def test_equal_sizes_are_added_up(counted):
    rows = np.array([row[:2] for row in counted], dtype=np.int64).reshape(-1, 2)
    total: dict[tuple[int, int], int] = {}
    for *size, count in counted:
        total[tuple(size)] = total.get(tuple(size), 0) + count
    distinct, count = _summed(rows, np.array([row[2] for row in counted], dtype=np.int64))
    assert [(*size, number) for size, number in zip(distinct.tolist(), count.tolist(), strict=True)] == [
        (*size, total[size]) for size in sorted(total)
    ]
