"""Plans over more axes than nodes and edges: angles and torsions of real molecules, and a budget.

    python benchmarks/axes.py [--quick] [--out benchmarks/results/axes.md]

Molecules are those of sample:nci. An angle is a pair of edges k -> j -> i with k != i (DimeNet's triplets), a torsion
an edge j -> k with an edge into j and one out of k that are not its reverse; the budget is the pairs of atoms of a
molecule, which a model that makes its edges on the device looks at. Limits hold so many mean molecules, and the largest
one. Next fit is what dynamic batching does. Every certificate is checked again. --quick: 200 molecules, limits of 8.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from provenance import provenance
from tables import table

from packer import GraphSizes, PackLimits, check_certificate, make_plan
from packer.limits.fit import need_of
from packer.scan.block import join_blocks
from pipelines.building.options import ScanOptions
from pipelines.sources import parse_source

NULL_GRAPHS = "one"


def molecules(most: int | None) -> dict[str, np.ndarray]:
    """Of each molecule: nodes, edges, angles, torsions and pairs of atoms, int64 [molecules]."""
    scans = [task.scan() for task in parse_source("sample:nci").tasks()]
    schema, _ = ScanOptions({}, {}).decide(scan.graphs.statistics for scan in scans)
    graphs = join_blocks((scan.graphs for scan in scans), schema)
    nodes, edges = graphs.counts("node"), graphs.counts("edge")
    first = np.repeat(graphs.ptr["node"][:-1], edges)[:, None]
    ends = graphs.columns["edge_index"].astype(np.int64) + first
    degree = np.bincount(ends[:, 0], minlength=int(nodes.sum()))
    of_node = np.repeat(np.arange(len(nodes)), nodes)
    of_edge = np.repeat(np.arange(len(nodes)), edges)
    angles = np.bincount(of_node, degree * (degree - 1), len(nodes)).astype(np.int64)
    around = (degree[ends[:, 0]] - 1) * (degree[ends[:, 1]] - 1)
    torsions = np.bincount(of_edge, around, len(nodes)).astype(np.int64)
    found = {"node": nodes, "edge": edges, "angle": angles, "torsion": torsions, "pairs": nodes**2}
    return {name: values[:most] for name, values in found.items()}


def instance(
    sizes: dict[str, np.ndarray], num: list[str], budgets: list[str], held: int
) -> tuple[GraphSizes, PackLimits]:
    def most(name: str) -> int:
        return max(int(held * sizes[name].mean()), int(sizes[name].max())) + 1

    graphs = GraphSizes(
        sizes["node"], sizes["edge"], num={k: sizes[k] for k in num}, budgets={k: sizes[k] for k in budgets}
    )
    limits = {name: most(name) for name in num}, {name: most(name) for name in budgets}
    return graphs, PackLimits(most("node"), most("edge"), held + 1, NULL_GRAPHS, *limits)


def row(sizes: dict[str, np.ndarray], num: list[str], budgets: list[str], held: int) -> list[Any]:
    graphs, limits = instance(sizes, num, budgets, held)
    online = make_plan(graphs, limits, "stream").num_packs
    best = make_plan(graphs, limits, "best-fit-decreasing").num_packs
    start = time.perf_counter()
    plan = make_plan(graphs, limits, time_limit=60)
    seconds = time.perf_counter() - start
    distinct, count, _ = graphs.distinct
    need, capacity = need_of(distinct, graphs.axes, limits)
    assert check_certificate(plan.certificate, need, capacity, count) == plan.lower_bound
    return [
        ", ".join(axis.rows for axis in graphs.axes),
        str(len(capacity)),
        f"{held}",
        f"{len(distinct):,}",
        f"{online:,}",
        f"{best:,}",
        f"{plan.num_packs:,}",
        "proven" if plan.status == "optimal" else f"{plan.lower_bound:,}",
        f"{100 * (1 - plan.num_packs / online):.1f} %",
        f"{seconds:.1f}",
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "axes.md")
    options = arguments.parse_args()
    sizes = molecules(200 if options.quick else None)
    kinds: list[tuple[list[str], list[str]]] = [
        ([], []),
        (["angle"], []),
        (["angle"], ["pairs"]),
        (["angle", "torsion"], ["pairs"]),
    ]
    rows = [row(sizes, *kind, held) for held in ([8] if options.quick else [8, 32]) for kind in kinds]
    head = "axes|dimensions|graphs a pack|distinct sizes|next fit|best fit decreasing|planned|bound|fewer|seconds"
    lines = [
        "# Plans over further axes",
        "",
        f"Packs of {len(sizes['node']):,} molecules of sample:nci. {provenance('numpy', 'ortools', seed=0)}",
        "",
        "Limits are those of so many mean molecules on every axis, or the largest one's. `dimensions` counts the",
        "graphs, too. `bound`: no plan has fewer packs; `proven` where it is reached. `fewer`: planned against next",
        "fit, which takes the graphs in their order. All certificates were checked.",
        "",
        *table(head, rows, 0),
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
