"""`report`: a page about what was built, and cards for who finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from packer.errors import PackerError
from pipelines.cli import options as options
from pipelines.cli.checks import UsageError, reading
from pipelines.cli.output import say, show
from pipelines.stores.locations import data_sets, label, name_of, where
from pipelines.text.plurals import some


def register(app: typer.Typer) -> None:
    app.command("report", epilog="Example: graph-pack report packs")(report)


def report(
    folder: options.FolderOrUrl,
    out: Annotated[
        Path | None, options.option("FILE", "The page; needed for a URL.  [default: DIR/report.html]")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Check every byte first, and say so on the page.")] = True,
    card: Annotated[bool, typer.Option(help="Also write the card in DIR anew; a licence stated before stays.")] = True,
    licence: options.Licence = None,
) -> None:
    """One HTML page about a build, with pictures, that needs no network; and a data set card, but for a URL."""
    from pipelines.building.card import write_card
    from pipelines.report.report import write_report

    at = where(folder)
    if isinstance(at, str) and out is None:
        raise UsageError(f"the report of {label(at)} is written on this machine: say where with --out FILE")
    if isinstance(at, str) and licence is not None:
        raise UsageError(f"--licence is for the card, which is written into a folder and not to {label(at)}")
    unwritten: list[str] = []
    with reading(at):
        for name, place in data_sets(at).items() if card and isinstance(at, Path) else ():
            named = f"{name_of(at)} ({name})" if name else name_of(at)
            try:
                say(f"data set card: {write_card(Path(place), named, licence)}")
            except OSError as error:  # of a data set that may only be read: its page can be elsewhere
                unwritten.append(f"the card in {label(place)} is left as it is: {error.strerror or error}")
                say(unwritten[-1])
        path, faults = write_report(at, out, verify)
    show(str(path))
    if unwritten and licence is not None:
        raise PackerError(f"the licence is stated nowhere: {unwritten[0]}")
    if faults:
        say(f"{some(faults, 'fault')} found: the page lists them, as does graph-pack verify {label(at)}. Build anew")
        raise typer.Exit(1)
