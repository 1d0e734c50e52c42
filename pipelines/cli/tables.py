"""What `scan` shows of a source: how large its graphs are, and what they are made of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from packer.graphs.sizes import GraphSizes
from pipelines.cli.output import table
from pipelines.sources.protocol import Skip
from pipelines.survey.survey import Survey


def size_tables(sizes: GraphSizes) -> list[Any]:
    """The tables that PyG's `Summary` prints: nodes and edges of all types together beside further axes and budgets,
    then of each type by itself."""
    axes = {level: [axis for axis in sizes.axes if axis.level == level] for level in ("node", "edge")}
    none = np.zeros_like(next(iter(sizes.columns.values())))
    whole = {f"#{level}s": sum((sizes.columns[axis.key] for axis in axes[level]), none) for level in axes}
    whole |= {f"#{axis.rows}": sizes.columns[axis.key] for axis in sizes.axes if axis.level not in axes}
    tables = [_summary_table(f"Sizes: {len(sizes.distinct[0]):,} distinct", whole)]
    for level, of_level in axes.items():
        if of_level and of_level[0].type is not None:
            columns = {axis.key: sizes.columns[axis.key] for axis in of_level}
            tables.append(_summary_table(f"Number of {level}s per {level} type", columns))
    return tables


def _summary_table(title: str, columns: dict[str, np.ndarray]) -> Any:
    summaries = [summary(values) for values in columns.values()]
    names = {"25%": "quantile25", "50%": "median", "75%": "quantile75"}
    rows: list[list[Any]] = [
        [names.get(row, row), *(one[row] if row == "total" else f"{one[row]:,.1f}" for one in summaries)]
        for row in summaries[0]
    ]
    return table(title, ["", *columns], rows)


def summary(values: np.ndarray) -> dict[str, float | int]:
    """The numbers that PyG's `Dataset.print_summary` shows, and the total."""
    quarter, three = np.percentile(values, [25, 75])
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "min": int(np.min(values)),
        "25%": float(quarter),
        "50%": float(np.percentile(values, 50, method="lower")),
        "75%": float(three),
        "max": int(np.max(values)),
        "total": int(np.sum(values)),
    }


def field_table(survey: Survey) -> Any:
    schema = survey.schema
    rows = [
        [field.key, field.level + (" ?" if field.key in survey.ambiguous else ""), field.role, str(list(field.shape))]
        + [field.dtype, field.storage, row_width(field.shape, field.dtype)]
        for field in schema.fields
    ]
    rows += [[name, "graph", "string", "", "string", "graphs.parquet", None] for name in schema.strings]
    columns = ["name", "level", "role", "shape", "dtype", "stored as", "bytes"]
    return table("Fields: shape and bytes of one row", columns, rows, left=6)


def fault_table(survey: Survey) -> Any:
    """Reasons, how many graphs each concerns, and the place of the first."""
    first: dict[str, Skip] = {}
    for skip in survey.skips:
        first.setdefault(skip.reason, skip)
    count = Counter(skip.reason for skip in survey.skips)
    rows = [[reason, skip.where or f"graph {skip.graph_id}", count[reason]] for reason, skip in first.items()]
    return table("Faults: graphs that cannot be packed", ["fault", "first", "graphs"], rows, left=2)


def row_width(shape: tuple[int, ...], dtype: str) -> int:
    """Tensor bytes of one row of a field."""
    size = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    return int(np.prod(shape, dtype=np.int64)) * size
