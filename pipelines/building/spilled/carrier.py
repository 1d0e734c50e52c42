"""The carrier where workers share no memory: its phases in order, and what an interrupted run has left of them.

What lies in the work store is found there by its name: a task whose files are there is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packer.errors import BuildError
from packer.files.checked import to_line
from packer.graphs.sizes import GraphSizes
from packer.limits.pack_limits import PackLimits
from packer.shards import GraphCounts, Layout
from pipelines.building.carrier import Clock, Files, Target
from pipelines.building.plan import needs_order
from pipelines.building.request import Job
from pipelines.building.spilled import phases
from pipelines.building.spilled.gather import ENTRIES
from pipelines.building.spilled.groups import GroupTask, SplitCount
from pipelines.building.spilled.phases import Cluster, Planned
from pipelines.building.spilled.route import GRAPH_ROWS, ROUTED
from pipelines.stores.journal import Journal
from pipelines.stores.store import Store
from pipelines.stores.work_folder import CLAIM, JOURNAL, KEPT, TARGETS, WORK, remove_own

_SCAN = "scan.json"
"""Says of which source the blocks in a work store are."""


class SpilledCarrier:
    """See `Carrier`. cluster: where the job runs; its work store is this job's own."""

    def __init__(self, job: Job, cluster: Cluster, journal: Journal) -> None:
        self._job, self._cluster, self._journal = job, cluster, journal
        self._scanned: phases.Scanned | None = None
        self._tasks: list[GroupTask] = []
        self._counts: list[tuple[SplitCount, ...]] = []

    def scan(self, anew: bool) -> phases.Scanned:
        self._journal.drop("scan", "block", "table", "input", "file")  # of a build on one machine
        _renew_scan(self._job, self._cluster.work)
        if anew:  # what a plan that is given up has left
            remove_own(self._cluster.work, keep=KEPT, below=(ROUTED, GRAPH_ROWS, ENTRIES))
        self._scanned = phases.scan(self._job, self._cluster)
        return self._scanned

    def limits(self) -> PackLimits:
        return phases.limits_of(self._job, self._scan, self._cluster)

    def choose(self, limits: PackLimits) -> Sequence[str]:
        self._tasks, self._counts = phases.count(self._job, self._scan, limits, self._cluster)
        return self._tasks[0].members.names

    def sizes(self, split: str) -> GraphSizes:
        return phases.planned_sizes(self._scan.schema, self._counts_of(split), needs_order(self._job.plan))

    def layout(self, limits: PackLimits) -> Layout:
        return phases.layout_of(self._job, self._scan, limits, self._cluster)

    def write(self, targets: Sequence[Target], layout: Layout, clock: Clock) -> Files:
        planned = [
            Planned(
                target.split,
                phases.owner_of(self._job, target.plan.limits, target.plan_file),
                target.plan,
                target.plan_file,
                tuple(self._counts_of(target.split)),
            )
            for target in targets
        ]
        with clock("route"):
            phases.route(self._tasks, planned, layout, self._cluster)
        with clock("write"):
            return phases.write(self._job, self._tasks, planned, layout, self._cluster)

    def counts(self, target: Target) -> GraphCounts:
        return phases.graph_counts(self._counts_of(target.split), target.plan.sizes.num_graphs)

    def give_up(self, error: Exception) -> None:
        """Blocks stay where something beside the data stood in the way."""
        if not isinstance(error, BuildError) or all(name in KEPT for name in self._cluster.work.names()):
            self.finish()

    def finish(self) -> None:
        """What says whose files lie there goes last, and the journal and its targets before the claim."""
        beside = self._cluster.out.below(WORK)
        remove_own(self._cluster.work, keep=KEPT)
        remove_own(beside, keep=KEPT)  # where the job was begun without a place for its work
        beside.remove([TARGETS, JOURNAL, CLAIM])

    @property
    def _scan(self) -> phases.Scanned:
        assert self._scanned is not None
        return self._scanned

    def _counts_of(self, split: str) -> list[SplitCount]:
        number = self._tasks[0].members.names.index(split)
        return [count[number] for count in self._counts]


def _renew_scan(job: Job, work: Store) -> None:
    """Forget blocks of another source; those of Python objects too, which may be others than last time."""
    wanted = to_line(phases.scan_key(job))
    known: Any = None if work.size(_SCAN) is None else work.read(_SCAN)
    if not job.source.repeatable or known != wanted:
        remove_own(work, keep=KEPT)
        work.put(_SCAN, wanted)
