"""What a build would pack, without packs: what `compare` and `plan` work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from packer.graphs.sizes import GraphSizes, select_sizes
from packer.limits.pack_limits import PackLimits
from packer.packs.trim import TRIM
from pipelines.building.mapped.trim import trim_scan
from pipelines.building.options import Progress, ScanOptions
from pipelines.building.plan import check_fit
from pipelines.building.scan import scan_source
from pipelines.executors import Executor
from pipelines.sources.protocol import Source
from pipelines.stores.journal import Journal
from pipelines.stores.store import FolderStore
from pipelines.survey.survey import Survey, survey_source


@dataclass(frozen=True)
class Preview:
    """limits: of every pack; sizes: of the graphs that would be packed, in source order, as they would be packed."""

    survey: Survey
    limits: PackLimits
    sizes: GraphSizes


def preview(
    source: Source,
    options: ScanOptions,
    choose: Callable[[GraphSizes], PackLimits],
    oversize: str,
    seed: int,
    executor: Executor,
    progress: Progress,
) -> Preview:
    """Read the whole source, and do with graphs that fit no pack what a build with this policy and seed would do.

    choose: the limits for graphs of these sizes. Only trimming needs the features: they then pass through a temporary
    folder, as in a build. Raises SourceError, FieldError and SizesError, as a build would.
    """
    if oversize not in TRIM:
        survey = survey_source(source, options, executor, progress)
        limits = choose(survey.sizes)
        fits = check_fit(survey.sizes, limits, survey.source_ids, oversize)
        return Preview(survey, limits, select_sizes(survey.sizes, np.flatnonzero(fits)))
    with TemporaryDirectory() as folder:
        work = Path(folder)
        journal = Journal(FolderStore(work, work))
        scan = scan_source(source, options, work, journal, executor, progress)
        table, sizes = scan.table, scan.table.sizes()
        limits = choose(sizes)
        trimmed = trim_scan(scan, limits, oversize, seed, work, journal).table.sizes()
        ids = np.array(table.source_ids)
        survey = Survey(source.name, scan.num_graphs, ids, sizes, table.schema, scan.ambiguous, scan.skips)
        return Preview(survey, limits, trimmed)
