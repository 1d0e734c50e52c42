"""The options that commands share: how each is written, and how its text is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from packer.errors import LimitsError, SourceError
from packer.limits.padding import NULL_GRAPHS
from pipelines.building.request import OVERSIZE
from pipelines.cli.checks import TABLES, UsageError, check_choice, file_place, number, one_of, picture_place, usage
from pipelines.cli.job_file import read_job
from pipelines.executors import EXECUTORS
from pipelines.text.numbers import SLOTS_MOST, Range, real_of, whole_of


def _use_job(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        with usage():
            given = read_job(path)
        if context.command.name == "train" and str(given.get("source")).startswith("smiles:"):
            given.pop("target", None)  # columns of the source, which packs hold as y
        for option in context.command.params:
            name = str(option.name)
            if option.multiple and name in given and not isinstance(given[name], list):
                given[name] = [str(given[name])]  # one value of an option that may be repeated
        context.default_map = {**(context.default_map or {}), **given}
    return path


_NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_GRAPHS, _LIMITS, _RUN = "Source", "Limits", "Run"

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help=(
            "sample:nci, sample:g2, smiles:FILE (.csv, .csv.gz, .parquet), smiles:URL, ase:FILE, tudataset:NAME, "
            "sizes:FILE or pyg:module:callable"
        ),
        show_default=False,
    ),
]
SmilesColumn = Annotated[
    str | None, typer.Option(metavar="C", help="smiles: column of SMILES.  [default: smiles]", rich_help_panel=_GRAPHS)
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="C",
        help="smiles: column of numbers to learn; ase: such as energy or forces; may be repeated.",
        rich_help_panel=_GRAPHS,
    ),
]
TargetDtype = Annotated[
    str | None,
    typer.Option(
        metavar="float32|float64",
        help="smiles: what targets are held in.  [default: float32]",
        callback=one_of("--target-dtype", ("float32", "float64")),
        rich_help_panel=_GRAPHS,
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT,...",
        help="smiles: target cells that become NaN; an empty TEXT: empty ones.  [default: nan,NaN,NAN,]",
        rich_help_panel=_GRAPHS,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="smiles: what parts cells; tab for a tab.  [default: , ; or tab, as the header shows]",
        rich_help_panel=_GRAPHS,
    ),
]
Cutoff = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="ase: edges join atoms, and images of them, nearer than this.",
        parser=number("cutoff"),
        rich_help_panel=_GRAPHS,
    ),
]
FloatDtype = Annotated[
    str | None,
    typer.Option(
        metavar="float32|float64",
        help="ase: of positions, cells, shifts and targets.  [default: float32]",
        callback=one_of("--float-dtype", ("float32", "float64")),
        rich_help_panel=_GRAPHS,
    ),
]
NodesColumn = Annotated[
    str | None,
    typer.Option(
        metavar="C", help="sizes: column of numbers of nodes.  [default: num_nodes, natoms]", rich_help_panel=_GRAPHS
    ),
]
EdgesColumn = Annotated[
    str | None,
    typer.Option(
        metavar="C", help="sizes: column of numbers of edges.  [default: num_edges, if any]", rich_help_panel=_GRAPHS
    ),
]
Root = Annotated[
    Path | None, typer.Option(metavar="DIR", help="tudataset: folder that holds NAME/raw.", rich_help_panel=_GRAPHS)
]
GuessNumNodes = Annotated[
    bool,
    typer.Option(
        "--guess-num-nodes",
        help="Take the largest number in edge_index + 1 for a number of nodes that is not given.",
        rich_help_panel=_GRAPHS,
    ),
]
NodeAttributes = Annotated[
    bool,
    typer.Option(
        "--use-node-attr", help="tudataset: keep node_attributes, before the labels in x.", rich_help_panel=_GRAPHS
    ),
]
EdgeAttributes = Annotated[
    bool,
    typer.Option(
        "--use-edge-attr",
        help="tudataset: keep edge_attributes, before the labels in edge_attr.",
        rich_help_panel=_GRAPHS,
    ),
]
OnEmpty = Annotated[
    str | None,
    typer.Option(
        metavar="error|skip",
        help="Graphs without nodes, texts that are no molecule, faulty frames.  [default: error; samples: skip]",
        callback=one_of("--on-empty", ("error", "skip")),
        rich_help_panel=_GRAPHS,
    ),
]
FieldLevel = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="NAME=LEVEL",
        help="Say that a field is of level node, edge or graph, where the data leave it open.",
        rich_help_panel=_GRAPHS,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="NAME",
        help="Leave an attribute out (TYPE/NAME: of one type); may be repeated.",
        rich_help_panel=_GRAPHS,
    ),
]
Index = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        metavar="NAME[=AXIS]",
        help="Say that an attribute holds numbers of nodes, though not called index, or of another AXIS: a node type, "
        "edge, or one of --axis; may be repeated.",
        rich_help_panel=_GRAPHS,
    ),
]
FurtherAxis = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        metavar="AXIS=NAME,...",
        help="Attributes whose rows are neither nodes nor edges, and what to call these: triplet=idx_kj,idx_ji; may be "
        "repeated.",
        rich_help_panel=_GRAPHS,
    ),
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="NAME=MOST",
        help="A number that each graph has, and the most that those of a pack add up to; may be repeated.",
        rich_help_panel=_LIMITS,
    ),
]
NumRows = Annotated[
    list[str] | None,
    typer.Option(
        "--num",
        metavar="AXIS=N",
        help="Slots of a pack on an axis of --axis; may be repeated.",
        rich_help_panel=_LIMITS,
    ),
]
NumNodes = Annotated[
    list[str] | None,
    typer.Option(
        "--num-nodes",
        metavar="N",
        help="Node slots of a pack, padding included; TYPE=N for each type of heterogeneous graphs.",
        rich_help_panel=_LIMITS,
    ),
]
NumEdges = Annotated[
    list[str] | None,
    typer.Option("--num-edges", metavar="E", help="Edge slots of a pack, likewise.", rich_help_panel=_LIMITS),
]
NumGraphs = Annotated[
    int | None,
    typer.Option(
        metavar="G",
        help="Graph slots of a pack, padding included.",
        parser=number("num_graphs"),
        rich_help_panel=_LIMITS,
    ),
]
NullGraphs = Annotated[
    str,
    typer.Option(
        metavar="all|one|jraph|none",
        help="Who owns the padding.",
        callback=one_of("--null-graphs", NULL_GRAPHS),
        rich_help_panel=_LIMITS,
    ),
]
AutoLimits = Annotated[
    str | None,
    typer.Option(
        "--limits",
        metavar="auto|max|mean|batches|SHARE",
        help="Limits from the data. auto: all of them; else with --num-graphs G: max holds G-1 of the largest graphs, "
        "0.95 of the graph that 95 % do not exceed, mean G average ones, batches the largest of those that follow "
        "each other.",
        rich_help_panel=_LIMITS,
    ),
]
Oversize = Annotated[
    str,
    typer.Option(
        metavar="|".join(OVERSIZE),
        help="Graphs that fit no pack: a fault, left out, or cut down; what goes is drawn by --seed.",
        callback=one_of("--oversize", OVERSIZE),
    ),
]
Algorithm = Annotated[str, typer.Option(metavar="NAME", help="How graphs are packed; `compare` lists the ways.")]
Seed = Annotated[int, typer.Option(metavar="S", help="Seed of everything random.", parser=number("seed"))]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Time for `optimal`, used to the end unless a proof comes first.  [default: at most 60, and 40 of work]",
        parser=number("time_limit"),
    ),
]
WorkLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Work for `optimal`, in seconds of a nominal machine: the same plan everywhere.",
        parser=number("work_limit"),
    ),
]
SplitShares = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SHARE,...", help="One data set each, e.g. train=0.8,valid=0.1,test=0.1."),
]
SplitSeed = Annotated[int, typer.Option(metavar="S", help="Seed of the shares.", parser=number("split_seed"))]
SplitColumn = Annotated[str | None, typer.Option(metavar="C", help="Column that names each graph's split.")]
SplitFile = Annotated[Path | None, typer.Option(metavar="FILE", help="CSV (graph_id, split) or JSON ({split: [ids]}).")]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw here: .svg, .png or .pdf.", callback=picture_place, rich_help_panel=_RUN),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Write the table here too.",
        callback=file_place("--csv", TABLES),
        rich_help_panel=_RUN,
    ),
]
Workers = Annotated[int, typer.Option(metavar="W", help="Processes.", parser=number("workers"), rich_help_panel=_RUN)]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="|".join(EXECUTORS),
        help="Where tasks run: in W processes, or on a cluster.  [default: process]",
        callback=one_of("--executor", EXECUTORS),
        rich_help_panel=_RUN,
    ),
]
DaskScheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Of a running Dask scheduler, tcp://HOST:8786; without one, W processes here are the cluster.",
        rich_help_panel=_RUN,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Of a running Ray cluster, or auto; likewise.", rich_help_panel=_RUN),
]
Work = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL",
        help="What all workers reach, for what tasks write for each other.  [default: .work in the output]",
        rich_help_panel=_RUN,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=_RUN)]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="JOB.toml",
        help="File with the same keys; the command line overrides it.",
        callback=_use_job,
        is_eager=True,
        rich_help_panel=_RUN,
    ),
]
Licence = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Licence of the source, for the data set card.", rich_help_panel=_RUN)
]
FolderOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="DIR", help="Folder that a build wrote, or its URL, such as s3://bucket/packs.", show_default=False
    ),
]


def read_pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """["x=node"] -> {"x": "node"}."""
    found: dict[str, str] = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise UsageError(f"{option} takes NAME=VALUE; got {text!r}")
        if name in found:
            raise UsageError(f"{option} {name} is given twice, {found[name]} and {value}: give it once")
        found[name] = value
    return found


def read_levels(given: Sequence[str] | None) -> dict[str, str]:
    """["x=node"] -> {"x": "node"}, where node is a level."""
    found = read_pairs("--field", given)
    for name, level in found.items():
        check_choice(f"--field {name}", level, ("node", "edge", "graph"))
    return found


def read_pads(given: Sequence[str] | None) -> dict[str, float | list[float]]:
    """["y=-1", "shifts=10,0,0"] -> {"y": -1, "shifts": [10, 0, 0]}; NaN and infinities too, which fields of floats may
    be padded with."""
    found: dict[str, float | list[float]] = {}
    for name, text in read_pairs("--pad", given).items():
        row: list[float] = []
        for part in text.split(","):
            number = whole_of(part) if whole_of(part) is not None else real_of(part)
            number = _NOT_FINITE.get(part.lower().removeprefix("+")) if number is None else number
            if number is None:
                raise UsageError(f"--pad takes NAME=NUMBER, or NAME=NUMBER,NUMBER,...; got {name}={text}")
            row.append(number)
        found[name] = row if len(row) > 1 else row[0]
    return found


def read_axes(given: Sequence[str] | None) -> dict[str, list[str]]:
    """["triplet=idx_kj,idx_ji"] -> {"triplet": ["idx_kj", "idx_ji"]}."""
    found: dict[str, list[str]] = {}
    for name, fields in ((name, text.split(",")) for name, text in read_pairs("--axis", given).items()):
        found[name] = [field.strip() for field in fields if field.strip()]
    return found


def read_counts(option: str, given: Sequence[str] | None) -> dict[str, int]:
    """["triplet=4000"] -> {"triplet": 4000}."""
    texts = [part for text in given or () for part in text.split(",")]
    with usage():
        return {name: _whole(option, text) for name, text in read_pairs(option, texts).items()}


def read_slots(option: str, given: Any) -> Any:
    """["256"] -> 256; ["author=10", "paper=5"] -> by node type; "a__to__b=7" -> by edge type."""
    if not given:
        return None
    texts = [part for text in given for part in text.split(",")]
    if len(texts) == 1 and "=" not in texts[0]:
        return _whole(option, texts[0])
    by_type = {name: _whole(option, text) for name, text in read_pairs(option, texts).items()}
    if option == "--num-nodes":
        return by_type
    wrong = [name for name in by_type if name.count("__") != 2]
    if wrong:
        raise SourceError(f"{option}: an edge type is written SOURCE__RELATION__TARGET=E; got {wrong[0]!r}")
    return {tuple(name.split("__")): number for name, number in by_type.items()}


def _whole(option: str, text: str) -> int:
    allowed = Range(1 if option == "--num-nodes" else 0, SLOTS_MOST)
    fault = allowed.fault(text)
    if fault is not None:
        raise LimitsError(f"{option} {fault}")
    return allowed.read(text)
