"""One set of options on every surface: command line, job file and `build()`."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature

import pytest
import typer.main

from pipelines import build
from pipelines.cli.app import app
from pipelines.cli.groups import BudgetOptions, LimitOptions, SourceOptions, SplitOptions, WorkerOptions
from pipelines.cli.job_file import JobFile
from pipelines.sources import parse_source

COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
IN_PYTHON = {
    "field": "levels",
    "pad": "pad_values",
    "exclude": "exclude_keys",
    "index": "index_fields",
    "axis": "axes",
    "budget": "budgets",
    "target": "targets",
    "dask_scheduler": "scheduler",
    "ray_address": "scheduler",
    **dict.fromkeys(("num_nodes", "num_edges", "num_graphs", "null_graphs", "num"), "limits"),
}
"""Options that Python calls otherwise, or takes as one value."""
COMMAND_LINE_ONLY = {"json_output", "config"}
PYTHON_ONLY = {"storage_options", "progress", "strings", "source_options", "text"}


def names(command: str) -> set[str]:
    return {str(parameter.name) for parameter in COMMANDS[command].params}


def of(group: type) -> set[str]:
    return {field.name for field in fields(group)}


@pytest.mark.parametrize("command", ["scan", "suggest", "compare", "plan", "build"])
def test_a_source_is_read_alike_by_every_command(command: str) -> None:
    assert of(SourceOptions) <= names(command)


@pytest.mark.parametrize("command", ["scan", "compare", "plan", "build"])
def test_limits_are_given_alike(command: str) -> None:
    assert of(LimitOptions) <= names(command)


@pytest.mark.parametrize("command", ["compare", "plan", "build"])
def test_a_plan_is_bounded_alike(command: str) -> None:
    assert of(BudgetOptions) | {"algorithm", "oversize"} <= names(command)


def test_a_job_file_has_the_keys_of_the_commands() -> None:
    taken = set().union(*(names(command) for command in COMMANDS if "config" in names(command)))
    taken -= {"config", "folder", "plan_file"}
    assert set(JobFile.model_fields) - taken == set(), "keys that no command takes"
    assert taken - set(JobFile.model_fields) == set(), "options that no job file can hold"


def test_build_takes_what_the_command_takes() -> None:
    arguments = {*signature(build).parameters, *signature(parse_source).parameters} - PYTHON_ONLY
    options = {IN_PYTHON.get(name, name) for name in names("build") - COMMAND_LINE_ONLY}
    assert options == arguments
    assert of(SplitOptions) | of(WorkerOptions) <= names("build")
