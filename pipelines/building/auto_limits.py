"""Limits from the data, where the user names none: what `suggest` would say, found in seconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from packer.graphs.sizes import GraphSizes, with_columns
from packer.limits.pack_limits import PackLimits
from packer.suggest.suggest import suggest_limits

_SAMPLE = 6_000
_WORK = 0.3


def choose_limits(sizes: GraphSizes, budgets: Mapping[str, int] | None = None) -> PackLimits:
    """Limits under which `sizes` packs well, null_graphs="all": those that `suggest_limits` takes.

    Node and edge slots are multiples of 8, and each of the promising limits gets 0.3 nominal seconds of solving. At
    most 6,000 graphs are looked at, the largest of each axis among them. No clock and no randomness: the same sizes
    give the same limits. budgets: as of PackLimits. Time: a few seconds.
    """
    suggestion = suggest_limits(_sample(sizes), multiple_of=8, work_limit=_WORK, time_limit=None, budgets=budgets)
    return suggestion.best.limits


def _sample(sizes: GraphSizes) -> GraphSizes:
    """Graphs evenly spaced from the smallest to the largest, whatever their order is, and the largest on each axis."""
    distinct, count, _ = sizes.distinct
    ends = np.cumsum(count)
    spaced = np.arange(0, ends[-1], -(-ends[-1] // _SAMPLE))
    taken = np.bincount(np.searchsorted(ends, spaced, side="right"), minlength=len(distinct))
    largest = distinct.argmax(axis=0)
    taken[largest] = np.maximum(taken[largest], 1)
    kept = np.flatnonzero(taken)
    columns = {axis.key: distinct[kept, number] for number, axis in enumerate(sizes.axes)}
    return with_columns(sizes.axes, columns, taken[kept])
