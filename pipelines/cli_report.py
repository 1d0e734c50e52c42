"""`report`: a page about what was built, and cards for who finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_options as options
from pipelines.cli_build import data_sets
from pipelines.cli_output import say, show
from pipelines.report.words import some


def register(app: typer.Typer) -> None:
    app.command("report", epilog="Example: graph-pack report packs")(report)


def report(
    folder: options.Folder,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page.  [default: DIR/report.html]")] = None,
    verify: Annotated[bool, typer.Option(help="Check every byte first, and say so on the page.")] = True,
    card: Annotated[bool, typer.Option(help="Also write the card anew; a licence stated before stays.")] = True,
    licence: options.Licence = None,
) -> None:
    """One HTML page about a build, with pictures, that needs no network; and a data set card."""
    from pipelines.report.card import write_card
    from pipelines.report.report import write_report

    places = data_sets(folder)
    if card:
        for name, place in places.items():
            named = f"{folder.resolve().name} ({name})" if name else folder.resolve().name
            say(f"data set card: {write_card(place, named, licence)}")
    path, faults = write_report(folder, out, verify)
    show(str(path))
    if faults:
        say(f"{some(faults, 'fault')} found: the page lists them, as does graph-pack verify {folder}. Build anew")
        raise typer.Exit(1)
