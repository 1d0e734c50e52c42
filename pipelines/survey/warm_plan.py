"""Plans by several algorithms, timed alike."""

from __future__ import annotations

import numpy as np

from packer.algorithms.protocol import Progress
from packer.graphs.sizes import GraphSizes, select_sizes
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan, make_plan

_FEW = 64


def warm_plan(
    sizes: GraphSizes,
    limits: PackLimits,
    algorithm: str,
    seed: int = 0,
    time_limit: float | None = None,
    progress: Progress | None = None,
    work_limit: float | None = None,
) -> PackPlan:
    """`make_plan` in a warm process: a few graphs are packed first, so that `.seconds` leave out loading compiled code.

    Otherwise the algorithm that comes first would seem the slowest on small data sets.
    """
    few = select_sizes(sizes, np.arange(min(_FEW, sizes.num_graphs)))
    make_plan(few, limits, algorithm, time_limit=1.0)
    return make_plan(
        sizes, limits, algorithm, seed=seed, time_limit=time_limit, work_limit=work_limit, progress=progress
    )
