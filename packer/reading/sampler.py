"""A plan as a batch sampler: the graphs of a step, for a data set and a loader of one's own."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import replace
from functools import cached_property
from typing import Any, List, Mapping, NamedTuple, Sequence

import numpy as np

from packer.errors import StateError
from packer.hashing import id_hashes, key_of
from packer.plan.pack_plan import PackPlan
from packer.reading.loader import distributed
from packer.reading.order import State
from packer.reading.progress import Pass, Progress
from packer.reading.redraw import source_slots
from packer.reading.steps import Steps, StepSampler

_ORDER, _RANKS, _STEPS = 1, 2, 4
"""Purposes of keys of (seed, epoch); redraws have another."""
_LEVELS = 32
"""Batches whose load agrees to one part in so many may stand in for each other on the ranks of a step."""


class PlanBatchSampler(StepSampler):
    """The packs of a plan as batches of graph numbers: `DataLoader(graphs, batch_sampler=PlanBatchSampler(plan))`.

    No batch goes beyond the plan's limits, and every graph comes once an epoch, on one rank. All ranks take equally
    many steps, and in each step batches of like load: where the packs do not come out even, a few are split. Nothing is
    padded: batches have the graphs' own sizes.

    plan: of `make_plan`, `PackPlan.load` or `PackPlan.from_packs`. shuffle, seed: the order of the batches is a
    function of (seed, epoch, world_size). rank, world_size: those of torch.distributed where it is initialised when a
    pass begins, else 0 of 1. redraw: whether graphs of equal size change places in every epoch, over the whole plan,
    so that each meets others; None: where shuffle is on. graph_ids: integers [graphs], the number in the data set of
    each graph of the plan, where they are not the same; needed for a plan of a histogram, see `PackPlan.of`.

    Every pass is a new epoch unless `set_epoch` names it. Raises StateError for numbers out of range, and for fewer
    graphs than the steps of all ranks need.

        >>> sizes = GraphSizes(np.array([3, 5, 4, 2]), np.array([4, 8, 6, 2]))
        >>> sampler = PlanBatchSampler(make_plan(sizes, PackLimits(9, 14, 4)), shuffle=False)
        >>> len(sampler), sorted(graph for batch in sampler for graph in batch)
        (2, [0, 1, 2, 3])
    """

    def __init__(
        self,
        plan: PackPlan,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        redraw: bool | None = None,
        graph_ids: Any = None,
    ) -> None:
        super().__init__(_PlanProgress(_Plan(plan, graph_ids), shuffle, seed, rank, world_size, redraw))
        self._latest: Steps | None = None

    @property
    def graphs_per_step(self) -> float:
        """Graphs of a step of one rank, in the mean over an epoch."""
        return self.progress.graphs_per_pack

    def started(self) -> Steps:
        self._latest = super().started()
        return self._latest

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`, from its start; a state loaded for the same epoch stays."""
        super().set_epoch(epoch)
        if self._latest is not None and not self._latest.under_way:
            self._latest = None

    def state_dict(self, steps: int | None = None) -> dict[str, Any]:
        """Plain values from which `load_state_dict` goes on, the same on every rank.

        steps: how many steps of the pass under way were taken, where a DataLoader's workers ask ahead of that; None:
        all that were asked for.
        """
        if self._latest is None:
            return self.progress.state_dict()
        return self._latest.state_after(steps)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass goes on where `state` was taken, on as many ranks as then. StateError for what is no state, or
        one of another plan."""
        self.progress.load_state_dict(state)
        self._latest = None


class _Batches(NamedTuple):
    """The batches of one number of ranks: batch b is members[offsets[b]:offsets[b+1]], positions in the plan's order.
    level: int64 [batches], its load in parts of the largest one."""

    members: np.ndarray
    offsets: np.ndarray
    level: np.ndarray


class _Plan:
    """A plan as things with numbers, and how it is dealt to ranks."""

    packs_per_block = 1

    def __init__(self, plan: PackPlan, graph_ids: Any) -> None:
        if not isinstance(plan, PackPlan):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StateError(f"PlanBatchSampler needs a PackPlan, such as make_plan gives; got {type(plan).__name__}")
        if plan.sizes.count is not None and graph_ids is None:
            raise StateError(
                "this plan numbers graphs by their sizes (it is of a histogram, or a data set's own plan.parquet): "
                "take plan.of(sizes) with the sizes of the graphs, or pass graph_ids"
            )
        self.plan = plan
        self.num_packs, self.num_graphs = plan.num_packs, plan.sizes.num_graphs
        self.graph_ids = plan.graph_ids
        if graph_ids is not None:
            ids = np.asarray(graph_ids)
            if ids.shape != self.graph_ids.shape or ids.dtype.kind not in "iu":
                raise StateError(
                    f"graph_ids must hold a whole number for each of the {len(self.graph_ids):,} graphs of the plan; "
                    f"got {ids.dtype} {list(ids.shape)}"
                )
            if len(ids) and (ids.min() < 0 or len(np.unique(ids)) < len(ids)):
                raise StateError("graph_ids must be distinct numbers from 0 on: every graph comes once an epoch")
            self.graph_ids = ids.astype(np.int64)[self.graph_ids]
        digest = hashlib.sha256(np.ascontiguousarray(self.graph_ids).data)
        digest.update(np.ascontiguousarray(plan.pack_offsets).data)
        self.sha256 = digest.hexdigest()
        self._dealt: dict[int, _Batches] = {}

    @cached_property
    def size_of_member(self) -> np.ndarray:
        """int32 [graphs]: which distinct size the graph at each position of the plan's order has."""
        sizes = self.plan.sizes
        of_row = sizes.distinct[2]
        return (of_row if sizes.count is None else np.repeat(of_row, sizes.count))[self.plan.graph_ids]

    @cached_property
    def rows_of_size(self) -> np.ndarray:
        """int64 [sizes]: nodes and edges together, about what a graph costs."""
        return self.plan.sizes.distinct[0].sum(axis=1)

    def batches(self, world: int) -> _Batches:
        """Dealt to so many ranks: as many batches for each."""
        if world not in self._dealt:
            members, offsets = self._split(world)
            load = np.add.reduceat(self.rows_of_size[self.size_of_member[members]], offsets[:-1])
            level = load * _LEVELS // load.max()
            self._dealt = {world: _Batches(members, offsets, level)}  # one at a time: they are as large as the plan
        return self._dealt[world]

    def _split(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        """(members, offsets) with a multiple of `world` batches: the packs with most graphs are split, as few as do."""
        offsets = self.plan.pack_offsets
        members, count = np.arange(len(self.graph_ids), dtype=np.int64), np.diff(offsets)
        if self.num_packs % world == 0:
            return members, offsets
        largest = np.argsort(-count, kind="stable")
        steps = -(-self.num_packs // world)
        if len(members) < steps * world:
            raise StateError(
                f"{len(members)} graphs in {self.num_packs} packs cannot give each of {world} ranks {steps} steps: "
                "use fewer ranks, or smaller limits"
            )
        packs = self.num_packs % world
        while count[largest[:packs]].sum() < -(-packs // world) * world:
            packs += world
        chosen = np.sort(largest[:packs])
        parts: list[np.ndarray] = []
        for number, pack in zip(_parts(count[chosen], -(-packs // world) * world), chosen.tolist()):
            parts += self._parted(int(offsets[pack]), int(offsets[pack + 1]), number)
        staying = np.delete(np.arange(self.num_packs), chosen)
        of_graph = np.repeat(np.isin(np.arange(self.num_packs), chosen, invert=True), count)
        lengths = np.concatenate([count[staying], [len(part) for part in parts]])
        return np.concatenate([members[of_graph], *parts]), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def _parted(self, start: int, stop: int, number: int) -> list[np.ndarray]:
        """The graphs of one pack in `number` parts of like load: the heaviest first, each to the lightest part."""
        load = self.rows_of_size[self.size_of_member[start:stop]]
        parts: list[list[int]] = [[] for _ in range(number)]
        heap = [(0, part) for part in range(number)]
        for graph in np.argsort(-load, kind="stable").tolist():
            held, part = heapq.heappop(heap)
            parts[part].append(start + graph)
            heapq.heappush(heap, (held + int(load[graph]), part))  # every graph has rows, so no part stays empty
        return [np.array(sorted(part), dtype=np.int64) for part in parts]


def _parts(count: np.ndarray, total: int) -> list[int]:
    """Into how many parts packs of `count` graphs are split, `total` in all: as evenly as there are graphs."""
    parts = [1] * len(count)
    heap = [(-float(number), pack) for pack, number in enumerate(count.tolist()) if number > 1]
    heapq.heapify(heap)
    for _ in range(total - len(count)):
        _, pack = heapq.heappop(heap)
        parts[pack] += 1
        if parts[pack] < count[pack]:
            heapq.heappush(heap, (-float(count[pack]) / parts[pack], pack))
    return parts


class _PlanProgress(Progress):
    """Passes over the batches of a plan. The `lanes` of its states are the ranks that the batches were dealt to."""

    def __init__(
        self,
        batches: _Plan,
        shuffle: bool,
        seed: int,
        rank: int | None,
        world: int | None,
        redraw: bool | None,
    ) -> None:
        if redraw is not None and not isinstance(redraw, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StateError(
                f"redraw of a plan must be True, False or None: its graphs keep their size; got {redraw!r}"
            )
        super().__init__(batches, shuffle, seed, rank, world, redraw=redraw, current=distributed)
        self._batches = batches

    def begin(self) -> Pass:
        start, world = self._next, self.world
        if not start.packs_seen:
            self._next = replace(start, lanes=world)
        elif start.lanes != world:
            raise StateError(
                f"this state was taken on {start.lanes} ranks, whose batches are others than those of {world}: resume "
                "on as many, or name an epoch to begin with set_epoch"
            )
        return super().begin()

    def order(self, start: State, world: int) -> np.ndarray:
        """The batches of an epoch: each `world` that follow one another are a step of all ranks, of like load."""
        level = self._batches.batches(world).level
        numbers = np.arange(len(level))
        if not self.shuffle:
            return numbers
        by_load = np.lexsort((id_hashes(numbers, key_of(start.seed, start.epoch, _ORDER)), level)).reshape(-1, world)
        ranks = id_hashes(numbers, key_of(start.seed, start.epoch, _RANKS)).reshape(-1, world)
        by_load = np.take_along_axis(by_load, np.argsort(ranks, axis=1), axis=1)
        return by_load[np.argsort(id_hashes(numbers[: len(by_load)], key_of(start.seed, start.epoch, _STEPS)))].reshape(
            -1
        )

    def steps(self, run: Pass) -> Sequence[list[int]]:
        plan = self._batches
        batches = plan.batches(run.start.lanes)
        members = batches.members
        if run.redraw_key:
            source = source_slots([plan.size_of_member], np.ones(len(members), dtype=bool), run.redraw_key)
            members = source[members]
        return _GraphsOfSteps(plan.graph_ids[members], batches.offsets, run.ids)


class _GraphsOfSteps(Sequence[List[int]]):
    """The graphs of the batches of these numbers, listed when they are asked for."""

    def __init__(self, graph_ids: np.ndarray, offsets: np.ndarray, batches: np.ndarray) -> None:
        self._graph_ids, self._offsets, self._batches = graph_ids, offsets, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, step: Any) -> Any:
        batch = self._batches[step]
        return self._graph_ids[self._offsets[batch] : self._offsets[batch + 1]].tolist()
