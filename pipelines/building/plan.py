"""The second stage of a build: what fits, which graph belongs to which data set, and a stored plan for each."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from packer.algorithms.protocol import Progress as SolverProgress
from packer.algorithms.registry import find_algorithm
from packer.errors import PlanError
from packer.files.atomic import TEMPORARY, FileEntry, hash_file, put_in_place
from packer.graphs.sizes import GraphSizes, histogram_of
from packer.limits.fit import do_not_fit, fitting, none_fits
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan, make_plan
from packer.plan.packing import DEFAULT_SECONDS
from pipelines.sources.text import digest, has_changed, open_file


@dataclass(frozen=True)
class PlanOptions:
    """How the plan is made; `file` is the path of one made before, and `sha256` of what is to be read there, whatever
    it is where that is None. content: of the file, for a plan that is in memory; `file` is then what errors call it.
    time_limit, work_limit: see `make_plan`."""

    algorithm: str
    seed: int
    time_limit: float | None
    file: Path | None = None
    sha256: str | None = None
    work_limit: float | None = None
    content: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        plan: PackPlan | str | os.PathLike[str] | None,
        algorithm: str,
        seed: int,
        time_limit: float | None,
        work_limit: float | None,
    ) -> PlanOptions:
        """From what a user passes; plan: one that is made, its file, or None."""
        if not isinstance(plan, PackPlan):
            return cls(algorithm, seed, time_limit, None if plan is None else Path(plan), work_limit=work_limit)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.parquet"
            plan.save(path)
            content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(algorithm, seed, time_limit, Path("the plan"), sha256, work_limit, content)

    def key(self) -> dict[str, Any]:
        if self.file is not None:
            return {"plan": self.pinned().sha256}
        seconds = DEFAULT_SECONDS if self.time_limit is None else self.time_limit
        named: dict[str, Any] = {"algorithm": self.algorithm, "seed": self.seed, "time_limit": seconds}
        if self.time_limit == DEFAULT_SECONDS:
            named["named"] = True  # a limit that is asked for is used to the end, the same one by default is not
        if self.work_limit is not None:
            named["work_limit"] = self.work_limit
        return named

    def pinned(self) -> PlanOptions:
        """The same, and no other plan may lie there when it is loaded."""
        if self.file is None or self.sha256 is not None:
            return self
        return replace(self, sha256=digest(self.file))

    def load(self) -> PackPlan:
        """The given plan. Raises as `PackPlan.load`, and SourceError where its file has changed."""
        assert self.file is not None
        if self.content is not None:
            return PackPlan.load(self.content, self.file.name)
        with open_file(self.file) as stream:
            data = stream.read()
        sha256 = hashlib.sha256(data).hexdigest()
        if self.sha256 not in (None, sha256):
            raise has_changed(self.file, sha256, str(self.sha256))
        return PackPlan.load(data, self.file.name)


def check_fit(sizes: GraphSizes, limits: PackLimits, source_ids: np.ndarray, oversize: str) -> np.ndarray:
    """bool [graphs], which graphs fit; SizesError naming the first that does not, unless `oversize` is "skip"."""
    fits = fitting(sizes, limits)
    if fits.all():
        return fits
    if oversize == "skip":
        if not fits.any():
            raise none_fits(sizes, limits)
        return fits
    row = int(np.argmin(fits))
    raise do_not_fit(sizes, limits, fits, row, int(source_ids[row]))


def store_plan(plan: PackPlan, path: Path, *, by_graph: bool) -> FileEntry:
    """Write the plan's file, whole or not at all; by_graph: see `PackPlan.save`."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        plan.save(temporary, by_graph=by_graph)
        put_in_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return hash_file(path)


def obtain_plan(
    sizes: GraphSizes, limits: PackLimits, options: PlanOptions, progress: SolverProgress | None = None
) -> PackPlan:
    """Make the plan, or take the given one, which must be of these very sizes and limits.

    Algorithms that pack sizes see how many graphs have each, and not in which order: so a plan is the same wherever the
    graphs are.
    """
    if options.file is None:
        seen = sizes if needs_order(options) else histogram_of(sizes)
        plan = make_plan(
            seen,
            limits,
            options.algorithm,
            seed=options.seed,
            time_limit=options.time_limit,
            work_limit=options.work_limit,
            progress=progress,
        )
        if plan.stopped_by == "interrupt":
            raise KeyboardInterrupt  # a data set does not depend on when somebody grew impatient
        return plan.of(sizes)
    plan = options.load()
    if plan.limits != limits:
        raise PlanError(f"{options.file} was made for {plan.limits}, not for {limits}")
    try:
        return plan.of(sizes)
    except PlanError as error:
        raise PlanError(f"{options.file}: {error}") from None


def needs_order(options: PlanOptions) -> bool:
    """Whether the order of the graphs has a part in the plan."""
    if options.file is not None:
        return not options.load().by_patterns
    return find_algorithm(options.algorithm).sees_order
