"""Which graphs share a pack: sizes and limits in, ids and offsets out. Features are never looked at."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Iterable, Sequence

import numpy as np

from packer.algorithms.checks import check_budget
from packer.algorithms.instance import Patterns
from packer.algorithms.protocol import Progress
from packer.algorithms.solution import Solution
from packer.certificate import Certificate
from packer.errors import PlanError
from packer.graphs.sizes import GraphSizes
from packer.limits.pack_limits import PackLimits
from packer.plan.items import items_of
from packer.plan.packing import Packing, pack_items

if TYPE_CHECKING:
    import os

OWN = "given"
"""What stands for the algorithm of a plan whose packs were given."""


@dataclass(frozen=True, eq=False)
class PackPlan:
    """A packing of graphs under limits: which graphs share a pack, in which order, and how good that provably is."""

    sizes: GraphSizes
    limits: PackLimits
    packing: Packing

    @property
    def num_packs(self) -> int:
        return self.packing.num_packs

    @property
    def lower_bound(self) -> int:
        """No plan within these limits has fewer packs; `check_certificate` proves exactly this number."""
        return self.packing.lower_bound

    @property
    def status(self) -> str:
        """ "optimal": num_packs == lower_bound, proven. "feasible": a valid plan, the optimum may be lower."""
        return self.packing.status

    @property
    def stopped_by(self) -> str:
        """ "proof", "done", "work", "time" or "interrupt"."""
        return self.packing.stopped_by

    @property
    def algorithm(self) -> str:
        return self.packing.algorithm

    @property
    def seed(self) -> int:
        return self.packing.seed

    @property
    def seconds(self) -> float:
        return self.packing.seconds

    @property
    def certificate(self) -> Certificate:
        """Integer proof of `lower_bound`, over `need`, `capacity` and `count` of `packing.items.instance`."""
        return self.packing.certificate

    @property
    def graph_ids(self) -> np.ndarray:
        """int64 [graphs]: ids pack after pack; computed on first use."""
        return self.packing.item_ids

    @property
    def pack_offsets(self) -> np.ndarray:
        """int64 [packs+1]: pack p holds graph_ids[pack_offsets[p]:pack_offsets[p+1]]; computed on first use."""
        return self.packing.pack_offsets

    @property
    def patterns(self) -> Patterns:
        """The distinct fillings of packs, over the rows of `packing.items.instance.need`; needs no ids."""
        return self.packing.patterns

    @property
    def pattern_counts(self) -> np.ndarray:
        """int64 [patterns]: how many packs are filled so."""
        return self.patterns.counts

    @cached_property
    def fill(self) -> dict[str, float]:
        """Axis key and "graph" -> real share of all slots of all packs, 0..1 (a missing limit has no fill)."""
        distinct, count, _ = self.sizes.distinct
        slots: dict[str, Any] = {**self.limits.slots(self.sizes.axes), "graph": self.limits.num_graphs}
        real = {axis.key: float(distinct[:, i] @ count) for i, axis in enumerate(self.sizes.axes)}
        real["graph"] = float(self.sizes.num_graphs)
        return {key: real[key] / (slots[key] * self.num_packs) for key in real if slots[key]}

    def save(self, path: str | os.PathLike[str], *, by_graph: bool = True) -> None:
        """Write one Parquet file: a row a graph, in pack order; limits, bound and certificate as metadata.

        by_graph: False for the form that data sets keep, where the algorithm packs sizes: a row for each size in a
        pattern, however many graphs there are.
        """
        from packer.plan.plan_file import save_plan

        save_plan(self.sizes, self.limits, self.packing, path, by_graph=by_graph)

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes, name: str = "the plan") -> PackPlan:
        """The inverse of save, from the file or its bytes, which errors call `name`.

        Raises FormatError for a damaged or foreign file.

        A data set's own plan.parquet may hold patterns instead of graphs: then `sizes` is a histogram and ids number
        the graphs by size; `of` gives the plan of the graphs themselves.
        """
        from packer.plan.plan_file import read_plan

        return cls(*read_plan(source, name))

    @classmethod
    def from_packs(cls, sizes: GraphSizes, limits: PackLimits, packs: Iterable[Sequence[int] | np.ndarray]) -> PackPlan:
        """A plan of packs of one's own, such as the batches of a `batch_sampler`; `build` takes its file (`save`).

        packs: the graph ids of each pack (indices into `sizes`), in the order in which packs and graphs are to
        lie; lists, arrays or tensors. Every graph belongs to exactly one pack. The bound is what volume proves.
        Raises PlanError naming pack, graph and numbers: for an id that is no graph, stands twice or is missing, for an
        empty pack, and for one beyond the limits.

            >>> sizes = GraphSizes(np.array([3, 5, 4]), np.array([4, 8, 6]))
            >>> plan = PackPlan.from_packs(sizes, PackLimits(12, 20, 3), [[0, 1], [2]])
            >>> plan.num_packs, plan.lower_bound
            (2, 2)
        """
        from packer.plan.own_packs import check_packs

        solution = Solution(items_of(sizes, limits), by_item=check_packs(sizes, limits, packs))
        return cls(sizes, limits, Packing(solution, OWN, 0, 0.0))

    @property
    def by_patterns(self) -> bool:
        """Whether the plan knows sizes alone: then `of` takes graphs in any order."""
        return self.packing.by_patterns

    def of(self, sizes: GraphSizes) -> PackPlan:
        """The same plan for graphs of these sizes, given in source order. PlanError where they are other graphs."""
        from packer.graphs.sizes import sizes_digest

        if self.by_patterns:
            mine, theirs = self.sizes.distinct, sizes.distinct
            if self.sizes.axes == sizes.axes and all(map(np.array_equal, mine[:2], theirs[:2])):
                solution = replace(self.packing.solution, items=items_of(sizes, self.limits))
                return replace(self, sizes=sizes, packing=replace(self.packing, solution=solution))
        elif sizes_digest(self.sizes) == sizes_digest(sizes):
            return replace(self, sizes=sizes)
        raise PlanError(
            f"the plan was made for {self.sizes.num_graphs} graphs of other sizes; here are {sizes.num_graphs}. "
            "Make it from the same source with the same options"
        )


def make_plan(
    sizes: GraphSizes,
    limits: PackLimits,
    algorithm: str = "optimal",
    *,
    seed: int = 0,
    time_limit: float | None = None,
    work_limit: float | None = None,
    even: bool = True,
    progress: Progress | None = None,
) -> PackPlan:
    """Decide which graphs share a pack.

    algorithm: a name of `packer.algorithms.registry.ALGORITHMS`. seed: the only randomness (which of several equally
    sized graphs goes where, the order of packs, and the solver's). time_limit: wall seconds, at most 1e9, used to
    the end unless a proof comes first; what then comes out depends on the machine. work_limit: nominal seconds of
    deterministic work instead: the same seed and work give the same plan. With neither, 40 of work and at most 60 of
    the clock; `stopped_by` tells which. Heuristics that would take longer end early with a plan that is less good.
    even: also even out the number of graphs per pack at the same number of packs. progress: called with (packs, bound,
    seconds) from time to time, maybe from another thread.

    Raises SizesError naming the first graph that cannot fit, AlgorithmError for an unknown name, a seed that is no
    whole number from 0 to 2**63 - 1, or a limit that is no number of seconds from 0 to 1e9.

        >>> sizes = GraphSizes(np.array([17, 13, 13, 19, 11, 28]), np.array([38, 28, 28, 44, 22, 62]))
        >>> plan = make_plan(sizes, PackLimits(num_nodes=48, num_edges=104, num_graphs=6))
        >>> plan.num_packs, plan.lower_bound, plan.status
        (3, 3, 'optimal')
        >>> sorted(plan.graph_ids.tolist())
        [0, 1, 2, 3, 4, 5]
    """
    seed, time_limit, work_limit = check_budget(seed, time_limit, work_limit)
    started = time.perf_counter()
    packing = pack_items(
        items_of(sizes, limits),
        algorithm,
        seed=seed,
        time_limit=time_limit,
        work_limit=work_limit,
        even=even,
        progress=progress,
        started=started,
    )
    return PackPlan(sizes, limits, packing)


def lower_bound(
    sizes: GraphSizes, limits: PackLimits, *, time_limit: float | None = None, seed: int = 0
) -> Certificate:
    """A certificate whose `.bound` no plan can beat, by column generation (needs the extra `optimal`).

    >>> sizes = GraphSizes(np.array([17, 13, 13, 19, 11, 28]), np.array([38, 28, 28, 44, 22, 62]))
    >>> lower_bound(sizes, PackLimits(num_nodes=48, num_edges=104, num_graphs=6)).bound
    3
    """
    seed, time_limit, _ = check_budget(seed, time_limit)
    from packer.plan.bound import vector_bound

    return vector_bound(items_of(sizes, limits).instance, time_limit=time_limit, seed=seed)
