"""Between scan and plan: graphs too large for a pack are cut down, where the user asked for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from packer.graphs.table import GraphTable, TableWriter
from packer.limits.pack_limits import PackLimits
from packer.packs.trim import room_for_one, trim
from pipelines.building.inputs import add_input
from pipelines.building.mapped.shards import LOST
from pipelines.building.scan import ScanResult
from pipelines.stores.journal import Journal

_TRIMMED = "trimmed"
_GRAPHS_PER_PART = 1 << 14


def trim_scan(scan: ScanResult, limits: PackLimits, policy: str, seed: int, work: Path, journal: Journal) -> ScanResult:
    """The scan with a table of trimmed graphs in `work`, written a part at a time; the same scan where all graphs fit.

    What each graph lost stands beside the table: int64 [axes, graphs]. The outcome is a function of the graphs, limits,
    policy and seed. Raises SizesError and FieldError, as `packer.packs.trim.trim`.
    """
    table = scan.table
    room = room_for_one(table.schema.sized, limits)
    if all((table.counts(key) <= most).all() for key, most in room.items()):
        return scan
    folder = work / _TRIMMED
    lost = np.zeros((len(table.schema.axes), table.num_graphs), dtype=np.int64)
    with TableWriter(folder, table.schema) as writer:
        for start in range(0, table.num_graphs, _GRAPHS_PER_PART):
            rows = np.arange(start, min(start + _GRAPHS_PER_PART, table.num_graphs))
            part, by_axis = trim(table.select(rows), limits, policy, seed)
            writer.append(part)
            lost[:, rows] = [by_axis[axis.key] for axis in table.schema.axes]
        writer.put(LOST, lost)
    add_input(journal, _TRIMMED, writer.sums)
    return replace(scan, folder=folder, table=GraphTable.open(folder), trimmed=lost.any(axis=0))
