"""When to stop: deterministic work first, the clock as a cap."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Callable

from packer.interrupt import Interrupt

DEFAULT_WORK = 40.0
GRACE_SECONDS, GRACE_SHARE = 0.3, 0.03
"""What may be taken on top of a time limit, to end well: the larger of the two, the share being of the limit."""


@dataclass
class Budget:
    """Work is counted in seconds of a nominal machine, so that the same work gives the same plan on any machine.

    work_limit: nominal seconds, or infinity; time_limit: wall seconds since `started`, or infinity; interrupt: asks to
    stop; when_spending: called each time that work is done, several times a second. A budget made by `part` spends from
    its parent too.
    """

    work_limit: float = math.inf
    time_limit: float = math.inf
    work: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    parent: Budget | None = None
    interrupt: Interrupt = field(default_factory=Interrupt)
    when_spending: Callable[[], None] | None = None
    cut_short: bool = False
    """Something was left out for want of time or work."""

    def spend(self, work: float) -> bool:
        """Add to the work done; False when it is time to stop."""
        budget: Budget | None = self
        while budget is not None:
            budget.work += work
            if budget.when_spending is not None:
                budget.when_spending()
            budget = budget.parent
        return not self.spent

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def seconds_left(self) -> float:
        return self.time_limit - self.seconds

    @property
    def grace(self) -> float:
        """Wall seconds after the time limit in which to end well."""
        return max(GRACE_SECONDS, GRACE_SHARE * self.time_limit)

    @property
    def out_of_time(self) -> bool:
        return self.seconds >= self.time_limit

    @property
    def work_left(self) -> float:
        left = self.work_limit - self.work
        return left if self.parent is None else min(left, self.parent.work_left)

    @property
    def spent(self) -> bool:
        return self.interrupt.requested or self.interrupt.late or self.work_left <= 0 or self.out_of_time

    def clock(self) -> Budget:
        """The same time limit and interrupt, and no limit of work: for steps whose work is not counted."""
        return Budget(math.inf, self.time_limit, started=self.started, interrupt=self.interrupt)

    def part(self, work: float, until: float = 1.0) -> Budget:
        """A budget for one step: at most `work`, and no more than is left here of `until` of the time limit."""
        return Budget(work, until * self.time_limit, started=self.started, parent=self, interrupt=self.interrupt)
