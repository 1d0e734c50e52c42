"""`compare` and `plan`: what packing would give, without writing packs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from packer.algorithms.registry import ALGORITHMS, find_algorithm
from packer.errors import MissingExtraError
from packer.graphs.schema import Schema
from packer.graphs.sizes import GraphSizes
from packer.limits.pack_limits import PackLimits
from packer.packs.columns import pack_columns
from packer.plan.pack_plan import PackPlan, make_plan
from pipelines.building.options import as_stage
from pipelines.building.plan import store_plan
from pipelines.cli import options as options
from pipelines.cli.checks import PLANS, file_place, usage
from pipelines.cli.draw import draw_plans, write_csv
from pipelines.cli.groups import BudgetOptions, LimitOptions, SourceOptions, used_limits
from pipelines.cli.output import fill_column, percent, percents, progress, say, show, show_json, table, tell_skips
from pipelines.cli.scan import describe
from pipelines.executors import make_executor
from pipelines.survey.preview import preview
from pipelines.survey.survey import Survey
from pipelines.survey.warm_plan import warm_plan
from pipelines.text.plurals import rows_of


def register(app: typer.Typer) -> None:
    app.command("compare", epilog="Example: graph-pack compare sample:nci --limits auto")(options.with_groups(compare))
    app.command(
        "plan",
        epilog="Example: graph-pack plan sample:nci --num-nodes 256 --num-edges 552 --num-graphs 32 --out plan.parquet",
    )(options.with_groups(plan))


def compare(
    graphs: SourceOptions,
    *,
    algorithm: Annotated[
        list[str] | None, options.option("NAME", "Only these; may be repeated.  [default: all]")
    ] = None,
    limits: LimitOptions,
    oversize: options.Oversize = "error",
    budget: BudgetOptions,
    csv: options.Csv = None,
    plot: options.Plot = None,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Packing algorithms side by side: packs, how full they are, the bound that no packing beats, the gap, seconds."""
    with usage():
        names = [find_algorithm(name).name for name in algorithm or ALGORITHMS]
    survey, used, sizes = _preview(graphs, limits, oversize, budget.seed, workers)
    plans: list[PackPlan] = []
    for name in names:
        try:
            with progress() as report:
                plans.append(warm_plan(sizes, used, name, progress=as_stage(report), **budget.arguments))
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
        show_json({"source": survey.source, "limits": used.to_dict(), "graphs": sizes.num_graphs, "plans": rows})
        return
    tell_skips(survey.skips)
    fill, notes = fill_column(plans[0].fill)
    notes = [*notes, *(f"{p.algorithm} was stopped by its {p.stopped_by} limit" for p in plans if _cut_short(p))]
    columns = ["algorithm", "packs", "bound", "gap", fill, "seconds"]
    show(
        f"{survey.source}: {sizes.num_graphs:,} graphs under {describe(used)}",
        table("", columns, [_comparison_row(row) for row in rows]),
        *notes,
    )


def _cut_short(plan: PackPlan) -> bool:
    return plan.stopped_by in ("time", "work") and plan.status != "optimal"


def _comparison_row(row: dict[str, Any]) -> list[Any]:
    gap = "proven" if row["gap"] == 0 else percent(row["gap"])
    return [row["algorithm"], row["packs"], row["bound"], gap, percents(row["fill"].values()), f"{row['seconds']:.3f}"]


def plan(
    graphs: SourceOptions,
    *,
    plan_file: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Keep the plan here, for build --plan.", callback=file_place("--out", PLANS)
        ),
    ] = None,
    limits: LimitOptions,
    oversize: options.Oversize = "error",
    algorithm: options.Algorithm = "optimal",
    budget: BudgetOptions,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """A dry run: how many packs, how full, how many bytes. --out keeps the plan for build --plan."""
    with usage():
        find_algorithm(algorithm)
    survey, used, sizes = _preview(graphs, limits, oversize, budget.seed, workers)
    with progress() as report:
        made = make_plan(sizes, used, algorithm, progress=as_stage(report), **budget.arguments)
    if plan_file is not None:
        store_plan(made, plan_file, by_graph=True)
    facts = {**_plan_facts(made, made.lower_bound), "stopped_by": made.stopped_by, "limits": used.to_dict()}
    facts["bytes_per_pack"] = pack_bytes(survey.schema, used) if survey.schema.fields else None
    facts["out"] = None if plan_file is None else str(plan_file)
    if json_output:
        show_json({"source": survey.source, "graphs": sizes.num_graphs, **facts})
        return
    tell_skips(survey.skips)
    fills = ", ".join(f"{rows_of(key, made.sizes.axes)} {percent(value)}" for key, value in made.fill.items())
    proof = "proven: no plan has fewer" if made.status == "optimal" else f"no plan has fewer than {made.lower_bound:,}"
    proof += "; interrupted" if made.stopped_by == "interrupt" else ""
    show(
        f"{survey.source}: {sizes.num_graphs:,} graphs under {describe(used)}",
        f"{made.num_packs:,} packs by {made.algorithm} ({proof}) in {made.seconds:.2f} s",
        f"filled: {fills}",
    )
    if facts["bytes_per_pack"] is not None:
        total = facts["bytes_per_pack"] * made.num_packs
        show(f"{facts['bytes_per_pack']:,} bytes a pack before compression, {total / 1e6:,.1f} MB in all")
    if plan_file is not None:
        source = survey.source if survey.schema.fields else "SOURCE"
        show(f"plan kept in {plan_file}: graph-pack build {source} ... --plan {plan_file}")


def _preview(
    graphs: SourceOptions, limits: LimitOptions, oversize: str, seed: int, workers: int
) -> tuple[Survey, PackLimits, GraphSizes]:
    """The source, the limits, and the sizes of the graphs that a build would pack, with progress on standard error."""
    choose = partial(used_limits, limits.read(graphs.budgets), graphs.budgets)
    source, asked = graphs.open(), graphs.scan(graphs.on_empty)
    executor = make_executor(workers=workers)
    try:
        with progress() as report:
            result = preview(source, asked, choose, oversize, seed, executor, report)
            return result.survey, result.limits, result.sizes
    finally:
        executor.close()


def pack_bytes(schema: Schema, limits: PackLimits) -> int | None:
    """Stored bytes of a pack before compression; None for limits that are for planning only."""
    if limits.null_graphs == "none":
        return None
    return sum(column.width for column in pack_columns(schema, limits))


def _plan_facts(plan: PackPlan, bound: int) -> dict[str, Any]:
    return {
        "algorithm": plan.algorithm,
        "packs": plan.num_packs,
        "fill": plan.fill,
        "bound": bound,
        "gap": plan.num_packs / bound - 1,
        "status": "optimal" if plan.num_packs == bound else "feasible",
        "seconds": round(plan.seconds, 6),
        "stopped_by": plan.stopped_by,
    }
