"""Does a plan end when its time limit says so, in a fresh process and in a warm one?

    python benchmarks/time_limits.py [--quick] [--jobs 1] [--out benchmarks/results/time_limits.md]

The rule: 10 % over the limit, or 1 s, whichever is more. Measured is the call of `make_plan` alone; cold is a process
that has called nothing before, so that it also loads, and compiles what is not cached on disk. --quick: two instances,
briefly. --jobs: so many processes measure at once, which keeps the machine busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from provenance import provenance
from tables import table

from packer import GraphSizes, PackLimits, make_plan

EACH, HALF, FOURTH, TENTH = (0.01, 0.1, 1.0), 3.0, 10.0, 30.0
"""Limits in seconds of each instance, and of every other, fourth and tenth one."""
SLACK_SECONDS, SLACK_SHARE = 1.0, 0.1


def molecules(graphs: int, spread: float) -> GraphSizes:
    """Sparse graphs, a few of them giants. spread: of the logarithm of their nodes."""
    random = np.random.default_rng(0)
    nodes = np.maximum(3, np.rint(np.exp(random.normal(3.2, spread, graphs)))).astype(np.int64)
    return GraphSizes(nodes, 2 * (nodes - 1 + random.poisson(0.08 * nodes)))


def networks(graphs: int, most: int) -> GraphSizes:
    """Graphs of up to `most` nodes, of any density: hardly two are alike."""
    random = np.random.default_rng(1)
    nodes = random.integers(3, most, graphs)
    return GraphSizes(nodes, 2 * np.rint(nodes * random.uniform(1, 4, graphs)).astype(np.int64))


def mean_of(graphs: int, sizes: GraphSizes) -> PackLimits:
    columns = np.asarray(sizes.num_nodes), np.asarray(sizes.num_edges)
    nodes, edges = (max(-(-graphs * int(c.sum()) // len(c)), int(c.max())) for c in columns)
    return PackLimits(nodes, edges, graphs, "none")


Case = tuple[str, Callable[[], GraphSizes], int, str]
"""Name, sizes, graphs a pack, algorithm."""


def cases() -> list[Case]:
    found: list[Case] = []
    for kind, make, ways in (
        ("molecules", molecules, ((1_000, 0.3), (5_000, 0.6), (30_000, 0.4), (100_000, 0.7), (1_000_000, 0.4))),
        ("networks", networks, ((600, 60), (4_000, 200), (20_000, 100), (200_000, 3_000))),
    ):
        for way in ways:
            for graphs in (8, 32):
                name = f"{kind} {way[0]:,} {way[1]:g}, mean of {graphs}"
                found.append((name, partial(make, *way), graphs, "optimal"))
    for name in ("best-fit-decreasing", "histogram"):
        found.append((f"networks 200,000 3,000, mean of 32, {name}", partial(networks, 200_000, 3_000), 32, name))
    return found


def measure(number: int, limit: float) -> dict[str, Any]:
    """One call. number: of the case."""
    _, load, graphs, algorithm = cases()[number]
    sizes = load()
    limits = mean_of(graphs, sizes)
    start = time.perf_counter()
    plan = make_plan(sizes, limits, algorithm, time_limit=limit)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "packs": plan.num_packs, "bound": plan.lower_bound, "stopped": plan.stopped_by}


def measure_cold(number: int, limit: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(number), "--limit", str(limit)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_warm(number: int, limit: float) -> dict[str, Any]:
    found = measure(number, limit)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()  # what was left to end by itself is not to slow down the next
    return found


def limits_of(number: int) -> list[float]:
    more = ((HALF, 2), (FOURTH, 4), (TENTH, 10))
    return [*EACH, *(limit for limit, each in more if number % each == 1)]


def row(name: str, start: str, limit: float, found: dict[str, Any]) -> list[Any]:
    over = max(0.0, found["seconds"] - limit)
    allowed = max(SLACK_SECONDS, SLACK_SHARE * limit)
    kept = "yes" if over <= allowed else "NO"
    plan = [found["stopped"], f"{found['packs']:,}", f"{found['bound']:,}"]
    return [name, start, kept, *plan[:1], f"{limit:g}", f"{found['seconds']:.2f}", f"{over:.2f}", *plan[1:]]


def warm_up() -> None:
    measure_warm(2, 10.0)  # loads and compiles


def measure_case(number: int, limits: Sequence[float]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for limit in limits:
        for process, way in (("cold", measure_cold), ("warm", measure_warm)):
            rows.append(row(cases()[number][0], process, limit, way(number, limit)))
            print(*rows[-1], sep=" | ", flush=True)
    return rows


def page(rows: list[list[Any]], seconds: float, jobs: int, load: float) -> str:
    kept = sum(each[2] == "yes" for each in rows)
    worst = max(rows, key=lambda each: float(each[6]))
    head = "instance|process|kept|stopped by|limit, s|took, s|over, s|packs|bound"
    text = [
        "# Time limits",
        "",
        f"{len(rows)} plans, {seconds:.0f} s. {provenance('numpy', 'numba', 'ortools', seed=0)}",
        "",
        f"The rule, 10 % or 1 s over the limit, whichever is more, is kept by {kept} of {len(rows)}; the most over is",
        f"{worst[6]} s at a limit of {worst[4]} s ({worst[0]}, {worst[1]}).",
        "Cold: the first call of a fresh process. Instances: how many graphs, how spread their sizes or how many nodes",
        "at most, and limits of so many times the mean graph.",
        f"{jobs} measured at once; the machine's {os.cpu_count()} CPUs had a load of {load:.1f}, other work included.",
        "",
        *table(head, rows, 4),
        "",
    ]
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "time_limits.md")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(measure(options.one, options.limit)))
        return
    start, loads, todo = time.perf_counter(), [os.getloadavg()[0]], list(range(len(cases())))
    if options.quick:
        rows = [each for number in todo[:2] for each in measure_case(number, EACH[:2])]
    else:
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), warm_up) as pool:
            parts: list[list[list[Any]]] = []
            for part in pool.map(measure_case, todo, map(limits_of, todo)):
                parts.append(part)
                loads.append(os.getloadavg()[0])
        rows = [each for part in parts for each in part]
    options.out.write_text(page(rows, time.perf_counter() - start, options.jobs, sum(loads) / len(loads)))


if __name__ == "__main__":
    main()
