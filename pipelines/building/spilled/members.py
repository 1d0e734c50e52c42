"""Which data set a source graph belongs to, told block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from packer.graphs.table import GraphTable
from pipelines.building.members import labels_of
from pipelines.building.splits import Splits, by_file, label_names, numbers_by_fractions
from pipelines.sources.protocol import Skip


@dataclass(frozen=True)
class Membership:
    """names: of the data sets, "" for the one without splits; num_graphs: of the source.

    One of the others says which graph goes where: nothing (all into one), the shares of `splits`, the label that each
    graph has in its column, or `listed`, uint16, the split of each graph from `first_id` on. unlabelled: the split of
    skipped graphs that name none.
    """

    names: tuple[str, ...]
    num_graphs: int
    splits: Splits | None = None
    listed: np.ndarray | None = None
    first_id: int = 0
    unlabelled: int = 0

    @property
    def needs_labels(self) -> bool:
        """Whether the graphs themselves say where they belong."""
        return self.splits is not None and self.splits.column is not None

    def part(self, first_id: int, records: int) -> Membership:
        """What is needed of it for some consecutive graphs."""
        if self.listed is None:
            return self
        start = first_id - self.first_id
        return replace(self, listed=self.listed[start : start + records], first_id=first_id)

    def numbers_of(self, ids: np.ndarray, table: GraphTable | None, skips: Mapping[int, Skip]) -> np.ndarray:
        """int64 [ids]: the number in `names` of each. table, skips: of these graphs, where labels are needed."""
        if self.splits is None:
            return np.zeros(len(ids), dtype=np.int64)
        if self.listed is not None:
            return self.listed[ids - self.first_id].astype(np.int64)
        if self.splits.fractions:
            return numbers_by_fractions(self.splits, ids, self.num_graphs)
        assert table is not None and self.splits.column is not None
        number_of = {name: number for number, name in enumerate(self.names)}
        labels = labels_of(table, ids, tuple(skips.values()), self.splits.column)
        return np.array([number_of.get(label, self.unlabelled) for label in labels.tolist()], dtype=np.int64)


def membership(splits: Splits | None, num_graphs: int, labels: Sequence[str] = (), first: str = "") -> Membership:
    """labels: those of the column that splits name, in any order; first: that of the first graph that can be packed.

    Raises SourceError for a file that does not split the graphs, BuildError for labels that are no names.
    """
    if splits is None:
        return Membership(("",), num_graphs)
    if splits.fractions:
        return Membership(tuple(name for name, _ in splits.fractions), num_graphs, splits)
    if splits.file is None:
        names = tuple(label_names(labels, str(splits.column)))
        return Membership(names, num_graphs, splits, unlabelled=names.index(first))
    ids_by_name = by_file(splits.file, num_graphs, splits.sha256)
    listed = np.zeros(num_graphs, dtype=np.uint16)
    for number, ids in enumerate(ids_by_name.values()):
        listed[ids] = number
    return Membership(tuple(ids_by_name), num_graphs, splits, listed)
