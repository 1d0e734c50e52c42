"""The graphs of a source that cannot be packed, however many: in memory they take some 20 bytes each."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, overload

import numpy as np

from packer.errors import SourceError
from pipelines.sources.protocol import Skip


class _Block(NamedTuple):
    """first, last: least and largest id; data: all skips, as compressed JSON."""

    number: int
    first: int
    last: int
    data: bytes


@dataclass(frozen=True, eq=False)
class Skips(Sequence[Skip]):
    """Skips in the order of their ids, each block of them unpacked while it is looked at."""

    blocks: tuple[_Block, ...] = ()

    @classmethod
    def of(cls, skips: Iterable[Skip]) -> Skips:
        """As one block; skips: in the order of their ids."""
        held = list(skips)
        if not held:
            return cls()
        plain = [[skip.graph_id, skip.reason, skip.where, list(skip.strings)] for skip in held]
        data = zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 1)
        return cls((_Block(len(held), held[0].graph_id, held[-1].graph_id, data),))

    @classmethod
    def joined(cls, parts: Iterable[Skips]) -> Skips:
        """One after the other."""
        return cls(tuple(block for part in parts for block in part.blocks))

    def to_plain(self) -> list[Any]:
        """For JSON; the inverse of `from_plain`."""
        return [[*block[:3], base64.b64encode(block.data).decode()] for block in self.blocks]

    @classmethod
    def from_plain(cls, stored: Iterable[Any]) -> Skips:
        return cls(tuple(_Block(number, first, last, base64.b64decode(data)) for number, first, last, data in stored))

    def among(self, ids: np.ndarray) -> Skips:
        """Those of these graphs. ids: int64, ascending."""
        if not self.blocks or self.blocks[-1].last <= ids[-1] == len(ids) - 1:  # all graphs up to the last
            return self
        held: list[Skips] = []
        for block in self.blocks:
            inside = ids[slice(*np.searchsorted(ids, [block.first, block.last + 1]))]
            wanted = set(inside.tolist())
            held.append(Skips.of(skip for skip in _unpacked(block) if skip.graph_id in wanted) if wanted else Skips())
        return Skips.joined(held)

    def between(self, first: int, last: int) -> dict[int, Skip]:
        """By id, those from `first` to `last` (and some beside them)."""
        near = (block for block in self.blocks if block.last >= first and block.first <= last)
        return {skip.graph_id: skip for block in near for skip in _unpacked(block)}

    def __len__(self) -> int:
        return sum(block.number for block in self.blocks)

    def __iter__(self) -> Iterator[Skip]:
        return (skip for block in self.blocks for skip in _unpacked(block))

    @overload
    def __getitem__(self, index: int) -> Skip: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Skip, ...]: ...
    def __getitem__(self, index: int | slice) -> Skip | tuple[Skip, ...]:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return next(islice(self, chosen, None))
        if chosen.step < 0:
            return self[chosen[-1] : chosen[0] + 1 : -chosen.step][::-1] if chosen else ()
        return tuple(islice(self, chosen.start, chosen.stop, chosen.step))

    def __eq__(self, other: object) -> bool:
        """As the tuple of them."""
        return tuple(self) == tuple(other) if isinstance(other, (Skips, tuple)) else NotImplemented

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return repr(self[:5]) if len(self) <= 5 else f"<{len(self)} skips>"


def nothing_left(name: str, skips: Iterable[Skip]) -> SourceError:
    """The error that a source has no graphs but those that are skipped."""
    reasons = Counter(skip.reason for skip in skips)
    if not reasons:
        return SourceError(f"{name} holds no graph that can be packed: it has none at all")
    reason, count = reasons.most_common(1)[0]
    return SourceError(
        f"{name} holds no graph that can be packed: {reasons.total():,} are left out, {count:,} of them "
        f"because of this: {reason}"
    )


def _unpacked(block: _Block) -> Iterator[Skip]:
    for graph_id, reason, where, strings in json.loads(zlib.decompress(block.data)):
        yield Skip(graph_id, reason, where, tuple((name, text) for name, text in strings))
