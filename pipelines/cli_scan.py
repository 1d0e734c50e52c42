"""`scan`, `compare` and `plan`: looking at a source and at what packing would give, without writing packs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from packer.algorithms.registry import ALGORITHMS, find_algorithm
from packer.attributes import Attributes
from packer.data_limits import LimitsRule
from packer.errors import MissingExtraError
from packer.fields import Schema, pack_columns
from packer.limits import PackLimits
from packer.plan import PackPlan, make_plan
from packer.sizes import GraphSizes
from pipelines import cli_options as options
from pipelines.build_plan import fitting, store_plan, too_large
from pipelines.build_preview import preview
from pipelines.build_request import OVERSIZE
from pipelines.build_scan import ScanOptions, as_stage
from pipelines.build_survey import Survey, survey_source
from pipelines.cli_draw import draw_plans, draw_sizes, write_csv
from pipelines.cli_output import percent, progress, say, show, show_json, table, tell_skips
from pipelines.cli_tables import field_table, size_tables, summary
from pipelines.cli_tables import row_width as row_width
from pipelines.sources.protocol import Source


def register(app: typer.Typer) -> None:
    app.command("scan", epilog="Example: graph-pack scan sample:nci")(scan)
    app.command("compare", epilog="Example: graph-pack compare sample:nci --limits auto")(compare)
    app.command(
        "plan",
        epilog="Example: graph-pack plan sample:nci --num-nodes 256 --num-edges 552 --num-graphs 32 --out plan.parquet",
    )(plan)


def scan(
    source: options.SourceArgument,
    smiles_column: options.SmilesColumn = None,
    target: options.Target = None,
    root: options.Root = None,
    on_empty: options.OnEmpty = None,
    field: options.FieldLevel = None,
    exclude: options.Exclude = None,
    index: options.Index = None,
    num_nodes: options.NumNodes = None,
    num_edges: options.NumEdges = None,
    num_graphs: options.NumGraphs = None,
    null_graphs: options.NullGraphs = "all",
    limits: options.AutoLimits = None,
    plot: options.Plot = None,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Sizes of the graphs, their fields, and what would not fit the limits given. --plot draws the sizes."""
    given = bool(num_nodes or num_edges or num_graphs or limits)
    chosen = options.read_limits(num_nodes, num_edges, num_graphs, null_graphs, limits) if given else None
    asked = options.read_source(source, smiles_column, target, root)
    found = survey(asked, on_empty, field, options.read_attributes(exclude, index), workers)
    used = options.used_limits(chosen, found.sizes) if given else None
    fits = None if used is None else fitting(found.sizes, used)
    if plot is not None:
        draw_sizes(found.sizes, plot)
    if json_output:
        show_json(_scan_json(found, used, fits))
        return
    tell_skips(found.skips)
    skipped = f", {len(found.skips):,} of them cannot be packed" if found.skips else ""
    show(f"{found.source}: {found.num_graphs:,} graphs{skipped}", *size_tables(found.sizes), field_table(found))
    for name in found.ambiguous:
        show(f"The data leave the level of {name} open: --field {name}=LEVEL decides otherwise.")
    if used is not None and fits is not None:
        _show_fit(found, used, fits)


def compare(
    source: options.SourceArgument,
    algorithm: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only these; may be repeated.  [default: all]")
    ] = None,
    smiles_column: options.SmilesColumn = None,
    target: options.Target = None,
    root: options.Root = None,
    on_empty: options.OnEmpty = None,
    exclude: options.Exclude = None,
    index: options.Index = None,
    num_nodes: options.NumNodes = None,
    num_edges: options.NumEdges = None,
    num_graphs: options.NumGraphs = None,
    null_graphs: options.NullGraphs = "all",
    limits: options.AutoLimits = None,
    oversize: options.Oversize = "error",
    seed: options.Seed = 0,
    time_limit: options.TimeLimit = 60.0,
    csv: options.Csv = None,
    plot: options.Plot = None,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Packing algorithms side by side: packs, how full they are, the bound that no packing beats, the gap, seconds."""
    options.check_choice("--oversize", oversize, OVERSIZE)
    with options.usage():
        names = [find_algorithm(name).name for name in algorithm or ALGORITHMS]
    chosen = options.read_limits(num_nodes, num_edges, num_graphs, null_graphs, limits)
    asked = options.read_source(source, smiles_column, target, root)
    attributes = options.read_attributes(exclude, index)
    found, used, sizes = _preview(asked, on_empty, None, attributes, chosen, oversize, seed, workers)
    plans: list[PackPlan] = []
    for name in names:
        try:
            with progress() as report:
                plans.append(make_plan(sizes, used, name, seed=seed, time_limit=time_limit, progress=as_stage(report)))
        except MissingExtraError as error:
            if algorithm:
                raise
            say(f"{name} is left out: {error}")
    bound = max(plan.lower_bound for plan in plans)
    rows = [_plan_facts(plan, bound) for plan in plans]
    if csv is not None:
        write_csv(rows, csv)
    if plot is not None:
        draw_plans(plans, plot)
    if json_output:
        show_json({"source": found.source, "limits": used.to_dict(), "graphs": sizes.num_graphs, "plans": rows})
        return
    tell_skips(found.skips)
    fills = [f"{key} fill" for key in plans[0].fill]
    show(
        f"{found.source}: {sizes.num_graphs:,} graphs under {describe(used)}",
        table(
            "",
            ["algorithm", "packs", *fills, "bound", "gap", "status", "seconds"],
            [
                [
                    row["algorithm"],
                    row["packs"],
                    *(percent(value) for value in row["fill"].values()),
                    bound,
                    percent(row["gap"]),
                    row["status"],
                    row["seconds"],
                ]
                for row in rows
            ],
        ),
    )


def plan(
    source: options.SourceArgument,
    plan_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep the plan here, for build --plan.")
    ] = None,
    smiles_column: options.SmilesColumn = None,
    target: options.Target = None,
    root: options.Root = None,
    on_empty: options.OnEmpty = None,
    field: options.FieldLevel = None,
    exclude: options.Exclude = None,
    index: options.Index = None,
    num_nodes: options.NumNodes = None,
    num_edges: options.NumEdges = None,
    num_graphs: options.NumGraphs = None,
    null_graphs: options.NullGraphs = "all",
    limits: options.AutoLimits = None,
    oversize: options.Oversize = "error",
    algorithm: options.Algorithm = "optimal",
    seed: options.Seed = 0,
    time_limit: options.TimeLimit = 60.0,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """A dry run: how many packs, how full, how many bytes. --out keeps the plan for build --plan."""
    options.check_choice("--oversize", oversize, OVERSIZE)
    with options.usage():
        find_algorithm(algorithm)
    chosen = options.read_limits(num_nodes, num_edges, num_graphs, null_graphs, limits)
    asked = options.read_source(source, smiles_column, target, root)
    attributes = options.read_attributes(exclude, index)
    found, used, sizes = _preview(asked, on_empty, field, attributes, chosen, oversize, seed, workers)
    with progress() as report:
        made = make_plan(sizes, used, algorithm, seed=seed, time_limit=time_limit, progress=as_stage(report))
    if plan_file is not None:
        store_plan(made, plan_file, by_graph=True)
    facts = {**_plan_facts(made, made.lower_bound), "stopped_by": made.stopped_by, "limits": used.to_dict()}
    facts["bytes_per_pack"] = pack_bytes(found.schema, used)
    facts["out"] = None if plan_file is None else str(plan_file)
    if json_output:
        show_json({"source": found.source, "graphs": sizes.num_graphs, **facts})
        return
    tell_skips(found.skips)
    fills = ", ".join(f"{key}s {percent(value)}" for key, value in made.fill.items())
    proof = "proven: no plan has fewer" if made.status == "optimal" else f"no plan has fewer than {made.lower_bound:,}"
    proof += "; interrupted" if made.stopped_by == "interrupt" else ""
    show(
        f"{found.source}: {sizes.num_graphs:,} graphs under {describe(used)}",
        f"{made.num_packs:,} packs by {made.algorithm} ({proof}) in {made.seconds:.2f} s",
        f"filled: {fills}",
    )
    if facts["bytes_per_pack"] is not None:
        total = facts["bytes_per_pack"] * made.num_packs
        show(f"{facts['bytes_per_pack']:,} bytes a pack before compression, {total / 1e6:,.1f} MB in all")
    if plan_file is not None:
        show(f"plan kept in {plan_file}: graph-pack build {found.source} ... --plan {plan_file}")


def describe(limits: PackLimits) -> str:
    """ "256 nodes, 552 edges, 32 graphs (null graphs: all)"."""

    def number(limit: Any) -> str:
        if isinstance(limit, dict):
            return ", ".join(f"{name} {slots}" for name, slots in sorted(limit.items()))
        return "no limit on" if limit is None else str(limit)

    plain = limits.to_dict()
    parts = ", ".join(f"{number(plain[f'num_{what}'])} {what}" for what in ("nodes", "edges", "graphs"))
    return f"{parts} (null graphs: {limits.null_graphs})"


def pack_bytes(schema: Schema, limits: PackLimits) -> int | None:
    """Stored bytes of a pack before compression; None for limits that are for planning only."""
    if limits.null_graphs == "none":
        return None
    return sum(column.width for column in pack_columns(schema, limits))


def survey(
    source: Source, on_empty: str | None, field: list[str] | None, attributes: Attributes, workers: int
) -> Survey:
    """Sizes and statistics of the source, with progress on standard error."""
    asked = _scan_options(on_empty, field, attributes)
    executor = options.make_executor(workers)
    try:
        with progress() as report:
            return survey_source(source, asked, executor, report)
    finally:
        executor.close()


def _preview(
    source: Source,
    on_empty: str | None,
    field: list[str] | None,
    attributes: Attributes,
    chosen: PackLimits | LimitsRule | None,
    oversize: str,
    seed: int,
    workers: int,
) -> tuple[Survey, PackLimits, GraphSizes]:
    """The source, the limits, and the sizes of the graphs that a build would pack, with progress on standard error."""
    asked = _scan_options(on_empty, field, attributes)
    executor = options.make_executor(workers)
    try:
        with progress() as report:
            choose = partial(options.used_limits, chosen)
            found = preview(source, asked, choose, oversize, seed, executor, report)
            return found.survey, found.limits, found.sizes
    finally:
        executor.close()


def _scan_options(on_empty: str | None, field: list[str] | None, attributes: Attributes) -> ScanOptions:
    options.check_choice("--on-empty", on_empty, ("error", "skip"))
    return ScanOptions(options.read_pairs("--field", field), {}, on_empty, attributes)


def _show_fit(found: Survey, limits: PackLimits, fits: np.ndarray) -> None:
    outside = np.flatnonzero(~fits)
    if not len(outside):
        show(f"All {len(fits):,} graphs fit {describe(limits)}.")
        return
    show(f"{len(outside):,} of {len(fits):,} graphs do not fit {describe(limits)}:")
    for row in outside[:10].tolist():
        show(f"  {too_large(found.sizes, limits, row, int(found.source_ids[row]))}")
    if len(outside) > 10:
        show(f"  and {len(outside) - 10:,} more")


def _plan_facts(plan: PackPlan, bound: int) -> dict[str, Any]:
    return {
        "algorithm": plan.algorithm,
        "packs": plan.num_packs,
        "fill": plan.fill,
        "bound": bound,
        "gap": plan.num_packs / bound - 1,
        "status": "optimal" if plan.num_packs == bound else "feasible",
        "seconds": round(plan.seconds, 3),
    }


def _scan_json(found: Survey, limits: PackLimits | None, fits: np.ndarray | None) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "source": found.source,
        "graphs": found.num_graphs,
        "sizes": {key: summary(values) for key, values in found.sizes.columns.items()},
        "distinct_sizes": len(found.sizes.distinct[0]),
        "fields": found.schema.to_dict()["fields"],
        "strings": list(found.schema.strings),
        "ambiguous": list(found.ambiguous),
        "skipped": [{"graph": skip.graph_id, "where": skip.where, "reason": skip.reason} for skip in found.skips],
    }
    if limits is not None and fits is not None:
        outside = found.source_ids[~fits]
        plain["limits"] = limits.to_dict()
        plain["does_not_fit"] = {"count": len(outside), "first": outside[:100].tolist()}
    return plain
