"""Which limits to use: many are bounded, some packed, a few solved, and the best trade-offs shown with their proof."""

from __future__ import annotations

import contextlib
import operator
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from packer.algorithms.checks import check_budget
from packer.errors import AlgorithmError, LimitsError, MissingExtraError
from packer.graphs.sizes import GraphSizes
from packer.interrupt import Interrupt
from packer.limits.pack_limits import PackLimits
from packer.suggest.search import PACK_WORK, Entry, LimitSearch, Progress
from packer.suggest.sweep import RowBytes, SweepRules, prices_of

_WORTH = 0.005
"""A larger pack must save this share of the tensor bytes."""


@dataclass(frozen=True)
class Candidate:
    """Limits, and how well the graphs pack under them.

    num_packs: of a plan that was found; lower_bound: no plan has fewer; status: "optimal" (the two are equal: proven)
    or "feasible"; fill: axis key and "graph" -> real share of the slots, 0..1; padding_share: padding's share of the
    tensor bytes of all packs, 0..1; bytes_per_pack: tensor bytes of one pack.
    """

    limits: PackLimits
    num_packs: int
    lower_bound: int
    status: str
    fill: dict[str, float]
    padding_share: float
    bytes_per_pack: float

    @property
    def least_padding_share(self) -> float:
        """No plan under these limits pads less: the padding share at `lower_bound` packs."""
        spare = (self.num_packs - self.lower_bound) / self.lower_bound
        return max(0.0, self.padding_share - (1.0 - self.padding_share) * spare)  # never above it, by rounding either

    @property
    def parts(self) -> str:
        """What the numbers of `name` are of."""
        return "/".join(["nodes", "edges", *(f"{name}s" for name in self.limits.num), "graphs"])

    @property
    def name(self) -> str:
        """The limits in short, "256/552/32"; several types of nodes or edges as "64+192/552/32"; further axes stand
        before the graphs."""
        limits = self.limits
        slots = (limits.num_nodes, limits.num_edges, *limits.num.values(), limits.num_graphs)
        return "/".join("+".join(map(str, s.values())) if isinstance(s, dict) else str(s) for s in slots)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "limits": self.limits.to_dict(),
            "num_packs": self.num_packs,
            "lower_bound": self.lower_bound,
            "status": self.status,
            "fill": dict(self.fill),
            "padding_share": self.padding_share,
            "least_padding_share": self.least_padding_share,
            "bytes_per_pack": self.bytes_per_pack,
        }


@dataclass(frozen=True)
class Suggestion:
    """Limits worth using, by rising bytes per pack.

    front: no candidate is as small, as well filled and as few in packs as another one; best, reason: the one to take,
    and why; num_triples: limits looked at; num_packed, num_solved: of those, packed by a heuristic and by the exact
    solver; stopped_by: "done", "time" or "interrupt"; seconds: wall time, informative.
    """

    front: tuple[Candidate, ...]
    best: Candidate
    reason: str
    num_triples: int
    num_packed: int
    num_solved: int
    stopped_by: str
    seconds: float


def suggest_limits(
    sizes: GraphSizes,
    *,
    num_graphs: int | tuple[int, int] | range | None = None,
    multiple_of: int = 1,
    max_nodes: int | None = None,
    memory_bytes_per_pack: float | None = None,
    bytes_per_node: RowBytes = 64,
    bytes_per_edge: RowBytes = 32,
    bytes_per_graph: float = 16,
    null_graphs: str = "all",
    time_limit: float | None = 60.0,
    seed: int = 0,
    work_limit: float = 2.0,
    progress: Progress | None = None,
    budgets: Mapping[str, int] | None = None,
) -> Suggestion:
    """Sweep limits and keep the best trade-offs between padding, tensor bytes per pack and number of packs.

    num_graphs: graph slots wanted, a number or (least, most); multiple_of: node and edge slots are multiples of it (8,
    64 or 128 where hardware likes that); max_nodes: most node slots; memory_bytes_per_pack: most tensor bytes; the
    bytes of one node, edge and graph: numbers, or dicts by axis key for heterogeneous graphs (further axes
    are among the edges). budgets: as of PackLimits, taken as they are. time_limit: seconds or
    None, a cap: unless it strikes, the same arguments give the same answer; Ctrl-C gives what was found so far.
    work_limit: nominal seconds for each of the most promising limits that are solved (below 2 fewer are packed, too);
    with 0, or without the extra `optimal`, plans are heuristic and bounds come from volumes. progress: called with
    (done, total, seconds).

    Some 800 limits are bounded by volume; those that may still win are packed by best-fit-decreasing; in each class of
    packs alike in bytes, limits whose bound promises less padding than the best plan are solved briefly, six a class
    in the mean, and the best one longer. Plans stay valid under wider limits, and bounds under narrower ones. A plan's
    tensor bytes are packs times bytes per pack, so of two limits with as many bytes per pack the one with fewer packs
    pads less. Raises LimitsError where no limits keep what is asked, AlgorithmError for a seed or a limit that is none.
    Randomness: `seed`.

        >>> sizes = GraphSizes(np.arange(100) % 20 + 10, np.arange(100) % 20 * 2 + 18)
        >>> suggestion = suggest_limits(sizes, num_graphs=8, work_limit=0)
        >>> suggestion.best.limits.num_graphs
        8
    """
    seed, time_limit, work = check_budget(seed, time_limit, work_limit)
    if work is None:
        raise AlgorithmError("work_limit must be seconds here, from 0 to 1e9, as many limits are solved; got None")
    graph_slots = None if num_graphs is None else _ends(num_graphs)
    rules = SweepRules(null_graphs, multiple_of, max_nodes, graph_slots, memory_bytes_per_pack, budgets or {})
    prices = prices_of(sizes.axes, bytes_per_node, bytes_per_edge, bytes_per_graph)
    with Interrupt() as interrupt:
        search = LimitSearch(sizes, rules, prices, time_limit, seed, progress, interrupt)
        search.pack(min(PACK_WORK, 3 * work) if work > 0 else PACK_WORK)
        if work > 0:
            # Without ortools the heuristic plans and volume bounds stand.
            with contextlib.suppress(MissingExtraError):
                search.solve(work)
    front = tuple(_candidate(search, entry) for entry in search.front())
    best, reason = _choose(front)
    stopped_by = "interrupt" if interrupt.requested else "time" if search.out_of_time else "done"
    counts = (len(search.entries), search.num_packed, search.num_solved)
    return Suggestion(front, best, reason, *counts, stopped_by, search.seconds)


def _ends(num_graphs: Any) -> tuple[int, int]:
    """(least, most) of a number, a pair or a range. Raises LimitsError for anything else."""
    try:
        ends = (num_graphs, num_graphs) if hasattr(num_graphs, "__index__") else (num_graphs[0], num_graphs[-1])
        return operator.index(ends[0]), operator.index(ends[1])
    except (TypeError, IndexError):
        raise LimitsError(f"num_graphs must be a whole number of slots or (least, most); got {num_graphs!r}") from None


def _candidate(search: LimitSearch, entry: Entry) -> Candidate:
    slots = entry.limits.slots(search.sizes.axes)
    fill = {key: search.totals[key] / (slots[key] * entry.packs) if slots[key] else 1.0 for key in slots}
    fill["graph"] = search.sizes.num_graphs / (float(entry.limits.num_graphs or 1) * entry.packs)
    padding = max(0.0, 1.0 - search.real_bytes / entry.total)
    status = "optimal" if entry.proven else "feasible"
    return Candidate(entry.limits, entry.packs, entry.bound, status, fill, padding, entry.bytes)


def _choose(front: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The smallest pack whose padding is within half a percent of all bytes of the least, and why."""
    least = min(candidate.padding_share for candidate in front)
    best = next(candidate for candidate in front if candidate.padding_share <= least + _WORTH)
    fill = 100 * (1 - best.padding_share)
    most = f"at most {100 * (1 - best.least_padding_share):.1f} % can be"
    proof = "proven: no plan has fewer packs" if best.status == "optimal" else most
    larger = [c for c in front if c.bytes_per_pack > best.bytes_per_pack]
    more = min(larger, key=lambda c: c.padding_share, default=None)
    if more is None or more.padding_share >= best.padding_share:
        after = "no larger packs fill better"
    else:
        ratio = more.bytes_per_pack / best.bytes_per_pack
        after = f"packs of {ratio:.1f} times the bytes would fill {100 * (1 - more.padding_share):.1f} %"
    share = f"{fill:.1f} % of the tensor bytes are real in {best.num_packs:,} pack{'s' * (best.num_packs != 1)}"
    return (
        best,
        f"take {best.name} ({best.parts}), the smallest packs that fill nearly best: {share} ({proof}); {after}",
    )
