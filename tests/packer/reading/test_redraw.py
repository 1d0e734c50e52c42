"""A redraw is the block that packing the same graphs in other slots would have given, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_packs import write_packs
from strategies import heterogeneous, homogeneous, limits_of, packings

from packer.graphs.table import GraphTable
from packer.packs.materialise import materialise
from packer.reading.reader import PackReader
from packer.reading.redraw import needed_columns, redraw_key, redrawn, source_slots
from packer.scan.block import join
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide


def table_of(graphs: list[Any]) -> GraphTable:
    block = block_of_graphs(graphs)
    return join([block], decide(block.statistics)[0])


@settings(max_examples=200)
@given(st.one_of(homogeneous(max_graphs=4), heterogeneous(max_graphs=3)), st.data())
def test_a_redrawn_block_is_the_block_of_the_same_graphs_in_other_slots(graphs: list[Any], data: st.DataObject) -> None:
    table = table_of(graphs * data.draw(st.integers(1, 5)))  # repeated, so that there are classes of several
    null_graphs = data.draw(st.sampled_from(("all", "one", "jraph")))
    counts = {axis.key: table.counts(axis.key) for axis in table.schema.axes}
    ids, offsets, slots, num_slots = data.draw(packings(counts, table.schema.axes, null_graphs))
    limits = limits_of(table.schema.axes, slots, num_slots, null_graphs)
    block = materialise(table, ids, offsets, limits)
    before = {name: values.copy() for name, values in block.items()}

    found = redrawn(block, table.schema, data.draw(st.integers(0, 99)), redraw_key(3, data.draw(st.integers(0, 99))))

    assert all(np.array_equal(block[name].view("u1"), before[name].view("u1")) for name in block)
    moved = found["graph_ids"][found["graph_ids"] >= 0]
    assert sorted(moved.tolist()) == sorted(ids.tolist())
    for axis in table.schema.axes:
        assert (table.counts(axis.key)[moved] == table.counts(axis.key)[ids]).all()
    expected = materialise(table, moved, offsets, limits)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape), name
        assert found[name].tobytes() == values.tobytes(), name

    # Whatever else is read, the same graphs go to the same slots.
    some = {name: block[name] for name in {*needed_columns(table.schema), "graph_ids"}}
    again = redrawn(some, table.schema, 5, redraw_key(0, 7))
    assert np.array_equal(again["graph_ids"], redrawn(block, table.schema, 5, redraw_key(0, 7))["graph_ids"])


def test_slots_change_inside_their_class_alone() -> None:
    # Slots 0, 2 and 4 hold (3 nodes, 4 edges), 1 and 5 (3, 2), 3 is a null graph of (3, 4).
    nodes, edges = np.array([3, 3, 3, 3, 3, 3]), np.array([4, 2, 4, 4, 4, 2])
    real = np.array([True, True, True, False, True, True])
    drawn = {tuple(source_slots([nodes, edges], real, key).tolist()) for key in range(200)}
    first = {(0, 2, 4), (0, 4, 2), (2, 0, 4), (2, 4, 0), (4, 0, 2), (4, 2, 0)}
    assert drawn == {(a, one, b, 3, c, other) for a, b, c in first for one, other in ((1, 5), (5, 1))}


def test_every_graph_of_a_class_is_equally_likely_in_every_slot() -> None:
    # 5 slots of one class, 5,000 keys: each of 25 pairs is expected 1,000 times, with a standard deviation of 28.
    same = np.full(5, 2)
    seen = np.zeros((5, 5), dtype=int)
    for key in range(5000):
        seen[np.arange(5), source_slots([same], np.ones(5, bool), key)] += 1
    assert np.abs(seen - 1000).max() < 150


def test_sizes_whose_product_is_beyond_64_bits_are_told_apart() -> None:
    # As one number of mixed radix (0, 0, 1) and (0, 1, 0) would wrap around 2^64 with spans of 2^31 each.
    big = (1 << 31) - 1
    counts = [np.array([big, 0, 0, 0]), np.array([0, big, 1, 1]), np.array([1, 0, big, big])]
    for key in range(50):
        source = source_slots(counts, np.ones(4, bool), key).tolist()
        assert source[:2] == [0, 1] and sorted(source[2:]) == [2, 3]


def test_keys_of_epochs_and_blocks_differ() -> None:
    keys = {redraw_key(seed, epoch) for seed in range(30) for epoch in range(100)}
    assert len(keys) == 3000 and min(keys) >= 1 and max(keys) < 1 << 31


def test_memory_of_a_block_that_is_done_with_serves_the_next(tmp_path: Path) -> None:
    """Every other redraw writes to the arrays of the block before it; what was read stays as it was."""
    write_packs(tmp_path, 20)
    reader = PackReader(tmp_path)

    def arrays(block: int) -> dict[str, np.ndarray]:
        return {name: values for name, values, _ in reader.blocks.decode(block, 7) if isinstance(values, np.ndarray)}

    fresh = [arrays(block) for block in range(4)]
    kept = [{name: values.copy() for name, values in block.items()} for block in fresh]
    for turn in range(3):
        for block in range(4):
            for name, values in arrays(block).items():
                assert np.array_equal(kept[block][name], values), (turn, block, name)
    for block, values in zip(fresh, kept, strict=True):
        assert all(np.array_equal(block[name], values[name]) for name in values)
