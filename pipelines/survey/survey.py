"""A scan that keeps only sizes and statistics: what `scan`, `compare` and `plan` look at. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from packer.graphs.axes import BUDGET, Axis
from packer.graphs.schema import Schema
from packer.graphs.sizes import GraphSizes, with_columns
from packer.scan.attributes import ALL, Attributes
from packer.scan.statistics import Statistics
from pipelines.building.options import Progress, ScanOptions
from pipelines.building.scan import check_skips
from pipelines.executors import Executor, SerialExecutor
from pipelines.sources.protocol import BlockTask, Source
from pipelines.sources.sizes import SizesFile
from pipelines.sources.skips import Skips, nothing_left


@dataclass(frozen=True)
class Survey:
    """What a source is like. sizes and source_ids (int64 [graphs]) are of the graphs that can be packed; num_graphs and
    skips also count the others; ambiguous: fields whose level the data leave open."""

    source: str
    num_graphs: int
    source_ids: np.ndarray
    sizes: GraphSizes
    schema: Schema
    ambiguous: tuple[str, ...]
    skips: Skips


@dataclass(frozen=True)
class BlockSurvey:
    """One block: how many source graphs it covers, and ids and counts of those that can be packed."""

    num_records: int
    ids: np.ndarray
    counts: Mapping[str, np.ndarray]
    statistics: Statistics
    skips: Skips


def survey_task(task: BlockTask, attributes: Attributes = ALL) -> BlockSurvey:
    """Scan one block and forget its features."""
    scan = task.scan(attributes)
    counts, skips = dict(scan.graphs.counts), Skips.of(scan.skips)
    return BlockSurvey(scan.num_records, scan.graphs.ids, counts, scan.graphs.statistics, skips)


def survey_source(source: Source, options: ScanOptions, executor: Executor, progress: Progress) -> Survey:
    """Read the whole source. Raises SourceError and FieldError, as a build would."""
    if isinstance(source, SizesFile):
        return _survey_sizes(source, options)
    blocks: list[BlockSurvey] = []
    scanned = 0
    runner = executor if source.parallel else SerialExecutor()
    for block in runner.map(partial(survey_task, attributes=options.attributes), source.tasks()):
        check_skips(source, options, block.skips)
        blocks.append(block)
        scanned += block.num_records
        progress("scan", scanned, source.num_graphs)
    ids = np.concatenate([block.ids for block in blocks]) if blocks else np.zeros(0, dtype=np.int64)
    if not len(ids):
        raise nothing_left(source.name, Skips.joined(block.skips for block in blocks))
    schema, ambiguous = options.decide(block.statistics for block in blocks)
    columns = {axis.key: _joined(blocks, axis) for axis in schema.sized}
    sizes = with_columns(schema.sized, columns)
    skips = Skips.joined(block.skips for block in blocks)
    return Survey(source.name, scanned, ids, sizes, schema, ambiguous, skips)


def _survey_sizes(source: SizesFile, options: ScanOptions) -> Survey:
    sizes, ids, empty = source.read(options.attributes)
    skips = Skips.of(empty)
    check_skips(source, options, skips)
    schema = Schema(tuple(axis for axis in sizes.axes if axis.level != BUDGET), (), budgets=tuple(sizes.budgets))
    return Survey(source.name, len(ids) + len(empty), ids, sizes, schema, (), skips)


def _joined(blocks: list[BlockSurvey], axis: Axis) -> np.ndarray:
    """int64 [graphs]; a block that has no such axis counts 0."""
    return np.concatenate([block.counts.get(axis.key, np.zeros(len(block.ids), dtype=np.int64)) for block in blocks])
