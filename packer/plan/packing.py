"""Packing items, by any algorithm: from sizes to who shares a pack."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from packer.algorithms.budget import DEFAULT_WORK, Budget
from packer.algorithms.checks import check_budget
from packer.algorithms.instance import Patterns
from packer.algorithms.items import Items
from packer.algorithms.jit import NotLoaded, nothing_loaded
from packer.algorithms.protocol import Options, Progress, SoFar
from packer.algorithms.quick import quick_plan
from packer.algorithms.registry import Registered, find_algorithm
from packer.algorithms.solution import Solution
from packer.certificate import Certificate
from packer.errors import SizesError

DEFAULT_SECONDS = 60.0
"""Of wall time at most, where no limit is named."""
COLD_SECONDS = 1.0
"""In less time nothing is loaded and compiled."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Which items share a pack, by which algorithm, and how good that provably is. seconds: wall time, informative."""

    solution: Solution
    algorithm: str
    seed: int
    seconds: float

    @property
    def items(self) -> Items:
        return self.solution.items

    @property
    def num_packs(self) -> int:
        return self.solution.num_packs

    @property
    def certificate(self) -> Certificate:
        """Integer proof of `lower_bound`, over `need`, `capacity` and `count` of `items.instance`."""
        return self.solution.certificate

    @property
    def lower_bound(self) -> int:
        """No packing within the limits has fewer packs; `check_certificate` proves exactly this number."""
        return self.certificate.bound

    @property
    def status(self) -> str:
        """ "optimal" (num_packs == lower_bound, proven by `certificate`) or "feasible"."""
        return self.solution.status

    @property
    def stopped_by(self) -> str:
        """ "proof", "done" (an algorithm that ran to its end), "work", "time" or "interrupt"."""
        return self.solution.stopped_by

    @property
    def by_patterns(self) -> bool:
        """Whether the algorithm looked at sizes alone."""
        return self.solution.by_size is not None

    @cached_property
    def _assigned(self) -> tuple[np.ndarray, np.ndarray]:
        return self.solution.assigned(self.seed)

    @property
    def item_ids(self) -> np.ndarray:
        """int64 [items]: the items, pack after pack. Computed on first use."""
        return self._assigned[0]

    @property
    def pack_offsets(self) -> np.ndarray:
        """int64 [packs+1]: pack p holds item_ids[pack_offsets[p]:pack_offsets[p+1]]."""
        return self._assigned[1]

    @property
    def patterns(self) -> Patterns:
        """The distinct fillings, over the rows of `items.instance.need`."""
        return self.solution.patterns

    @property
    def pattern_counts(self) -> np.ndarray:
        """int64 [patterns]: how many packs are filled so."""
        return self.patterns.counts


def pack_items(
    items: Items,
    algorithm: str,
    *,
    seed: int = 0,
    time_limit: float | None = None,
    work_limit: float | None = None,
    even: bool = True,
    progress: Progress | None = None,
    started: float | None = None,
) -> Packing:
    """Pack with the algorithm of that name; `even` asks `optimal` for its second stage. Ctrl-C ends `optimal` early.

    time_limit, work_limit: see `make_plan`; the time is counted from `started`, of time.perf_counter().
    """
    chosen = find_algorithm(algorithm)
    seconds, work = _limits(time_limit, work_limit)
    start = time.perf_counter()
    budget = Budget(work, seconds, started=start if started is None else started)
    solution = _in_time(chosen, items, budget, Options(seed, even, progress))
    solution = replace(solution, proof=solution.certificate)  # so that it need not be computed again
    return Packing(solution, algorithm, seed, time.perf_counter() - start)


def _limits(time_limit: float | None, work_limit: float | None) -> tuple[float, float]:
    """(wall seconds, nominal seconds of work). Whoever names one of them wants it used: the other does not stop it."""
    if time_limit is None and work_limit is None:
        return DEFAULT_SECONDS, DEFAULT_WORK
    return math.inf if time_limit is None else time_limit, math.inf if work_limit is None else work_limit


def _in_time(chosen: Registered, items: Items, budget: Budget, options: Options) -> Solution:
    """What the algorithm has when it ends, or at the end of the time limit: its solution, its best so far, or else,
    where something loads or compiles for too long, a quick plan.

    It runs in a thread, and this one waits no longer than until then: so each step, also one that compiles, loads or
    solves for seconds, keeps the limit, whether it looks at the clock or not. Ctrl-C is the algorithm's if it is one
    that has its best so far at hand; else it raises, as everywhere.
    """
    bests: list[SoFar] = []
    quick: list[Solution] = []

    def so_far() -> Solution | None:
        return bests[-1]() if bests else None

    def run() -> Solution:
        return chosen.load()(items, budget, replace(options, keep=bests.append))

    def meanwhile() -> None:
        if so_far() is None:
            quick.append(_quick(items))

    solution: Solution | None = None
    with budget.interrupt if chosen.anytime else nullcontext():
        if math.isinf(budget.time_limit):
            solution = run()
        elif budget.time_limit < COLD_SECONDS and "numba" not in sys.modules:
            with suppress(NotLoaded), nothing_loaded():
                solution = run()
        else:
            end = budget.started + budget.time_limit + budget.grace
            solution = budget.interrupt.run_until(run, end, meanwhile)
    if solution is None:
        return so_far() or (quick[0] if quick else _quick(items))
    if budget.cut_short:
        return replace(solution, stopped_by="time" if budget.out_of_time else "work")
    return solution


def _quick(items: Items) -> Solution:
    return Solution(items, quick_plan(items.instance), stopped_by="time")


def pack_vectors(
    need: np.ndarray,
    capacity: np.ndarray,
    algorithm: str = "optimal",
    *,
    seed: int = 0,
    time_limit: float | None = None,
    work_limit: float | None = None,
    progress: Progress | None = None,
) -> Packing:
    """Pack items that need `need` (int64 [items, dims], not negative) into packs of `capacity` (int64 [dims]).

    Raises SizesError naming an item that fits no pack, AlgorithmError for an unknown name, a seed that is no whole
    number from 0 to 2**63 - 1, or a limit that is no number of seconds. Randomness: `seed` alone; time_limit,
    work_limit: see `make_plan`.

        >>> packing = pack_vectors(np.array([[3, 1], [2, 2], [2, 1], [3, 2]]), np.array([5, 3]))
        >>> packing.num_packs, packing.status
        (2, 'optimal')
    """
    seed, time_limit, work_limit = check_budget(seed, time_limit, work_limit)
    started = time.perf_counter()
    rows, space = np.asarray(need), np.asarray(capacity)
    if rows.ndim != 2 or space.ndim != 1 or rows.shape[1] != len(space):
        raise SizesError(f"need must be [items, dims] and capacity [dims]; got {rows.shape} and {space.shape}")
    if len(rows) == 0 or len(space) == 0:
        raise SizesError(f"nothing to pack: need has shape {rows.shape}")
    if rows.dtype.kind not in "iu" or space.dtype.kind not in "iu":
        raise SizesError(f"need and capacity must hold whole numbers; got {rows.dtype} and {space.dtype}")
    if rows.min() < 0 or space.min() < 0:
        raise SizesError(f"need and capacity must not be negative; the least are {rows.min()} and {space.min()}")
    if max(int(rows.max()), int(space.max())) >= 2**53:
        raise SizesError("need and capacity must be below 2**53")
    outside = np.argwhere(rows > space)
    if len(outside):
        item, dim = outside[0].tolist()
        raise SizesError(f"item {item} needs {rows[item, dim]} in dimension {dim}; a pack offers {space[dim]}")
    items = Items.from_need(
        rows.astype(np.int64),
        space.astype(np.int64),
        np.ones(len(rows), dtype=np.int64),
        np.arange(len(rows), dtype=np.int32),
    )
    return pack_items(
        items,
        algorithm,
        seed=seed,
        time_limit=time_limit,
        work_limit=work_limit,
        progress=progress,
        started=started,
    )
