"""What follows from measured tasks and drivers for a build on many cores. Nothing here is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tables import amount, duration, power, table

GROUP_BYTES, BLOCK_GRAPHS = 64 << 20, 1024
CORES, AT_ONCE, ANSWER, GETS = 1000, 16, 0.03, 5500
"""Cores; requests that a task has under way; seconds to an answer; requests a second that S3 promises for a prefix."""
SIZES = (1e9, 1e10, 1e11)


@dataclass(frozen=True)
class Figures:
    """Measured ones. Of a graph: µs of CPU to scan it, in all tasks that are spread, in the task of graphs.parquet, and
    in the driver where that reads text, and where it goes over its bytes alone; bytes written between tasks, in
    segments, and in graphs.parquet. block_us: µs of the driver for a block; requests: of all tasks before shards are
    written, a block. group_graphs, shard_graphs: graphs in each. distinct: sizes."""

    scan_us: float
    spread_us: float
    table_us: float
    text_us: float
    pass_us: float
    between: float
    routed: float
    table: float
    block_us: float
    requests: float
    group_graphs: float
    shard_graphs: float
    distinct: int

    def segments(self, n: float) -> float:
        return n / self.group_graphs * n / self.shard_graphs


def lines(of: Figures) -> list[str]:
    """A section of the page."""
    rows = [[name, formula, *(value(n) for n in SIZES)] for name, formula, value in _rows(of)]
    return [
        f"## Calculated: {CORES:,} cores",
        "",
        f"Nothing in this table was run. n molecules on {CORES:,} cores like this one, from the figures above; scan: "
        f"the whole job's. Assumed: {1e3 * ANSWER:.0f} ms from a request to its answer, {AT_ONCE} under way where a "
        f"shard's segments are read, one elsewhere. S3 documents {GETS:,} GET requests a second for one prefix.",
        "",
        *table("what|formula|" + "|".join(f"n = {power(n)}" for n in SIZES), rows, 2),
        "",
        f"The driver is as long at work as the cores that scan molecules where these are "
        f"{_rounded(of.scan_us / of.block_us * BLOCK_GRAPHS)}, if tasks read for themselves, and "
        f"{_rounded(of.scan_us / of.text_us)} if it reads gzipped CSV for them: more cores wait for it.",
    ]


def _rows(of: Figures) -> list[tuple[str, str, Callable[[float], str]]]:
    def spread(n: float) -> float:
        return n * of.spread_us / 1e6 / CORES

    return [
        ("scan", f"n · {of.scan_us:.0f} µs / cores", lambda n: duration(n * of.scan_us / 1e6 / CORES)),
        (
            "all tasks but that of graphs.parquet",
            f"n · {of.spread_us:.0f} µs / cores",
            lambda n: duration(n * of.spread_us / 1e6 / CORES),
        ),
        (
            "driver, while blocks are scanned",
            f"n / {BLOCK_GRAPHS:,} · {of.block_us:.0f} µs",
            lambda n: duration(n / BLOCK_GRAPHS * of.block_us / 1e6),
        ),
        ("driver, its pass over CSV", f"n · {of.pass_us:.2f} µs", lambda n: duration(n * of.pass_us / 1e6)),
        ("driver, where it reads gzipped CSV", f"n · {of.text_us:.1f} µs", lambda n: duration(n * of.text_us / 1e6)),
        ("graphs.parquet, one task", f"n · {of.table_us:.2f} µs", lambda n: duration(n * of.table_us / 1e6)),
        ("its size", f"n · {of.table:.1f} bytes", lambda n: amount(n * of.table)),
        ("written between tasks, and read", f"n · {of.between:.0f} bytes", lambda n: amount(n * of.between)),
        ("groups", f"n / {of.group_graphs:,.0f}", lambda n: f"{n / of.group_graphs:,.0f}"),
        ("shards", f"n / {of.shard_graphs:,.0f}", lambda n: f"{n / of.shard_graphs:,.0f}"),
        ("segments", "groups · shards", lambda n: f"{of.segments(n):.1e}"),
        ("bytes of one", f"n · {of.routed:.0f} bytes / segments", lambda n: amount(n * of.routed / of.segments(n))),
        (
            "tasks wait for an object store, before shards",
            f"n / {BLOCK_GRAPHS:,} · {of.requests:.1f} · {1e3 * ANSWER:.0f} ms / cores",
            lambda n: duration(n / BLOCK_GRAPHS * of.requests * ANSWER / CORES),
        ),
        (
            "a shard's segments, from an object store",
            f"2 · groups / {AT_ONCE} · {1e3 * ANSWER:.0f} ms",
            lambda n: duration(2 * n / of.group_graphs / AT_ONCE * ANSWER),
        ),
        (
            "all segments, at the rate of one prefix",
            f"2 · segments / {GETS:,} a second",
            lambda n: duration(2 * of.segments(n) / GETS),
        ),
        (
            "driver's memory of blocks and counts",
            f"40 bytes · blocks + 24 bytes · {of.distinct} · groups",
            lambda n: amount(40 * n / BLOCK_GRAPHS + 24 * of.distinct * n / of.group_graphs),
        ),
    ]


def _rounded(number: float) -> str:
    """To one digit: the quotient of two small times."""
    return f"about {float(f'{number:.1g}'):,.0f}"


def figures(
    scan_job: dict[str, Any], sources: dict[str, float], full: list[Any], stored: float, whole: dict[str, Any]
) -> Figures:
    """scan_job: a whole job that reads text; sources: of the driver, by kind of file; full: PerGraph of each phase;
    stored: bytes of graphs.parquet a graph; whole: the driver from the first block on."""
    of = {one.name: one for one in full}
    scan = next(phase for phase in scan_job["phases"] if phase["name"] == "scan_block")
    step = next(step for step in whole["steps"] if step["name"] == "scan_block")
    scan_us = sum(task["cpu"] for task in scan["tasks"]) / scan_job["graphs"] * 1e6
    later = sum(one.cpu for one in full if one.name not in ("scan", "write graphs.parquet"))
    return Figures(
        scan_us=scan_us,
        spread_us=scan_us + later,
        table_us=of["write graphs.parquet"].cpu,
        text_us=sources["CSV, gzipped"],
        pass_us=sources["CSV"],
        between=of["scan"].written + of["route"].written,
        routed=of["write shards"].read,
        table=stored,
        block_us=step["driver"] / whole["blocks"] * 1e6,
        requests=sum(of[name].requests for name in ("scan", "content hash", "count", "route")) * BLOCK_GRAPHS,
        group_graphs=GROUP_BYTES / whole["block_bytes"],
        shard_graphs=whole["num_graphs"] / whole["shards"],
        distinct=whole["distinct"],
    )
