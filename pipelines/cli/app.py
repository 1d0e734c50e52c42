"""The command `graph-pack`: its commands, its errors, its exit status."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from packer import __version__
from packer.errors import MissingExtraError, PackerError
from pipelines.cli import audit, build, inspect, plan, report, scan, suggest, tools, verify
from pipelines.cli.checks import UsageError, in_short
from pipelines.cli.output import say, show_json
from pipelines.cli.streams import emit, usable_streams
from pipelines.text.clean import line

_INTERRUPTED = 130  # Typer's status for Ctrl-C, and that of shells

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
for module in (scan, suggest, plan, build, verify, inspect, audit, report, tools):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"graph-pack {__version__}\n")
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
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with usable_streams():
        try:
            return _run(arguments)
        except PackerError as error:  # of the streams themselves: an error could not be told
            with contextlib.suppress(PackerError):
                say(str(error))
            return 1


def _run(arguments: Sequence[str]) -> int:
    try:
        status: Any = get_command(app)(arguments, prog_name="graph-pack", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except UsageError as error:
        return _fail(2, str(error), arguments)
    except (PackerError, MissingExtraError) as error:
        _trace()
        return _fail(1, str(error), arguments)
    except OSError as error:
        _trace()
        return _fail(1, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", arguments)
    except Exception as error:
        words = getattr(error, "format_message", None)
        if words is not None:  # of Typer: options or commands that there are not
            return _fail(2, words(), arguments) if words() else 2  # without a command, its help has been shown
        _trace()
        return _fail(1, _unforeseen(error), arguments)
    if status == _INTERRUPTED:
        more = ". The same command goes on where it was" if arguments[:1] == ["build"] else ""
        return _fail(_INTERRUPTED, f"interrupted{more}", arguments)
    return status if isinstance(status, int) else 0


def _unforeseen(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"out of memory: {in_short(error)}. Fewer --workers need less, and so do smaller limits"
    return f"a fault of graph-pack: {in_short(error)}. GRAPH_PACK_TRACEBACK=1 shows where; please report it"


def _trace() -> None:
    """Where an error came from, for who asks for it."""
    if os.environ.get("GRAPH_PACK_TRACEBACK"):
        for text in traceback.format_exc().splitlines():
            emit(f"{line(text)}\n", "stderr")


def _fail(status: int, fault: str, arguments: Sequence[str]) -> int:
    say(fault)
    if "--json" in arguments:
        show_json({"error": fault, "status": status})
    if status == 2:
        known = arguments and arguments[0] in {command.name for command in app.registered_commands}
        shows = f"{arguments[0]} --help` shows the options" if known else "--help` shows the commands"
        emit(f"`graph-pack {shows}\n", "stderr")
    return status
