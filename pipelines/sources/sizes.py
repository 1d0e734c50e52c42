"""Sizes without graphs: one row a graph in an npz, CSV or Parquet file, to plan with before there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from packer.errors import SourceError
from packer.files.atomic import hash_file
from packer.graphs.axes import BUDGET, HOMOGENEOUS, Axis
from packer.graphs.sizes import GraphSizes, with_columns
from packer.scan.attributes import Attributes
from packer.scan.columns import NO_NODES
from pipelines.sources.protocol import BlockTask, Skip
from pipelines.sources.table import check_delimiter

NODES = ("num_nodes", "natoms", "num_atoms_per_entry")
"""What files call the number of nodes, where no column is named: ours, fairchem's, NequIP's."""
EDGES = ("num_edges", "neighbors")


@dataclass(frozen=True)
class SizesFile:
    """A file of sizes. nodes, edges: columns; None for those of NODES and EDGES that it has. Graphs have no edges where
    no column tells of them. What declares further axes and budgets names their columns."""

    path: Path
    nodes: str | None = None
    edges: str | None = None
    delimiter: str = ","

    parallel = False
    repeatable = True
    on_empty = "error"
    num_graphs = None

    @property
    def name(self) -> str:
        return f"sizes:{self.path}"

    @property
    def argv(self) -> tuple[str, ...]:
        columns = {"--nodes-column": self.nodes, "--edges-column": self.edges}
        return (self.name, *(word for option, column in columns.items() if column for word in (option, column)))

    def key(self) -> dict[str, Any]:
        return {"kind": "sizes", "sha256": hash_file(self.path).sha256, "columns": [self.nodes, self.edges]}

    def tasks(self) -> Iterator[BlockTask]:
        raise SourceError(
            f"{self.name} holds sizes, not graphs: scan, suggest, compare and plan take it. To build or trim, name the "
            "source of the graphs (and pass --plan, to use a plan that was made of these sizes)"
        )

    def read(self, attributes: Attributes) -> tuple[GraphSizes, np.ndarray, list[Skip]]:
        """(sizes of the graphs that have nodes, int64 [graphs] their numbers in the file, the other graphs).

        Raises SourceError for what is no such file, and for a number that is none, naming column and row.
        """
        for axis, fields in attributes.axes:
            if len(fields) != 1:
                raise SourceError(f"axis {axis!r} of {self.name} is one column of numbers of rows; got {list(fields)}")
        names = {Axis(axis): fields[0] for axis, fields in attributes.axes}
        names |= {Axis(BUDGET, budget): budget for budget in attributes.budgets}
        stored = self._stored()
        node, edge = HOMOGENEOUS
        names[node] = self._named(stored, self.nodes, NODES, "nodes")
        edges = self._named(stored, self.edges, EDGES, "edges")
        columns = {axis: self._numbers(stored, name) for axis, name in names.items()}
        columns[edge] = self._numbers(stored, edges) if edges else np.zeros(len(columns[node]), dtype=np.int64)
        for axis, values in columns.items():
            if len(values) != len(columns[node]):
                raise SourceError(
                    f"{self.name}: column {names.get(axis, edges)!r} has {len(values)} rows, {names[node]!r} has "
                    f"{len(columns[node])}: one a graph each"
                )
        kept = np.flatnonzero(columns[node] > 0)
        if not len(kept):
            raise SourceError(f"{self.name} has no graph with nodes, in {len(columns[node])} rows")
        axes = (*HOMOGENEOUS, *(axis for axis in columns if axis not in HOMOGENEOUS))
        sizes = with_columns(axes, {axis.key: columns[axis][kept] for axis in axes})
        empty = np.flatnonzero(columns[node] == 0).tolist()
        return sizes, kept, [Skip(row, NO_NODES, f"row {row + 1}") for row in empty]

    def _stored(self) -> Mapping[str, Any]:
        """Column -> its values, read when they are asked for."""
        try:
            if self.path.suffix == ".npz":
                with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    return _Columns(list(arrays), self._of_npz)
            if self.path.suffix == ".parquet":
                return _Columns(pq.ParquetFile(self.path, memory_map=True).schema_arrow.names, self._of_parquet)
            with pc.open_csv(self.path, parse_options=pc.ParseOptions(delimiter=self.delimiter)) as file:
                return _Columns(file.schema.names, self._of_csv)
        except (OSError, EOFError, ValueError, BadZipFile, pa.ArrowException) as error:
            raise SourceError(f"{self.name} cannot be read as an npz, CSV or Parquet file: {error}") from error

    def _of_npz(self, column: str) -> Any:
        with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays[column]

    def _of_parquet(self, column: str) -> Any:
        return pq.read_table(self.path, columns=[column]).column(0)

    def _of_csv(self, column: str) -> Any:
        parse = pc.ParseOptions(delimiter=self.delimiter)
        convert = pc.ConvertOptions(include_columns=[column], column_types={column: pa.int64()}, null_values=[""])
        read = pc.ReadOptions(use_threads=False)  # errors then name the row
        return pc.read_csv(self.path, read, parse, convert).column(0)

    def _named(self, stored: Mapping[str, Any], asked: str | None, known: tuple[str, ...], rows: str) -> str:
        present = [name for name in known if name in stored]
        if asked is None and len(present) == 1:
            return present[0]
        if asked is not None or not present:
            if asked is None and rows == "edges":
                near = [name for name in stored if "edge" in name.lower() or "neighbo" in name.lower()]
                if near:
                    raise SourceError(f"{self.name} has {near}: say which counts edges, --edges-column NAME")
                return ""
            return asked or f"{known[0]}"
        raise SourceError(f"{self.name} has {present}: say which counts {rows} (--{rows}-column)")

    def _numbers(self, stored: Mapping[str, Any], column: str) -> np.ndarray:
        """int64 [graphs]."""
        names = list(stored)
        if names.count(column) != 1:
            many = "more than one column" if column in names else "no column"
            ways = "--nodes-column, --edges-column, --axis NAME=COLUMN and --budget COLUMN=MOST name columns"
            raise SourceError(f"{self.name} has {many} {column!r}; its columns are {names[:20]}. {ways}")
        try:
            values = stored[column]
        except (OSError, EOFError, ValueError, BadZipFile, pa.ArrowException) as error:
            raise SourceError(f"{self.name}: column {column!r} is no column of whole numbers: {error}") from error
        if isinstance(values, pa.ChunkedArray):
            if values.null_count:
                row = int(np.argmax(values.is_null().to_numpy()))
                raise SourceError(f"{self.name}: column {column!r} has no number in row {row + 1}")
            values = values.to_numpy()
        values = np.asarray(values)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise SourceError(
                f"{self.name}: column {column!r} is {values.dtype} of shape {list(values.shape)}, not whole numbers, "
                "one a graph"
            )
        wrong = np.flatnonzero((values < 0) | (values >= 2**31))
        if len(wrong):
            raise SourceError(
                f"{self.name}: column {column!r} is {values[wrong[0]]} in row {wrong[0] + 1}; sizes are 0 to 2**31 - 1"
            )
        return values.astype(np.int64)


def sizes_file(text: str, nodes_column: str | None, edges_column: str | None, delimiter: str | None) -> SizesFile:
    """The source `sizes:TEXT` that options ask for. SourceError for a delimiter that is none."""
    return SizesFile(Path(text), nodes_column, edges_column, check_delimiter(delimiter or ","))


class _Columns(dict[str, Any]):
    """Names of columns, each read at the first look at it."""

    def __init__(self, names: list[str], read: Any) -> None:
        super().__init__(dict.fromkeys(names))
        self._names, self._read = names, read

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, column: str) -> Any:
        return self._read(column)
