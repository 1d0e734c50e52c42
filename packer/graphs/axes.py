"""Axes: what every graph has a number of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple, Union

Type = Union[None, str, Tuple[str, str, str]]

MAX_AXES, MAX_FIELDS = 1000, 10_000
"""Node and edge types together; fields, and string attributes, of a data set."""


@dataclass(frozen=True)
class Axis:
    """Something every graph has a number of: nodes or edges, of one type in heterogeneous graphs (type None otherwise).

    An edge axis names the node axes its `edge_index` points into by `type` = (source, relation, target).
    """

    level: str
    type: Type = None

    @property
    def key(self) -> str:
        """ "node", "edge", or the type's name: the prefix of its columns in heterogeneous packs."""
        if self.type is None:
            return self.level
        return self.type if isinstance(self.type, str) else "__".join(self.type)

    @property
    def mask_name(self) -> str:
        return f"{self.level}s_mask" if self.type is None else f"{self.key}/mask"

    @property
    def ends(self) -> tuple[str, str]:
        """Keys of the node axes that an edge axis leads from and to."""
        if self.type is None:
            return "node", "node"
        assert not isinstance(self.type, str)
        return self.type[0], self.type[2]

    def column(self, name: str) -> str:
        """The pack column of attribute `name` on this axis."""
        return name if self.type is None else f"{self.key}/{name}"


HOMOGENEOUS = (Axis("node"), Axis("edge"))
