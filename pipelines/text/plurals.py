"""Words for numbers of things, the same on pages, in pictures and on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from packer.graphs.axes import Axis


def rows_of(key: str, axes: Iterable[Axis] = ()) -> str:
    """What the rows of an axis are called: "nodes", "triplets", "author nodes", "author__writes__paper edges". axes: of
    the data set, which tell a further axis from a node type."""
    for axis in axes:
        if axis.key == key:
            return axis.rows
    if key in ("node", "edge", "graph"):
        return f"{key}s"
    return f"{key} edges" if "__" in key else f"{key} nodes"


def some(number: int, noun: str) -> str:
    """ "1 pack", "2,000 packs"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
