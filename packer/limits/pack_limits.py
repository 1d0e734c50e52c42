"""The fixed tensor sizes of one pack, and what they leave for real graphs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, cast

from packer.errors import LimitsError
from packer.graphs.axes import BUDGET, Axis, check_names
from packer.limits.padding import NULL_GRAPHS, PADDING, Padding
from packer.limits.slot_rules import EdgeLimit, NodeLimit, SlotRule


@dataclass(frozen=True, repr=False)
class PackLimits:
    """Fixed tensor sizes of one pack, padding included.

    num_nodes, num_edges: slots for nodes and (directed) edges; in heterogeneous graphs a dict by node or edge type, or
    one number for each type. num_graphs: graph slots. num: slots on each further axis, by its name; budgets: by the
    name of a number that each graph has, the most that those of a pack's graphs add up to. null_graphs: who owns the
    padding.

    * "all" (default): every unused graph slot is a null graph of at least 1 node and 1 edge, and there is one.
      r real graphs fit when r <= G-1, their nodes <= N-(G-r) and their edges (an edgeless graph counts 1) <= E-(G-r).
    * "one": one null graph owns all padding. r <= G-1, nodes <= N-1, edges <= E-1.
    * "jraph": the same, but padding need not have an edge: what `jraph.pad_with_graphs` takes. r <= G-1, nodes <= N-1,
      edges <= E. Further axes are kept as under "one".
    * "none": nothing is reserved; for planning only. A limit may then be None: not a dimension.

    Raises LimitsError for limits that no pack can keep.

        >>> PackLimits(num_nodes=48, num_edges=104, num_graphs=6).num_graphs
        6
        >>> PackLimits(48, 4, 6)
        Traceback (most recent call last):
        packer.errors.LimitsError: num_edges is 4, but null_graphs='all' keeps room for each of the 6 graph slots: ...
    """

    num_nodes: NodeLimit
    num_edges: EdgeLimit
    num_graphs: int | None
    null_graphs: str = "all"
    num: Mapping[str, int] = field(default_factory=dict)
    budgets: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.num, self.budgets, LimitsError)
        if self.null_graphs not in NULL_GRAPHS:
            raise LimitsError(f"null_graphs must be one of {', '.join(NULL_GRAPHS)}; got {self.null_graphs!r}")
        for name in ("num_nodes", "num_edges", "num", "budgets"):
            value: Any = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, {key: self._number(f"{name}[{key!r}]", value[key]) for key in value})
                if not value and name in ("num_nodes", "num_edges"):
                    raise LimitsError(f"{name} is an empty dict; give a limit for each type")
            else:
                object.__setattr__(self, name, self._number(name, value))
        object.__setattr__(self, "num_graphs", self._number("num_graphs", self.num_graphs))
        self._check_reserved()

    def _number(self, name: str, value: Any) -> int | None:
        if value is None:
            if self.null_graphs != "none":
                raise LimitsError(f'{name}=None (no limit) is only for planning: pass null_graphs="none", or a number')
            return None
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise LimitsError(f"{name} must be a whole number; got {value!r}")
        number = int(value.__index__())
        least = 1 if name.startswith(("num_nodes", "num_graphs")) else 0
        if not least <= number < 2**31:
            raise LimitsError(f"{name} must be between {least} and 2147483647; got {number}")
        return number

    def _check_reserved(self) -> None:
        graphs, padding = self.num_graphs, self.padding
        if not padding.graphs or graphs is None:
            return
        if graphs < 2:
            raise LimitsError(
                f"num_graphs must be at least 2: null_graphs={self.null_graphs!r} keeps one slot for padding; "
                f"got {graphs}"
            )
        for name, limit in (("num_nodes", self.num_nodes), ("num_edges", self.num_edges), ("num", self.num)):
            least = padding.least({"num_nodes": "node", "num_edges": "edge"}.get(name, name), graphs)
            for key, number in limit.items() if isinstance(limit, Mapping) else [(None, limit)]:
                if number is not None and number < least:
                    where = name if key is None else f"{name}[{key!r}]"
                    owner = f"each of the {graphs} graph slots" if padding.each else "padding"
                    raise LimitsError(
                        f"{where} is {number}, but null_graphs={self.null_graphs!r} keeps room for {owner}: "
                        f"raise it to at least {least}, or lower num_graphs"
                    )

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        num_graphs: int,
        by: str | float = "max",
        null_graphs: str = "all",
        guess_num_nodes: bool = False,
    ) -> PackLimits:
        """Limits for `num_graphs` graph slots of a PyG data set, an iterable of Data or HeteroData, or GraphSizes.

        by: "max" (largest graph * (num_graphs - 1) + 1: any num_graphs - 1 graphs fit), a share of the graphs instead
        of the largest (0.95), "mean" (mean * num_graphs), or "batches" (as from_loader finds them in batches of
        num_graphs - 1 consecutive graphs). guess_num_nodes: as `build` has it. Heterogeneous graphs get limits by type.
        Raises LimitsError, SizesError.

            >>> sizes = GraphSizes(np.array([3, 5]), np.array([4, 8]))
            >>> PackLimits.from_dataset(sizes, num_graphs=4)
            PackLimits(num_nodes=16, num_edges=25, num_graphs=4, null_graphs='all')
        """
        from packer.scan.dataset_sizes import sizes_of_dataset

        rule = SlotRule(num_graphs, by, null_graphs)
        return cls(*rule.slots(sizes_of_dataset(dataset, guess_num_nodes)))

    @classmethod
    def from_loader(
        cls,
        loader: Iterable[Any],
        sample_limit: int = 1000,
        null_graphs: str = "all",
        guess_num_nodes: bool = False,
    ) -> PackLimits:
        """The largest of the first `sample_limit` batches of a PyG loader (which is run again when shorter), plus 1.

        guess_num_nodes: as `build` has it. Raises SourceError for a batch that fails, naming it, and for a pass that
        ends before the loader's length.
        """
        from packer.limits.loader_slots import slots_of_loader

        return cls(*slots_of_loader(loader, sample_limit, null_graphs, guess_num_nodes))

    def __hash__(self) -> int:
        # Limits by type are dicts, which have no hash of their own.
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    @property
    def padding(self) -> Padding:
        """What the padding of a pack takes at least."""
        return PADDING[self.null_graphs]

    @property
    def is_hetero(self) -> bool:
        return isinstance(self.num_nodes, Mapping) or isinstance(self.num_edges, Mapping)

    def slots(self, axes: Iterable[Axis]) -> dict[str, Any]:
        """Axis key -> slots of one pack on that axis (None: no limit). Raises for a missing or foreign type or name; a
        budget may be missing where `axes` has none."""
        axes = tuple(axes)
        slots: dict[str, Any] = {}
        for level, name in (("node", "num_nodes"), ("edge", "num_edges")):
            limit: Any = getattr(self, name)
            level_axes = [axis for axis in axes if axis.level == level]
            if isinstance(limit, dict):
                types = [axis.type for axis in level_axes]
                if types == [None]:
                    raise LimitsError(f"{name} is given for {list(limit)}, but the graphs have no types: give a number")
                missing = [key for key in types if key not in limit]
                foreign = [key for key in limit if key not in types]
                unmatched = [(missing, "give a limit for"), (foreign, "leave out")]
                remedies = [f"{verb} {keys}" for keys, verb in unmatched if keys]
                if remedies:
                    raise LimitsError(
                        f"{name} has types {list(limit)}, the graphs have {types}: {', '.join(remedies)}, or give one "
                        "number for all types"
                    )
            slots.update((axis.key, limit[axis.type] if isinstance(limit, Mapping) else limit) for axis in level_axes)
        budgets = [axis.key for axis in axes if axis.level == BUDGET]
        others = [axis.key for axis in axes if axis.level not in ("node", "edge", BUDGET)]
        slots.update(self._slots("num", "--num", others))
        if budgets:  # who asks for rows alone leaves them out
            slots.update(self._slots("budgets", "--budget", budgets))
        return slots

    def _slots(self, name: str, flag: str, known: list[str]) -> dict[str, Any]:
        limits: Mapping[str, int] = getattr(self, name)
        missing = [key for key in known if key not in limits and self.null_graphs != "none"]
        foreign = [key for key in limits if key not in known]
        if missing:
            raise LimitsError(f"{name} has no limit for {missing[0]!r}: give one, {flag} {missing[0]}=NUMBER")
        if foreign:
            axes = f"they have {', '.join(known)}" if known else "they have none such"
            raise LimitsError(f"{name} limits {foreign[0]!r} ({flag}), which the graphs lack: {axes}")
        return {key: limits.get(key) for key in known}

    def __repr__(self) -> str:
        more = "".join(f", {name}={getattr(self, name)}" for name in ("num", "budgets") if getattr(self, name))
        return (
            f"PackLimits(num_nodes={self.num_nodes}, num_edges={self.num_edges}, num_graphs={self.num_graphs}, "
            f"null_graphs={self.null_graphs!r}{more})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for manifests; edge types as "source__relation__target"."""

        def plain(limit: Any) -> Any:
            if not isinstance(limit, dict):
                return limit
            by_type = cast("dict[Any, int]", limit)
            return {key if isinstance(key, str) else "__".join(key): by_type[key] for key in by_type}

        return {
            "num_nodes": plain(self.num_nodes),
            "num_edges": plain(self.num_edges),
            "num_graphs": self.num_graphs,
            "null_graphs": self.null_graphs,
            **{name: dict(getattr(self, name)) for name in ("num", "budgets") if getattr(self, name)},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], axes: Iterable[Axis] = ()) -> PackLimits:
        """The inverse of to_dict. axes: of the graphs, which tell edge types whose names have "__" in them."""
        edges: Any = plain["num_edges"]
        if isinstance(edges, dict):
            types = {axis.key: axis.type for axis in axes if axis.level == "edge"}
            by_key = cast("dict[str, int]", edges)
            edges = {types.get(key) or tuple(key.split("__")): limit for key, limit in by_key.items()}
        more: tuple[Any, Any] = plain.get("num", {}), plain.get("budgets", {})
        return cls(plain["num_nodes"], edges, plain["num_graphs"], plain["null_graphs"], *more)
