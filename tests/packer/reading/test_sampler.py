"""PlanBatchSampler: every graph once an epoch and within the limits, on any number of ranks, resumed at every step."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from packer import GraphSizes, PackLimits, PackPlan, PlanBatchSampler, make_plan
from packer.errors import StateError

LIMITS = PackLimits(60, 130, 9, null_graphs="none")


def sizes_of(graphs: int, seed: int = 0) -> GraphSizes:
    nodes = np.random.default_rng(seed).integers(2, 25, graphs)
    return GraphSizes(nodes, nodes * 2)


def plan_of(graphs: int, seed: int = 0, limits: PackLimits = LIMITS) -> PackPlan:
    return make_plan(sizes_of(graphs, seed), limits, "best-fit-decreasing")


def epochs_of(plan: PackPlan, world: int, epochs: int, **options: Any) -> list[list[list[list[int]]]]:
    """[epoch][rank][step] -> graph ids."""
    ranks = [PlanBatchSampler(plan, rank=rank, world_size=world, **options) for rank in range(world)]
    return [[list(sampler) for sampler in ranks] for _ in range(epochs)]


def check_epoch(plan: PackPlan, ranks: list[list[list[int]]]) -> None:
    steps = {len(rank) for rank in ranks}
    assert steps == {-(-plan.num_packs // len(ranks))}
    batches = [batch for rank in ranks for batch in rank]
    assert sorted(graph for batch in batches for graph in batch) == list(range(plan.sizes.num_graphs))
    for batch in batches:
        assert 0 < len(batch) <= (plan.limits.num_graphs or 1 << 30)
        for axis, limit in plan.limits.slots(plan.sizes.axes).items():
            assert limit is None or plan.sizes.columns[axis][batch].sum() <= limit


@settings(deadline=None, max_examples=40)
@given(
    graphs=st.integers(1, 60),
    world=st.integers(1, 5),
    most=st.integers(1, 9),
    seed=st.integers(0, 5),
    shuffle=st.booleans(),
)
def test_each_graph_once_an_epoch_within_the_limits(
    graphs: int, world: int, most: int, seed: int, shuffle: bool
) -> None:
    plan = plan_of(graphs, seed, PackLimits(60, 130, most, null_graphs="none"))
    steps = -(-plan.num_packs // world)
    if graphs < steps * world:
        with pytest.raises(StateError, match=f"{graphs} graphs in {plan.num_packs} packs cannot give each of {world}"):
            epochs_of(plan, world, 1, seed=seed, shuffle=shuffle)
        return
    for ranks in epochs_of(plan, world, 3, seed=seed, shuffle=shuffle):
        check_epoch(plan, ranks)


def test_epochs_differ_and_repeat_by_seed() -> None:
    plan = plan_of(200)
    first, second = epochs_of(plan, 2, 2, seed=4)
    assert first != second and [first, second] == epochs_of(plan, 2, 2, seed=4)
    assert first != epochs_of(plan, 2, 1, seed=5)[0]
    sampler = PlanBatchSampler(plan, seed=4, rank=1, world_size=2)
    sampler.set_epoch(1)
    assert list(sampler) == second[1]


def test_without_shuffle_the_packs_come_as_they_are() -> None:
    plan = plan_of(100)
    packs = np.split(plan.graph_ids, plan.pack_offsets[1:-1])
    assert list(PlanBatchSampler(plan, shuffle=False)) == [pack.tolist() for pack in packs]


def test_redraws_change_companions_and_nothing_else() -> None:
    plan = plan_of(600)
    sizes = plan.sizes.num_nodes
    kept, redrawn = (PlanBatchSampler(plan, seed=1, redraw=redraw) for redraw in (False, True))

    def companions(batches: list[list[int]]) -> dict[int, frozenset[int]]:
        return {graph: frozenset(batch) for batch in batches for graph in batch}

    packs = {frozenset(pack.tolist()) for pack in np.split(plan.graph_ids, plan.pack_offsets[1:-1])}
    for batches, others in zip([list(kept), list(kept)], [list(redrawn), list(redrawn)], strict=True):
        assert {frozenset(batch) for batch in batches} == packs
        assert [sizes[batch].tolist() for batch in batches] == [sizes[batch].tolist() for batch in others]
        before, after = companions(batches), companions(others)
        assert np.mean([before[graph] != after[graph] for graph in before]) > 0.9
    with pytest.raises(StateError, match="shuffle=True"):
        PlanBatchSampler(plan, shuffle=False, redraw=True)
    with pytest.raises(StateError, match="redraw of a plan must be True, False or None"):
        PlanBatchSampler(plan, redraw="swaps")


@pytest.mark.parametrize("world", [2, 3, 5])
def test_the_batches_of_a_step_are_of_like_load(world: int) -> None:
    """On packs that differ much in load: those of `stream`, in limits that most of them do not fill."""
    plan = make_plan(sizes_of(3000), PackLimits(200, 400, 12, null_graphs="none"), "stream")
    load = plan.sizes.num_nodes

    def waste(ranks: list[list[list[int]]]) -> float:
        """Share of time that ranks wait for the slowest of their step, if time were nodes."""
        nodes = np.array([[load[batch].sum() for batch in rank] for rank in ranks])
        return 1 - nodes.mean() / nodes.max(axis=0).mean()

    ours = waste(epochs_of(plan, world, 1)[0])
    flat = list(PlanBatchSampler(plan, seed=3))
    steps = len(flat) // world
    by_chance = waste([flat[rank::world][:steps] for rank in range(world)])
    assert ours < 0.03 < by_chance


@pytest.mark.parametrize("world", [1, 3])
def test_resumed_at_every_step(world: int) -> None:
    plan = plan_of(150)
    epochs = epochs_of(plan, world, 4, seed=2)
    steps = len(epochs[0][0])
    for stop in range(steps + 1):
        first = PlanBatchSampler(plan, seed=2, rank=0, world_size=world)
        list(first)
        running = iter(first)
        taken = list(islice(running, stop))
        assert taken == epochs[1][0][:stop]
        state = first.state_dict()
        for rank in range(world):
            second = PlanBatchSampler(plan, seed=2, rank=rank, world_size=world)
            second.load_state_dict(state)
            after = list(second)
            wanted = epochs[1][rank][stop:] if stop < steps else epochs[2][rank]
            assert after == wanted
            assert list(second) == epochs[2 if stop < steps else 3][rank]
            assert len(second) == steps


def test_states_of_others_are_refused() -> None:
    plan = plan_of(150)
    sampler = PlanBatchSampler(plan, rank=0, world_size=2)
    next(iter(sampler))
    state = sampler.state_dict()
    other = PlanBatchSampler(plan, rank=0, world_size=3)
    other.load_state_dict(state)
    with pytest.raises(StateError, match="taken on 2 ranks"):
        list(other)
    with pytest.raises(StateError, match="another data set"):
        PlanBatchSampler(plan_of(151)).load_state_dict(state)
    with pytest.raises(StateError, match="steps must be a whole number from 0 to"):
        sampler.state_dict(steps=10_000)
    with pytest.raises(StateError, match="both rank and world_size"):
        PlanBatchSampler(plan, rank=0)
    with pytest.raises(StateError, match="needs a PackPlan"):
        PlanBatchSampler([[0, 1]])  # type: ignore[arg-type]
    with pytest.raises(StateError, match="150 graphs of the plan"):
        PlanBatchSampler(plan, graph_ids=[1, 2])


def graphs_of(sizes: GraphSizes) -> list[Data]:
    return [
        Data(x=torch.full((n, 1), float(i)), edge_index=torch.zeros(2, 2 * n, dtype=torch.long), number=i)
        for i, n in enumerate(np.asarray(sizes.num_nodes).tolist())
    ]


def numbers_of(graphs: list[Data]) -> list[int]:
    return [graph.number for graph in graphs]


@pytest.mark.parametrize("workers", [0, 2])
def test_pyg_loader(workers: int) -> None:
    plan = plan_of(120)
    sampler = PlanBatchSampler(plan, seed=7)
    loader = DataLoader(graphs_of(plan.sizes), batch_sampler=sampler, num_workers=workers)
    wanted = [step for ranks in epochs_of(plan, 1, 3, seed=7) for step in ranks[0]]
    assert len(loader) == plan.num_packs
    found = [batch.number.tolist() for _ in range(2) for batch in loader]
    assert found == wanted[: 2 * plan.num_packs]
    taken = [batch.number.tolist() for batch in islice(loader, 3)]
    assert taken == wanted[2 * plan.num_packs :][:3]
    state = sampler.state_dict(steps=3)  # workers ask ahead
    again = PlanBatchSampler(plan, seed=7)
    again.load_state_dict(state)
    assert [batch.number.tolist() for batch in DataLoader(graphs_of(plan.sizes), batch_sampler=again)] == wanted[
        2 * plan.num_packs + 3 :
    ]


def test_plans_that_number_graphs_by_size(tmp_path: Path) -> None:
    """As data sets keep theirs: the numbers are not those of the graphs, until the sizes say which is which."""
    sizes = sizes_of(80)
    plan = make_plan(sizes, LIMITS, "best-fit-decreasing")
    plan.save(tmp_path / "plan.parquet", by_graph=False)
    stored = PackPlan.load(tmp_path / "plan.parquet")
    with pytest.raises(StateError, match=r"numbers graphs by their sizes.*plan\.of\(sizes\)"):
        PlanBatchSampler(stored)
    again = stored.of(sizes)
    for ranks in epochs_of(again, 2, 2):
        check_epoch(again, ranks)


def test_numbers_of_ones_own() -> None:
    plan = plan_of(50)
    numbers = np.arange(50) * 3 + 100
    batches = list(PlanBatchSampler(plan, graph_ids=numbers))
    assert sorted(number for batch in batches for number in batch) == numbers.tolist()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_torchdata_resumes_at_every_step() -> None:
    tool = pytest.importorskip("torchdata.stateful_dataloader")
    plan = plan_of(60)
    graphs = graphs_of(plan.sizes)

    def loader() -> Any:
        sampler = PlanBatchSampler(plan, seed=1)
        return tool.StatefulDataLoader(
            graphs, batch_sampler=sampler, collate_fn=lambda graphs: [g.number for g in graphs]
        )

    whole = loader()
    wanted = [list(whole) for _ in range(3)]
    for stop in range(plan.num_packs + 1):
        first = loader()
        steps = iter(first)
        taken = list(islice(steps, stop))
        state = first.state_dict()
        second = loader()
        second.load_state_dict(state)
        assert taken + list(second) == wanted[0], stop
        assert list(second) == wanted[1], stop
