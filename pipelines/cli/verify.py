"""`verify`: whether packs are whole and true."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipelines.cli import options as options
from pipelines.cli.checks import reading
from pipelines.cli.groups import WorkerOptions
from pipelines.cli.output import say, show, show_json
from pipelines.executors import make_executor
from pipelines.stores.locations import data_sets, label, where


def register(app: typer.Typer) -> None:
    app.command("verify", epilog="Example: graph-pack verify packs")(options.with_groups(verify))


def verify(
    folder: options.FolderOrUrl,
    workers: WorkerOptions,
    content: Annotated[
        bool, typer.Option("--content", help="Compare the graphs in the packs with what was scanned, too.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Check every checksum and every invariant; exit status 1 on any fault."""
    from packer.verify.data_set import VerifyReport, verify_shards, with_content

    engine, address = workers.engine
    at = where(folder)
    reports: dict[str, VerifyReport] = {}
    tasks = make_executor(engine, workers.workers, address)
    try:
        for name, place in data_sets(at).items():
            with reading(place):
                reports[name] = verify_shards(place, map=tasks.map)
    finally:
        tasks.close()
    if content:
        reports = with_content(reports, data_sets(at))
    ok = all(report.ok for report in reports.values())
    if json_output:
        show_json({"ok": ok, "data_sets": {label(at, name): _report_json(r) for name, r in reports.items()}})
    else:
        for name, report in reports.items():
            for fault in report.faults:
                say(f"{label(at, name)}: {fault}")
            verdict = "sound" if report.ok else f"{len(report.faults)} faults"
            if report.content:
                equal = "its graphs are those that were scanned"
                verdict += f", {equal}" if report.content == "equal" else f" (content not compared: {report.content})"
            show(
                f"{label(at, name)}: {verdict}; {report.packs:,} packs, {report.graphs:,} graphs checked "
                f"in {report.seconds:.2f} s"
            )
    if not ok:
        raise typer.Exit(1)


def _report_json(report: Any) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "packs": report.packs,
        "graphs": report.graphs,
        "seconds": round(report.seconds, 3),
        "faults": [fault._asdict() for fault in report.faults],
        **({"content": report.content} if report.content else {}),
    }
