"""What commands draw and write beside their tables; the drawing package is imported when it is needed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from packer.graphs.sizes import GraphSizes
from packer.plan.pack_plan import PackPlan
from pipelines.cli.output import say
from pipelines.stores.locations import Where


def draw_sizes(sizes: GraphSizes, path: Path) -> None:
    """Histograms of each axis and, for homogeneous graphs, the joint one first."""
    from pipelines.report.figures import joint_histogram, size_histogram

    joint = joint_histogram(sizes)
    _save([*([joint] if joint else []), *(size_histogram(sizes, axis.key) for axis in sizes.axes)], path)


def draw_plans(plans: Sequence[PackPlan], path: Path) -> None:
    from pipelines.report.figures import compared

    _save([compared(plans)], path)


def draw_one_pack(folder: Where, pack: int, path: Path) -> None:
    from pipelines.report.pack_drawing import draw_pack, read_pack

    _save([draw_pack(read_pack(cast("Path", folder), pack))], path)  # it takes what open_shard takes


def draw_suggestion(suggestion: Any, path: Path) -> None:
    from pipelines.report.figures import suggested

    _save([suggested(suggestion)], path)


def draw_audit(audit: Any, path: Path) -> None:
    from pipelines.report.audit_figures import learning

    _save(learning(audit), path)


def pack_as_text(folder: Where, pack: int) -> list[str]:
    """The slots of a pack, a sign each, in lines."""
    from pipelines.report.pack_drawing import draw_text, read_pack

    return draw_text(read_pack(cast("Path", folder), pack)).split("\n")


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One line a row; what is nested becomes columns such as fill_node."""
    flat = [
        {
            name: value
            for key, cell in row.items()
            for name, value in (
                {f"{key}_{part}": v for part, v in cell.items()}.items() if isinstance(cell, Mapping) else [(key, cell)]
            )
        }
        for row in rows
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
    say(f"table: {path}")


def _save(pictures: Sequence[Any], path: Path) -> None:
    from pipelines.report.style import save_pictures

    for picture in save_pictures(pictures, path):
        say(f"picture: {picture}")
