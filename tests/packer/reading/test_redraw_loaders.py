"""Redraws in every loader: the same graphs in the same slots for the same seed and epoch, each once, to the bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import poptorch_double as double
import pytest
import torch
from poptorch_double import Options, device_iterations
from strategies import assert_same
from torch_geometric.data import Data, HeteroData

from packer import PackDataset, PackLimits, poptorch_loader, torch_loader, unpack, verify_shards
from packer.errors import StateError
from packer.reading.redraw import redraw_key, redrawn
from pipelines import build

GRAPHS = 90
SEED = 5
REDRAWS = [True, "swaps"]
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors


def molecules() -> list[Data]:
    """90 graphs of 8 sizes, each with features that say which graph it is."""
    rng = np.random.default_rng(0)
    graphs: list[Data] = []
    for number in range(GRAPHS):
        nodes = int(rng.integers(2, 6))
        edges = nodes * (1 + int(rng.integers(0, 2)))
        graph = Data(x=torch.full((nodes, 2), number), y=torch.tensor([float(number)]))
        graph.edge_index = torch.from_numpy(rng.integers(0, nodes, (2, edges)))
        graph.edge_attr = torch.full((edges, 1), number + 1000)
        graphs.append(graph)
    return graphs


def citations() -> list[HeteroData]:
    graphs: list[HeteroData] = []
    for number, plain in enumerate(molecules()):
        graph = HeteroData()
        graph["author"].x = torch.full((plain.num_nodes, 1), number)
        graph["paper"].x = torch.full((3, 2), number)
        edges = torch.stack([plain.edge_index[0], plain.edge_index[1] % 3])
        graph["author", "writes", "paper"].edge_index = edges
        graph["paper", "cites", "paper"].edge_index = torch.zeros((2, 0), dtype=torch.long)
        graph.y = torch.tensor([float(number)])
        graphs.append(graph)
    return graphs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Any]]]:
    root = tmp_path_factory.mktemp("redraws")
    plain, hetero = molecules(), citations()
    build(plain, root / "plain", PackLimits(24, 40, 7), workers=1)
    build(hetero, root / "hetero", PackLimits({"author": 24, "paper": 20}, 40, 7), workers=1)
    return {"plain": (root / "plain", plain), "hetero": (root / "hetero", hetero)}


@pytest.fixture(params=["plain", "hetero"])
def packed(request: pytest.FixtureRequest, folders: dict[str, Any]) -> tuple[Path, list[Any]]:
    return folders[request.param]


def with_ids(folder: Path) -> PackDataset:
    names = [column.name for column in PackDataset(folder).columns]
    return PackDataset(folder, columns=[*names, "graph_ids"])


def steps(loader: Any, epoch: int) -> list[dict[str, torch.Tensor]]:
    loader.set_epoch(epoch)
    return [dict(step) for step in loader]


def assert_equal_steps(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("redraw", REDRAWS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_ranks_and_workers_give_the_same_graphs_in_the_same_slots(packed: Any, batch_size: int, redraw: Any) -> None:
    dataset, options = with_ids(packed[0]), {"seed": SEED, "layout": "dict", "redraw": redraw}
    for epoch in (0, 3):
        whole = steps(torch_loader(dataset, batch_size, **options), epoch)
        assert_equal_steps(steps(torch_loader(dataset, batch_size, as_dataloader=True, **options), epoch), whole)
    assert_equal_steps(steps(torch_loader(dataset, batch_size, num_workers=2, **options), 3), whole)
    if batch_size == 1:
        for rank in range(3):
            part = steps(torch_loader(dataset, rank=rank, world_size=3, **options), 3)
            real = [step for step in part if step["graphs_mask"].any()]
            assert_equal_steps(real, whole[rank::3])


@pytest.mark.parametrize("redraw", REDRAWS)
def test_poptorch_sees_the_same_graphs_in_the_same_slots(
    packed: Any, redraw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "poptorch", double)
    dataset = with_ids(packed[0])
    loader = poptorch_loader(dataset, Options(device_iterations=2), seed=SEED, num_workers=2, redraw=redraw)
    loader.pack_sampler.set_epoch(4)
    found = [seen["graph_ids"] for step in loader for seen in device_iterations(step, 2)]
    expected = [step["graph_ids"] for step in steps(torch_loader(dataset, seed=SEED, layout="dict", redraw=redraw), 4)]
    assert found[0].dtype == torch.int32
    assert [ids.tolist() for ids in found[: len(expected)]] == [ids.tolist() for ids in expected]


@pytest.mark.parametrize("redraw", REDRAWS)
@pytest.mark.parametrize("options", [{}, {"as_dataloader": True}])
def test_resuming_at_every_step(packed: Any, options: dict[str, Any], redraw: Any) -> None:
    dataset = with_ids(packed[0])
    whole = steps(torch_loader(dataset, seed=SEED, layout="dict", redraw=redraw), 2)
    for taken in range(len(whole) + 1):
        first = torch_loader(dataset, seed=SEED, layout="dict", redraw=redraw, **options)
        first.set_epoch(2)
        running = iter(first)
        for _ in range(taken):
            next(running)
        state = first.state_dict()
        assert state["redraw"] == redraw
        other = torch_loader(dataset, seed=99, layout="dict")
        other.load_state_dict(state)
        assert_equal_steps([dict(step) for step in other], whole[taken:])


@pytest.mark.parametrize("redraw", REDRAWS)
def test_every_graph_comes_once_an_epoch_and_equals_its_source(packed: Any, redraw: Any) -> None:
    folder, graphs = packed
    dataset = with_ids(folder)
    schema, limits = dataset.manifest.schema, dataset.limits
    loader = torch_loader(dataset, seed=SEED, layout="dict", redraw=redraw)
    for epoch in range(5):
        seen = torch.cat([step["graph_ids"] for step in steps(loader, epoch)])
        assert sorted(seen[seen >= 0].tolist()) == list(range(GRAPHS))

        # What the loader cut its packs from, turned back into graphs.
        from packer.packs.unpack import unpack_table
        from packer.reading.unpack_graphs import graphs_of

        for block in range(-(-len(dataset) // dataset.manifest.packs_per_block)):
            stored, key = dataset.blocks._reader(0).block(block), redraw_key(SEED, epoch, redraw)
            table, ids = unpack_table(redrawn(stored, schema, limits, block, key), schema, limits)
            for graph, number in zip(graphs_of(table), ids.tolist(), strict=True):
                assert_same(graph, graphs[number])


def test_layout_and_packs_stay_and_companions_change(packed: Any) -> None:
    dataset = with_ids(packed[0])
    plain, first, second = (
        steps(torch_loader(dataset, seed=SEED, layout="dict", redraw=redraw), epoch)
        for redraw, epoch in ((False, 0), (True, 0), (True, 1))
    )
    layout = [name for name in plain[0] if name.endswith(("batch", "ptr", "mask"))]
    for one, other in zip(plain, first, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in layout)
    companions = [
        {int(i): frozenset(step["graph_ids"].tolist()) for step in epoch for i in step["graph_ids"]}
        for epoch in (plain, first, second)
    ]
    for before, after in ((0, 1), (1, 2)):
        changed = [companions[before][number] != companions[after][number] for number in range(GRAPHS)]
        assert sum(changed) > 0.9 * GRAPHS


def test_graphs_alone_in_their_size_meet_others_where_swaps_are_asked_for(tmp_path: Path) -> None:
    """40 graphs of 40 sizes, 4 in a pack: none has another of its size, so that a redraw moves none."""
    graphs = [Data(x=torch.full((20 + number, 1), number + 1)) for number in range(40)]
    build(graphs, tmp_path / "packs", PackLimits(180, 8, 7), workers=1)
    dataset = PackDataset(tmp_path / "packs", columns=["graph_ids", "x", "batch"])

    def companions(redraw: Any) -> list[int]:
        """How many different graphs each of them meets in 10 epochs."""
        met: list[set[int]] = [set() for _ in graphs]
        loader = torch_loader(dataset, seed=SEED, layout="dict", redraw=redraw)
        for epoch in range(10):
            for step in steps(loader, epoch):
                ids = [number for number in step["graph_ids"].tolist() if number >= 0]
                assert step["x"][:, 0].bincount(minlength=41)[1:][ids].tolist() == [20 + number for number in ids]
                for number in ids:
                    met[number].update(ids)
        return [len(others) - 1 for others in met]

    stored, within, swapped = (companions(redraw) for redraw in (False, True, "swaps"))
    assert within == stored
    assert sum(swapped) > 4 * sum(stored)


def test_nine_of_ten_molecules_change_their_pack(tmp_path: Path) -> None:
    """Of an optimal plan, which mixes sizes in a pack; where a pack is all of one size, fewer do."""
    pytest.importorskip("rdkit")
    pytest.importorskip("ortools")
    build("sample:nci", tmp_path / "packs", PackLimits(256, 552, 32), time_limit=30, workers=1)
    loader = torch_loader(PackDataset(tmp_path / "packs", columns=["graph_ids"]), seed=SEED, layout="dict")
    first, second = packs_of_graphs(loader, 1), packs_of_graphs(loader, 2)
    assert first.keys() == second.keys() and len(first) == 4_991
    assert sum(second[graph] != pack for graph, pack in first.items()) >= 0.9 * 4_991


def packs_of_graphs(loader: Any, epoch: int) -> dict[int, int]:
    """Which pack each graph is in, in an epoch."""
    loader.set_epoch(epoch)
    numbers = loader.progress.begin().ids.tolist()
    loader.set_epoch(epoch)
    steps = zip(numbers, loader, strict=True)
    return {graph: number for number, step in steps for graph in step["graph_ids"].tolist() if graph >= 0}


@pytest.mark.parametrize("redraw", REDRAWS)
def test_a_data_set_is_sound_and_unpacks_as_before(packed: Any, redraw: Any) -> None:
    folder, graphs = packed
    for _ in torch_loader(PackDataset(folder), seed=1, redraw=redraw):
        pass
    assert verify_shards(folder).ok
    for found, graph in zip(unpack(folder), graphs, strict=True):
        assert_same(found, graph)


def test_without_shuffle_packs_come_as_they_are_stored(packed: Any) -> None:
    dataset = with_ids(packed[0])
    for number, step in enumerate(torch_loader(dataset, shuffle=False)):
        assert step["graph_ids"].tolist() == dataset.graph_ids(number).tolist()
    with pytest.raises(StateError, match="redraw=True needs shuffle=True: without it packs come as they are stored"):
        torch_loader(dataset, shuffle=False, redraw=True)


def test_a_state_of_an_earlier_version_goes_on_without_redraws(packed: Any) -> None:
    dataset = with_ids(packed[0])
    loader = torch_loader(dataset, seed=SEED, layout="dict", redraw=False)
    running = iter(loader)
    next(running)
    state = {name: value for name, value in loader.state_dict().items() if name != "redraw"}
    rest = [dict(step) for step in running]
    other = torch_loader(dataset, seed=SEED, layout="dict")
    other.load_state_dict(state)
    assert_equal_steps([dict(step) for step in other], rest)


@pytest.mark.parametrize("redraw", REDRAWS)
def test_any_choice_of_columns_gives_the_same_graphs(packed: Any, redraw: Any) -> None:
    folder, _ = packed
    whole = steps(torch_loader(with_ids(folder), seed=SEED, layout="dict", redraw=redraw), 1)
    for column in ("y", "graph_ids"):
        some = steps(torch_loader(PackDataset(folder, columns=[column]), seed=SEED, layout="dict", redraw=redraw), 1)
        assert [step[column].tolist() for step in some] == [step[column].tolist() for step in whole]
