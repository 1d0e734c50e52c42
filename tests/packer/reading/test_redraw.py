"""A redraw is the block that packing the same graphs in other slots would have given, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_packs import write_packs
from strategies import heterogeneous, homogeneous, limits_of, packings
from torch_geometric.data import Data

from packer import PackLimits, make_plan
from packer.errors import FormatError
from packer.graphs.axes import Axis
from packer.graphs.ragged import pointers
from packer.graphs.schema import Field, Schema
from packer.graphs.table import GraphTable
from packer.packs.materialise import materialise
from packer.reading.reader import PackReader
from packer.reading.redraw import SWAPS, needed_columns, redraw_key, redrawn, source_slots
from packer.reading.swaps import swapped_slots
from packer.scan.block import join_blocks
from packer.scan.from_objects import block_of_graphs
from packer.scan.levels import decide


def table_of(graphs: list[Any]) -> GraphTable:
    block = block_of_graphs(graphs)
    return join_blocks([block], decide(block.statistics)[0])


@settings(max_examples=200)
@given(st.one_of(homogeneous(max_graphs=4), heterogeneous(max_graphs=3)), st.data())
def test_a_redrawn_block_is_the_block_of_the_same_graphs_in_other_slots(graphs: list[Any], data: st.DataObject) -> None:
    table = table_of(graphs * data.draw(st.integers(1, 5)))  # repeated, so that there are classes of several
    null_graphs = data.draw(st.sampled_from(("all", "one", "jraph")))
    counts = {axis.key: table.counts(axis.key) for axis in table.schema.axes}
    ids, offsets, slots, num_slots = data.draw(packings(counts, table.schema.axes, null_graphs))
    limits = limits_of(table.schema.axes, slots, num_slots, null_graphs)
    redraw = data.draw(st.sampled_from((True, SWAPS)))
    block = materialise(table, ids, offsets, limits)
    before = {name: values.copy() for name, values in block.items()}

    key = redraw_key(3, data.draw(st.integers(0, 99)), redraw)
    found = redrawn(block, table.schema, limits, data.draw(st.integers(0, 99)), key)

    assert all(np.array_equal(block[name].view("u1"), before[name].view("u1")) for name in block)
    moved = found["graph_ids"][found["graph_ids"] >= 0]
    assert sorted(moved.tolist()) == sorted(ids.tolist())
    for axis in table.schema.axes if redraw is True else ():
        assert (table.counts(axis.key)[moved] == table.counts(axis.key)[ids]).all()
    expected = materialise(table, moved, offsets, limits)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape), name
        assert found[name].tobytes() == values.tobytes(), name

    # Whatever else is read, the same graphs go to the same slots.
    some = {name: block[name] for name in {*needed_columns(table.schema), "graph_ids"}}
    again, whole = (redrawn(columns, table.schema, limits, 5, key) for columns in (some, block))
    assert np.array_equal(again["graph_ids"], whole["graph_ids"])


def with_triplets(graphs: int) -> tuple[GraphTable, PackLimits]:
    """A further axis, whose rows point at edges, and a budget of 30 a pack."""
    fields = (
        Field("x", "node", "value", (1,), 0, "int64", "uint8"),
        Field("edge_index", "edge", "index", (2,), -1, "int64", "uint8", targets=("node", "node")),
        Field("pair", "triplet", "index", (2,), -1, "int64", "uint8", targets=("edge", "edge")),
        Field("cost", "graph", "value", (), 0, "int64", "int64", form="value"),
    )
    schema = Schema((Axis("node"), Axis("edge"), Axis("triplet")), fields, budgets=("cost",))
    rng = np.random.default_rng(0)
    nodes, edges, triplets = (rng.integers(1, 9, graphs) for _ in range(3))
    columns = {
        "x": rng.integers(0, 200, (nodes.sum(), 1), dtype=np.uint8),
        "edge_index": (rng.integers(0, 200, (edges.sum(), 2)) % np.repeat(nodes, edges)[:, None]).astype(np.uint8),
        "pair": (rng.integers(0, 200, (triplets.sum(), 2)) % np.repeat(edges, triplets)[:, None]).astype(np.uint8),
        "cost": rng.integers(1, 9, graphs),
    }
    ptr = {key: pointers(count) for key, count in (("node", nodes), ("edge", edges), ("triplet", triplets))}
    limits = PackLimits(40, 40, 6, num={"triplet": 40}, budgets={"cost": 30})
    return GraphTable(schema, ptr, columns, {}, np.arange(graphs)), limits


@pytest.mark.parametrize("redraw", [True, SWAPS])
def test_further_axes_move_and_budgets_hold(redraw: Any) -> None:
    table, limits = with_triplets(48)
    plan = make_plan(table.sizes(), limits, "first-fit-decreasing")
    block = materialise(table, plan.graph_ids, plan.pack_offsets, limits)
    moved_once = np.zeros(48, dtype=bool)
    for epoch in range(20):
        found = redrawn(block, table.schema, limits, 0, redraw_key(0, epoch, redraw))
        moved = found["graph_ids"][found["graph_ids"] >= 0]
        moved_once |= moved != plan.graph_ids
        for name, values in materialise(table, moved, plan.pack_offsets, limits).items():
            assert found[name].tobytes() == values.tobytes(), name
        assert found["cost"].sum(axis=1).max() <= 30
    assert moved_once.mean() > 0.9 if redraw == SWAPS else moved_once.mean() < 0.1  # of 4,096 sizes


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
    swaps = {redraw_key(seed, epoch, SWAPS) for seed in range(30) for epoch in range(100)}
    assert len(keys | swaps) == 6000 and max(swaps) < 1 << 32
    assert redraw_key(3, 4, False) == 0


@settings(max_examples=200)
@given(st.data())
def test_swaps_keep_every_pack_within_its_limits_and_its_number_of_graphs(data: st.DataObject) -> None:
    packs, slots, dims = (data.draw(st.integers(least, most)) for least, most in ((1, 7), (2, 14), (1, 3)))
    real = np.array(data.draw(st.lists(st.integers(0, slots - 1), min_size=packs, max_size=packs)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    need = rng.integers(0, data.draw(st.sampled_from((2, 9, 1 << 26))), (packs, slots, dims))
    need[np.arange(slots) >= real[:, None]] = 0
    slack = rng.integers(0, data.draw(st.sampled_from((1, 3, 1 << 20))), (packs, dims))
    source = swapped_slots(need, slack, real, data.draw(st.integers(0, 99)))
    filled = np.arange(slots) < real[:, None]
    assert sorted(source.reshape(-1).tolist()) == list(range(packs * slots))
    assert np.array_equal(source[~filled], np.arange(packs * slots).reshape(packs, slots)[~filled])
    assert (need.reshape(-1, dims)[source].sum(axis=1) <= need.sum(axis=1) + slack).all()


def test_only_what_fits_is_swapped() -> None:
    # Packs (5, 2) and (4, 3) of 7 each. With nothing to spare each exchange takes one of them to 8 or more; with one
    # more each, 5 and 4 may change places (6 and 8), or 2 and 3 (8 and 6), not 5 and 3 (5 and 9) nor 2 and 4 (9, 5).
    need, real = np.array([[[5], [2], [0]], [[4], [3], [0]]]), np.array([2, 2])
    nodes = need.reshape(-1)
    found: dict[int, set[Any]] = {0: set(), 1: set()}
    for spare, seen in found.items():
        for key in range(100):
            source = swapped_slots(need, np.full((2, 1), spare), real, key)
            seen.add(tuple(sorted(nodes[source[0, :2]].tolist())))
    assert found[0] == {(2, 5)}
    # Two such exchanges one after the other make the packs change their names.
    assert found[1] == {(2, 5), (2, 4), (3, 5), (3, 4)}


def test_graphs_of_one_size_go_anywhere_under_swaps() -> None:
    # 6 packs of 4 graphs, all alike and nothing to spare: after 400 keys each graph was in each pack, 400 / 6 = 67
    # times in the mean, with a standard deviation of 7.5.
    need, seen = np.ones((6, 5, 1), dtype=int), np.zeros((24, 6), dtype=int)
    need[:, 4] = 0
    for key in range(400):
        source = swapped_slots(need, np.zeros((6, 1), int), np.full(6, 4), key)[:, :4]
        graphs = source // 5 * 4 + source % 5
        seen[graphs.reshape(-1), np.repeat(np.arange(6), 4)] += 1
    assert seen.min() > 67 - 5 * 7.5 and seen.max() < 67 + 5 * 7.5


def damaged(name: str, at: Any, value: int) -> tuple[dict[str, np.ndarray], GraphTable, PackLimits]:
    graphs = [Data(x=torch.ones(2, 1), edge_index=torch.zeros((2, 1), dtype=torch.long))] * 6
    limits, table = PackLimits(12, 12, 4), table_of(graphs)
    block = materialise(table, np.arange(6), np.array([0, 3, 6]), limits)
    block[name] = block[name].copy()
    block[name][at] = value
    return block, table, limits


@pytest.mark.parametrize(
    ("name", "at", "value", "said"),
    [("num_real", (0, 0), 5, "num_real of a pack"), ("num_real", (0, 2), 4, "num_real of a pack|do not fit")],
)
def test_packs_that_contradict_themselves_are_not_swapped(name: str, at: Any, value: int, said: str) -> None:
    block, table, limits = damaged(name, at, value)
    with pytest.raises(FormatError, match=said):
        redrawn(block, table.schema, limits, 0, redraw_key(0, 0, SWAPS))


def test_graphs_beyond_the_limits_are_not_swapped() -> None:
    block, table, _ = damaged("num_real", (0, 0), 6)
    with pytest.raises(FormatError, match="do not fit"):
        redrawn(block, table.schema, PackLimits(6, 12, 4), 0, redraw_key(0, 0, SWAPS))


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
