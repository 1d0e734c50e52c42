"""One attribute of the graphs of a block, and what such attributes count: rows of further axes, and budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from packer.errors import FieldError
from packer.graphs.axes import BUDGET, Axis, Type
from packer.scan.attributes import Attributes


@dataclass
class Part:
    """One attribute of the graphs of a block: values of those graphs that have it, with the joined dimension first."""

    name: str
    type: Type
    form: str
    positions: np.ndarray  # int64 [present]: which graphs of the block
    values: Any  # [rows, *shape], or a list of strings
    sizes: np.ndarray  # int64 [present]: length of the joined dimension, 1 where there is none
    dtype: str
    ndim: int
    cat_dim: int | None
    targets: tuple[str, ...] = ()
    role: str = "value"

    @property
    def key(self) -> str:
        return Axis("graph", self.type).column(self.name)


def number_of_nodes(type_: Type, positions: np.ndarray, values: np.ndarray) -> Part:
    ones = np.ones_like(positions)
    return Part("num_nodes", type_, "scalar", positions, values, ones, "int64", 0, 0, (), "count")


def further_counts(
    parts: Sequence[Part], graph_ids: np.ndarray, hetero: bool, attributes: Attributes
) -> dict[Axis, np.ndarray]:
    """Rows of each graph on each declared axis: int64 [graphs], 0 for a graph that has none of its attributes.

    Raises FieldError where two attributes of an axis have different rows in a graph.
    """
    by_axis: dict[Axis, np.ndarray] = {}
    for name, fields in attributes.axes:
        if hetero:
            raise FieldError(
                f"axis {name!r} is declared, but the graphs have types: make its rows a node or edge type of their own"
            )
        counts = np.full(len(graph_ids), -1, dtype=np.int64)
        for part in parts:
            if part.name not in fields or not len(part.positions):
                continue
            ids = graph_ids[part.positions]
            if part.form != "tensor" or part.ndim == 0 or part.cat_dim is None:
                raise FieldError(f"graph {ids[0]}: {part.name!r} is one value, no rows of axis {name!r}: leave it out")
            known = counts[part.positions]
            wrong = np.flatnonzero((known >= 0) & (known != part.sizes))
            if len(wrong):
                at = int(wrong[0])
                raise FieldError(
                    f"graph {ids[at]}: {part.name!r} has {part.sizes[at]} rows, but others of axis {name!r} have "
                    f"{known[at]} there: correct it, or give it an axis of its own"
                )
            counts[part.positions] = part.sizes
        by_axis[Axis(name)] = np.maximum(counts, 0)
    return by_axis


def budget_counts(parts: Sequence[Part], graph_ids: np.ndarray, attributes: Attributes) -> dict[str, np.ndarray]:
    """What each graph takes of each budget: int64 [graphs]. Raises FieldError for what is no whole number from 0 on."""
    amounts: dict[str, np.ndarray] = {}
    by_name = {part.name: part for part in parts if part.type is None}
    for name in attributes.budgets if len(graph_ids) else ():
        part = by_name.get(name)
        if part is None:
            continue  # of no graph here; `Attributes.check` tells where no graph at all has it
        lacking = np.delete(graph_ids, part.positions)
        if len(lacking):
            raise FieldError(f"graph {lacking[0]} has no {name!r}, which has a budget: give every graph a number")
        ids, values = graph_ids[part.positions], np.asarray(part.values)
        if part.role != "value":
            kind = (
                "an index, which is shifted" if part.role == "index" else "the number of nodes, which num_nodes limits"
            )
            raise FieldError(f"graph {ids[0]}: {name!r} has a budget, but is {kind}: give another attribute the number")
        if (
            part.form == "string"
            or values.dtype.kind not in "iu"
            or values.shape != ids.shape
            or (part.sizes != 1).any()
        ):
            raise FieldError(
                f"graph {ids[0]}: {name!r} has a budget, but is not one whole number of each graph (a number, or a "
                "tensor of shape [] or [1])"
            )
        wrong = np.flatnonzero((values.reshape(-1) < 0) | (values.reshape(-1) >= 2**31))
        if len(wrong):
            raise FieldError(
                f"graph {ids[wrong[0]]}: {name!r} is {values.reshape(-1)[wrong[0]]}; what has a budget is 0 or more, "
                "below 2**31"
            )
        amounts[Axis(BUDGET, name).key] = values.reshape(-1).astype(np.int64)
    return amounts
