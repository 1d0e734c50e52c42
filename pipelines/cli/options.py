"""How options are written, how a command takes groups of them, and those that several commands take one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from packer.limits.padding import NULL_GRAPHS
from pipelines.building.request import OVERSIZE
from pipelines.cli.checks import TABLES, UsageError, check_choice, file_place, picture_place, usage
from pipelines.cli.job_file import read_job
from pipelines.text.numbers import NUMBERS

LIMITS, RUN = "Limits", "Run"
"""Panels of the help page."""


def option(metavar: str, help: str, panel: str | None = None, **settings: Any) -> Any:
    """What Typer is to know of an option: how its value is called, and the rest that `typer.Option` takes."""
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel, **settings)


def number_option(name: str, metavar: str, help: str, panel: str | None = None) -> Any:
    """An option --NAME whose number, on the command line or in a job file, is one that NUMBERS allows."""
    flag, allowed = _flag(name), NUMBERS[name]

    def parse(value: Any) -> Any:
        fault = allowed.fault(value)
        if fault is not None:
            raise UsageError(f"{flag} {fault}")
        return allowed.read(value)

    return option(metavar, help, panel, parser=parse)


def choice_option(name: str, known: Sequence[str], help: str, panel: str | None = None) -> Any:
    """An option --NAME that is one of the known words."""

    def check(value: str | None) -> str | None:
        check_choice(_flag(name), value, known)
        return value

    return option("|".join(known), help, panel, callback=check)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer sees it: for each parameter whose type is a dataclass, an option for each field of it."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(kind, type)
        groups[parameter.name] = kind
        annotations = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotations[field.name])
            )

    @wraps(command)
    def run(**values: Any) -> None:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        command(**made, **values)

    run.__signature__ = Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _use_job(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        with usage():
            job = read_job(path)
        if context.command.name == "train" and str(job.get("source")).startswith("smiles:"):
            job.pop("target", None)  # columns of the source, which packs hold as y
        for parameter in context.command.params:
            name = str(parameter.name)
            if parameter.multiple and name in job and not isinstance(job[name], list):
                job[name] = [str(job[name])]  # one value of an option that may be repeated
        context.default_map = {**(context.default_map or {}), **job}
    return path


NullGraphs = Annotated[str, choice_option("null_graphs", NULL_GRAPHS, "Who owns the padding.", LIMITS)]
Oversize = Annotated[
    str,
    choice_option(
        "oversize", OVERSIZE, "Graphs that fit no pack: a fault, left out, or cut down; what goes is drawn by --seed."
    ),
]
Algorithm = Annotated[str, option("NAME", "How graphs are packed; `compare` lists the ways.")]
Seed = Annotated[int, number_option("seed", "S", "Seed of everything random.")]
TimeLimit = Annotated[
    float | None,
    number_option(
        "time_limit",
        "SECONDS",
        "Time for `optimal`, used to the end unless a proof comes first.  [default: at most 60, and 40 of work]",
    ),
]
Plot = Annotated[Path | None, option("FILE", "Draw here: .svg, .png or .pdf.", RUN, callback=picture_place)]
Csv = Annotated[Path | None, option("FILE", "Write the table here too.", RUN, callback=file_place("--csv", TABLES))]
Workers = Annotated[int, number_option("workers", "W", "Processes.", RUN)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=RUN)]
Config = Annotated[
    Path | None,
    option(
        "JOB.toml", "File with the same keys; the command line overrides it.", RUN, callback=_use_job, is_eager=True
    ),
]
Licence = Annotated[str | None, option("TEXT", "Licence of the source, for the data set card.", RUN)]
FolderOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="DIR", help="Folder that a build wrote, or its URL, such as s3://bucket/packs.", show_default=False
    ),
]
