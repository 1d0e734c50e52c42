"""Patterns as columns: a growing set without repeats, and plans made of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable

import numpy as np

from packer.algorithms.instance import Patterns


@dataclass
class Columns:
    """Distinct patterns, each a pair (size_ids ascending, multiplicity), int64 arrays."""

    ids: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    _index: dict[bytes, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: np.ndarray, times: np.ndarray) -> bool:
        """True when the pattern is new."""
        if self._index.setdefault(ids.tobytes() + times.tobytes(), len(self.ids)) < len(self.ids):
            return False
        self.ids.append(ids)
        self.times.append(times)
        return True


def to_patterns(rows: Iterable[tuple[np.ndarray, np.ndarray, int]]) -> Patterns:
    """Patterns from (size_ids ascending, multiplicity, count) rows; equal rows are merged, empty ones dropped."""
    columns = Columns()
    counts: dict[bytes, int] = {}
    for ids, times, count in rows:
        if count and len(ids):
            columns.add(ids, times)
            key = ids.tobytes() + times.tobytes()
            counts[key] = counts.get(key, 0) + count
    empty = np.zeros(0, np.int64)
    return Patterns(
        np.cumsum([0] + [len(ids) for ids in columns.ids], dtype=np.int64),
        np.concatenate([*columns.ids, empty]),
        np.concatenate([*columns.times, empty]),
        np.array(list(counts.values()), dtype=np.int64),
    )


def proper(plan: Patterns, count: np.ndarray) -> Patterns:
    """The patterns that hold no more of a size than there are (`count`, int64 [sizes])."""
    rows = [(*plan[p], int(plan.counts[p])) for p in range(len(plan))]
    return to_patterns(row for row in rows if (row[1] <= count[row[0]]).all())


def joined(fixed: Patterns, rest: Patterns, ids: np.ndarray) -> Patterns:
    """Both plans in one; `ids` (int64 [sizes of rest], ascending) are the sizes of `rest` in terms of `fixed`."""
    rows = [(*fixed[p], int(fixed.counts[p])) for p in range(len(fixed))]
    rows += [(ids[rest[p][0]], rest[p][1], int(rest.counts[p])) for p in range(len(rest))]
    return to_patterns(rows)
