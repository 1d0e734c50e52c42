"""Options that belong together, each group said once: a command takes a group, and its options become the command's.

A job file has the same keys, and `pipelines.build` the same arguments: tests/pipelines/cli/test_surfaces.py holds them
together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from packer.errors import LimitsError
from packer.graphs.sizes import GraphSizes
from packer.limits.limits_rule import LimitsRule
from packer.limits.pack_limits import PackLimits
from packer.limits.slot_rules import RULES
from packer.scan.attributes import Attributes
from pipelines.building.auto_limits import choose_limits
from pipelines.building.options import ScanOptions
from pipelines.cli import options as options
from pipelines.cli.checks import UsageError, nearest, usage
from pipelines.sources import parse_source
from pipelines.sources.protocol import Source
from pipelines.text.numbers import real_of


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer sees it: for each parameter whose type is a dataclass, an option for each field of it."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(kind, type)
        groups[parameter.name] = kind
        own = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=own[field.name])
            )

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()
        }
        command(**made, **given)

    run.__signature__ = Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@dataclass(frozen=True)
class SourceOptions:
    """Where graphs come from, and how they are read."""

    source: options.SourceArgument
    smiles_column: options.SmilesColumn = None
    target: options.Target = None
    target_dtype: options.TargetDtype = None
    missing: options.Missing = None
    delimiter: options.Delimiter = None
    cutoff: options.Cutoff = None
    float_dtype: options.FloatDtype = None
    nodes_column: options.NodesColumn = None
    edges_column: options.EdgesColumn = None
    root: options.Root = None
    on_empty: options.OnEmpty = None
    field: options.FieldLevel = None
    exclude: options.Exclude = None
    index: options.Index = None
    axis: options.FurtherAxis = None
    budget: options.Budget = None
    guess_num_nodes: options.GuessNumNodes = False
    use_node_attr: options.NodeAttributes = False
    use_edge_attr: options.EdgeAttributes = False

    def open(self, strings: Sequence[str] = ()) -> Source:
        """strings: columns to keep as texts. Raises UsageError."""
        with usage():
            return parse_source(
                self.source,
                smiles_column=self.smiles_column,
                targets=self.target or (),
                target_dtype=self.target_dtype,
                missing=self.missing or None,
                delimiter=self.delimiter,
                cutoff=self.cutoff,
                float_dtype=self.float_dtype,
                nodes_column=self.nodes_column,
                edges_column=self.edges_column,
                root=self.root,
                strings=strings,
                use_node_attr=self.use_node_attr,
                use_edge_attr=self.use_edge_attr,
            )

    @property
    def levels(self) -> dict[str, str]:
        return options.read_levels(self.field)

    @property
    def attributes(self) -> Attributes:
        index: dict[str, str | None] = {}
        for name, _, target in (text.partition("=") for text in self.index or ()):
            if index.setdefault(name, target or None) != (target or None):
                raise UsageError(f"--index {name} is given twice, of {index[name]} and {target}: give it once")
        with usage():
            return Attributes.of(self.exclude or (), index, self.guess_num_nodes, self.axes, self.budgets)

    @property
    def axes(self) -> dict[str, list[str]]:
        return options.read_axes(self.axis)

    @property
    def budgets(self) -> dict[str, int]:
        return options.read_counts("--budget", self.budget)

    def scan(self, on_empty: str | None) -> ScanOptions:
        """How to read them; padding is of no use to what writes no packs."""
        return ScanOptions(self.levels, {}, on_empty, self.attributes)


@dataclass(frozen=True)
class LimitOptions:
    """The fixed sizes of a pack, or how they follow from the data."""

    num_nodes: options.NumNodes = None
    num_edges: options.NumEdges = None
    num_graphs: options.NumGraphs = None
    num: options.NumRows = None
    null_graphs: options.NullGraphs = "all"
    limits: options.AutoLimits = None

    @property
    def given(self) -> bool:
        return bool(self.num_nodes or self.num_edges or self.num_graphs or self.num or self.limits)

    def read(self, budgets: Mapping[str, int]) -> PackLimits | LimitsRule | None:
        """None for `--limits auto`, a rule for its other words. All three numbers or none of them. UsageError."""
        asked = {"--num-nodes": self.num_nodes, "--num-edges": self.num_edges, "--num-graphs": self.num_graphs}
        named = [name for name, value in (asked | {"--num": self.num}).items() if value]
        num = options.read_counts("--num", self.num)
        with usage():
            if self.limits not in (None, "auto"):
                return self._rule(str(self.limits), budgets)
            if self.limits and named:
                raise LimitsError(f"--limits auto chooses the limits: leave {', '.join(named)} out, or leave it out")
            if self.limits:
                return None
            missing = [name for name, value in asked.items() if value is None or value == []]
            if missing and self.null_graphs != "none":
                raise LimitsError(f"limits are missing: give {', '.join(missing)}, or --limits auto")
            nodes, edges = (options.read_slots(name, asked[name]) for name in ("--num-nodes", "--num-edges"))
            return PackLimits(nodes, edges, self.num_graphs, self.null_graphs, num, budgets)

    def _rule(self, by: str, budgets: Mapping[str, int]) -> LimitsRule:
        share = real_of(by)
        if by not in RULES and (share is None or not 0 < share <= 1):
            ways, meant = ", ".join(("auto", *RULES)), nearest(by, ("auto", *RULES))
            raise LimitsError(f"--limits takes {ways} or a share such as 0.95; got {by!r}{meant}")
        if self.num_nodes or self.num_edges or self.num:
            raise LimitsError(
                f"--limits {by} finds all but --num-graphs itself: leave --num-nodes, --num-edges and --num out"
            )
        if self.num_graphs is None:
            raise LimitsError(f"--limits {by} needs --num-graphs G")
        return LimitsRule(self.num_graphs, by if by in RULES else share or 0.0, self.null_graphs, budgets)


def used_limits(chosen: PackLimits | LimitsRule | None, budgets: Mapping[str, int], sizes: GraphSizes) -> PackLimits:
    """The limits for graphs of these sizes; budgets: those that chosen limits keep."""
    if chosen is None:
        return choose_limits(sizes, budgets)
    return chosen.limits(sizes) if isinstance(chosen, LimitsRule) else chosen


@dataclass(frozen=True)
class BudgetOptions:
    """What a plan may take."""

    seed: options.Seed = 0
    time_limit: options.TimeLimit = None
    work_limit: options.WorkLimit = None


@dataclass(frozen=True)
class SplitOptions:
    """Which graph belongs to which data set."""

    splits: options.SplitShares = None
    split_seed: options.SplitSeed = 0
    split_column: options.SplitColumn = None
    split_file: options.SplitFile = None

    @property
    def shares(self) -> str | None:
        return ",".join(self.splits) if self.splits else None


@dataclass(frozen=True)
class WorkerOptions:
    """Where tasks run."""

    workers: options.Workers = 2
    executor: options.ExecutorName = None
    dask_scheduler: options.DaskScheduler = None
    ray_address: options.RayAddress = None

    @property
    def engine(self) -> tuple[str, str | None]:
        """(executor, address of its cluster); an address alone says which executor. UsageError."""
        given = {"dask": self.dask_scheduler, "ray": self.ray_address}
        addresses = {engine: address for engine, address in given.items() if address is not None}
        asked = self.executor or next(iter(addresses), "process")
        for engine in addresses:
            if engine != asked:
                option = "--dask-scheduler" if engine == "dask" else "--ray-address"
                raise UsageError(f"{option} is of no use to --executor {asked}: leave one of them out")
        return asked, addresses.get(asked)
