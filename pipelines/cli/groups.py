"""Options that belong together, each group said once: a command takes a group, and its options become the command's.

A job file has the same keys, and `pipelines.build` the same arguments: tests/pipelines/cli/test_surfaces.py holds them
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from packer.errors import LimitsError
from packer.graphs.sizes import GraphSizes
from packer.limits.limits_rule import LimitsRule
from packer.limits.pack_limits import PackLimits
from packer.limits.slot_rules import RULES
from packer.scan.attributes import Attributes
from pipelines.building.auto_limits import choose_limits
from pipelines.building.options import ScanOptions
from pipelines.building.splits import Splits
from pipelines.cli.checks import UsageError, nearest, usage
from pipelines.cli.options import (
    LIMITS,
    RUN,
    Licence,
    NullGraphs,
    Seed,
    TimeLimit,
    Workers,
    choice_option,
    number_option,
    option,
)
from pipelines.cli.pairs import read_axes, read_counts, read_levels, read_pads, read_slots
from pipelines.executors import EXECUTORS
from pipelines.sources import parse_source
from pipelines.sources.kinds import help_text
from pipelines.sources.protocol import Source
from pipelines.sources.targets import DTYPES
from pipelines.text.numbers import real_of

_SOURCE = "Source"
_source, _limit = partial(option, panel=_SOURCE), partial(option, panel=LIMITS)


def _flag(name: str, help: str) -> Any:
    return typer.Option(name, help=help, rich_help_panel=_SOURCE)


@dataclass(frozen=True)
class SourceOptions:
    """Where graphs come from, and how they are read."""

    source: Annotated[str, typer.Argument(metavar="SOURCE", help=help_text(), show_default=False)]
    smiles_column: Annotated[str | None, _source("C", "smiles: column of SMILES.  [default: smiles]")] = None
    target: Annotated[
        list[str] | None,
        _source("C", "smiles: column of numbers to learn; ase: such as energy or forces; may be repeated."),
    ] = None
    target_dtype: Annotated[
        str | None,
        choice_option("target_dtype", DTYPES, "smiles: what targets are held in.  [default: float32]", _SOURCE),
    ] = None
    missing: Annotated[
        list[str] | None,
        _source(
            "TEXT,...", "smiles: target cells that become NaN; an empty TEXT: empty ones.  [default: nan,NaN,NAN,]"
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        _source("C", "smiles: what parts cells; tab for a tab.  [default: , ; or tab, as the header shows]"),
    ] = None
    cutoff: Annotated[
        float | None,
        number_option("cutoff", "R", "ase: edges join atoms, and images of them, nearer than this.", _SOURCE),
    ] = None
    float_dtype: Annotated[
        str | None,
        choice_option(
            "float_dtype", DTYPES, "ase: of positions, cells, shifts and targets.  [default: float32]", _SOURCE
        ),
    ] = None
    nodes_column: Annotated[
        str | None, _source("C", "sizes: column of numbers of nodes.  [default: num_nodes, natoms]")
    ] = None
    edges_column: Annotated[
        str | None, _source("C", "sizes: column of numbers of edges.  [default: num_edges, if any]")
    ] = None
    root: Annotated[Path | None, _source("DIR", "tudataset: folder that holds NAME/raw.")] = None
    on_empty: Annotated[
        str | None,
        choice_option(
            "on_empty",
            ("error", "skip"),
            "Graphs without nodes, texts that are no molecule, faulty frames.  [default: error; samples: skip]",
            _SOURCE,
        ),
    ] = None
    field: Annotated[
        list[str] | None,
        _source("NAME=LEVEL", "Say that a field is of level node, edge or graph, where the data leave it open."),
    ] = None
    exclude: Annotated[
        list[str] | None, _source("NAME", "Leave an attribute out (TYPE/NAME: of one type); may be repeated.")
    ] = None
    index: Annotated[
        list[str] | None,
        _source(
            "NAME[=AXIS]",
            "Say that an attribute holds numbers of nodes, though not called index, or of another AXIS: a node type, "
            "edge, or one of --axis; may be repeated.",
        ),
    ] = None
    axis: Annotated[
        list[str] | None,
        _source(
            "AXIS=NAME,...",
            "Attributes whose rows are neither nodes nor edges, and what to call these: triplet=idx_kj,idx_ji; may be "
            "repeated.",
        ),
    ] = None
    budget: Annotated[
        list[str] | None,
        option(
            "NAME=MOST",
            "A number that each graph has, and the most that those of a pack add up to; may be repeated.",
            LIMITS,
        ),
    ] = None
    guess_num_nodes: Annotated[
        bool,
        _flag(
            "--guess-num-nodes", "Take the largest number in edge_index + 1 for a number of nodes that is not given."
        ),
    ] = False
    use_node_attr: Annotated[
        bool, _flag("--use-node-attr", "tudataset: keep node_attributes, before the labels in x.")
    ] = False
    use_edge_attr: Annotated[
        bool, _flag("--use-edge-attr", "tudataset: keep edge_attributes, before the labels in edge_attr.")
    ] = False

    def open(self, strings: Sequence[str] = ()) -> Source:
        """strings: columns to keep as texts. Raises UsageError."""
        shared = {name: getattr(self, name) for name in signature(parse_source).parameters if hasattr(self, name)}
        shared |= {"targets": self.target or (), "missing": self.missing or None}
        with usage():
            return parse_source(self.source, **shared, strings=strings)

    @property
    def levels(self) -> dict[str, str]:
        return read_levels(self.field)

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
        return read_axes(self.axis)

    @property
    def budgets(self) -> dict[str, int]:
        return read_counts("--budget", self.budget)

    @property
    def arguments(self) -> dict[str, Any]:
        """As `build` takes what is read of the source. UsageError."""
        attributes = self.attributes
        return {
            "on_empty": self.on_empty,
            "levels": self.levels,
            "exclude_keys": attributes.exclude,
            "index_fields": dict(attributes.index),
            "guess_num_nodes": attributes.guess_num_nodes,
            "axes": self.axes,
            "budgets": self.budgets,
        }

    def scan(self, on_empty: str | None) -> ScanOptions:
        """How to read them; padding is of no use to what writes no packs."""
        return ScanOptions(self.levels, {}, on_empty, self.attributes)


@dataclass(frozen=True)
class LimitOptions:
    """The fixed sizes of a pack, or how they follow from the data."""

    num_nodes: Annotated[
        list[str] | None,
        _limit("N", "Node slots of a pack, padding included; TYPE=N for each type of heterogeneous graphs."),
    ] = None
    num_edges: Annotated[list[str] | None, _limit("E", "Edge slots of a pack, likewise.")] = None
    num_graphs: Annotated[
        int | None, number_option("num_graphs", "G", "Graph slots of a pack, padding included.", LIMITS)
    ] = None
    num: Annotated[list[str] | None, _limit("AXIS=N", "Slots of a pack on an axis of --axis; may be repeated.")] = None
    null_graphs: NullGraphs = "all"
    limits: Annotated[
        str | None,
        _limit(
            "auto|max|mean|batches|SHARE",
            "Limits from the data. auto: all of them; else with --num-graphs G: max holds G-1 of the largest graphs, "
            "0.95 of the graph that 95 % do not exceed, mean G average ones, batches the largest of those that follow "
            "each other.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        return bool(self.num_nodes or self.num_edges or self.num_graphs or self.num or self.limits)

    def read(self, budgets: Mapping[str, int]) -> PackLimits | LimitsRule | None:
        """None for `--limits auto`, a rule for its other words. All three numbers or none of them. UsageError."""
        asked = {"--num-nodes": self.num_nodes, "--num-edges": self.num_edges, "--num-graphs": self.num_graphs}
        named = [name for name, value in (asked | {"--num": self.num}).items() if value]
        num = read_counts("--num", self.num)
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
            nodes, edges = read_slots("--num-nodes", self.num_nodes), read_slots("--num-edges", self.num_edges)
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

    seed: Seed = 0
    time_limit: TimeLimit = None
    work_limit: Annotated[
        float | None,
        number_option(
            "work_limit", "SECONDS", "Work for `optimal`, in seconds of a nominal machine: the same plan everywhere."
        ),
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """As `build` and `make_plan` take them."""
        return asdict(self)


@dataclass(frozen=True)
class SplitOptions:
    """Which graph belongs to which data set."""

    splits: Annotated[
        list[str] | None, option("NAME=SHARE,...", "One data set each, e.g. train=0.8,valid=0.1,test=0.1.")
    ] = None
    split_seed: Annotated[int, number_option("split_seed", "S", "Seed of the shares.")] = 0
    split_column: Annotated[str | None, option("C", "Column that names each graph's split.")] = None
    split_file: Annotated[Path | None, option("FILE", "CSV (graph_id, split) or JSON ({split: [ids]}).")] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """As `build` takes them."""
        return asdict(self) | {"splits": ",".join(self.splits) if self.splits else None}

    def check(self) -> None:
        """Raise UsageError for shares that are none, or several ways to split."""
        shares = self.arguments["splits"]
        with usage("--splits"):
            Splits.of(shares, self.split_seed, None, None)
        with usage():
            Splits.of(shares, self.split_seed, self.split_column, self.split_file)


@dataclass(frozen=True)
class ShardOptions:
    """How packs are written."""

    compression: Annotated[str, choice_option("compression", ("zstd", "lz4", "none"), "Codec of the shards.")] = "zstd"
    pad: Annotated[
        list[str] | None,
        option(
            "NAME=VALUE[,...]",
            "Padding of a field, a number or all of a row; or of all fields of level node, edge or graph.",
        ),
    ] = None
    pad_geometry: Annotated[
        float | None,
        number_option(
            "pad_geometry",
            "CUTOFF",
            "Padding for models of distances: edges longer than this, by shifts; cells that can be inverted.",
        ),
    ] = None
    licence: Licence = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the build that DIR holds.")] = False

    @property
    def arguments(self) -> dict[str, Any]:
        """As `build` takes them. UsageError."""
        arguments = asdict(self)
        return arguments | {"pad_values": read_pads(arguments.pop("pad"))}


@dataclass(frozen=True)
class WorkerOptions:
    """Where tasks run."""

    workers: Workers = 2
    executor: Annotated[
        str | None,
        choice_option(
            "executor", EXECUTORS, "Where tasks run: in W processes, or on a cluster.  [default: process]", RUN
        ),
    ] = None
    dask_scheduler: Annotated[
        str | None,
        option(
            "ADDRESS",
            "Of a running Dask scheduler, tcp://HOST:8786; without one, W processes here are the cluster.",
            RUN,
        ),
    ] = None
    ray_address: Annotated[str | None, option("ADDRESS", "Of a running Ray cluster, or auto; likewise.", RUN)] = None

    @property
    def engine(self) -> tuple[str, str | None]:
        """(executor, address of its cluster); an address alone says which executor. UsageError."""
        addresses = {"dask": self.dask_scheduler, "ray": self.ray_address}
        addresses = {engine: address for engine, address in addresses.items() if address is not None}
        asked = self.executor or next(iter(addresses), "process")
        for engine in addresses:
            if engine != asked:
                flag = "--dask-scheduler" if engine == "dask" else "--ray-address"
                raise UsageError(f"{flag} is of no use to --executor {asked}: leave one of them out")
        return asked, addresses.get(asked)
