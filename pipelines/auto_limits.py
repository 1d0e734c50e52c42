"""Limits from the data, where the user names none: what `suggest` would say, found in seconds."""

from __future__ import annotations

import numpy as np

from packer.limits import PackLimits
from packer.sizes import GraphSizes
from packer.suggest import suggest_limits
from pipelines.build_plan import select_sizes

_SAMPLE = 6_000
_WORK = 0.3


def choose_limits(sizes: GraphSizes) -> PackLimits:
    """Limits under which `sizes` packs well, null_graphs="all": those that `suggest_limits` takes.

    Node and edge slots are multiples of 8, and each of the promising limits gets 0.3 nominal seconds of solving. At
    most 6,000 graphs are looked at, the largest of each axis among them. No clock and no randomness: the same sizes
    give the same limits. Time: a few seconds.
    """
    sample = select_sizes(sizes, _sample_rows(sizes))
    return suggest_limits(sample, multiple_of=8, work_limit=_WORK, time_limit=None).best.limits


def _sample_rows(sizes: GraphSizes) -> np.ndarray:
    """Evenly spaced graphs, and the largest on each axis."""
    stride = -(-sizes.num_graphs // _SAMPLE)
    largest = [int(np.argmax(values)) for values in sizes.columns.values()]
    return np.union1d(np.arange(0, sizes.num_graphs, stride), largest)
