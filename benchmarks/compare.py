"""Algorithms x instances: packs, proven bound, gap, fills, seconds; and what it costs when there are more graphs.

    python benchmarks/compare.py [--quick] [--out benchmarks/results/compare.md] [--seed 0]

Seconds are the median of three plans in a warm process, without ids. The bound of an instance is the best that any of
the runs proved; the gap is (packs - bound) / bound. One instance also goes into the README, between its markers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from instances import DATA, Instance, records, tu_sets
from provenance import provenance
from tables import put_between

from packer import GraphSizes, PackPlan, make_plan
from packer.algorithms.registry import ALGORITHMS

FOOTNOTE = """
Sets that are published as histograms (ogbg-molhiv, HydroNet, QM9) have no source order: there `pad-to-max`, `stream`
and `first-fit` see their graphs sorted by size.
"""
MORE_GRAPHS = """
## More graphs of the same sizes

CPU seconds of `optimal`, all counts multiplied, without ids; proven where nothing else is said.
"""
MANY_TIMES = (1, 1_000, 1_000_000)
IN_README = "MOSES train 256/552/16 all"
IN_README_TITLE = 'MOSES, 1,584,663 molecules, packs of 256 nodes, 552 edges and 16 graphs (`null_graphs="all"`):'


def timed_plan(
    instance: Instance, algorithm: str, seed: int, repeats: int, time_limit: float
) -> tuple[PackPlan, float]:
    """A plan and the median seconds of `repeats` plans; the first one, which compiles, is not timed."""
    sizes = instance.load()
    plan = make_plan(sizes, instance.limits, algorithm, seed=seed, time_limit=time_limit)
    seconds: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        plan = make_plan(sizes, instance.limits, algorithm, seed=seed, time_limit=time_limit)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 10:
            break
    return plan, statistics.median(seconds or [plan.seconds])


def compare(instance: Instance, seed: int, repeats: int, time_limit: float) -> list[str]:
    """The table rows of one instance, one an algorithm, the published result among them."""
    plans = {name: timed_plan(instance, name, seed, repeats, time_limit) for name in ALGORITHMS}
    bound = max(plan.lower_bound for plan, _ in plans.values())
    rows: list[str] = []
    for name, (plan, seconds) in plans.items():
        fill = "/".join(f"{100 * share:.1f}" for share in plan.fill.values())
        proven = "proven" if plan.num_packs == bound else f"{100 * (plan.num_packs - bound) / bound:.2f} %"
        rows.append(
            f"| {instance.name} | {name} | {plan.num_packs:,} | {bound:,} | {proven} | {fill} | {seconds:.3f} |"
        )
    if instance.published is not None:
        packs, who = instance.published
        gap = f"{100 * (packs - bound) / bound:.2f} %"
        rows.append(f"| {instance.name} | published: {who} | {packs:,} | {bound:,} | {gap} | | |")
    return rows


def table(instances: Iterable[Instance], seed: int, repeats: int, time_limit: float) -> str:
    rows = ["| instance | algorithm | packs | proven bound | gap | fill node/edge/graph % | seconds |"]
    rows.append("|---|---|--:|--:|--:|--:|--:|")
    for instance in instances:
        rows.extend(compare(instance, seed, repeats, time_limit))
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def many_times(instances: Iterable[Instance], seed: int, repeats: int) -> str:
    """CPU seconds of `optimal` over the same histogram with all counts multiplied: the median of `repeats` plans."""
    rows = ["| instance | " + " | ".join(f"x {times:,}" for times in MANY_TIMES) + " |"]
    rows.append("|---|" + "--:|" * len(MANY_TIMES))
    for instance in instances:
        distinct, count, _ = instance.load().distinct
        cells: list[str] = []
        for times in MANY_TIMES:
            sizes = GraphSizes.from_histogram(distinct[:, 0], distinct[:, 1], count * times)
            plan = make_plan(sizes, instance.limits, seed=seed)  # compiles
            seconds: list[float] = []
            for _ in range(repeats):
                start = time.process_time()
                plan = make_plan(sizes, instance.limits, seed=seed)
                seconds.append(time.process_time() - start)
            above = plan.num_packs - plan.lower_bound
            cells.append(f"{statistics.median(seconds):.3f}" + (f" ({above:,} above the bound)" if above else ""))
        rows.append(f"| {instance.name} | " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def write_readme(text: str) -> None:
    """Put the rows of one instance into the README."""
    rows = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith(f"| {IN_README} |")]
    lines = [
        f"{IN_README_TITLE}",
        "",
        "| algorithm | packs | gap to the proven bound | fill node/edge/graph % | seconds |",
    ]
    lines.append("|---|--:|--:|--:|--:|")
    lines.extend(f"|{name}|{packs}|{gap}|{fill}|{seconds}|" for name, packs, _, gap, fill, seconds in rows)
    put_between(Path(__file__).parents[1] / "README.md", "compare", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="MUTAG only, one repeat")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "compare.md")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"no sizes at {DATA}: set GRAPH_PACKER_TEST_DATA")
    if arguments.quick:
        parts = [("MUTAG", [i for i in tu_sets() if i.name.startswith("MUTAG")], 1, 5.0)]
        scaled, repeats = parts[0][1][:1], 1
    else:
        parts = [
            ("Data sets at limits in use", list(records()), 3, 90.0),
            ("TUDataset and MoleculeNet", list(tu_sets()), 1, 20.0),
        ]
        scaled, repeats = parts[0][1], 3
    about = provenance("graph-packer", "ortools", "numba", "numpy", seed=arguments.seed)
    text = f"# Algorithms compared\n\nGenerated by `python benchmarks/compare.py`. {about}\n"
    for title, chosen, plans, limit in parts:
        text += f"\n## {title}\n\nTime limit {limit:g} s.\n\n{table(chosen, arguments.seed, plans, limit)}\n"
    more = f"{MORE_GRAPHS}\n{many_times(scaled, arguments.seed, repeats)}\n"
    arguments.out.write_text(f"{text}{FOOTNOTE}{more}")
    if not arguments.quick:
        write_readme(text)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
