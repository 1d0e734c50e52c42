"""The driver of a build of any number of graphs, while nobody carries its tasks out.

The driver is the real one, and so is every item that it sends and every result that it receives, both pickled. Results
are drawn at random: blocks and groups of graphs whose sizes are spread as those of sample:nci. The first blocks are
real, for the layout of packs is measured on them.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from metering import memory, name_of

from packer import PackLimits
from packer.files.atomic import FileEntry
from packer.graphs.table import HASH_GRAPHS
from packer.scan.attributes import ALL
from packer.shards import Layout, ShardEntry, shard_name
from packer.shards.layout import BLOCK_BYTES
from packer.shards.manifest import MANIFEST, PLAN
from packer.shards.targets import Watched
from pipelines.building.job import run
from pipelines.building.mapped.shards import TARGETS
from pipelines.building.options import ScanOptions
from pipelines.building.plan import PlanOptions
from pipelines.building.request import Job, check_job
from pipelines.building.spilled.blocks import Block, BlockFacts, ScanBlock, scan_block
from pipelines.building.spilled.carrier import SpilledCarrier
from pipelines.building.spilled.gather import GraphsTask
from pipelines.building.spilled.groups import GROUP_BYTES, CountTask, Group, GroupTask, SplitCount
from pipelines.building.spilled.members import Membership
from pipelines.building.spilled.phases import Cluster
from pipelines.building.spilled.route import RouteTask
from pipelines.sources import as_source
from pipelines.sources.protocol import Scan, Source
from pipelines.sources.skips import Skips
from pipelines.stores.store import FolderStore

LIMITS = PackLimits(256, 552, 32)
BLOCK_GRAPHS = 1024
"""As in SMILES files; other sources have larger blocks, and fewer."""


@dataclass(frozen=True)
class NoBlock:
    """A block that is never scanned."""

    first_id: int
    graphs: int

    @property
    def label(self) -> str:
        return f"graphs {self.first_id} to {self.first_id + self.graphs - 1}"

    def scan(self, attributes: Any = ALL) -> Scan:
        raise AssertionError("nobody carries tasks out")


@dataclass(frozen=True)
class ManyGraphs:
    """sample:nci (its first blocks alone, where told), then blocks that exist as tasks only."""

    num_graphs: int
    real_blocks: int | None = None
    name: str = "simulated"
    parallel: bool = True
    repeatable: bool = True
    on_empty: str = "skip"
    argv: tuple[str, ...] = ()

    def key(self) -> dict[str, Any]:
        return {"kind": "simulated", "graphs": self.num_graphs}

    def tasks(self) -> Iterator[Any]:
        first = 0
        for task in islice(as_source("sample:nci").tasks(), self.real_blocks):
            yield task
            first = task.first_id + len(task.rows)
        for start in range(first, self.num_graphs, BLOCK_GRAPHS):
            yield NoBlock(start, min(BLOCK_GRAPHS, self.num_graphs - start))


@dataclass(frozen=True)
class Sample:
    """What sample:nci tells: facts of its blocks; sizes int64 [distinct, axes] and share float64 [distinct]."""

    facts: tuple[BlockFacts, ...]
    sizes: np.ndarray
    share: np.ndarray
    bytes_per_graph: float

    @classmethod
    def of(cls, facts: Iterable[BlockFacts]) -> Sample:
        facts = tuple(facts)
        count: Counter[tuple[int, ...]] = Counter()
        for one in facts:
            for size, number in zip(one.sizes.tolist(), one.count.tolist(), strict=True):
                count[tuple(size)] += number
        graphs = count.total()
        share = np.array([count[size] for size in sorted(count)]) / graphs
        return cls(facts, np.array(sorted(count)), share, sum(one.block.size for one in facts) / graphs)

    def draw(self, group: int, graphs: int) -> np.ndarray:
        """How many graphs of each size a group has: int64 [distinct]. A function of the group, and no more."""
        return np.random.default_rng([group, graphs]).multinomial(graphs, self.share)

    def count(self, group: int, graphs: int) -> SplitCount:
        found = self.draw(group, graphs)
        return SplitCount(self.sizes[found > 0], found[found > 0], None, graphs, 0, Counter())


@dataclass
class Step:
    """One map of tasks, or what the driver does between two of them. driver: CPU seconds; peak: bytes, so far."""

    name: str
    tasks: int = 0
    driver: float = 0.0
    sent: int = 0
    returned: int = 0
    peak: int = 0


class NoExecutor:
    """Takes tasks and gives results that nobody has computed. kept: some of the tasks that route groups."""

    here, cluster = True, True

    def __init__(self, keep: Callable[[int], bool]) -> None:
        self.steps = [Step("begin")]
        self.kept: list[RouteTask] = []
        self.sample: Sample | None = None
        self._keep = keep
        self._real: list[BlockFacts] = []
        self._clock = time.process_time()

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        answer = getattr(self, f"_{name_of(fn)}")
        self.begin(name_of(fn))
        step = self.steps[-1]
        for item in items:
            step.tasks += 1
            step.sent += len(pickle.dumps((fn, item)))
            start = time.process_time()
            result = pickle.dumps(answer(item))
            self._clock += time.process_time() - start  # nobody's time
            step.returned += len(result)
            yield pickle.loads(result)
        self.begin(f"after {step.name}")

    def close(self) -> None:
        pass

    def begin(self, name: str) -> None:
        """What the driver has spent until now belongs to the step that ends here."""
        now = time.process_time()
        self.steps[-1].driver += now - self._clock
        self.steps[-1].peak = memory("VmHWM")
        self._clock = now
        self.steps.append(Step(name))

    def _scan_block(self, item: ScanBlock) -> BlockFacts:
        if not isinstance(item.task, NoBlock):
            self._real.append(scan_block(item))
            self.sample = Sample.of(self._real)
            return self._real[-1]
        assert self.sample is not None
        graphs, whole = item.task.graphs, self.sample.facts[:4]  # the fifth block is a short one
        like = whole[item.number % len(whole)]
        size = int(graphs * self.sample.bytes_per_graph)
        return replace(like, block=Block(item.number, item.task.first_id, graphs, graphs, size), skips=Skips())

    def _hash_blocks(self, item: Any) -> bytes:
        return bytes(32) * -(-item.graphs // HASH_GRAPHS)

    def _count_group(self, item: CountTask) -> tuple[SplitCount]:
        assert self.sample is not None
        return (self.sample.count(item.task.group.number, item.task.group.records),)

    def _route_group(self, item: RouteTask) -> int:
        if self._keep(item.task.group.number):
            self.kept.append(item)
        return item.task.group.records

    def _write_file(self, item: Any) -> dict[str, Any]:
        if isinstance(item, GraphsTask):
            return asdict(FileEntry(1 << 30, "0" * 64))
        packs = item.stop - item.first
        blocks = -(-packs // item.layout.packs_per_block)
        name, crc = shard_name(item.number), tuple((1 << 31) + 7919 * number for number in range(blocks))
        digest = hashlib.sha256(name.encode()).hexdigest()
        size = blocks * BLOCK_BYTES + 4096  # with a footer
        entry = asdict(ShardEntry(name, packs, size, digest, (BLOCK_BYTES,) * blocks, crc, 1 << 31))
        return {**entry, TARGETS: Watched([], item.target.schema).plain()}


@dataclass(frozen=True)
class Simulated:
    """What the driver of a build did. kept: some of the tasks that route groups; sample: what results were drawn by."""

    num_graphs: int
    blocks: int
    groups: int
    plan: dict[str, Any]
    layout: Layout
    steps: list[Step]
    peak: int
    manifest_bytes: int
    plan_bytes: int
    kept: list[RouteTask]
    sample: Sample


def job_of(source: Source) -> Job:
    """The job that all runs here carry out."""
    options = ScanOptions({}, {}, None, ALL)
    return check_job(Job(source, LIMITS, options, PlanOptions("optimal", 0, 60.0), None, "error", "zstd"))


def whole_driver(
    num_graphs: int, folder: Path, keep: Callable[[int], bool], real_blocks: int | None = None
) -> Simulated:
    """The driver from the first block to the manifest. real_blocks: of sample:nci, all unless told."""
    executor, on = _cluster(folder, keep)
    job = job_of(ManyGraphs(num_graphs, real_blocks))
    result = run(job, on.out, lambda journal: nullcontext(SpilledCarrier(job, on, journal)), on.progress)
    groups = next(step.tasks for step in executor.steps if step.name == "route_group")
    blocks = next(step.tasks for step in executor.steps if step.name == "scan_block")
    layout = _layout_of(result.manifest)
    return _simulated(executor, on, num_graphs, blocks, groups, result.manifest.plan, layout)


def later_driver(num_graphs: int, groups: int, folder: Path, real_blocks: int | None = None) -> Simulated:
    """The driver from the plan on, with one group that holds all graphs but those of the last `groups` ones."""
    executor, on = _cluster(folder, lambda group: group > 0 and (groups - group) % max(1, groups // 3) == 0)
    real = sum(len(task.rows) for task in islice(as_source("sample:nci").tasks(), real_blocks))
    job = job_of(ManyGraphs(real, real_blocks))

    class Late(SpilledCarrier):
        def choose(self, limits: PackLimits) -> tuple[str]:
            assert executor.sample is not None
            each = int(GROUP_BYTES / executor.sample.bytes_per_graph)
            first = num_graphs - groups * each
            together = [Group(0, range(1), 0, first)]
            together += [Group(i, range(1), first + (i - 1) * each, each) for i in range(1, groups + 1)]
            members = Membership(("",), num_graphs)
            self._tasks = [GroupTask(on.work, one, self._scan.schema, limits, "error", 0, members) for one in together]
            executor.begin("count")
            self._counts = [(executor.sample.count(group.number, group.records),) for group in together]
            executor.begin("plan")
            return ("",)

    manifest = run(job, on.out, lambda journal: nullcontext(Late(job, on, journal)), on.progress).manifest
    return _simulated(executor, on, num_graphs, 0, groups + 1, manifest.plan, _layout_of(manifest))


def _cluster(folder: Path, keep: Callable[[int], bool]) -> tuple[NoExecutor, Cluster]:
    executor = NoExecutor(keep)
    work, out = (FolderStore(folder / name, folder / "scratch") for name in ("work", "out"))
    return executor, Cluster(executor, work, out, lambda *_: None)


def _layout_of(manifest: Any) -> Layout:
    return Layout(manifest.packs_per_block, manifest.shards[0].packs, manifest.uncompressed)


def _simulated(
    executor: NoExecutor,
    on: Cluster,
    num_graphs: int,
    blocks: int,
    groups: int,
    plan: dict[str, Any],
    layout: Layout,
) -> Simulated:
    executor.begin("end")
    assert executor.sample is not None
    sizes = [on.out.size(name) or 0 for name in (MANIFEST, PLAN)]
    steps, peak = executor.steps[:-1], memory("VmHWM")
    return Simulated(num_graphs, blocks, groups, plan, layout, steps, peak, *sizes, executor.kept, executor.sample)
