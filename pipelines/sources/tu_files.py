"""The text files of a TUDataset, checked against each other before PyG's reader takes them as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from packer.errors import SourceError

_FILES = {
    "node_labels": ("node", "whole"),
    "node_attributes": ("node", "real"),
    "edge_labels": ("edge", "whole"),
    "edge_attributes": ("edge", "real"),
    "graph_labels": ("graph", "whole"),
    "graph_attributes": ("graph", "real"),
}
_NUMBER = {
    "whole": re.compile("[+-]?[0-9]+"),
    "real": re.compile(r"[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE),
}


def check_files(folder: Path, raw: Path, name: str) -> int:
    """The number of graphs of the data set in `folder`. Raises SourceError, with file and line, for a number that is
    none, nodes that do not stand graph by graph, edges to nodes of other graphs or of none, and files of other lengths.

    raw: what errors call the folder.
    """

    def read(part: str, kind: str) -> np.ndarray:
        return _rows(folder / f"{name}_{part}.txt", kind, str(raw / f"{name}_{part}.txt"))

    graph_of = _graphs_of_nodes(read("graph_indicator", "whole"), f"{raw / name}_graph_indicator.txt")
    edges = _check_edges(read("A", "whole"), graph_of, f"{raw / name}_A.txt")
    graphs = int(graph_of[-1])
    wanted = {"node": len(graph_of), "edge": edges, "graph": graphs}
    for part, (level, kind) in _FILES.items():
        if not (folder / f"{name}_{part}.txt").exists():
            continue
        lines, known = len(read(part, kind)), wanted[level]
        if lines != known:
            stands = {"edge": "A", "node": "graph_indicator", "graph": "graph_indicator"}[level]
            raise SourceError(
                f"{raw / name}_{part}.txt has {lines} lines, but {name}_{stands}.txt tells of {known} {level}s: one "
                f"line for each {level}"
            )
        if level == "graph" and known == 1:
            raise SourceError(f"{raw / name}_{part}.txt has one line: PyG reads no TUDataset of a single graph")
    return graphs


def _graphs_of_nodes(rows: np.ndarray, path: str) -> np.ndarray:
    """Each node's graph, int64 [nodes]; SourceError unless graph 1 is first and the nodes stand graph by graph."""
    if rows.shape[1:] != (1,):
        raise SourceError(f"{path}, line 1: {rows.shape[1]} numbers; each line is one number, the graph of a node")
    graph_of = rows[:, 0]
    before = np.concatenate([[1], graph_of[:-1]])
    wrong = np.flatnonzero(graph_of < np.maximum(before, 1))
    if len(wrong):
        at = int(wrong[0])
        last = f"graph {graph_of[at]} after graph {before[at]}" if at else f"graph {graph_of[at]}"
        fault = last if graph_of[at] > 0 and at else f"{last}; graphs are numbered from 1"
        raise SourceError(f"{path}, line {at + 1}: {fault}: sort the nodes by their graph, and number all files so")
    if len(graph_of) == 1:
        raise SourceError(f"{path} has one line: PyG reads no TUDataset of a single node")
    return graph_of


def _check_edges(rows: np.ndarray, graph_of: np.ndarray, path: str) -> int:
    if rows.shape[1:] != (2,):
        raise SourceError(f"{path}, line 1: {rows.shape[1]} numbers; each line is an edge, two numbers of nodes")
    beyond = np.flatnonzero(((rows < 1) | (rows > len(graph_of))).any(axis=1))
    if len(beyond):
        raise SourceError(
            f"{path}, line {beyond[0] + 1}: an edge of the nodes {rows[beyond[0], 0]} and {rows[beyond[0], 1]}, but "
            f"there are the nodes 1 to {len(graph_of)}"
        )
    ends = graph_of[rows - 1]
    across = np.flatnonzero(ends[:, 0] != ends[:, 1])
    if len(across):
        at = across[0]
        raise SourceError(
            f"{path}, line {at + 1}: an edge of node {rows[at, 0]}, of graph {ends[at, 0]}, and node {rows[at, 1]}, of "
            f"graph {ends[at, 1]}: an edge joins nodes of one graph"
        )
    if len(rows) == 1:
        raise SourceError(f"{path} has one line: PyG reads no TUDataset of a single edge")
    return len(rows)


def _rows(path: Path, kind: str, name: str) -> np.ndarray:
    """The numbers of a file: int64 or float64 [lines, numbers of each]. SourceError names the line."""
    with path.open("rb") as file:
        width = file.readline().count(b",") + 1
    if not path.stat().st_size:
        raise SourceError(f"{name} is empty")
    names = [str(column) for column in range(width)]
    dtype = pa.int64() if kind == "whole" else pa.float64()
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=dict.fromkeys(names, dtype), null_values=[]),
        )
        numbers = np.stack([column.to_numpy() for column in table.columns], axis=1)
    except pa.ArrowInvalid:
        numbers = _rows_one_by_one(path, kind, width, name)
    if kind == "real":
        with np.errstate(over="ignore"):
            beyond = np.argwhere(np.isfinite(numbers) & ~np.isfinite(numbers.astype(np.float32)))
        if len(beyond):
            line, cell = beyond[0]
            raise SourceError(
                f"{name}, line {line + 1}: {numbers[line, cell]} is beyond float32, in which PyG keeps it"
            )
    return numbers


def _rows_one_by_one(path: Path, kind: str, width: int, name: str) -> np.ndarray:
    """What `_rows` gives, for texts that Arrow does not take: to find the line that is wrong, if there is one."""
    rows: list[list[float]] = []
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            cells = [cell.strip() for cell in line.split(",")]
            where = f"{name}, line {number}"
            for cell in cells:
                if not _NUMBER[kind].fullmatch(cell):
                    raise SourceError(f"{where}: {cell[:40]!r} is no {'whole ' * (kind == 'whole')}number")
                if kind == "whole" and not -(2**63) <= int(cell) < 2**63:
                    raise SourceError(f"{where}: {cell[:40]} is beyond 64 bits")
            if len(cells) != width:
                raise SourceError(f"{where}: {len(cells)} numbers, but {width} in line 1")
            rows.append([int(cell) if kind == "whole" else float(cell) for cell in cells])
    return np.array(rows, dtype=np.int64 if kind == "whole" else np.float64)
