"""The one signature of all algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Protocol

from packer.algorithms.budget import Budget
from packer.algorithms.items import Items
from packer.algorithms.solution import Solution

Progress = Callable[[int, int, float], None]
"""Called with (packs, bound, seconds)."""
SoFar = Callable[[], "Solution | None"]


def _keep_nothing(_: SoFar) -> None:
    """For a caller who waits for the end."""


@dataclass(frozen=True)
class Options:
    """What an algorithm may heed beyond items and budget.

    seed: the only randomness; even: also even out the number of items per pack, at the same number of packs; progress:
    told whenever packs or bound improve, and from time to time, maybe from another thread; keep: given, by an algorithm
    that betters its plan until the budget ends, what tells the best so far at any time and from any thread (None where
    there is none yet). The last one given counts.
    """

    seed: int = 0
    even: bool = True
    progress: Progress | None = None
    keep: Callable[[SoFar], None] = _keep_nothing


DEFAULTS = Options()


class Algorithm(Protocol):
    """Packs all items: a pure function of items and options, as far as the budget goes.

    Every item of `items` is in exactly one pack, no pack overflows, and every item fits an empty pack (the caller has
    checked). The same items, work and options give the same solution, unless the clock stopped it. When the budget is
    spent, what is left is packed quickly; a heuristic then sets the budget's `cut_short`. The contract is held by
    `tests/contracts/test_algorithm.py`.
    """

    def __call__(self, items: Items, budget: Budget, options: Options = DEFAULTS) -> Solution: ...
