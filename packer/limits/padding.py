"""What padding takes of a pack, by who owns it: the rules, once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Padding(NamedTuple):
    """graphs: slots kept for null graphs; nodes, edges: rows of each axis kept for padding, by each null graph (`each`,
    and then an edgeless graph takes a row like any other) or by all of them together."""

    graphs: int
    nodes: int
    edges: int
    each: bool = False

    def reserved(self, level: str, null_graphs: int) -> int:
        """Rows of an axis that padding takes at least, in a pack with so many null graphs."""
        rows = self.nodes if level == "node" else self.edges
        return rows * null_graphs if self.each else rows

    def least(self, level: str, num_graphs: int) -> int:
        """The fewest slots of an axis with which a pack of `num_graphs` graph slots holds a graph."""
        if self.each:
            return num_graphs
        return self.reserved(level, 1) + (level == "node")

    def counted(self, rows: np.ndarray) -> np.ndarray:
        """Rows that graphs of these sizes count for: at least one where each graph takes one."""
        return np.maximum(rows, 1) if self.each else rows


PADDING = {
    "all": Padding(1, 1, 1, each=True),
    "one": Padding(1, 1, 1),
    "jraph": Padding(1, 1, 0),
    "none": Padding(0, 0, 0),
}
"""By null_graphs. "one" keeps an edge as PopTorch's null graphs have one, "jraph" what jraph.pad_with_graphs keeps."""
NULL_GRAPHS = tuple(PADDING)
IN_PACKS = '"all", "one" or "jraph"'
"""The rules that leave a null graph; by the others packs are planned, not built."""
