"""Which graphs belong to which data set of a build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from packer.errors import SourceError
from packer.graphs.table import GraphTable
from pipelines.building import splits as splitting
from pipelines.building.scan import ScanResult
from pipelines.building.splits import Splits
from pipelines.sources.protocol import Skip


@dataclass(frozen=True)
class Members:
    """The graphs of one data set. source_ids: int64, ascending, skipped ones included; rows: int64, those rows of the
    graph table that are to be packed, ascending."""

    source_ids: np.ndarray
    rows: np.ndarray


def members(scan: ScanResult, splits: Splits | None, fits: np.ndarray) -> dict[str, Members]:
    """The data sets to build: split name -> its graphs ("" for all of them). SourceError for an empty split."""
    table = scan.table
    if splits is None:
        chosen = {"": np.arange(scan.num_graphs, dtype=np.int64)}
    elif splits.fractions:
        chosen = splitting.by_fractions(splits, scan.num_graphs)
    elif splits.file is not None:
        chosen = splitting.by_file(splits.file, scan.num_graphs, splits.sha256)
    else:
        column = str(splits.column)
        labels = labels_of(table, np.arange(scan.num_graphs), scan.skips, column)
        # A skipped graph that names no split is listed with the first graph that can be packed.
        labels[labels == None] = labels[table.source_ids[0]]  # noqa: E711
        chosen = splitting.by_labels(labels.astype(str), column)
    by_name: dict[str, Members] = {}
    for name, ids in chosen.items():
        at = np.minimum(np.searchsorted(table.source_ids, ids), table.num_graphs - 1)
        rows = at[table.source_ids[at] == ids]
        rows = rows[fits[rows]]
        if not len(rows):
            raise empty_split(name, scan.num_graphs)
        by_name[name] = Members(ids, rows)
    return by_name


def empty_split(name: str, num_graphs: int) -> SourceError:
    """The error that a data set would be empty. num_graphs: of the source."""
    return SourceError(f"split {name!r} has no graph to pack, of {num_graphs} in all: give it a larger share")


def labels_of(table: GraphTable, ids: np.ndarray, skips: Iterable[Skip], column: str) -> np.ndarray:
    """str or None [ids]: the value that each source graph has in a string attribute, or in a graph-level field of one
    number; None for a skipped graph without one.

    ids: ascending; every graph of the table is among them. Raises SourceError for an unknown column, and for a graph of
    the table that has no value.
    """
    schema = table.schema
    labels = np.full(len(ids), None, dtype=object)
    numbers = [
        one
        for one in schema.fields
        if one.level == "graph" and one.shape == () and one.role != "count" and one.dtype != "bfloat16"
    ]
    fields = {one.key: one for one in numbers}
    keys = [one.key for one in numbers if column in (one.key, one.name)]
    if column in schema.strings:
        texts = table.strings[column].to_pylist()
    elif column in fields or len(keys) == 1:
        key = column if column in fields else keys[0]
        values = table.columns[key].tolist()
        has = table.columns.get(f"{key}_present", np.ones(len(values), dtype=bool))
        texts = [str(value) if known and value == value else None for value, known in zip(values, has, strict=True)]
    else:
        known = [*schema.strings, *fields]
        raise SourceError(
            f"nothing called {column!r} to split by; there are: {', '.join(known) or 'no such attributes'}"
        )
    unlabelled = np.flatnonzero([not value for value in texts])
    if len(unlabelled):
        first = table.source_ids[unlabelled[0]]
        raise SourceError(f"graph {first} has no {column!r}: every graph needs one to be split by it")
    labels[np.searchsorted(ids, table.source_ids)] = texts
    for skip in skips:
        labels[np.searchsorted(ids, skip.graph_id)] = dict(skip.strings).get(column) or None
    return labels
