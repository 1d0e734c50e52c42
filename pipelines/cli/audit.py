"""`audit`: whether packs change anything about learning."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from packer.reading.audit import audit_packs
from packer.reading.audit_facts import PackAudit, Spread
from packer.reading.reader import PackReader
from pipelines.cli import options as options
from pipelines.cli.checks import UsageError, reading
from pipelines.cli.draw import draw_audit
from pipelines.cli.output import show, show_json, table
from pipelines.stores.locations import data_sets, label, where
from pipelines.text.plurals import some


def register(app: typer.Typer) -> None:
    app.command("audit", epilog="Example: graph-pack audit packs --plot audit.svg")(audit)


def audit(
    folder: options.FolderOrUrl,
    epochs: Annotated[int, options.number_option("epochs", "N", "Shuffled epochs to look at.")] = 10,
    batch_size: Annotated[int, options.number_option("batch_size", "B", "Packs a step.")] = 1,
    target: Annotated[
        str | None,
        options.option("FIELD", "Graph-level classes.  [default: y, or the only whole-numbered field]"),
    ] = None,
    seed: options.Seed = 0,
    plot: options.Plot = None,
    json_output: options.Json = False,
) -> None:
    """What shuffled epochs of packs do to learning: sizes along the epoch, companions, weights and classes."""
    at = where(folder)
    places = data_sets(at)
    if plot is not None and len(places) > 1:
        raise UsageError(f"--plot draws one data set: name it, e.g. {label(at, next(iter(places)))}")
    with reading(at):
        audits = {
            name: audit_packs(PackReader(place), epochs, batch_size, seed, target) for name, place in places.items()
        }
    for facts in audits.values():
        if plot is not None:
            draw_audit(facts, plot)
    if json_output:
        show_json({label(at, name): facts.to_dict() for name, facts in audits.items()})
        return
    for name, facts in audits.items():
        _show(label(at, name), facts)


def _show(name: str, facts: PackAudit) -> None:
    steps = f"a step of {facts.batch_size} packs {_words(facts.graphs_per_step)}; " if facts.batch_size > 1 else ""
    rows: list[list[Any]] = [["good" if verdict.good else "look", verdict.text] for verdict in facts.verdicts]
    show(
        f"{name}: {some(facts.graphs, 'graph')} in {some(facts.packs, 'pack')}; a pack holds "
        f"{_words(facts.graphs_per_pack)}; {steps}{some(facts.epochs, 'epoch')}, seed {facts.seed}",
        table("", ["", "verdict"], rows, left=1, last="left"),
    )


def _words(spread: Spread) -> str:
    return f"{spread.mean:.2f} graphs (standard deviation {spread.sd:.2f}, from {spread.least} to {spread.most})"
