"""What every algorithm is given: the items to pack, as distinct sizes with counts or one by one in their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packer.algorithms.exact import distinct_rows
from packer.algorithms.instance import Instance


@dataclass(frozen=True, eq=False)
class Items:
    """The items to pack: row r is of size `size_of_row[r]` and owns `row_count[r]` (None: one) consecutive items.

    instance: the distinct sizes with their counts, all that an algorithm over sizes looks at; size_of_row: int32 [rows]
    or any other integers, row numbers of `instance.need`; row_count: int64 [rows].
    """

    instance: Instance
    size_of_row: np.ndarray
    row_count: np.ndarray | None = None

    @classmethod
    def by_size(cls, instance: Instance) -> Items:
        """The items of an instance, all those of the first size, then those of the next. No array of all items."""
        return cls(instance, np.arange(len(instance.need), dtype=np.int32), instance.count)

    @classmethod
    def from_need(
        cls,
        need: np.ndarray,
        capacity: np.ndarray,
        kind_count: np.ndarray,
        of_row: np.ndarray,
        row_count: np.ndarray | None = None,
    ) -> Items:
        """Merge equal rows of `need` int64 [kinds, dims], of which there are kind_count[k] items: row r is of kind
        of_row[r] and owns row_count[r] of them. Where no two kinds are alike no array of all rows is made."""
        distinct, merged = distinct_rows(need)
        count = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(count, merged, kind_count)
        if not np.array_equal(merged, np.arange(len(need))):
            of_row = merged.astype(np.int32)[of_row]
        return cls(Instance(distinct, capacity, count), of_row, row_count)

    def size_of_item(self) -> np.ndarray:
        """Integers [items], row numbers of `instance.need`: made anew where rows own several items."""
        return self.size_of_row if self.row_count is None else np.repeat(self.size_of_row, self.row_count)
