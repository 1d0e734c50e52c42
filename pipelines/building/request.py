"""What a build is asked for: everything that its output depends on, checked before the source is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from packer import __version__
from packer.algorithms.checks import check_budget, check_seed
from packer.algorithms.registry import find_algorithm
from packer.errors import AlgorithmError, BuildError, LimitsError
from packer.graphs.sizes import GraphSizes
from packer.limits.limits_rule import LimitsRule
from packer.limits.pack_limits import PackLimits
from packer.limits.padding import IN_PACKS
from packer.packs.trim import TRIM
from packer.shards.pages import CODECS
from pipelines.building.auto_limits import choose_limits
from pipelines.building.options import ScanOptions
from pipelines.building.plan import PlanOptions
from pipelines.building.splits import Splits
from pipelines.sources.protocol import Source, pinned

OVERSIZE = ("error", "skip", *TRIM)
"""What may become of graphs that fit no pack."""


@dataclass(frozen=True)
class Job:
    """Everything that the output depends on; budgets: those that chosen limits keep; licence: of the source, for the
    card alone."""

    source: Source
    limits: PackLimits | LimitsRule | None
    scan: ScanOptions
    plan: PlanOptions
    splits: Splits | None
    oversize: str
    compression: str
    licence: str | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)

    def key(self) -> dict[str, Any]:
        """Plain values; two jobs with the same key write the same bytes, if the source is repeatable."""
        return {
            "source": self.source.key(),
            "scan": self.scan.key(),
            "limits": self._limits(),
            "plan": self.plan.key(),
            "splits": None if self.splits is None else self.splits.key(),
            "oversize": {"policy": self.oversize, "seed": self.plan.seed} if self.oversize in TRIM else self.oversize,
            "compression": self.compression,
            "versions": versions(),
        }

    def _limits(self) -> Any:
        if self.limits is not None:
            return self.limits.to_dict()
        return {"auto": dict(self.budgets)} if self.budgets else "auto"

    def as_named(self) -> dict[str, Any]:
        """Source, files and licence as the user named them: outside of every hash, to repeat the build."""
        split_file = None if self.splits is None else self.splits.file
        plan = None if self.plan.content is not None else self.plan.file
        others = {"plan": plan, "split_file": split_file, "licence": self.licence}
        return {"source": list(self.source.argv), **{name: str(value) for name, value in others.items() if value}}


def check_job(job: Job) -> Job:
    """The job, with the limits of a given plan, and with its files as they are now; raises for what is wrong whatever
    the data are."""
    find_algorithm(job.plan.algorithm).load()
    for name, value, known in (
        ("oversize", job.oversize, OVERSIZE),
        ("on_empty", job.scan.on_empty or "error", ("error", "skip")),
        ("compression", job.compression, tuple(CODECS)),
    ):
        if value not in known:
            raise BuildError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    seed, time_limit, work_limit = check_budget(job.plan.seed, job.plan.time_limit, job.plan.work_limit)
    job = replace(job, plan=replace(job.plan, seed=seed, time_limit=time_limit, work_limit=work_limit))
    if job.splits is not None:
        job = replace(job, splits=replace(job.splits, seed=check_seed("split_seed", job.splits.seed)))
    for name in ("time_limit", "work_limit"):
        seconds = getattr(job.plan, name)
        if seconds is not None and not seconds > 0:
            raise AlgorithmError(f"{name} must be above 0 seconds; got {seconds}")
    if job.plan.file is not None:
        if job.splits is not None:
            raise BuildError("a plan is of one data set: it cannot be used with splits")
        job = replace(job, plan=job.plan.pinned())
        planned = job.plan.load().limits
        if isinstance(job.limits, PackLimits) and job.limits != planned:
            raise BuildError(f"{job.plan.file} was made for {planned}; leave the limits out, or give these")
        if job.budgets and dict(job.budgets) != dict(planned.budgets):
            raise BuildError(
                f"{job.plan.file} was made with budgets {dict(planned.budgets)}, not {dict(job.budgets)}: leave "
                "budgets (--budget) out, or plan anew"
            )
        if job.limits is None:  # a rule finds its limits in the sizes; they are compared with the plan's then
            job = replace(job, limits=planned)
    if job.limits is not None and job.limits.null_graphs == "none":
        raise LimitsError(f'null_graphs="none" leaves no place for padding: plan with it, but build with {IN_PACKS}')
    cutoff = getattr(job.source, "cutoff", 0.0)
    if job.scan.pad_geometry is not None and job.scan.pad_geometry < cutoff:
        raise BuildError(
            f"pad_geometry (--pad-geometry) is {job.scan.pad_geometry:g}, but edges of {job.source.name} go up to a "
            f"cutoff (--cutoff) of {cutoff:g}, and padding is to lie beyond: give {cutoff:g} or more"
        )
    splits = None if job.splits is None else job.splits.pinned()
    budgets = tuple(job.budgets if job.limits is None else job.limits.budgets)
    scan = replace(job.scan, attributes=job.scan.attributes.with_budgets(budgets))
    return replace(job, source=pinned(job.source), splits=splits, scan=scan)


def limits_for(sizes: GraphSizes, job: Job) -> PackLimits:
    """The limits asked for; those that follow from the sizes of all graphs, where a rule or none was given."""
    if isinstance(job.limits, LimitsRule):
        return job.limits.limits(sizes)
    if job.limits is not None:
        return job.limits
    return choose_limits(sizes, job.budgets)


def versions() -> dict[str, str]:
    """What the bytes of shards depend on besides the job."""
    return {"graph-packer": __version__, "pyarrow": pa.__version__}
