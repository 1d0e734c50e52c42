"""A sweep of limits judged: bounded by volume, packed by a heuristic, and the most promising ones solved."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from packer.algorithms.best_fit_decreasing import best_fit_decreasing
from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.items import Items
from packer.algorithms.patterns import merged
from packer.certificate import volume_certificate
from packer.graphs.sizes import GraphSizes
from packer.interrupt import Interrupt
from packer.limits.fit import need_of
from packer.limits.pack_limits import PackLimits
from packer.suggest.sweep import Prices, SweepRules, sweep

Progress = Callable[[int, int, float], None]

_STEP = 2.0 ** (1 / 3)
"""Packs nearly alike in bytes, up to this ratio, compete with each other."""
PACK_WORK = 6.0
"""Nominal seconds for heuristic plans."""
_TRIES, _TRIES_EACH = 12, 3.0
"""Limits of a class that are tried with the exact solver at most, and in the mean for each unit of work."""
_GAIN = 0.002
"""Only limits whose bound promises to save this share of the bytes of the best plan are tried."""
_SAMPLES = (4_000, 16_000)
_TRY_WORK = 0.3


@dataclass
class Entry:
    """One triple of limits: `plan` takes `packs` (without a plan more than there are graphs); `bound` are needed.

    solved: the exact solver was tried.
    """

    limits: PackLimits
    capacity: np.ndarray
    bytes: float
    bound: int
    packs: int
    plan: Patterns | None = None
    solved: bool = False

    @property
    def total(self) -> float:
        """Tensor bytes of all packs of the plan."""
        return self.packs * self.bytes

    @property
    def least_total(self) -> float:
        """No plan takes fewer tensor bytes."""
        return self.bound * self.bytes

    @property
    def likely_packs(self) -> int:
        return self.bound if self.plan is None else self.packs

    @property
    def proven(self) -> bool:
        return self.packs == self.bound


class LimitSearch:
    """The entries of one sweep, and what has been found about them."""

    def __init__(
        self,
        sizes: GraphSizes,
        rules: SweepRules,
        prices: Prices,
        time_limit: float | None,
        seed: int,
        tell: Progress | None,
        interrupt: Interrupt,
    ) -> None:
        self.started = time.perf_counter()
        self.seconds_limit = float("inf") if time_limit is None else time_limit
        self.seed, self.tell, self.sizes, self.prices = seed, tell, sizes, prices
        self.num_packed = 0
        self.out_of_time, self.interrupt = False, interrupt
        distinct, count, _ = sizes.distinct
        times = count.tolist()
        self.totals = {
            axis.key: sum(n * c for n, c in zip(distinct[:, i].tolist(), times)) for i, axis in enumerate(sizes.axes)
        }
        self.real_bytes = sum(price * self.totals[key] for key, price in prices.axes.items())
        self.real_bytes += prices.graph * sizes.num_graphs
        self.entries: list[Entry] = []
        need = None
        for limits in sweep(distinct, count, sizes.axes, rules, prices):
            # `need` does not depend on the limits, but for the rule about null graphs: sizes keep their numbers.
            rows, capacity = need_of(distinct, sizes.axes, limits)
            if need is None:
                need, kind = np.unique(rows, axis=0, return_inverse=True)
                merged = np.zeros(len(need), np.int64)
                np.add.at(merged, kind.reshape(-1), count)
                self.need, self.count = need, merged
            bound = volume_certificate(self.need, capacity, self.count).bound
            size = prices.of_pack(limits, sizes.axes)
            self.entries.append(Entry(limits, capacity, size, bound, sizes.num_graphs + 1))

    def instance(self, entry: Entry) -> Instance:
        return Instance(self.need, entry.capacity, self.count)

    @property
    def num_solved(self) -> int:
        return sum(entry.solved for entry in self.entries)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def _go_on(self, done: int, total: int, share: float = 1.0) -> bool:
        """Tell progress; whether there is time left, or this share of it has not passed."""
        if self.tell is not None:
            self.tell(done, total, self.seconds)
        over = self.seconds >= share * self.seconds_limit
        self.out_of_time = self.out_of_time or over
        return not over and not self.interrupt.requested

    def _classes(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """By rising bytes: packs alike in bytes, the most promising first."""
        classes: dict[int, list[Entry]] = {}
        for entry in entries:
            classes.setdefault(_class_of(entry), []).append(entry)
        return [
            sorted(classes[number], key=lambda e: e.bytes * (e.bound + e.likely_packs)) for number in sorted(classes)
        ]

    def pack(self, work: float = PACK_WORK) -> None:
        """A heuristic plan for every entry that its volume bound does not rule out, most promising first."""
        each = 4e-3 + 3e-5 * len(self.need) + 2e-8 * float(len(self.need)) ** 2
        most = max(24, int(work / each))
        order = [
            entry for members in zip_longest(*self._classes(self.entries)) for entry in members if entry is not None
        ]
        for done, entry in enumerate(order):
            if (self.num_packed >= most or not self._go_on(done, len(order))) and self.num_packed:
                break
            if not self._beaten(entry):
                plan = _best_fit(self.instance(entry))
                entry.plan, entry.packs = plan, plan.num_packs
                self.num_packed += 1
        self._go_on(len(order), len(order))

    def solve(self, work: float) -> None:
        """The exact solver: briefly for entries that may become the best of their class, then for the best."""
        from packer.algorithms.optimal.solver import solve

        classes = self._classes([entry for entry in self.entries if entry.plan is not None])
        most = int(len(classes) * max(1.0, _TRIES_EACH * work))
        total = most + len(classes)
        # Half of the time is kept for the best of each class, the most promising class first.
        for done, entry in enumerate(islice(self._promising(classes), most)):
            if not self._go_on(done, total, 0.5):
                break
            self._try(entry, solve, min(work, _TRY_WORK))
        for done, members in enumerate(sorted(classes, key=lambda m: min(e.least_total for e in m)), most):
            entry = min(members, key=lambda e: e.total)
            if not (entry.proven or self._beaten(entry)) and self._go_on(done, total):
                starts, left = self._starts(entry), self._seconds_left()
                limits: dict[str, Any] = {"time_limit": left, "work_limit": work, "interrupt": self.interrupt}
                solution = solve(self.instance(entry), seed=self.seed, start=starts, **limits)
                entry.solved = True
                self._learn(entry, solution.patterns, solution.certificate.bound)
        self._go_on(total, total)

    def _promising(self, classes: Sequence[Sequence[Entry]]) -> Iterator[Entry]:
        """Entries to try, one of each class in turn, as long as the bound of one says that it may be worth it.

        By turns the least bytes by the bound alone, which is nearly reached where many graphs share a pack, and by the
        mean of bound and plan, which tells more where few do.
        """
        left = [list(members) for members in classes]
        for rank in range(_TRIES):
            for members, rest in zip(classes, left):
                while rest:
                    best = min(entry.total for entry in members)
                    entry = min(rest, key=lambda e: e.least_total if rank % 2 == 0 else e.bytes * (e.bound + e.packs))
                    rest.remove(entry)
                    if entry.least_total < (1 - _GAIN) * best and not self._beaten(entry):
                        yield entry
                        break

    def _try(self, entry: Entry, solve: Callable[..., Any], work: float) -> None:
        """Solve briefly. Of many graphs one in k, so that thousands are left: that plan k times, and the rest by best
        fit, is a plan of all."""
        entry.solved = True
        for items in _SAMPLES:
            times = max(1, self.sizes.num_graphs // items)
            fewer = self.count // times
            if entry.proven or not fewer.any():
                return
            kept, rest = np.flatnonzero(fewer), self.count - fewer * times
            part = Instance(self.need[kept], entry.capacity, fewer[kept])
            left = self._seconds_left()
            solution = solve(part, seed=self.seed, time_limit=left, work_limit=work, interrupt=self.interrupt)
            if times == 1:
                self._learn(entry, solution.patterns, solution.certificate.bound)
                return
            self._learn(entry, _joined(solution.patterns, kept, times, self._rest(entry, rest)), 1)
            if solution.status != "optimal":
                return  # a larger sample is harder still

    def _learn(self, entry: Entry, plan: Patterns, bound: int) -> None:
        """Keep what was found: a plan is one under wider limits too, and a bound holds under narrower ones."""
        for other in self.entries:
            if bound > other.bound and (other.capacity <= entry.capacity).all():
                other.bound = bound
            if plan.num_packs < other.packs and (entry.capacity <= other.capacity).all():
                other.plan, other.packs = plan, plan.num_packs

    def _rest(self, entry: Entry, count: np.ndarray) -> Patterns:
        """Best fit of so many graphs of each size: patterns over the numbers of all sizes."""
        kept = np.flatnonzero(count)
        plan = _best_fit(Instance(self.need[kept], entry.capacity, count[kept]))
        return replace(plan, size_ids=kept[plan.size_ids])

    def _seconds_left(self) -> float | None:
        return None if np.isinf(self.seconds_limit) else max(0.05, self.seconds_limit - self.seconds)

    def _starts(self, entry: Entry) -> Sequence[Patterns]:
        """The best plan known under limits nowhere wider, and the entry's own."""
        inside = [e for e in self.entries if e.plan is not None and (e.capacity <= entry.capacity).all()]
        best = min(inside, key=lambda e: e.packs, default=None)
        return [] if best is None or best.plan is None else [best.plan]

    def _beaten(self, entry: Entry) -> bool:
        """True when another entry is no larger and its plan has no more packs than this one needs."""
        for other in self.entries:
            if other.bytes > entry.bytes:
                return False
            if other is not entry and other.packs <= entry.bound:
                return True
        return False

    def front(self) -> list[Entry]:
        """By rising bytes and falling packs; of packs alike in bytes the one whose plan has the fewest bytes in all."""
        best: dict[int, Entry] = {}
        packs = self.sizes.num_graphs + 1
        for entry in sorted((e for e in self.entries if e.plan is not None), key=lambda e: (e.bytes, e.packs)):
            if entry.packs < packs:
                packs = entry.packs
                number = _class_of(entry)
                if number not in best or entry.total < best[number].total:
                    best[number] = entry
        return list(best.values())


def _class_of(entry: Entry) -> int:
    """Packs of one class are alike in bytes."""
    return int(np.floor(np.log(entry.bytes) / np.log(_STEP)))


def _best_fit(instance: Instance) -> Patterns:
    return best_fit_decreasing(Items.by_size(instance), Budget()).patterns


def _joined(sample: Patterns, kept: np.ndarray, times: int, rest: Patterns) -> Patterns:
    """A plan for one graph in `times`, whose sizes are numbered by `kept`, used so often, and a plan for the rest."""
    ptr = np.append(sample.ptr, sample.ptr[-1] + rest.ptr[1:])
    size_ids = np.append(kept[sample.size_ids], rest.size_ids)
    multiplicity = np.append(sample.multiplicity, rest.multiplicity)
    return merged(ptr, size_ids, multiplicity, np.append(sample.counts * times, rest.counts))
