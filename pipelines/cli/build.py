"""`build`: graphs to packs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from packer.algorithms.registry import find_algorithm
from packer.errors import PackerError
from pipelines.building.build import BuildResult, build
from pipelines.cli import options as options
from pipelines.cli.checks import usage
from pipelines.cli.groups import (
    BudgetOptions,
    LimitOptions,
    ShardOptions,
    SourceOptions,
    SplitOptions,
    WorkerOptions,
)
from pipelines.cli.inspect import manifest_facts
from pipelines.cli.output import percent, progress, show, show_json, table, tell_skips
from pipelines.cli.scan import describe
from pipelines.stores.locations import label, where
from pipelines.stores.work_folder import check_apart


def register(app: typer.Typer) -> None:
    app.command(
        "build",
        epilog="Example: graph-pack build sample:nci --out packs --num-nodes 256 --num-edges 552 --num-graphs 32",
    )(options.with_groups(build_command))


def build_command(
    graphs: SourceOptions,
    *,
    out: Annotated[str, options.option("DIR|URL", "Where to write: empty, absent, or an earlier build; s3://... too.")],
    sizes: LimitOptions,
    oversize: options.Oversize = "error",
    algorithm: options.Algorithm = "optimal",
    budget: BudgetOptions,
    plan: Annotated[Path | None, options.option("FILE", "A plan made before, with its limits.")] = None,
    parts: SplitOptions,
    shards: ShardOptions,
    tasks: WorkerOptions,
    work: Annotated[
        str | None,
        options.option(
            "DIR|URL",
            "What all workers reach, for what tasks write for each other.  [default: .work in the output]",
            options.RUN,
        ),
    ] = None,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Write packs: scan, plan, shards, manifest. The same command goes on after an interruption."""
    limits = None if plan is not None and not sizes.is_given else sizes.read(graphs.budgets)
    source = graphs.open([parts.split_column] if parts.split_column else ())
    engine, address = tasks.engine
    parts.check()
    with usage():
        find_algorithm(algorithm)
        check_apart(out, work)
        if sizes.null_graphs == "none":
            raise PackerError("--null-graphs none leaves no place for padding: build with all, one or jraph")
    groups = graphs.arguments | budget.arguments | parts.arguments | shards.arguments
    with progress() as report:
        result = build(
            source,
            where(out),
            limits or "auto",
            algorithm,
            workers=tasks.workers,
            plan=plan,
            oversize=oversize,
            executor=engine,
            scheduler=address,
            work=None if work is None else where(work),
            progress=report,
            **groups,
        )
    if json_output:
        show_json(_build_json(result))
        return
    tell_skips(result.skips, "graphs.parquet names")
    _show_build(result)


def _show_build(result: BuildResult) -> None:
    if result.already:
        show(f"{label(result.out)} already holds this very build; nothing to do")
    rows: list[list[Any]] = []
    for name, manifest in result.manifests.items():
        counts, plan = manifest.counts, manifest.plan
        stored = sum(shard.bytes for shard in manifest.shards)
        gap = percent(plan["num_packs"] / plan["lower_bound"] - 1) if plan["status"] != "optimal" else "proven"
        rows.append(
            [label(result.out, name), counts.graphs, counts.in_packs, manifest.num_packs, plan["lower_bound"], gap]
            + [f"{stored / 1e6:,.2f} MB"]
        )
    first = next(iter(result.manifests.values()))
    show(
        f"{describe(first.limits)}, packed by {first.plan['algorithm']}",
        table("", ["folder", "graphs", "packed", "packs", "bound", "gap", "on disk"], rows),
    )
    for name, manifest in result.manifests.items():
        counts = manifest.counts
        if counts.trimmed or counts.skipped:
            show(
                f"{label(result.out, name)}: {counts.packed:,} graphs packed whole, {counts.trimmed:,} trimmed, "
                f"{counts.skipped:,} skipped; graphs.parquet names each with its reason"
            )
    for name in result.ambiguous:
        show(f"The data leave the level of {name} open: --field {name}=LEVEL decides otherwise.")
    if result.seconds:
        show(", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items()))


def _build_json(result: BuildResult) -> dict[str, Any]:
    return {
        "out": label(result.out),
        "already": result.already,
        "ambiguous": list(result.ambiguous),
        "seconds": {stage: round(value, 3) for stage, value in result.seconds.items()},
        "data_sets": {label(result.out, name): manifest_facts(m) for name, m in result.manifests.items()},
        "skipped": [{"graph": skip.graph_id, "where": skip.where, "reason": skip.reason} for skip in result.skips],
    }
