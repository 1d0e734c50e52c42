"""The second stage of a build: what fits, which graph belongs to which data set, and a stored plan for each."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from packer.algorithms.registry import find_algorithm
from packer.errors import PlanError, SizesError, SourceError
from packer.fields import Axis
from packer.graph_table import GraphTable
from packer.limits import PackLimits
from packer.packing import DEFAULT_SECONDS
from packer.packing import Progress as SolverProgress
from packer.plan import PackPlan, make_plan
from packer.plan_file import load_plan, save_plan
from packer.shards import FileEntry
from packer.shards.files import TEMPORARY, hash_file, sync_folder
from packer.sizes import GraphSizes, need_of
from pipelines import splits as splitting
from pipelines.build_scan import ScanResult
from pipelines.sources.protocol import Skip
from pipelines.sources.text import digest, has_changed, open_file
from pipelines.splits import Splits


@dataclass(frozen=True)
class Members:
    """The graphs of one data set. source_ids: int64, ascending, skipped ones included; rows: int64, those rows of the
    graph table that are to be packed, ascending."""

    source_ids: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class PlanOptions:
    """How the plan is made; `given` is the path of one made before, and `sha256` of the file that is to be read there,
    whatever it is where that is None. content: of the file, for a plan that is in memory; `given` is then what errors
    call it. time_limit, work_limit: see `make_plan`."""

    algorithm: str
    seed: int
    time_limit: float | None
    given: Path | None = None
    sha256: str | None = None
    work_limit: float | None = None
    content: bytes | None = field(default=None, repr=False)

    def holding(self, plan: PackPlan) -> PlanOptions:
        """These options, of a plan that is no file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.parquet"
            plan.save(path)
            content = path.read_bytes()
        return replace(self, given=Path("the plan"), sha256=hashlib.sha256(content).hexdigest(), content=content)

    def key(self) -> dict[str, Any]:
        if self.given is not None:
            return {"plan": self.pinned().sha256}
        seconds = DEFAULT_SECONDS if self.time_limit is None else self.time_limit
        named: dict[str, Any] = {"algorithm": self.algorithm, "seed": self.seed, "time_limit": seconds}
        if self.time_limit == DEFAULT_SECONDS:
            named["named"] = True  # a limit that is asked for is used to the end, the same one by default is not
        if self.work_limit is not None:
            named["work_limit"] = self.work_limit
        return named

    def pinned(self) -> PlanOptions:
        """The same, and no other plan may lie there when it is loaded."""
        if self.given is None or self.sha256 is not None:
            return self
        return replace(self, sha256=digest(self.given))

    def load(self) -> PackPlan:
        """The given plan. Raises as `PackPlan.load`, and SourceError where its file has changed."""
        assert self.given is not None
        if self.content is not None:
            return load_plan(self.content, self.given.name)
        with open_file(self.given) as file:
            data = file.read()
        found = hashlib.sha256(data).hexdigest()
        if self.sha256 not in (None, found):
            raise has_changed(self.given, found, str(self.sha256))
        return load_plan(data, self.given.name)


def select_sizes(sizes: GraphSizes, rows: np.ndarray) -> GraphSizes:
    """The sizes of these graphs, in that order."""
    return with_columns(sizes.axes, {key: values[rows] for key, values in sizes.columns.items()})


def with_columns(
    axes: tuple[Axis, ...], columns: Mapping[str, np.ndarray], count: np.ndarray | None = None
) -> GraphSizes:
    """Sizes from one array an axis; count: see GraphSizes."""
    by_level: dict[str, Any] = {"node": {}, "edge": {}}
    for axis in axes:
        by_level[axis.level][axis.type] = columns[axis.key]
    nodes, edges = (found.get(None, found) for found in by_level.values())
    return GraphSizes(nodes, edges, count)


def fitting(sizes: GraphSizes, limits: PackLimits) -> np.ndarray:
    """bool [graphs]: which graphs fit an empty pack."""
    distinct, _, of_row = sizes.distinct
    need, capacity = need_of(distinct, sizes.axes, limits)
    return np.all(need <= capacity, axis=1)[of_row]


def check_fit(sizes: GraphSizes, limits: PackLimits, source_ids: np.ndarray, oversize: str) -> np.ndarray:
    """bool [graphs], which graphs fit; SizesError naming the first that does not, unless `oversize` is "skip"."""
    fits = fitting(sizes, limits)
    if fits.all():
        return fits
    if oversize == "skip":
        if not fits.any():
            raise none_fits(sizes, limits)
        return fits
    row = int(np.argmin(fits))
    raise do_not_fit(sizes, limits, fits, row, int(source_ids[row]))


def do_not_fit(sizes: GraphSizes, limits: PackLimits, fits: np.ndarray, row: int, graph_id: int) -> SizesError:
    """The error that some graphs are too large, naming the first: that of `row`. fits: bool [rows of sizes]."""
    many = int((~fits).sum()) if sizes.count is None else sum(sizes.count[~fits].tolist())
    all_of_them = f"; {_would_hold_all(sizes, limits)} would hold them all" if many > 1 else ""
    return SizesError(
        f"graph {graph_id} {too_large(sizes, limits, row)}; "
        f"{many} of {sizes.num_graphs} graphs do not fit{all_of_them}. "
        "Raise the limit, or pass --oversize skip to leave such graphs out, or --oversize trim-both to cut them down "
        "(they are counted)"
    )


def none_fits(sizes: GraphSizes, limits: PackLimits) -> SizesError:
    """The error that all graphs are too large."""
    least = histogram_of(sizes)
    return SizesError(
        f"none of the {sizes.num_graphs} graphs fits the limits: the one with the fewest nodes "
        f"{too_large(least, limits, 0)}"
    )


def too_large(sizes: GraphSizes, limits: PackLimits, row: int) -> str:
    """Why a graph of row `row` does not fit: what it needs, what a pack offers, what would do."""
    slots, reserved = limits.slots(sizes.axes), _reserved(limits)
    said: list[str] = []
    for axis in sizes.axes:
        has, limit = int(sizes.columns[axis.key][row]), slots[axis.key]
        if limit is not None and has > limit - reserved:
            what = f"{axis.level}s" if axis.type is None else f"{axis.key} {axis.level}s"
            less = f" ({limit}, less {reserved} for padding)" if reserved else ""
            option = _option(axis, has + reserved)
            said.append(f"{has} {what}; a pack offers {limit - reserved}{less}: {option} would do")
    return f"needs {', and '.join(said)}"


def _would_hold_all(sizes: GraphSizes, limits: PackLimits) -> str:
    slots, reserved = limits.slots(sizes.axes), _reserved(limits)
    most = {axis: int(sizes.columns[axis.key].max()) + reserved for axis in sizes.axes}
    return " ".join(_option(axis, needed) for axis, needed in most.items() if needed > (slots[axis.key] or needed))


def _reserved(limits: PackLimits) -> int:
    """Rows of each axis that the padding of a pack with one real graph takes at least."""
    return (limits.num_graphs or 1) - 1 if limits.null_graphs == "all" else 1 if limits.null_graphs == "one" else 0


def _option(axis: Axis, slots: int) -> str:
    return f"--num-{axis.level}s {'' if axis.type is None else axis.key + '='}{slots}"


def members(scan: ScanResult, splits: Splits | None, fits: np.ndarray) -> dict[str, Members]:
    """The data sets to build: split name -> its graphs ("" for all of them). SourceError for an empty split."""
    table = scan.table
    if splits is None:
        chosen = {"": np.arange(scan.num_graphs, dtype=np.int64)}
    elif splits.fractions:
        chosen = splitting.by_fractions(splits, scan.num_graphs)
    elif splits.file is not None:
        chosen = splitting.by_file(splits.file, scan.num_graphs, splits.sha256)
    else:
        column = str(splits.column)
        labels = labels_of(table, np.arange(scan.num_graphs), scan.skips, column)
        # A skipped graph that names no split is listed with the first graph that can be packed.
        labels[labels == None] = labels[table.source_ids[0]]  # noqa: E711
        chosen = splitting.by_labels(labels.astype(str), column)
    found: dict[str, Members] = {}
    for name, ids in chosen.items():
        at = np.minimum(np.searchsorted(table.source_ids, ids), table.num_graphs - 1)
        rows = at[table.source_ids[at] == ids]
        rows = rows[fits[rows]]
        if not len(rows):
            raise empty_split(name, scan.num_graphs)
        found[name] = Members(ids, rows)
    return found


def empty_split(name: str, num_graphs: int) -> SourceError:
    """The error that a data set would be empty. num_graphs: of the source."""
    return SourceError(f"split {name!r} has no graph to pack, of {num_graphs} in all: give it a larger share")


def store_plan(plan: PackPlan, path: Path, *, by_graph: bool) -> FileEntry:
    """Write the plan's file, whole or not at all; by_graph: see `save_plan`."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        save_plan(plan, temporary, by_graph=by_graph)
        handle = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(handle)
        os.close(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return hash_file(path)


def obtain_plan(
    sizes: GraphSizes, limits: PackLimits, options: PlanOptions, progress: SolverProgress | None = None
) -> PackPlan:
    """Make the plan, or take the given one, which must be of these very sizes and limits.

    Algorithms that pack sizes see how many graphs have each, and not in which order: so a plan is the same wherever the
    graphs are.
    """
    if options.given is None:
        seen = sizes if needs_order(options) else histogram_of(sizes)
        plan = make_plan(
            seen,
            limits,
            options.algorithm,
            seed=options.seed,
            time_limit=options.time_limit,
            work_limit=options.work_limit,
            progress=progress,
        )
        if plan.stopped_by == "interrupt":
            raise KeyboardInterrupt  # a data set does not depend on when somebody grew impatient
        return plan.of(sizes)
    plan = options.load()
    if plan.limits != limits:
        raise PlanError(f"{options.given} was made for {plan.limits}, not for {limits}")
    try:
        return plan.of(sizes)
    except PlanError as error:
        raise PlanError(f"{options.given}: {error}") from None


def needs_order(options: PlanOptions) -> bool:
    """Whether the order of the graphs has a part in the plan."""
    if options.given is not None:
        return not options.load().by_patterns
    return find_algorithm(options.algorithm).takes == "items"


def histogram_of(sizes: GraphSizes) -> GraphSizes:
    """The distinct sizes, ascending, with how many graphs have each."""
    distinct, count, _ = sizes.distinct
    columns = {axis.key: distinct[:, number] for number, axis in enumerate(sizes.axes)}
    return with_columns(sizes.axes, columns, count)


def labels_of(table: GraphTable, ids: np.ndarray, skips: Iterable[Skip], column: str) -> np.ndarray:
    """str or None [ids]: the value that each source graph has in a string attribute, or in a graph-level field of one
    number; None for a skipped graph without one.

    ids: ascending; every graph of the table is among them. Raises SourceError for an unknown column, and for a graph of
    the table that has no value.
    """
    schema = table.schema
    labels = np.full(len(ids), None, dtype=object)
    numbers = [
        one
        for one in schema.fields
        if one.level == "graph" and one.shape == () and one.role != "count" and one.dtype != "bfloat16"
    ]
    fields = {one.key: one for one in numbers}
    own = [one.key for one in numbers if column in (one.key, one.name)]
    if column in schema.strings:
        found = table.strings[column].to_pylist()
    elif column in fields or len(own) == 1:
        key = column if column in fields else own[0]
        values = table.columns[key].tolist()
        has = table.columns.get(f"{key}_present", np.ones(len(values), dtype=bool))
        found = [str(value) if known and value == value else None for value, known in zip(values, has, strict=True)]
    else:
        known = [*schema.strings, *fields]
        raise SourceError(
            f"nothing called {column!r} to split by; there are: {', '.join(known) or 'no such attributes'}"
        )
    unlabelled = np.flatnonzero([not value for value in found])
    if len(unlabelled):
        first = table.source_ids[unlabelled[0]]
        raise SourceError(f"graph {first} has no {column!r}: every graph needs one to be split by it")
    labels[np.searchsorted(ids, table.source_ids)] = found
    for skip in skips:
        labels[np.searchsorted(ids, skip.graph_id)] = dict(skip.strings).get(column) or None
    return labels
