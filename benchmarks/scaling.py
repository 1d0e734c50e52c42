"""What a build costs on clusters: whole jobs on each executor, tasks at their full size, and the driver at 10^9 graphs.

    python benchmarks/scaling.py [--quick] [--repeats 3] [--out benchmarks/results/scaling.md]

Each part runs in a process of its own, for its memory is measured:

* the whole job on the molecules of sample:nci, many times over in one CSV file, with 1 and 2 workers of each executor;
* one job whose groups and shards are as large as in any large build, on one worker;
* the driver alone, whose tasks nobody carries out, with the places that workers would give to graphs (`simulated.py`).

Linux only. --quick: few graphs, all parts in this process and on the same workers, and only to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import repeated
import scaling_page
from metering import CountingStore, MeteredExecutor, memory, tree_cpu
from placement import check
from provenance import provenance
from simulated import Simulated, job_of, later_driver, whole_driver

from pipelines.building.job import run
from pipelines.building.mapped import shards as mapped_shards
from pipelines.building.mapped.carrier import MappedCarrier
from pipelines.building.spilled import groups
from pipelines.building.spilled.carrier import SpilledCarrier
from pipelines.building.spilled.phases import Cluster
from pipelines.executors import Executor, ProcessExecutor, make_executor
from pipelines.sources.protocol import Source, pinned
from pipelines.stores.store import FolderStore
from pipelines.stores.work_folder import SCRATCH, WORK

EXECUTORS = {"process": "numpy", "dask": "distributed", "ray": "ray"}
"""Executor -> package without which it is left out."""
SMALL_GROUP, SMALL_SHARD = 2 << 20, 4
"""Bytes of a group and blocks of a shard where a small job is to have as many tasks as a large one."""
QUICK_GROUP, QUICK_BLOCKS = 256 << 10, {"job": 1, "sources": 1, "driver": 3}
"""Bytes of a group, and how many of the five blocks of sample:nci each part has, where it is only to run. The layout of
a large build is measured on three."""
GRAPHS = 4999
"""Lines of sample:nci."""
FULL = 200
"""Copies of the molecules that fill more than one shard."""
DRIVERS = ((3 * 10**6, 0), (10**9, 0), (10**11, 3000))
QUICK_DRIVERS = ((200_000, 0), (10**8, 2))
"""Graphs, and what `later_driver` is told; 0 for the whole driver."""
Record = dict[str, Any]


def run_job(
    executor: str, workers: int, copies: int, small: bool, blocks: int | None = None, on: Executor | None = None
) -> Record:
    """The whole job, molecules from a CSV file; or, not small, from blocks scanned before, in parts of full size.
    on: an executor that runs already."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        if small:
            stack.enter_context(small_parts(SMALL_GROUP if blocks is None else QUICK_GROUP))
            source = repeated.as_csv(folder / "molecules.csv", copies, blocks)
        else:
            source = repeated.as_blocks(folder, copies, blocks)
        if on is None:
            on = stack.enter_context(closing(started(executor, workers)))
        return measured(source, executor, workers, on, folder)


def started(executor: str, workers: int) -> Executor:
    """Workers, also where there is one."""
    return ProcessExecutor(workers) if executor == "process" else make_executor(executor, workers)


def measured(source: Source, executor: str, workers: int, on: Executor, folder: Path) -> Record:
    """A whole job into a new folder `out` of this one."""
    place = MeteredExecutor(on)
    start = time.perf_counter()
    place.warm(workers)
    begin, tree, own = time.perf_counter(), tree_cpu(), time.process_time()
    out = FolderStore(folder / "out", folder / "out" / WORK / SCRATCH)
    between = FolderStore(out.folder / WORK, out.scratch_in)
    between.folder.mkdir(parents=True)
    job = job_of(source)

    def silent(*_: Any) -> None:
        pass

    if place.cluster:
        cluster = Cluster(place, CountingStore(between), out, silent)
        result = run(job, out, lambda journal: nullcontext(SpilledCarrier(job, cluster, journal)), silent)
    else:
        carrier = partial(MappedCarrier, job, out.folder, place, silent)
        result = run(job, out, lambda journal: nullcontext(carrier(journal)), silent)
    wall = time.perf_counter() - begin
    manifest = result.manifest
    return {
        "executor": executor,
        "workers": workers,
        "start": begin - start,
        "wall": wall,
        "cpu": tree_cpu() - tree,
        "driver_cpu": time.process_time() - own,
        "driver_peak": memory("VmHWM"),
        "stages": dict(result.seconds),
        "phases": [asdict(phase) for phase in place.phases],
        "graphs": manifest.counts.packed,
        "packs": manifest.num_packs,
        "sha256": manifest.sha256,
        "shard_bytes": sum(shard.bytes for shard in manifest.shards),
        "graphs_bytes": manifest.files["graphs.parquet"].bytes,
    }


@contextmanager
def small_parts(group_bytes: int) -> Iterator[None]:
    """Let groups and shards be small. Only the driver decides that."""
    layout = mapped_shards.sample_layout

    def smaller(*given: Any) -> Any:
        found = layout(*given)
        per_block = max(1, found.packs_per_block // 8)
        return found._replace(packs_per_block=per_block, packs_per_shard=SMALL_SHARD * per_block)

    group = partial(groups.groups_of, most_bytes=group_bytes)
    with (
        patch("pipelines.building.spilled.groups.groups_of", group),
        patch("pipelines.building.spilled.phases.sample_layout", smaller),
        patch("pipelines.building.mapped.carrier.sample_layout", smaller),
    ):
        yield


def run_sources(copies: int, blocks: int | None = None) -> Record:
    """CPU µs of the driver for each molecule of a file, from its hash to tasks that are ready to be sent."""
    found: Record = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, source in repeated.as_files(Path(name), copies, blocks).items():
            start = time.process_time()
            for task in pinned(source).tasks():
                pickle.dumps(task)
            found[kind] = (time.process_time() - start) / (copies * GRAPHS) * 1e6
    return found


def run_driver(num_graphs: int, groups: int, blocks: int | None = None) -> Record:
    """The driver of a build, without its tasks, and where some graphs would go; groups: of `later_driver`, or 0."""
    with tempfile.TemporaryDirectory() as name:
        complete = not groups and num_graphs <= 10**7
        if groups:
            found = later_driver(num_graphs, groups, Path(name), blocks)
        else:
            every = 1 if complete else max(1, num_graphs // 500_000)
            found = whole_driver(num_graphs, Path(name), lambda group: group % every == every // 2, blocks)
        return _plain(found) | {"places": asdict(check(found.kept, found.sample, complete=complete))}


def _plain(found: Simulated) -> Record:
    plain = asdict(replace(found, kept=[], sample=None))
    shards = -(-found.plan["num_packs"] // found.layout.packs_per_shard)
    return plain | {"shards": shards, "distinct": len(found.sample.sizes), "block_bytes": found.sample.bytes_per_graph}


PARTS = {"job": run_job, "driver": run_driver, "sources": run_sources}


def apart(part: str, *given: Any) -> Record:
    """A part in a process of its own."""
    command = [sys.executable, __file__, "--part", part, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} {given}: {done.stderr.strip()}")
    print(f"{part} {given}", file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def here() -> Iterator[Callable[..., Record]]:
    """Parts of few molecules, in this process: their peaks of memory are then those of all parts before them, too. The
    workers of an executor are those that it first had."""
    places: dict[str, Executor] = {}
    with ExitStack() as stack:

        def carry(part: str, *given: Any) -> Record:
            known: dict[str, Any] = {"blocks": QUICK_BLOCKS[part]}
            if part == "job":
                executor, workers = given[:2]
                if executor not in places:
                    places[executor] = stack.enter_context(closing(started(executor, workers)))
                known["on"] = places[executor]
            return json.loads(json.dumps(PARTS[part](*given, **known)))

        yield carry


def jobs(
    carry: Callable[..., Record], executors: list[str], counts: Sequence[int], copies: int, repeats: int
) -> list[Record]:
    """Of each executor and number of workers the run of median wall time."""
    found: list[Record] = []
    for executor in executors:
        for workers in counts:
            runs = [carry("job", executor, workers, copies, True) for _ in range(repeats)]
            found.append(sorted(runs, key=lambda run: run["wall"])[len(runs) // 2])
    if len({(run["sha256"], run["packs"]) for run in found}) != 1:
        raise SystemExit(f"executors differ: {[(run['executor'], run['sha256']) for run in found]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, help="all that are installed, unless given")
    parser.add_argument("--copies", type=int, help="of the 4,991 molecules, in the jobs on each executor")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scaling.md")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part[0]](*json.loads(arguments.part[1]))))
        return
    with here() if arguments.quick else nullcontext(apart) as carry:
        text = measured_text(arguments, carry)
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(text)
    print(text)


def measured_text(arguments: argparse.Namespace, carry: Callable[..., Record]) -> str:
    """The whole page."""
    quick = arguments.quick
    copies, repeats = arguments.copies or (1 if quick else 8), arguments.repeats or (1 if quick else 3)
    executors = arguments.executors or [name for name, package in EXECUTORS.items() if find_spec(package)]
    cluster = next((name for name in executors if name != "process"), None)
    measured = jobs(carry, executors, (2,) if quick else (1, 2), copies, repeats)
    full = carry("job", cluster, 1, 2 if quick else FULL, False) if cluster else None
    if full is not None and not quick:  # graphs.parquet anew: texts that come again and again compress too well
        once = carry("job", cluster, 1, 1, False)
        full["graphs_bytes"] = once["graphs_bytes"] / once["graphs"] * full["graphs"]
    drivers = QUICK_DRIVERS if quick else DRIVERS
    return scaling_page.text(
        f"benchmarks/scaling.py{' --quick' if quick else ''} --copies {copies} --repeats {repeats}",
        provenance("numpy", "pyarrow", "numba", "ortools", "rdkit", "distributed", "ray", seed=0),
        measured,
        repeats,
        carry("sources", copies),
        full,
        [carry("driver", *driver) for driver in drivers],
    )


if __name__ == "__main__":
    main()
