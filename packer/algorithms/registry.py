"""The algorithms by name. Each lives in a module of its own, imported when it is asked for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from packer.algorithms.protocol import Algorithm
from packer.errors import AlgorithmError


@dataclass(frozen=True)
class Registered:
    """What is known of an algorithm before it is loaded.

    sees_order: the order of the items has a part in the plan, not their sizes alone. looks_at_the_clock: it ends with
    its budget; what does not is as quick as anything that could take over. anytime: it betters a plan and proves a
    bound until its budget ends, and Ctrl-C ends it with the best so far.
    """

    name: str
    module: str
    function: str
    sees_order: bool = False
    looks_at_the_clock: bool = True
    anytime: bool = False

    def load(self) -> Algorithm:
        return cast(Algorithm, getattr(import_module(f"packer.algorithms.{self.module}"), self.function))


ALGORITHMS = {
    entry.name: entry
    for entry in (
        Registered("pad-to-max", "pad_to_max", "pad_to_max", sees_order=True, looks_at_the_clock=False),
        Registered("stream", "stream", "stream", sees_order=True, looks_at_the_clock=False),
        Registered("first-fit", "first_fit", "first_fit", sees_order=True),
        Registered("first-fit-decreasing", "first_fit_decreasing", "first_fit_decreasing"),
        Registered("best-fit-decreasing", "best_fit_decreasing", "best_fit_decreasing"),
        Registered("histogram", "histogram", "histogram"),
        Registered("optimal", "optimal.stages", "optimal", anytime=True),
    )
}


def find_algorithm(name: str) -> Registered:
    """The algorithm of that name, or an AlgorithmError that lists the known ones."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    near = difflib.get_close_matches(str(name), ALGORITHMS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise AlgorithmError(f"unknown algorithm {name!r}; the known ones are {', '.join(ALGORITHMS)}.{hint}")
