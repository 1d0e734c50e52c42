"""What the command line shows: results on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipelines.building.options import Progress as Report
from pipelines.cli.streams import emit
from pipelines.sources.protocol import Skip
from pipelines.text.clean import line, stored

_STAGES = {
    "scan": "scanning graphs",
    "join": "joining blocks",
    "count": "counting graphs by size",
    "plan": "planning data sets",
    "solve": "planning",
    "suggest": "trying limits",
    "route": "sending graphs to their shards",
    "write": "writing packs",
    "verify": "checking shards",
}
_SHOWN_SKIPS = 20
WIDTH = 160
"""Columns of text where nobody looks; on a terminal its own."""


def say(text: str) -> None:
    """A line of log, on standard error."""
    emit(f"graph-pack: {line(text)}\n", "stderr")


def show_json(value: Any) -> None:
    """One JSON document on standard output: ASCII, without control characters; null for what is no finite number."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False)
    emit(text.replace("\x7f", r"\u007f") + "\n")  # the one control character that JSON writes as it is


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return stored(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[Any, Any]", value)
        return {stored(str(name)): _plain(member) for name, member in members.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in cast("Sequence[Any]", value)]
    return value


class _Page(io.StringIO):
    """Text for standard output, which Rich is told of."""

    encoding = property(lambda self: sys.stdout.encoding)  # pyright: ignore[reportAssignmentType]

    def isatty(self) -> bool:
        return sys.stdout.isatty()


def show(*parts: str | Table) -> None:
    """Lines and tables on standard output; not cut to a width where nobody looks."""
    page, width = _Page(), None if sys.stdout.isatty() else WIDTH
    console = Console(file=page, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
    for part in parts:
        console.print(Text(line(part)) if isinstance(part, str) else part)
    emit(page.getvalue())


Heading = str | tuple[str, ...]


def table(
    title: str, columns: Sequence[Heading], rows: Sequence[Sequence[Any]], left: int = 1, last: str = "right"
) -> Table:
    """A table whose first `left` columns are words and the others numbers, but for the last one where it says so.

    Narrow, for terminals of 80 columns. A heading of several lines is a tuple. Every text may come from data.
    """
    grid = Table(
        title=Text(line(title)) if title else None,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for number, column in enumerate(columns):
        words = number < left or (number == len(columns) - 1 and last == "left")
        heading = "\n".join(line(part) for part in ((column,) if isinstance(column, str) else column))
        grid.add_column(Text(heading), justify="left" if words else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(line(cell) if isinstance(cell, str) else number_text(cell)) for cell in row))
    return grid


def number_text(value: Any) -> str:
    """Whole numbers with thousands, others with two decimals, None as a dash."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def percents(shares: Iterable[float]) -> str:
    """Several of them in one cell: "98.4/98.7/79.8"."""
    return "/".join(f"{100 * share:.1f}" for share in shares)


def fill_column(keys: Iterable[str]) -> tuple[Heading, list[str]]:
    """Title of a column of `percents`, and a line to explain it where the names of types would make it too wide."""
    names = "/".join(keys)
    return (("fill %", names), []) if len(names) <= 20 else ("fill %", [f"fill %: {names}"])


def tell_skips(skips: Sequence[Skip], named_by: str = "graph-pack scan --json names") -> None:
    """Source graphs that cannot be packed, one a line with its place and reason; named_by: where to find all."""
    for skip in skips[:_SHOWN_SKIPS]:
        where = skip.where or f"graph {skip.graph_id}"
        text = f": {dict(skip.strings)['smiles'][:60]}" if "smiles" in dict(skip.strings) else ""
        say(f"skipped {where}: {skip.reason}{text}")
    if len(skips) > _SHOWN_SKIPS:
        say(f"skipped {len(skips) - _SHOWN_SKIPS:,} more; {named_by} them all")


@contextmanager
def progress(quiet: bool = False) -> Generator[Report]:
    """A function to report progress to: bars on a terminal; elsewhere a line at the end of each stage and, in long
    ones, one every ten seconds."""
    if quiet:
        yield lambda stage, done, total: None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _lines()


@contextmanager
def _bars() -> Generator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, tuple[Any, float]] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                task = bars.add_task(_STAGES.get(stage, stage), total=total, rate="")
                tasks[stage] = (task, time.monotonic())
            task, start = tasks[stage]
            seconds = time.monotonic() - start
            rate = f"{done / seconds:,.0f}/s" if seconds > 0.5 else ""
            if stage == "solve":
                rate = _so_far(stage, done, total)
            bars.update(task, completed=done, total=total, rate=rate)

        yield report


def _lines(every: float = 10.0) -> Report:
    starts: dict[str, float] = {}
    told: dict[str, float] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        start = starts.setdefault(stage, now)
        last = told.setdefault(stage, now)
        finished = total is not None and done >= total
        if (finished and last is not float("inf")) or now - last >= every:
            say(f"{_STAGES.get(stage, stage)}: {_so_far(stage, done, total)} in {now - start:.1f} s")
            told[stage] = now

    return report


def _so_far(stage: str, done: int, total: int | None) -> str:
    if total is None:
        return f"{done:,}"
    if stage == "solve":
        return f"{total:,} packs, at least {done:,} needed, gap {percent(total / done - 1)}"
    return f"{done:,} of {total:,}"
