"""How many batches an epoch takes under a budget of nodes and edges: next fit in random order, and planned.

    python benchmarks/sampler.py [--quick] [--out benchmarks/results/sampler.md]

Next fit is what dynamic batching does: graphs come in random order, and a batch ends with the first that no longer fits
(PyG's DynamicBatchSampler with both budgets). Planned is `PlanBatchSampler(make_plan(...))`, counted as it gives its
batches, each of which is held against the budget. Sizes: radius graphs (3 Angstrom) of QM9's molecules.
--quick: one budget, 500 molecules.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from instances import DATA, histogram
from provenance import provenance
from tables import table

from packer import GraphSizes, PackLimits, PackPlan, PlanBatchSampler, make_plan

RANKS = 8


def molecules(most: int | None) -> GraphSizes:
    """One row a molecule, in random order."""
    sizes = histogram("qm9_radius3.csv")
    row = np.repeat(np.arange(len(sizes.num_nodes)), sizes.count)
    np.random.default_rng(0).shuffle(row)
    return GraphSizes(np.asarray(sizes.num_nodes)[row[:most]], np.asarray(sizes.num_edges)[row[:most]])


def budget_of(sizes: GraphSizes, graphs: int, nodes: bool) -> PackLimits:
    """As many edges as so many graphs have in the mean, and as many nodes, or nodes without limit."""
    num_nodes, num_edges = (max(int(graphs * column.mean()), int(column.max())) for column in sizes.columns.values())
    return PackLimits(num_nodes if nodes else None, num_edges, None, "none")


def check(plan: PackPlan, sampler: PlanBatchSampler) -> tuple[int, float]:
    """(batches, share of time waiting for the slowest rank, were time rows); every batch lies within the budget."""
    limits, columns = plan.limits.slots(plan.sizes.axes), plan.sizes.columns
    seen = np.zeros(plan.sizes.num_graphs, dtype=np.int64)
    ranks: list[list[int]] = []
    for rank in range(RANKS):
        loads: list[int] = []
        for batch in PlanBatchSampler(plan, rank=rank, world_size=RANKS):
            seen[batch] += 1
            rows = {axis: int(columns[axis][batch].sum()) for axis in columns}
            assert all(limit is None or rows[axis] <= limit for axis, limit in limits.items())
            loads.append(sum(rows.values()))
        ranks.append(loads)
    assert (seen == 1).all(), "every graph once an epoch"
    load = np.array(ranks)
    return sum(1 for _ in sampler), 1 - load.mean() / load.max(axis=0).mean()


def row(sizes: GraphSizes, graphs: int, nodes: bool) -> list[Any]:
    limits = budget_of(sizes, graphs, nodes)
    online = make_plan(sizes, limits, "stream").num_packs
    start = time.perf_counter()
    plan = make_plan(sizes, limits, time_limit=60)
    seconds = time.perf_counter() - start
    batches, waiting = check(plan, PlanBatchSampler(plan))
    return [
        f"{limits.num_nodes or 'any'}",
        f"{limits.num_edges:,}",
        f"{online:,}",
        f"{batches:,}",
        f"{plan.lower_bound:,}",
        f"{100 * (1 - batches / online):.1f} %",
        f"{seconds:.1f}",
        f"{100 * waiting:.1f} %",
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampler.md")
    options = arguments.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"no sizes at {DATA}: set GRAPH_PACKER_TEST_DATA")
    sizes = molecules(500 if options.quick else None)
    cases = [(8, True)] if options.quick else [(k, nodes) for nodes in (True, False) for k in (4, 8, 32, 128)]
    rows = [row(sizes, graphs, nodes) for graphs, nodes in cases]
    head = "nodes|edges|next fit: batches|planned: batches|bound|fewer|seconds to plan|waiting of 8 ranks"
    lines = [
        "# Batches under a budget",
        "",
        f"Radius graphs (3 Å) of {sizes.num_graphs:,} molecules of QM9. {provenance('numpy', 'ortools', seed=0)}",
        "",
        "Next fit in random order, as dynamic batching does it, against the batches of `PlanBatchSampler`, all of",
        "which were held against the budget; every graph came once. `bound`: no plan has fewer. `waiting of 8 ranks`:",
        "the share of an epoch in which a rank waits for the slowest of its step, if time were nodes and edges.",
        "",
        *table(head, rows, 0),
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
