"""The sizes of a data set's graphs, without their features."""

from __future__ import annotations

from itertools import islice
from typing import Any, Iterator

import numpy as np

from packer.errors import SizesError
from packer.graphs.axes import HOMOGENEOUS, Axis
from packer.graphs.sizes import GraphSizes
from packer.scan.attributes import Attributes
from packer.scan.counts import count_rows
from packer.scan.from_objects import block_of_storage, reads_from_storage
from packer.scan.items import check_source, graphs_of

_STORED = 8192


def sizes_of_dataset(dataset: Any, guess_num_nodes: bool = False) -> GraphSizes:
    """Sizes of the graphs of a PyG data set, a list or another iterable of Data or HeteroData; or GraphSizes as it is.

    Graphs without nodes are passed over, as no pack takes them. guess_num_nodes: as `build` has it. Raises SourceError
    and SizesError.
    """
    if isinstance(dataset, GraphSizes):
        return dataset
    columns: dict[Axis, np.ndarray] = {}
    graphs = 0
    for counts, number in _counted(dataset, guess_num_nodes):
        for axis in {**columns, **counts}:
            earlier = columns.get(axis, np.zeros(graphs, dtype=np.int64))
            columns[axis] = np.append(earlier, counts.get(axis, np.zeros(number, dtype=np.int64)))
        graphs += number
    nodes = sum((columns[axis] for axis in columns if axis.level == "node"), np.zeros(graphs, dtype=np.int64))
    by_level: dict[str, Any] = {"node": {}, "edge": {}}
    for axis in columns:
        by_level[axis.level][axis.type] = columns[axis][nodes > 0]
    if not (nodes > 0).any():
        reason = f"none of the {graphs:,} graphs has nodes" if graphs else "the data set holds no graph"
        raise SizesError(f"{reason}: there is nothing to find limits from")
    node_sizes, edge_sizes = (counts.get(None, counts) for counts in by_level.values())
    return GraphSizes(node_sizes, edge_sizes)


def _counted(dataset: Any, guess: bool) -> Iterator[tuple[dict[Axis, np.ndarray], int]]:
    """Axis -> int64 [graphs] for consecutive graphs, and their number."""
    check_source(dataset, f"a {type(dataset).__name__}")
    if hasattr(type(dataset), "indices") and reads_from_storage(dataset):
        attributes = Attributes(guess_num_nodes=guess)
        for start in range(0, len(dataset), _STORED):
            block = block_of_storage(dataset, start, min(start + _STORED, len(dataset)), attributes)
            yield {axis: block.counts[axis.key] for axis in block.statistics.axes or HOMOGENEOUS}, len(block.ids)
        return
    rest = enumerate(graphs_of(dataset, f"a {type(dataset).__name__}"))
    while chunk := [count_rows(graph, number, guess) for number, graph in islice(rest, _STORED)]:
        axes = dict.fromkeys(axis for counts in chunk for axis in counts)
        yield {axis: np.array([c.get(axis, 0) for c in chunk], dtype=np.int64) for axis in axes}, len(chunk)
