"""What an audit of packs found, as values, and its verdicts in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

CORRELATION = 0.02
"""Rank correlations up to here count as none."""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation, least and largest of some numbers of graphs."""

    mean: float
    sd: float
    least: int
    most: int


@dataclass(frozen=True)
class Drift:
    """Size against position in the epoch.

    of: "nodes" or "edges" of a graph, or "graphs" of a full step; correlation: Spearman's, mean over `epochs` epochs;
    error: standard error of that mean; along: the mean size in each twentieth of an epoch over that of all, NaN where
    none begins there.
    """

    of: str
    correlation: float
    error: float
    epochs: int
    along: tuple[float, ...]


@dataclass(frozen=True)
class Companions:
    """Distinct graphs that a graph has shared a step with, the mean over `followed` graphs, after 1, 2, ... epochs.

    with_redraws, without: as loaders give packs; unpacked: expected of batches drawn anew from all graphs; alone: share
    of graphs of no other's size in their block, which redraws leave in their place; alone_in_all: in the data set.
    """

    followed: int
    with_redraws: tuple[float, ...]
    without: tuple[float, ...]
    unpacked: tuple[float, ...]
    alone: float
    alone_in_all: float


@dataclass(frozen=True)
class Weights:
    """The weights of graphs in a mean of the means of steps.

    ratio: largest over least; effective: the size of an evenly weighted sample with the same variance, as a share of
    all graphs; relative, share: the distinct weights over their mean, and the share of graphs that have each.
    """

    ratio: float
    effective: float
    relative: tuple[float, ...]
    share: tuple[float, ...]


@dataclass(frozen=True)
class Balance:
    """Classes a step. field: which; shares: of each class among the graphs that have one; sd: standard deviation of
    that share over steps; chance: what it is in batches drawn at random; ratio: of both, all classes together."""

    field: str
    classes: tuple[int, ...]
    shares: tuple[float, ...]
    sd: tuple[float, ...]
    chance: tuple[float, ...]
    ratio: float


class Verdict(NamedTuple):
    """good: nothing to do about it; text: one sentence."""

    good: bool
    text: str


@dataclass(frozen=True)
class PackAudit:
    """See `audit_packs`. balance: None where no field of graphs holds classes."""

    graphs: int
    packs: int
    epochs: int
    batch_size: int
    seed: int
    graphs_per_pack: Spread
    graphs_per_step: Spread
    drifts: tuple[Drift, ...]
    companions: Companions
    weights: Weights
    balance: Balance | None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        verdicts = [_of_drift(drift) for drift in self.drifts]
        verdicts += [_of_companions(self.companions, self.epochs, self.graphs), _of_weights(self.weights)]
        return (*verdicts, *([] if self.balance is None else [_of_balance(self.balance)]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "verdicts": [verdict._asdict() for verdict in self.verdicts]}


def _of_drift(drift: Drift) -> Verdict:
    subject = "Graphs a step" if drift.of == "graphs" else f"Size in {drift.of}"
    correlation, error = drift.correlation, drift.error
    figure = f"{correlation:+.3f}, mean of {drift.epochs:,} epochs"
    if abs(correlation) <= CORRELATION:
        return Verdict(True, f"{subject} and position in the epoch: no correlation ({figure}).")
    if abs(correlation) <= 3 * error:
        return Verdict(True, f"{subject} and position in the epoch: none that chance would not give ({figure}).")
    way = "later" if correlation > 0 else "earlier"
    return Verdict(False, f"{subject} and position in the epoch: larger ones come {way} ({figure}).")


def _of_companions(companions: Companions, epochs: int, graphs: int) -> Verdict:
    redrawn, frozen = companions.with_redraws[-1], companions.without[-1]
    sample = "" if companions.followed == graphs else f"; {companions.followed:,} graphs followed"
    if not frozen or epochs == 1:
        return Verdict(True, f"Companions: a graph meets {redrawn:,.0f} in {epochs:,} epochs{sample}.")
    text = (
        f"Companions: a graph meets {redrawn:,.1f} in {epochs:,} epochs with redraws, {frozen:,.1f} without "
        f"({redrawn / frozen:.1f} times as many, of {epochs:,} at most), {companions.unpacked[-1]:,.1f} in unpacked "
        f"batches{sample}. {100 * companions.alone:.1f} % of the graphs are alone in their size and keep their place"
    )
    if companions.alone >= 0.5:
        text += "; redraw='swaps' exchanges graphs of any sizes"
    return Verdict(redrawn >= 0.5 * companions.unpacked[-1], text + ".")


def _of_weights(weights: Weights) -> Verdict:
    share = 100 * weights.effective
    text = f"Weights in a mean of means: up to {weights.ratio:.2f} to 1, as if {share:.1f} % of the graphs"
    good = weights.effective >= 0.95
    more = "" if good else "; masked_mean(..., per=loader.graphs_per_step) weighs all alike"
    return Verdict(good, f"{text} weighed alike{more}.")


def _of_balance(balance: Balance) -> Verdict:
    figure = f"{balance.ratio:.2f} times the spread of random batches, by {balance.field}"
    if balance.ratio <= 1.1:
        return Verdict(True, f"Classes a step: as in random batches, or more even ({figure}).")
    return Verdict(False, f"Classes a step: less even than in random batches ({figure}).")
