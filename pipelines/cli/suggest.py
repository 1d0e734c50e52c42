"""`suggest`: limits worth using, with proof of how well they can be filled."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from packer.errors import LimitsError
from packer.graphs.axes import Axis
from packer.graphs.schema import Schema
from packer.suggest.suggest import Candidate, Suggestion, suggest_limits
from packer.suggest.sweep import SweepRules
from pipelines.cli import options as options
from pipelines.cli.checks import usage
from pipelines.cli.draw import draw_suggestion, write_csv
from pipelines.cli.groups import SourceOptions
from pipelines.cli.output import Heading, fill_column, percent, percents, progress, show, show_json, table, tell_skips
from pipelines.cli.scan import survey
from pipelines.cli.tables import row_width
from pipelines.survey.survey import Survey
from pipelines.text.numbers import SLOTS_MOST, whole_of


def register(app: typer.Typer) -> None:
    app.command("suggest", epilog="Example: graph-pack suggest sample:nci --multiple-of 8")(
        options.with_groups(suggest)
    )


def suggest(
    graphs: SourceOptions,
    *,
    num_graphs: Annotated[str | None, options.option("G|LEAST:MOST", "Graph slots wanted.  [default: any]")] = None,
    multiple_of: Annotated[
        int, options.number_option("multiple_of", "M", "Node and edge slots are multiples of this.")
    ] = 1,
    max_nodes: Annotated[int | None, options.number_option("max_nodes", "N", "Most node slots.")] = None,
    max_bytes: Annotated[float | None, options.number_option("max_bytes", "B", "Most tensor bytes of a pack.")] = None,
    null_graphs: options.NullGraphs = "all",
    seed: options.Seed = 0,
    time_limit: options.TimeLimit = None,
    csv: options.Csv = None,
    plot: options.Plot = None,
    workers: options.Workers = 2,
    json_output: options.Json = False,
    config: options.Config = None,
) -> None:
    """Limits worth using: hundreds are tried, the best trade-offs between pack size and padding are proven."""
    wanted = _range(num_graphs)
    with usage():
        SweepRules(null_graphs, multiple_of, max_nodes, (wanted, wanted) if isinstance(wanted, int) else wanted)
    scanned = survey(graphs.open(), graphs.scan(graphs.on_empty), workers)
    per_row = row_bytes(scanned.schema)
    with progress(quiet=json_output) as report:
        suggestion = suggest_limits(
            scanned.sizes,
            num_graphs=wanted,
            multiple_of=multiple_of,
            max_nodes=max_nodes,
            memory_bytes_per_pack=max_bytes,
            bytes_per_node={axis.key: per_row[axis.key] for axis in scanned.schema.axes if axis.level == "node"},
            bytes_per_edge={axis.key: per_row[axis.key] for axis in scanned.schema.axes if axis.level != "node"},
            bytes_per_graph=per_row["graph"],
            null_graphs=null_graphs,
            time_limit=60.0 if time_limit is None else time_limit,
            seed=seed,
            budgets=graphs.budgets,
            progress=lambda done, total, seconds: report("suggest", done, total),
        )
    if csv is not None:
        write_csv([_flat(candidate) for candidate in suggestion.front], csv)
    if plot is not None:
        draw_suggestion(suggestion, plot)
    if json_output:
        show_json(_plain(scanned.source, suggestion))
        return
    _show(scanned, suggestion)


def _show(scanned: Survey, suggestion: Suggestion) -> None:
    tell_skips(scanned.skips)
    fill, notes = fill_column(suggestion.best.fill)
    columns: list[Heading] = ["", ("limits", suggestion.best.parts), "packs", "bound", fill]
    show(
        f"{scanned.source}: {scanned.sizes.num_graphs:,} graphs; {suggestion.num_triples:,} limits looked at, "
        f"{suggestion.num_packed:,} packed, {suggestion.num_solved:,} solved in {suggestion.seconds:.1f} s",
        table(
            "",
            [*columns, ("padding", "of bytes"), ("kB", "a pack")],
            [_row(candidate, candidate is suggestion.best) for candidate in suggestion.front],
        ),
        *notes,
        f"*: {suggestion.reason}.",
    )


def row_bytes(schema: Schema) -> dict[str, float]:
    """Axis key and "graph" -> bytes of one row of all its tensors, as the reader gives them (masks and batch too)."""
    widths: dict[str, float] = {axis.key: 1.0 + (8.0 if axis.is_pointed else 0.0) for axis in schema.axes}
    widths["graph"] = 1.0 + 8.0
    for field in schema.fields:
        key = "graph" if field.axis is None else Axis(field.level, field.type).key
        if field.role != "count":
            widths[key] += row_width(field.shape, field.dtype)
    return widths


def _range(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    ends = [whole_of(part) for part in text.split(":")]
    numbers = [end for end in ends if end is not None and end <= SLOTS_MOST]
    with usage():
        if len(numbers) < len(ends) or len(ends) > 2:
            raise LimitsError(f"--num-graphs takes a number or LEAST:MOST; got {text!r}")
    return (numbers[0], numbers[1]) if len(numbers) > 1 else numbers[0]


def _row(candidate: Candidate, best: bool) -> list[Any]:
    bound = "proven" if candidate.status == "optimal" else candidate.lower_bound
    return [
        "*" if best else "",
        candidate.name,
        candidate.num_packs,
        bound,
        percents(candidate.fill.values()),
        percent(candidate.padding_share),
        f"{candidate.bytes_per_pack / 1e3:,.1f}",
    ]


def _flat(candidate: Candidate) -> dict[str, Any]:
    plain = candidate.to_dict()
    return {**plain.pop("limits"), **plain}


def _plain(source: str, suggestion: Suggestion) -> dict[str, Any]:
    return {
        "source": source,
        "best": suggestion.best.to_dict(),
        "reason": suggestion.reason,
        "front": [candidate.to_dict() for candidate in suggestion.front],
        "looked_at": suggestion.num_triples,
        "packed": suggestion.num_packed,
        "solved": suggestion.num_solved,
        "stopped_by": suggestion.stopped_by,
        "seconds": round(suggestion.seconds, 3),
    }
