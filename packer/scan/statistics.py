"""What the fields of many graphs have in common: found block by block, merged, and decided once for all graphs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Mapping, Sequence

from packer.errors import FieldError, SourceError
from packer.graphs.axes import Axis, Type

# How a field's values can relate to its graph: a row for each node, a row for each edge, one row, or one fixed shape.
RELATIONS = ("node", "edge", "row", "value")
EITHER = "node|edge"
"""The target of an index whose shifts are the number of nodes and that of edges, as far as graphs have shown."""


@dataclass(frozen=True)
class FieldStatistics:
    """One attribute over the graphs seen so far. Graphs are named by their source ids.

    form: "tensor", "scalar" (Python numbers) or "string"; shape: of one graph's value without the joined dimension (all
    of it when ndim is 0 or when `stacked`: the graph's class joins it along a new dimension); size: length of the
    joined dimension in the first graph; against: for each relation that some graph contradicts, the first such graph
    and what it has; low, high: least and largest value, None where there is none or it is unknown; whole: every value
    is a finite whole number and none is -0.0; first: first graph that has the attribute; missing: that lacks it; axis:
    what it is declared to have the rows of, "budget" for a number with a budget.
    """

    name: str
    type: Type
    role: str
    form: str
    dtype: str
    ndim: int
    cat_dim: int
    shape: tuple[int, ...]
    size: int
    first: int
    stacked: bool = False
    missing: int | None = None
    against: tuple[tuple[str, int, str], ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    whole: bool = False
    targets: tuple[str, ...] = ()
    axis: str = ""

    @property
    def key(self) -> str:
        """Unique name, equal to the key of the Field that it becomes."""
        return Axis("graph", self.type).column(self.name)


@dataclass(frozen=True)
class Statistics:
    """All that deciding needs to know of a number of graphs. Merging is associative; order is the source's."""

    num_graphs: int
    first: int
    hetero: bool
    axes: tuple[Axis, ...]
    fields: tuple[FieldStatistics, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for scan blocks on disk."""
        return {
            **{name: getattr(self, name) for name in ("num_graphs", "first", "hetero")},
            **{name: [asdict(value) for value in getattr(self, name)] for name in ("axes", "fields")},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Statistics:
        """The inverse of to_dict, also after a passage through JSON."""
        axes = tuple(Axis(a["level"], _tuples(a["type"])) for a in plain["axes"])
        fields = tuple(FieldStatistics(**{key: _tuples(f[key]) for key in f}) for f in plain["fields"])
        return cls(plain["num_graphs"], plain["first"], plain["hetero"], axes, fields)


def merge(a: Statistics, b: Statistics) -> Statistics:
    """Statistics of the graphs of a, then those of b. Raises FieldError where two graphs cannot be of one data set."""
    if not a.num_graphs or not b.num_graphs:
        return b if not a.num_graphs else a
    if a.hetero != b.hetero:
        raise SourceError(
            f"graph {a.first} is {_kind(a.hetero)} and graph {b.first} is {_kind(b.hetero)}: pack them as two data sets"
        )
    others = {field.key: field for field in b.fields}
    fields = [
        _merge_fields(field, others.pop(field.key), a.hetero) if field.key in others else _lacking(field, b.first)
        for field in a.fields
    ]
    fields += [_lacking(field, a.first) for field in others.values()]
    return Statistics(a.num_graphs + b.num_graphs, a.first, a.hetero, joined_axes(a.axes + b.axes), tuple(fields))


def joined_axes(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Each axis once, nodes before edges before others, in the order seen. FieldError for types that packs cannot tell
    apart."""
    rank = {"node": 0, "edge": 1}
    distinct = tuple(sorted(dict.fromkeys(axes), key=lambda axis: rank.get(axis.level, 2)))
    by_key: dict[str, Axis] = {}
    for axis in distinct:
        if not axis.key:
            raise FieldError("a node type has an empty name, which packs cannot write: rename it")
        other = by_key.setdefault(axis.key, axis)
        if other != axis:
            raise FieldError(f"packs call both types {other.type!r} and {axis.type!r} {axis.key!r}: rename one of them")
    return distinct


def _merge_fields(a: FieldStatistics, b: FieldStatistics, hetero: bool) -> FieldStatistics:
    if not hetero:
        a, b = _agreed(a, b), _agreed(b, a)
    check_alike(a, b)
    against = {relation: (graph, text) for relation, graph, text in b.against}
    against.update((relation, (graph, text)) for relation, graph, text in a.against)
    if a.size != b.size and a.ndim and not a.stacked:
        length = (b.first, f"has length {b.size}")
        against["value"] = min(against.get("value", length), length)
    whole = a.whole and b.whole
    bounds = [(one.low, one.high) for one in (a, b) if whole and one.low is not None and one.high is not None]
    return replace(
        a,
        missing=_least(a.missing, b.missing),
        against=tuple((relation, *against[relation]) for relation in RELATIONS if relation in against),
        low=min((low for low, _ in bounds), default=None),
        high=max((high for _, high in bounds), default=None),
        whole=whole,
    )


def _agreed(a: FieldStatistics, b: FieldStatistics) -> FieldStatistics:
    """a, with what it numbers as b tells it where its own graphs leave two open."""
    settled = a.targets == (EITHER,) and b.targets in (("node",), ("edge",))
    return replace(a, targets=b.targets) if settled else a


def check_alike(a: FieldStatistics, b: FieldStatistics) -> None:
    """Raise FieldError where the attribute is of another kind, dtype or shape in the graphs of b than in those of a."""
    for aspect in ("form", "dtype", "ndim", "shape", "role", "cat_dim", "stacked", "targets"):
        first, other = getattr(a, aspect), getattr(b, aspect)
        if first != other:
            word = {"ndim": "number of dimensions", "shape": "shape of one row", "form": "kind"}.get(aspect, aspect)
            remedy = "give all graphs the same, or leave the attribute out"
            if aspect == "targets":
                remedy = f"say which it numbers, index_fields={{{a.key!r}: AXIS}} (--index {a.key}=AXIS)"
            raise FieldError(
                f"graph {b.first}: the {word} of {a.key!r} is {_show(other)}, but {_show(first)} in graph {a.first}; "
                f"{remedy}"
            )


def _lacking(field: FieldStatistics, graph: int) -> FieldStatistics:
    return replace(field, missing=_least(field.missing, graph))


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _kind(hetero: bool) -> str:
    return "heterogeneous" if hetero else "homogeneous"


def _show(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
