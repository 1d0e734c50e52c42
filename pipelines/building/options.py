"""What the scan of a build is asked for, and how it tells its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from packer.graphs.schema import Schema
from packer.scan.attributes import ALL, Attributes
from packer.scan.geometry import geometry_pads
from packer.scan.levels import decide
from packer.scan.statistics import Statistics, merge

Progress = Callable[[str, int, "int | None"], None]
"""Called with the stage ("scan", "join", "plan", "write"), what is done of it, and the total where it is known. While a
plan is made, the stage is "solve": the packs that are proven to be needed, and those of the best plan so far."""


@dataclass(frozen=True)
class ScanOptions:
    """What the graph table depends on besides the source.

    levels: field -> level, where the data leave it open; pads: field or level -> padding value, or row of values;
    on_empty: "error" or "skip", for graphs without nodes and texts that are no molecule; None: what the source itself
    says. attributes: what to leave out, and what is an index. pad_geometry: cutoff of a model for which padding is
    made, where pads say nothing else.
    """

    levels: Mapping[str, str]
    pads: Mapping[str, Any]
    on_empty: str | None = None
    attributes: Attributes = ALL
    pad_geometry: float | None = None

    def key(self) -> dict[str, Any]:
        # As texts, for a NaN among them would not equal itself.
        pads = {name: _text(value) for name, value in self.pads.items()}
        geometry = {} if self.pad_geometry is None else {"pad_geometry": self.pad_geometry}
        return {
            "levels": dict(self.levels),
            "pads": pads,
            "on_empty": self.on_empty,
            "attributes": self.attributes.to_dict(),
            **geometry,
        }

    def decide(self, blocks: Iterable[Statistics]) -> tuple[Schema, tuple[str, ...]]:
        """The schema of the graphs of all blocks, and the fields whose level the data leave open. FieldError."""
        statistics = reduce(merge, blocks)
        self.attributes.check(statistics)
        geometry = {} if self.pad_geometry is None else geometry_pads(statistics, self.pad_geometry)
        return decide(statistics, self.levels, {**geometry, **self.pads})


def _text(pad: Any) -> str:
    """As --pad takes it: a number, or the numbers of a row with commas between."""
    if isinstance(pad, (bool, int, float)) or getattr(pad, "ndim", None) == 0:
        return repr(pad)
    plain = pad.tolist() if hasattr(pad, "tolist") else pad
    return ",".join(map(repr, np.ravel(np.array(plain, dtype=object)).tolist()))


def as_stage(progress: Progress) -> Callable[[int, int, float], None]:
    """What a solver reports its progress to, as the stage "solve"."""
    return lambda packs, bound, seconds: progress("solve", bound, packs)
