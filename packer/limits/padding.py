"""What padding takes of a pack, by who owns it: the rules, once."""

from __future__ import annotations

from typing import NamedTuple

from packer.graphs.axes import BUDGET


class Padding(NamedTuple):
    """graphs: slots kept for null graphs; nodes, edges, rows: rows of each axis (rows: of a further one) kept for
    padding, by each null graph (`each`, and then an edgeless graph takes a row like any other) or by all together."""

    graphs: int
    nodes: int
    edges: int
    rows: int
    each: bool = False

    def reserved(self, level: str, null_graphs: int) -> int:
        """Rows of an axis that padding takes at least, in a pack with so many null graphs."""
        rows = {"node": self.nodes, "edge": self.edges, BUDGET: 0}.get(level, self.rows)
        return rows * null_graphs if self.each else rows

    def least(self, level: str, num_graphs: int) -> int:
        """The fewest slots of an axis with which a pack of `num_graphs` graph slots holds a graph."""
        if self.each:
            return num_graphs
        return self.reserved(level, 1) + (level == "node")

    def takes_a_row(self, level: str) -> bool:
        """Whether each graph, null graphs too, takes at least one row of such an axis."""
        return self.each and level != BUDGET


PADDING = {
    "all": Padding(1, 1, 1, 1, each=True),
    "one": Padding(1, 1, 1, 1),
    "jraph": Padding(1, 1, 0, 1),
    "none": Padding(0, 0, 0, 0),
}
"""By null_graphs. "one" keeps an edge as PopTorch's null graphs have one, "jraph" what jraph.pad_with_graphs keeps."""
NULL_GRAPHS = tuple(PADDING)
IN_PACKS = '"all", "one" or "jraph"'
"""The rules that leave a null graph; by the others packs are planned, not built."""
