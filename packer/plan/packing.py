"""Packing items, by any algorithm: from sizes to who shares a pack."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, Iterable, Union

import numpy as np

from packer.algorithms.assign import Runs, assign_ids
from packer.algorithms.budget import DEFAULT_WORK, Budget
from packer.algorithms.checks import check_budget
from packer.algorithms.exact import distinct_rows
from packer.algorithms.histogram import seconds_of as histogram_seconds
from packer.algorithms.in_order import seconds_of
from packer.algorithms.instance import Instance, Patterns, Solution
from packer.algorithms.jit import NotLoaded, nothing_loaded
from packer.algorithms.patterns import patterns_of
from packer.algorithms.quick import quick_plan
from packer.algorithms.registry import ALGORITHMS, Algorithm, find_algorithm
from packer.certificate import Certificate, volume_certificate
from packer.errors import SizesError
from packer.interrupt import Interrupt

if TYPE_CHECKING:
    from typing import Tuple

Progress = Callable[[int, int, float], None]

DEFAULT_SECONDS = 60.0
"""Of wall time at most, where no limit is named."""
RIVAL_SECONDS, RIVAL_SHARE = 0.6, 0.6
"""Heuristics may take so long, or such a share of the time limit, after the solver has stopped without a proof."""
GRACE_SECONDS, GRACE_SHARE = 0.3, 0.03
"""What they, and the evening out, may take on top of it; what they need beyond that the solver goes without."""
EVEN_SECONDS = 0.1
COLD_SECONDS, PLAIN_SIZES = 1.0, 1500
"""In less time nothing is loaded and compiled; up to so many sizes heuristics do without."""


@dataclass(frozen=True, eq=False)
class Items:
    """The items to pack: row r is of size `size_of_row[r]` and owns `row_count[r]` (None: one) consecutive items.

    size_of_row: int32 [rows], row numbers of `instance.need`; instance: the distinct sizes with their counts.
    """

    instance: Instance
    size_of_row: np.ndarray
    row_count: np.ndarray | None = None

    @classmethod
    def from_need(
        cls, need: np.ndarray, capacity: np.ndarray, row_count: np.ndarray | None, of_row: np.ndarray
    ) -> Items:
        """Merge equal rows of `need` int64 [kinds, dims]; row r is of kind of_row[r] and owns row_count[r] items."""
        distinct, merged = distinct_rows(need)
        size_of_row = merged.astype(np.int32)[of_row]
        if row_count is None:
            count = np.bincount(size_of_row, minlength=len(distinct)).astype(np.int64)
        else:
            count = np.zeros(len(distinct), dtype=np.int64)
            np.add.at(count, size_of_row, row_count)
        return cls(Instance(distinct, capacity, count), size_of_row, row_count)

    def size_of_item(self) -> np.ndarray:
        """int32 [items]."""
        return self.size_of_row if self.row_count is None else np.repeat(self.size_of_row, self.row_count)


Assignment = Union[Patterns, "Tuple[np.ndarray, np.ndarray]"]


@dataclass(frozen=True, eq=False)
class Packing:
    """Which items share a pack.

    status: "optimal" (num_packs == lower_bound, proven by `certificate`) or "feasible"; stopped_by: "proof", "done" (an
    algorithm that ran to its end), "work", "time" or "interrupt"; seconds: wall time, informative. `found` is what the
    algorithm gave: patterns of sizes, or (item_ids, pack_offsets).
    """

    items: Items
    algorithm: str
    seed: int
    certificate: Certificate
    stopped_by: str
    seconds: float
    found: Assignment

    @cached_property
    def num_packs(self) -> int:
        return self.found.num_packs if isinstance(self.found, Patterns) else len(self.found[1]) - 1

    @property
    def lower_bound(self) -> int:
        """No packing within the limits has fewer packs; `check_certificate` proves exactly this number."""
        return self.certificate.bound

    @property
    def status(self) -> str:
        return "optimal" if self.num_packs == self.lower_bound else "feasible"

    @cached_property
    def _assigned(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.found, Patterns):
            rows, count = self.items.size_of_row, self.items.row_count
            return assign_ids(rows if count is None else Runs(rows, count), self.found, self.seed)
        return self.found

    @property
    def item_ids(self) -> np.ndarray:
        """int64 [items]: the items, pack after pack. Computed on first use."""
        return self._assigned[0]

    @property
    def pack_offsets(self) -> np.ndarray:
        """int64 [packs+1]: pack p holds item_ids[pack_offsets[p]:pack_offsets[p+1]]."""
        return self._assigned[1]

    @cached_property
    def patterns(self) -> Patterns:
        """The distinct fillings, over the rows of `items.instance.need`."""
        if isinstance(self.found, Patterns):
            return self.found
        return patterns_of(self.items.size_of_item()[self.item_ids], self.pack_offsets)

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
    begun = start if started is None else started
    if chosen.takes == "solver":
        job = _SolverJob(items, chosen, seed, begun, seconds, work, even, progress)
        found, certificate, stopped_by = job.run()
    else:
        instance = items.instance
        certificate = volume_certificate(instance.need, instance.capacity, instance.count)
        found, stopped_by = _heuristic(chosen, items, begun, seconds, work)
    return Packing(items, algorithm, seed, certificate, stopped_by, time.perf_counter() - start, found)


def _limits(time_limit: float | None, work_limit: float | None) -> tuple[float, float]:
    """(wall seconds, nominal seconds of work). Whoever names one of them wants it used: the other does not stop it."""
    if time_limit is None and work_limit is None:
        return DEFAULT_SECONDS, DEFAULT_WORK
    return math.inf if time_limit is None else time_limit, math.inf if work_limit is None else work_limit


def _heuristic(heuristic: Algorithm, items: Items, begun: float, seconds: float, work: float) -> tuple[Assignment, str]:
    """Its plan, and what stopped it. When its budget is spent it packs what is left by next fit; where it comes to no
    end even so, because something loads or compiles, a quick plan takes its place."""
    budget = Budget(work, seconds, started=begun)
    quick: list[Patterns] = []

    def run() -> Assignment:
        return _run(heuristic, items, budget)

    def meanwhile() -> None:
        quick.append(quick_plan(items.instance))

    found: Assignment | None = None
    if math.isinf(seconds):
        found = run()
    elif seconds < COLD_SECONDS and "numba" not in sys.modules:
        with suppress(NotLoaded), nothing_loaded():
            found = run()
    else:
        found = budget.interrupt.run_until(run, begun + seconds + _grace(seconds), meanwhile)
    if found is None:
        return quick[0] if quick else quick_plan(items.instance), "time"
    return found, ("time" if budget.out_of_time else "work") if budget.cut_short else "done"


def _grace(seconds: float) -> float:
    return max(GRACE_SECONDS, GRACE_SHARE * seconds) if seconds < math.inf else math.inf


class _SolverJob:
    """One call of the solver, the heuristics after it and the evening out, of which the best so far can be had at once.

    It runs in a thread, and this one waits for it no longer than until the time limit: so each step, also one that
    compiles, loads or solves for seconds, keeps it, whether it looks at the clock or not.
    """

    def __init__(
        self,
        items: Items,
        solver: Algorithm,
        seed: int,
        begun: float,
        seconds: float,
        work: float,
        even: bool,
        progress: Progress | None,
    ) -> None:
        self._items, self._solver, self._seed, self._even = items, solver, seed, even
        self._seconds = seconds
        self._rivals = _rivals(items, seconds)
        self._grace = _grace(seconds)
        self._end = begun + seconds + self._grace
        after = sum(self._rivals.values()) + EVEN_SECONDS
        spared = max(0.0, after - self._grace) if seconds < math.inf else 0.0
        self._interrupt, self._progress = Interrupt(), progress
        self._budget = Budget(work, max(0.0, seconds - spared), started=begun, interrupt=self._interrupt)
        self._solved: Any = None
        self._better: Patterns | None = None
        self._quick: Patterns | None = None

    def run(self) -> tuple[Patterns, Certificate, str]:
        with self._interrupt:
            if self._seconds < COLD_SECONDS and "numba" not in sys.modules:
                self._quick = self._plain()
            elif math.isinf(self._end):
                self._work()
            else:
                self._interrupt.run_until(self._work, self._end, self._meanwhile)
        return self._best()

    def _work(self) -> None:
        instance = self._items.instance
        self._solved = self._solver.load()(instance, self._budget, self._seed, self._tell)
        self._solved.go(())
        solution: Solution | None = self._solved.best()
        assert solution is not None
        self._better = solution.patterns
        if solution.stopped_by not in ("proof", "interrupt"):
            self._better = _better(self._items, self._better, self._rivals, self._rest())
        if self._even and not self._interrupt.late:
            from packer.algorithms.spread import reduce_spread

            self._better = reduce_spread(instance, self._better, seed=self._seed)

    def _rest(self) -> Budget:
        """What the heuristics may take."""
        left = self._end - self._budget.started
        return Budget(math.inf, left, started=self._budget.started, interrupt=self._interrupt)

    def _tell(self, packs: int, bound: int, seconds: float) -> None:
        if self._progress is not None and not self._interrupt.late:
            self._progress(packs, bound, seconds)

    def _plain(self) -> Patterns:
        """What needs nothing loaded: loading keeps every thread waiting."""
        instance = self._items.instance
        found = quick_plan(instance)
        if len(instance.need) <= PLAIN_SIZES:
            for name in ("first-fit-decreasing", "best-fit-decreasing"):
                found = _better(self._items, found, (name,), self._rest())
        return found

    def _meanwhile(self) -> None:
        """Have some plan, while the first one may be long in coming."""
        if self._solved is None or not self._solved.has_plan:
            self._quick = quick_plan(self._items.instance)

    def _best(self) -> tuple[Patterns, Certificate, str]:
        instance, better = self._items.instance, self._better
        solution: Solution | None = None if self._solved is None else self._solved.best()
        if solution is not None:
            found = solution.patterns if better is None else better
            return found, solution.certificate, solution.stopped_by
        found = quick_plan(instance) if self._quick is None else self._quick
        return found, volume_certificate(instance.need, instance.capacity, instance.count), "time"


def _run(heuristic: Algorithm, items: Items, budget: Budget) -> Assignment:
    instance = items.instance
    if heuristic.takes == "sizes":
        return heuristic.load()(instance, budget)
    size_of_item = items.size_of_item()
    given = (budget,) if heuristic.looks_at_the_clock else ()
    answer = heuristic.load()(size_of_item, instance.need, instance.capacity, *given)
    return answer if isinstance(answer, tuple) else (np.arange(len(size_of_item), dtype=np.int64), answer)


def _rivals(items: Items, time_limit: float) -> dict[str, float]:
    """The heuristics to run after the solver has stopped without a proof, and about how many seconds each takes.

    The solver starts from some over reduced sizes; those here break ties otherwise, see the order of the items, or take
    their time. Which of them run depends on the instance and the time limit alone, not on the clock.
    """
    instance = items.instance
    needed = {
        "stream": 2e-8 * instance.num_items,
        "first-fit-decreasing": seconds_of(instance, best=False),
        "first-fit": 1.2e-7 * instance.num_items,
        "best-fit-decreasing": seconds_of(instance, best=True),
        "histogram": histogram_seconds(instance),
    }
    left = max(RIVAL_SECONDS, RIVAL_SHARE * min(time_limit, DEFAULT_SECONDS))
    chosen: dict[str, float] = {}
    for name, seconds in needed.items():
        if seconds <= left:
            chosen[name] = seconds
            left -= seconds
    return chosen


def _better(items: Items, found: Patterns, rivals: Iterable[str], budget: Budget) -> Patterns:
    """The best of a plan and those of the heuristics, as far as there is time: `optimal` is never worse."""
    for name in rivals:
        if budget.spent:
            break
        rival = _run(ALGORITHMS[name], items, budget)
        packs = rival.num_packs if isinstance(rival, Patterns) else len(rival[1]) - 1
        if packs < found.num_packs:
            is_plan = isinstance(rival, Patterns)
            found = rival if is_plan else patterns_of(items.size_of_item()[rival[0]], rival[1])
    return found


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
    items = Items.from_need(rows.astype(np.int64), space.astype(np.int64), None, np.arange(len(rows)))
    return pack_items(
        items,
        algorithm,
        seed=seed,
        time_limit=time_limit,
        work_limit=work_limit,
        progress=progress,
        started=started,
    )
