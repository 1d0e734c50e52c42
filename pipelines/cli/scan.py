"""`scan`: looking at a source, without writing anything; and what other commands say of sizes and limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import typer

from packer.limits.fit import fitting, too_large
from packer.limits.pack_limits import PackLimits
from pipelines.building.options import ScanOptions
from pipelines.cli import options as options
from pipelines.cli.draw import draw_sizes
from pipelines.cli.groups import LimitOptions, SourceOptions, used_limits
from pipelines.cli.output import progress, say, show, show_json, tell_skips
from pipelines.cli.tables import fault_table, field_table, size_tables, summary
from pipelines.executors import make_executor
from pipelines.sources.protocol import Source
from pipelines.survey.survey import Survey, survey_source


def register(app: typer.Typer) -> None:
    app.command("scan", epilog="Example: graph-pack scan sample:nci")(options.with_groups(scan))


def scan(
    graphs: SourceOptions,
    *,
    sizes: LimitOptions,
    plot: options.Plot = None,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Sizes of the graphs, their fields, faults, and what would not fit the limits given. --plot draws the sizes."""
    chosen = sizes.read(graphs.budgets) if sizes.is_given else None
    source = graphs.open()
    # All faults are to be seen, not the first alone.
    refused = graphs.on_empty is None and source.on_empty == "error"
    scanned = survey(source, graphs.scan("skip" if refused else graphs.on_empty), workers)
    used = used_limits(chosen, graphs.budgets, scanned.sizes) if sizes.is_given else None
    fits = None if used is None else fitting(scanned.sizes, used)
    if plot is not None:
        draw_sizes(scanned.sizes, plot)
    if json_output:
        show_json(_scan_json(scanned, used, fits))
    else:
        _show_scan(scanned, used, fits)
    if refused and scanned.skips:
        say("graphs that cannot be packed are refused: correct them, or pass --on-empty skip to leave them out")
        raise typer.Exit(1)


def _show_scan(scanned: Survey, limits: PackLimits | None, fits: np.ndarray | None) -> None:
    tell_skips(scanned.skips)
    skipped = f", {len(scanned.skips):,} of them cannot be packed" if scanned.skips else ""
    faults = fault_table(scanned) if scanned.skips else "No faults found."
    about = f"{scanned.source}: {scanned.num_graphs:,} graphs{skipped}"
    fields = [field_table(scanned)] if scanned.schema.fields else []
    show(about, *size_tables(scanned.sizes), *fields, faults)
    for name in scanned.ambiguous:
        show(f"The data leave the level of {name} open: --field {name}=LEVEL decides otherwise.")
    if limits is not None and fits is not None:
        _show_fit(scanned, limits, fits)


def describe(limits: PackLimits) -> str:
    """ "256 nodes, 552 edges, 32 graphs (null graphs: all)"."""

    def number(limit: Any) -> str:
        if isinstance(limit, dict):
            return ", ".join(f"{name} {slots}" for name, slots in sorted(limit.items()))
        return "no limit on" if limit is None else str(limit)

    plain = limits.to_dict()
    parts = [f"{number(plain[f'num_{rows}'])} {rows}" for rows in ("nodes", "edges", "graphs")]
    parts += [f"{slots} {name}s" for name, slots in limits.num.items()]
    parts += [f"{name} up to {most}" for name, most in limits.budgets.items()]
    return f"{', '.join(parts)} (null graphs: {limits.null_graphs})"


def survey(source: Source, asked: ScanOptions, workers: int) -> Survey:
    """Sizes and statistics of the source, with progress on standard error."""
    executor = make_executor(workers=workers)
    try:
        with progress() as report:
            return survey_source(source, asked, executor, report)
    finally:
        executor.close()


def _show_fit(scanned: Survey, limits: PackLimits, fits: np.ndarray) -> None:
    outside = np.flatnonzero(~fits)
    if not len(outside):
        show(f"All {len(fits):,} graphs fit {describe(limits)}.")
        return
    show(f"{len(outside):,} of {len(fits):,} graphs do not fit {describe(limits)}:")
    for row in outside[:10].tolist():
        show(f"  graph {int(scanned.source_ids[row])} {too_large(scanned.sizes, limits, row)}")
    if len(outside) > 10:
        show(f"  and {len(outside) - 10:,} more")


def _scan_json(scanned: Survey, limits: PackLimits | None, fits: np.ndarray | None) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "source": scanned.source,
        "graphs": scanned.num_graphs,
        "sizes": {key: summary(values) for key, values in scanned.sizes.columns.items()},
        "distinct_sizes": len(scanned.sizes.distinct[0]),
        "fields": scanned.schema.to_dict()["fields"],
        "strings": list(scanned.schema.strings),
        "ambiguous": list(scanned.ambiguous),
        "skipped": [{"graph": skip.graph_id, "where": skip.where, "reason": skip.reason} for skip in scanned.skips],
    }
    if limits is not None and fits is not None:
        outside = scanned.source_ids[~fits]
        plain["limits"] = limits.to_dict()
        plain["does_not_fit"] = {"count": len(outside), "first": outside[:100].tolist()}
    return plain
