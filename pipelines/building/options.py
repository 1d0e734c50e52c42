"""What the scan of a build is asked for, and how it tells its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from packer.graphs.schema import Schema
from packer.scan.attributes import ALL, Attributes
from packer.scan.levels import decide
from packer.scan.statistics import Statistics, merge

Progress = Callable[[str, int, "int | None"], None]
"""Called with the stage ("scan", "join", "plan", "write"), what is done of it, and the total where it is known. While a
plan is made, the stage is "solve": the packs that are proven to be needed, and those of the best plan so far."""


@dataclass(frozen=True)
class ScanOptions:
    """What the graph table depends on besides the source.

    levels: field -> level, where the data leave it open; pads: field or level -> padding value; on_empty: "error" or
    "skip", for graphs without nodes and texts that are no molecule; None: what the source itself says. attributes: what
    to leave out, and what is an index.
    """

    levels: Mapping[str, str]
    pads: Mapping[str, float]
    on_empty: str | None = None
    attributes: Attributes = ALL

    def key(self) -> dict[str, Any]:
        # As texts, for a NaN among them would not equal itself.
        pads = {name: repr(value) for name, value in self.pads.items()}
        return {
            "levels": dict(self.levels),
            "pads": pads,
            "on_empty": self.on_empty,
            "attributes": self.attributes.to_dict(),
        }

    def decide(self, blocks: Iterable[Statistics]) -> tuple[Schema, tuple[str, ...]]:
        """The schema of the graphs of all blocks, and the fields whose level the data leave open. FieldError."""
        statistics = reduce(merge, blocks)
        self.attributes.check(statistics)
        return decide(statistics, self.levels, self.pads)


def as_stage(progress: Progress) -> Callable[[int, int, float], None]:
    """What a solver reports its progress to, as the stage "solve"."""
    return lambda packs, bound, seconds: progress("solve", bound, packs)
