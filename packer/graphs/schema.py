"""What a graph is made of: axes (node and edge types), fields, and the columns a pack has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Mapping, Tuple, Union

import numpy as np

from packer.errors import FormatError
from packer.graphs.axes import BUDGET, Axis, Type

Pad = Union[float, int, bool, Tuple[Union[float, int, bool], ...]]

MAX_NAME, MAX_DIMS = 200, 16
"""Characters of an attribute's name; dimensions of a row of it."""


@dataclass(frozen=True)
class Field:
    """One attribute of all graphs.

    level: "node", "edge", "graph" or the name of a further axis; type: node or edge type in heterogeneous graphs; role,
    what its numbers are:

    * "value": features, targets, masks: moved as they are;
    * "index": numbers of rows, mostly nodes, shifted when graphs are joined; targets then has the key of the axis that
      each entry along the first dimension of `shape` points into (a single key when shape is ());
    * "count": an explicit `num_nodes`; equal to the graph's count of nodes, so it has no column;
    * "present": True for the graphs that have the attribute `NAME` (this field is `NAME_present`), where some lack it.

    shape: one row, without the joined dimension (`x` [n, 9] -> (9,); `edge_index` [2, e] -> (2,)); cat_dim: the joined
    dimension in the source, 0 or -1; dtype: logical numpy dtype or "bfloat16" (opaque 16 bits); storage: numpy dtype of
    the graph table, lossless, and of the pack column (an index column is as narrow as the limits allow instead);
    pad: value of padding rows (padding of an index field points at the null graph's first row instead); form: how one
    graph's value looks in the source: "rows" (one row for each node or edge), "row" (a graph-level [1, ...]), "value"
    (a graph-level value without that leading 1) or "scalar" (a Python number: int64, float32 or bool).
    """

    name: str
    level: str
    role: str
    shape: tuple[int, ...]
    cat_dim: int
    dtype: str
    storage: str
    pad: Pad = 0
    form: str = "rows"
    type: Type = None
    targets: tuple[str, ...] = ()

    @property
    def axis(self) -> Axis | None:
        """The axis whose counts give this field's rows; None at graph level."""
        return None if self.level == "graph" else Axis(self.level, self.type)

    @property
    def key(self) -> str:
        """Unique name: the pack column's name."""
        return Axis(self.level, self.type).column(self.name)


@dataclass(frozen=True)
class Schema:
    """Everything that is the same for all graphs of a data set.

    axes: node axes first, then edge axes, then further ones; strings: names of string attributes, one string a graph,
    kept in `graphs.parquet` and not in packs; budgets: keys of graph fields whose sum over a pack has a limit.
    """

    axes: tuple[Axis, ...]
    fields: tuple[Field, ...]
    strings: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()

    @cached_property
    def sized(self) -> tuple[Axis, ...]:
        """All that a graph has a size on: the axes, then the budgets."""
        return (*self.axes, *(Axis(BUDGET, key) for key in self.budgets))

    def axis(self, key: str) -> Axis:
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[str, Axis]:
        return {axis.key: axis for axis in self.sized}

    @cached_property
    def edge_fields(self) -> Mapping[str, Field]:
        """Axis key -> the index field that says which nodes the edges of an axis join, and so whose edges they are."""
        fields: dict[str, Field] = {}
        for field in self.fields:
            if field.level == "edge" and (field.name, field.role, field.shape) == ("edge_index", "index", (2,)):
                fields.setdefault(Axis(field.level, field.type).key, field)
        return fields

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "axes": [{"level": a.level, "type": _plain_type(a.type)} for a in self.axes],
            "fields": [
                {
                    **asdict(f),
                    "shape": list(f.shape),
                    "targets": list(f.targets),
                    "type": _plain_type(f.type),
                    "pad": [_plain_pad(one) for one in f.pad] if isinstance(f.pad, tuple) else _plain_pad(f.pad),
                }
                for f in self.fields
            ],
            "strings": list(self.strings),
            **({"budgets": list(self.budgets)} if self.budgets else {}),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Schema:
        """The inverse of to_dict; anything else is a FormatError."""
        try:
            axes = tuple(Axis(a["level"], _type(a["type"])) for a in plain["axes"])
            fields = tuple(_field(f) for f in plain["fields"])
            return cls(axes, fields, tuple(plain["strings"]), tuple(plain.get("budgets", ())))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not a schema: {error}") from error


def _field(plain: Mapping[str, Any]) -> Field:
    pad: Any = plain["pad"]
    parsed: dict[str, Any] = {
        "shape": tuple(plain["shape"]),
        "targets": tuple(plain["targets"]),
        "type": _type(plain["type"]),
        "pad": tuple(map(_read_pad, pad)) if isinstance(pad, list) else _read_pad(pad),
    }
    return Field(**{**plain, **parsed})


def _plain_pad(pad: float) -> Any:
    return pad if np.isfinite(pad) else str(pad)


def _read_pad(plain: Any) -> Any:
    return float(plain) if isinstance(plain, str) else plain


def _plain_type(value: Type) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _type(plain: Any) -> Type:
    if plain is None or isinstance(plain, str):
        return plain
    source, relation, target = plain
    return source, relation, target
