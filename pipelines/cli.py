"""The command `graph-pack`: its commands, its errors, its exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from packer.errors import MissingExtraError, PackerError
from packer.version import __version__
from pipelines import cli_build, cli_plan, cli_report, cli_scan, cli_suggest, cli_tools
from pipelines.cli_checks import UsageError
from pipelines.cli_output import say, show_json

app = typer.Typer(
    name="graph-pack",
    help="Pack small graphs once, offline, for training with static shapes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 a fault in the data or in what was asked of it, 2 wrong usage.",
)
for module in (cli_scan, cli_suggest, cli_plan, cli_build, cli_report, cli_tools):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"graph-pack {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit status. Errors are told on standard error, without a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        get_command(app)(given, prog_name="graph-pack")
    except SystemExit as end:
        if end.code == 130:  # Typer's word for Ctrl-C
            more = ". The same command goes on where it was" if given[:1] == ["build"] else ""
            return _fail(130, f"interrupted{more}", given)
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
        if status == 2 and "--json" in given:
            show_json({"error": "wrong usage: standard error says what is wrong", "status": 2})
        return status
    except UsageError as error:
        return _fail(2, str(error), given)
    except (PackerError, MissingExtraError) as error:
        return _fail(1, str(error), given)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on
        return 1
    except OSError as error:
        return _fail(1, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", given)
    except Exception as error:
        if os.environ.get("GRAPH_PACK_TRACEBACK"):
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(1, f"a fault of graph-pack: {what}. GRAPH_PACK_TRACEBACK=1 shows where; please report it", given)
    return 0


def _fail(status: int, what: str, arguments: Sequence[str]) -> int:
    say(what)
    if "--json" in arguments:
        show_json({"error": what, "status": status})
    if status == 2 and arguments and not arguments[0].startswith("-"):
        sys.stderr.write(f"`graph-pack {arguments[0]} --help` shows the options\n")
    return status
