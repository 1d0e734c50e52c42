"""The algorithms by name. Each lives in a module of its own, imported when it is asked for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable

from packer.errors import AlgorithmError


@dataclass(frozen=True)
class Algorithm:
    """takes: "items" (the order of the graphs matters), "sizes" (distinct sizes with counts) or "solver".

    looks_at_the_clock: it takes a budget and ends with it; what does not is as quick as anything that could take over.
    """

    name: str
    module: str
    function: str
    takes: str
    looks_at_the_clock: bool = True

    def load(self) -> Callable[..., Any]:
        return getattr(import_module(f"packer.algorithms.{self.module}"), self.function)


ALGORITHMS = {
    entry.name: entry
    for entry in (
        Algorithm("pad-to-max", "pad_to_max", "pad_to_max", "items", looks_at_the_clock=False),
        Algorithm("stream", "stream", "stream", "items", looks_at_the_clock=False),
        Algorithm("first-fit", "first_fit", "first_fit", "items"),
        Algorithm("first-fit-decreasing", "first_fit_decreasing", "first_fit_decreasing", "sizes"),
        Algorithm("best-fit-decreasing", "best_fit_decreasing", "best_fit_decreasing", "sizes"),
        Algorithm("histogram", "histogram", "histogram", "sizes"),
        Algorithm("optimal", "optimal", "Run", "solver"),
    )
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name, or an AlgorithmError that lists the known ones."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    near = difflib.get_close_matches(str(name), ALGORITHMS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise AlgorithmError(f"unknown algorithm {name!r}; the known ones are {', '.join(ALGORITHMS)}.{hint}")
