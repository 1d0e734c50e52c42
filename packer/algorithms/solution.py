"""What every algorithm gives back: who shares a pack, said by size or item by item."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from packer.algorithms.assign import Runs, assign_ids
from packer.algorithms.instance import Patterns
from packer.algorithms.items import Items
from packer.algorithms.patterns import patterns_of
from packer.certificate import Certificate, volume_certificate


@dataclass(frozen=True, eq=False)
class Solution:
    """A packing of all items. A stop by time or work is still a solution.

    by_size: patterns over the rows of `items.instance.need`, of an algorithm that looks at sizes alone; or else
    by_item: (item_ids int64 [items], pack_offsets int64 [packs+1]), pack p holds
    item_ids[pack_offsets[p]:pack_offsets[p+1]]. One of the two is given, and each can be had from either.
    proof: of a bound above that of the volume, of an algorithm that has one; stopped_by: "proof", "work", "time",
    "interrupt" or "done" (it ran to its end).
    """

    items: Items
    by_size: Patterns | None = None
    by_item: tuple[np.ndarray, np.ndarray] | None = None
    proof: Certificate | None = None
    stopped_by: str = "done"

    @property
    def num_packs(self) -> int:
        return len(self.by_item[1]) - 1 if self.by_item is not None else self.patterns.num_packs

    @cached_property
    def certificate(self) -> Certificate:
        """Integer proof of a lower bound: `proof`, or what the volume proves."""
        if self.proof is not None:
            return self.proof
        instance = self.items.instance
        return volume_certificate(instance.need, instance.capacity, instance.count)

    @property
    def status(self) -> str:
        """ "optimal": the certificate proves `num_packs`; else "feasible"."""
        return "optimal" if self.num_packs == self.certificate.bound else "feasible"

    @cached_property
    def patterns(self) -> Patterns:
        """The distinct fillings, over the rows of `items.instance.need`."""
        if self.by_size is not None:
            return self.by_size
        assert self.by_item is not None
        item_ids, pack_offsets = self.by_item
        return patterns_of(self.items.size_of_item()[item_ids], pack_offsets)

    def assigned(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(item_ids, pack_offsets), see above; which of equal items goes where is drawn by `seed`, where it is open."""
        if self.by_item is not None:
            return self.by_item
        rows, count = self.items.size_of_row, self.items.row_count
        return assign_ids(rows if count is None else Runs(rows, count), self.patterns, seed)
