"""Which attributes of the source's graphs go into packs, and which of them hold numbers of nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping

from packer.errors import FieldError
from packer.graphs.axes import BUDGET, Axis, Type, check_names
from packer.scan.block import RawBlock
from packer.scan.statistics import Statistics


@dataclass(frozen=True)
class Attributes:
    """What a user says of attributes, by name ("x") or, of one node or edge type, by key ("author/x").

    exclude: attributes to leave out, as PyG's `exclude_keys`; what cannot be packed may be among them. index:
    attributes whose numbers are numbers of nodes and must be shifted when graphs are joined, besides those that PyG
    takes for such by their name; with the axis they number, None for the obvious one. guess_num_nodes: take the
    largest number in edge_index + 1 for the number of nodes, where a graph says nothing better; else that is an error.
    axes: name of a further axis, and the attributes that have its rows; budgets: attributes, a whole number of each
    graph, whose sum packs limit.
    """

    exclude: tuple[str, ...] = ()
    index: tuple[tuple[str, str | None], ...] = ()
    guess_num_nodes: bool = False
    axes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    budgets: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        exclude: Iterable[str] | None = (),
        index: Iterable[str] | Mapping[str, str | None] | None = (),
        guess_num_nodes: bool = False,
        axes: Mapping[str, Iterable[str]] | None = None,
        budgets: Iterable[str] = (),
    ) -> Attributes:
        """From lists of names, or None as in PyG; index may also map a name to the node type or axis that it numbers.
        Raises FieldError."""
        target_of: Mapping[str, str | None] = index if isinstance(index, Mapping) else {}
        pairs = ((name, target_of.get(name)) for name in _names(index))
        attributes = cls(
            tuple(_names(exclude)),
            tuple((name, target or None) for name, target in pairs),
            guess_num_nodes,
            tuple((name, tuple(_names(fields))) for name, fields in (axes or {}).items()),
            tuple(_names(budgets)),
        )
        attributes._check_axes()
        for name in attributes.exclude:
            if name.rpartition("/")[2] == "edge_index":
                raise FieldError(f"{name!r} cannot be excluded: it says which graph of a pack an edge belongs to")
        return attributes

    def with_budgets(self, names: Iterable[str]) -> Attributes:
        """The same with these budgets. Raises FieldError."""
        attributes = replace(self, budgets=tuple(_names(names)))
        attributes._check_axes()
        return attributes

    def leaves_out(self, type_: Type, name: str) -> bool:
        return bool(self.exclude) and (name in self.exclude or Axis("graph", type_).column(name) in self.exclude)

    def declared(self, type_: Type, name: str) -> tuple[bool, str | None]:
        """Whether the attribute is declared an index, and the axis it then numbers, where that was said."""
        for asked, target in self.index:
            if asked in (name, Axis("graph", type_).column(name)):
                return True, target
        return False, None

    def axis_of(self, type_: Type, name: str) -> str:
        """The further axis whose rows an attribute has, "budget" for one that has a budget, "" for all others."""
        if type_ is not None:
            return ""
        if name in self.budgets:
            return BUDGET
        return next((axis for axis, fields in self.axes if name in fields), "")

    def _check_axes(self) -> None:
        check_names([name for name, _ in self.axes], self.budgets, FieldError)
        named = [(f"axis {axis!r}", field) for axis, fields in self.axes for field in fields]
        owner: dict[str, str] = {}
        for where, field in [*named, *(("a budget", field) for field in self.budgets)]:
            if field == "edge_index" or field in owner or self.leaves_out(None, field):
                taken = "is left out" if self.leaves_out(None, field) else f"belongs to {owner.get(field, 'the edges')}"
                raise FieldError(f"{field!r} is given {where}, but {taken}: leave it out of one of them")
            owner[field] = where
        empty = [axis for axis, fields in self.axes if not fields]
        if empty:
            raise FieldError(f"axis {empty[0]!r} has no attribute: name those that have its rows, {empty[0]}=NAME,...")

    def check(self, statistics: Statistics) -> None:
        """Raise FieldError for an index, or an attribute of an axis, that no graph has, or that the source does not let
        one declare."""
        known = {name: field for field in statistics.fields for name in (field.name, field.key)}
        for name, _ in self.index:
            if name not in known:
                raise FieldError(f"{name!r} is declared an index; the attributes are {', '.join(known)}")
            if known[name].role != "index":
                raise FieldError(f"{name!r} is declared an index, but this source has it as a {known[name].form}")
        for axis, names in (*self.axes, (BUDGET, self.budgets)):
            for name in names:
                where = "budgets" if axis == BUDGET else f"axis {axis!r}"
                if name not in known:
                    raise FieldError(f"{name!r} is named in {where}; the attributes are {', '.join(known)}")
                if known[name].type is not None:
                    raise FieldError(
                        f"{name!r} is named in {where}, but belongs to a type: only whole graphs have them"
                    )
                if known[name].axis != axis:
                    raise FieldError(
                        f"{name!r} is named in {where}, which this source does not take: give its graphs as PyG "
                        "objects (pyg:module:callable)"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        more: dict[str, Any] = {
            "guess_num_nodes": self.guess_num_nodes,
            "axes": [[axis, list(fields)] for axis, fields in self.axes],
            "budgets": list(self.budgets),
        }
        options = {name: value for name, value in more.items() if value}
        return {"exclude": sorted(self.exclude), "index": dict(sorted(self.index)), **options}


ALL = Attributes()


def without(block: RawBlock, attributes: Attributes) -> RawBlock:
    """The block, less what is left out."""
    gone = {field.key for field in block.statistics.fields if attributes.leaves_out(field.type, field.name)}
    if not gone:
        return block
    kept: dict[str, Any] = {
        part: {key: values for key, values in getattr(block, part).items() if key not in gone}
        for part in ("columns", "present", "strings")
    }
    fields = tuple(field for field in block.statistics.fields if field.key not in gone)
    return replace(block, statistics=replace(block.statistics, fields=fields), **kept)


def _names(names: Iterable[str] | None) -> list[str]:
    listed: list[Any] = [names] if isinstance(names, str) else list(names or ())
    wrong = [name for name in listed if not isinstance(name, str)]
    if wrong:
        raise FieldError(f"attributes are named by texts, such as 'x'; got {wrong[0]!r}")
    return listed
