"""The packing problem over distinct sizes, and how packs are filled: plain integer vectors, no graphs, no files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Instance:
    """Vector bin packing over distinct sizes: `count[i]` items need `need[i]` each; every pack offers `capacity`.

    need: int64 [sizes, dims], non-negative, rows distinct, each row at most `capacity`; capacity: int64 [dims];
    count: int64 [sizes], positive. Built by the callers in `packer`, which have checked all of that.
    """

    need: np.ndarray
    capacity: np.ndarray
    count: np.ndarray

    @property
    def num_items(self) -> int:
        return sum(self.count.tolist())


@dataclass(frozen=True)
class Patterns:
    """How packs are filled: pattern p holds `multiplicity[k]` items of size `size_ids[k]` for k in ptr[p]..ptr[p+1].

    ptr: int64 [patterns+1]; size_ids, multiplicity: int64 [entries], size ids ascending and distinct inside a pattern,
    multiplicities positive; counts: int64 [patterns], positive: how many packs use the pattern. Patterns are distinct.
    """

    ptr: np.ndarray
    size_ids: np.ndarray
    multiplicity: np.ndarray
    counts: np.ndarray

    @property
    def num_packs(self) -> int:
        return sum(self.counts.tolist())

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, pattern: int) -> tuple[np.ndarray, np.ndarray]:
        """(size_ids, multiplicity) of one pattern."""
        part = slice(int(self.ptr[pattern]), int(self.ptr[pattern + 1]))
        return self.size_ids[part], self.multiplicity[part]
