"""What the documentation takes from the code: the command reference and the pictures. MkDocs calls the hooks."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.report.style import escape, svg_text

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!decisions)[^)]*\)")


def on_config(config: Any) -> Any:
    """List every decision record, so that a new one needs no entry."""
    records = sorted((Path(config.docs_dir) / "decisions").glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{record.name}" for record in records]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add commands.md and pictures/*.svg to the pages, what benchmarks drew among them."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=command_reference()))
    results = Path(config.docs_dir).parent / "benchmarks" / "results"
    drawn = {path.stem: path.read_text() for path in results.glob("*.svg")}
    for name, svg in {**pictures(), **drawn}.items():
        files.append(File.generated(config, f"pictures/{name}.svg", content=svg))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to files outside the documentation become plain text."""
    return _OUTSIDE.sub(r"\1", markdown) if page.file.src_uri.count("/") == 0 else markdown


def command_reference() -> str:
    """Markdown: every command with its arguments, options and example, from the code of the command line."""
    from typer.main import get_command

    from pipelines.cli.app import app

    group: Any = get_command(app)
    parts = ["# Commands", "", str(group.help), "", str(group.epilog or ""), ""]
    for name, command in group.commands.items():
        context = command.make_context(f"graph-pack {name}", [], resilient_parsing=True)
        parts += [f"## `graph-pack {name}`", "", str(command.help or ""), ""]
        example = str(command.epilog or "").removeprefix("Example: ")
        parts += ["```bash", example, "```", ""] if example else []
        parts += ["| argument or option | what it does |", "|---|---|"]
        for option in command.params:
            record = option.get_help_record(context)
            if record is not None:
                name_of, what = (escape(" ".join(text.split())).replace("|", "&#124;") for text in record)
                parts.append(f"| <code>{name_of.removesuffix(' &lt;str&gt;')}</code> | {what} |")
        parts.append("")
    return "\n".join(parts)


@cache
def pictures() -> dict[str, str]:
    """File name -> SVG: a small pack, algorithms side by side, and limits worth using, all of made-up graphs."""
    from packer.graphs.sizes import GraphSizes
    from packer.limits.pack_limits import PackLimits
    from packer.plan.pack_plan import make_plan
    from packer.suggest.suggest import suggest_limits
    from pipelines.report.figures import compared, suggested
    from pipelines.report.pack_drawing import draw_pack

    random = np.random.default_rng(0)
    nodes = np.clip(random.normal(18, 6, 3000), 5, 40).astype(np.int64)
    sizes = GraphSizes(nodes, 2 * (nodes + random.integers(-1, 3, 3000)))
    names = ("stream", "first-fit-decreasing", "best-fit-decreasing", "histogram", "optimal")
    plans = [make_plan(sizes, PackLimits(256, 544, 16), name) for name in names]
    found = {
        "pack": draw_pack(_small_pack()),
        "algorithms": compared(plans),
        "limits": suggested(suggest_limits(sizes, multiple_of=8, work_limit=0.3, time_limit=None)),
    }
    return {name: svg_text(picture) for name, picture in found.items()}


def _small_pack() -> Any:
    """Four rings and chains in a pack of 40 nodes, 76 edges and 6 slots."""
    import torch
    from torch_geometric.data import Data

    from packer.limits.pack_limits import PackLimits
    from pipelines.building.build import build
    from pipelines.report.pack_drawing import read_pack

    graphs: list[Any] = []
    for nodes, ring in ((6, True), (9, False), (10, True), (7, False)):
        ends = [(i, (i + 1) % nodes) for i in range(nodes if ring else nodes - 1)]
        both = torch.tensor(ends + [(b, a) for a, b in ends]).T
        graphs.append(Data(x=torch.zeros(nodes, 1), edge_index=both))
    with tempfile.TemporaryDirectory() as folder:
        build(graphs, Path(folder) / "packs", PackLimits(40, 76, 6), workers=1)
        return read_pack(Path(folder) / "packs", 0)
