"""What must hold in every pack, checked over a whole block at once: counts, masks, pointers, edges, padding, ids.

Nothing here looks at files, and nothing that a block may hold makes it fail: a broken column is a finding, and what
depends on it is left unchecked in that pack.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import numpy as np

from packer.errors import CONTRADICTION, FormatError
from packer.graphs.axes import Axis
from packer.graphs.dtypes import pad_item
from packer.graphs.schema import Field, Schema
from packer.limits.pack_limits import PackLimits

Block = Mapping[str, np.ndarray]

_NAMED = 3
"""Packs of a part that a check names one by one."""
_PART = 1 << 16
"""Rows of the longest axis that are checked at once."""


class Finding(NamedTuple):
    """pack: row in the block; field: column; what: what was found there."""

    pack: int
    field: str
    what: str


class SlotCounts(NamedTuple):
    """Sizes of the graphs in a block's slots, as its pointers and edges tell them.

    num_real: int64 [packs], real graphs; sizes: axis key -> int64 [packs, slots], null graphs included. An edge axis is
    absent when nothing says whose its edges are. sound: bool [packs]; in other packs the sizes mean nothing.
    """

    num_real: np.ndarray
    sizes: dict[str, np.ndarray]
    sound: np.ndarray


def check_block(block: Block, schema: Schema, limits: PackLimits) -> tuple[list[Finding], SlotCounts]:
    """Every violation of the format in a block, and the sizes of its graphs for comparison with the source's.

    block: column -> [packs, *shape] in storage dtype, all of `pack_columns(schema, limits)`. A check names up to 3
    of about 100 packs. Time is linear in the block.
    """
    slots = limits.slots(schema.axes)
    # A part at a time: the arrays of one check then stay in the processor's cache, which halves the time.
    step = max(1, _PART // max(slots.values()))
    findings: list[Finding] = []
    counts: list[SlotCounts] = []
    for first in range(0, len(block["num_real"]), step):
        part = {name: values[first : first + step] for name, values in block.items()}
        part_findings, sizes = _Check(part, schema, limits).run()
        findings += [Finding(first + pack, field, problem) for pack, field, problem in part_findings]
        counts.append(sizes)
    return findings, _joined(counts)


def require_sound(block: Block, schema: Schema, limits: PackLimits) -> None:
    """Raises FormatError for packs that `check_block` finds something wrong with: for what trusts their numbers."""
    findings, _ = check_block(block, schema, limits)
    if findings:
        first = findings[0]
        raise FormatError(f"pack {first.pack} of its block, {first.field}: {first.what}{CONTRADICTION}")


def _joined(counts: list[SlotCounts]) -> SlotCounts:
    real, sizes, sound = zip(*counts)
    by_axis = {key: np.concatenate([part[key] for part in sizes]) for key in sizes[0]}
    return SlotCounts(np.concatenate(real), by_axis, np.concatenate(sound))


class _Check:
    """One block under check: the findings so far, and which packs are still sound enough to look further."""

    def __init__(self, block: Block, schema: Schema, limits: PackLimits) -> None:
        assert limits.num_graphs is not None
        self.block, self.schema, self.limits = block, schema, limits
        self.slots: dict[str, int] = limits.slots(schema.axes)
        self.graphs = limits.num_graphs
        self.packs = len(block["num_real"])
        self.sound = np.ones(self.packs, dtype=bool)
        self.findings: list[Finding] = []
        counts = block["num_real"].astype(np.int64)
        self.real = {axis.key: counts[:, i] for i, axis in enumerate(schema.axes)}
        self.real_graphs = counts[:, -1]
        self.ptr: dict[str, np.ndarray] = {}
        self.in_use = np.zeros((self.packs, self.graphs), dtype=bool)
        self.owner: dict[str, np.ndarray] = {}
        self.sizes: dict[str, np.ndarray] = {}

    def run(self) -> tuple[list[Finding], SlotCounts]:
        self.counts()
        self.masks()
        nodes = [axis for axis in self.schema.axes if axis.level == "node"]
        for axis in self.schema.axes:
            if axis.is_pointed:
                self.pointers(axis)
        empty = self.in_use & (np.sum([self.sizes[axis.key] for axis in nodes], axis=0) < 1)
        self.report(empty.any(axis=1), nodes[0].ptr_name, lambda k: f"real graph {np.argmax(empty[k])} has no nodes")
        for axis in self.schema.axes:
            if axis.level == "edge":
                self.edges(axis)
        for field in self.schema.fields:
            if field.key in self.block and self.block[field.key].size:
                if field.role == "index":
                    self.index_field(field)
                else:
                    self.padding(field)
        self.budgets()
        self.graph_ids()
        return self.findings, SlotCounts(self.real_graphs, self.sizes, self.sound)

    def report(self, bad: Any, field: str, describe: Any, fatal: bool = True) -> None:
        """Note the packs [packs] where a check failed; describe: row -> text. Fatal: look no further there."""
        rows = np.flatnonzero(bad & self.sound)
        for n, row in enumerate(rows[:_NAMED].tolist()):
            more = len(rows) - _NAMED if n + 1 == _NAMED else 0
            self.findings.append(
                Finding(row, field, describe(row) + (f" ({more} more such packs here)" if more > 0 else ""))
            )
        if fatal:
            self.sound[rows] = False

    def counts(self) -> None:
        for i, axis in enumerate(self.schema.axes):
            real, slots = self.real[axis.key], self.slots[axis.key]
            self.report(
                (real < 0) | (real > slots),
                "num_real",
                lambda k, i=i, real=real, slots=slots: f"entry {i} is {real[k]}; there are {slots} slots",
            )
        real, most = self.real_graphs, self.graphs - 1
        self.report(
            (real < 1) | (real > most), "num_real", lambda k: f"{real[k]} real graphs; a pack holds 1 to {most}"
        )
        self.room_for_padding()
        for values in (*self.real.values(), self.real_graphs):
            values[~self.sound] = 0  # so that what follows stays in bounds
        self.in_use = np.arange(self.graphs) < self.real_graphs[:, None]

    def room_for_padding(self) -> None:
        """The rows that the null graphs take at least are left to them."""
        nulls = self.graphs - self.real_graphs if self.limits.padding.each else np.ones_like(self.real_graphs)
        for i, axis in enumerate(self.schema.axes):
            rows, least = self.real[axis.key], nulls * self.limits.padding.reserved(axis.level, 1)
            self.report(
                rows > self.slots[axis.key] - least,
                "num_real",
                lambda k, i=i, axis=axis, rows=rows, least=least: (
                    f"entry {i} is {rows[k]}; of {self.slots[axis.key]} slots null graphs take at least {least[k]}"
                ),
            )

    def masks(self) -> None:
        rows = [(axis.mask_name, self.real[axis.key]) for axis in self.schema.axes]
        for name, real in [*rows, ("graphs_mask", self.real_graphs)]:
            mask = self.block[name].view(np.uint8)
            wrong = mask != (np.arange(mask.shape[1]) < real[:, None])
            self.report(
                wrong.any(axis=1),
                name,
                lambda k, mask=mask, real=real, wrong=wrong: (
                    f"entry {int(np.argmax(wrong[k]))} is {mask[k, np.argmax(wrong[k])]}, "
                    f"but num_real says that {real[k]} are real"
                ),
                fatal=False,
            )

    def pointers(self, axis: Axis) -> None:
        slots, real = self.slots[axis.key], self.real[axis.key]
        name, stored = axis.ptr_name, self.block[axis.ptr_name].astype(np.int64)
        steps = np.diff(stored, axis=1)
        broken = (stored[:, 0] != 0) | (stored[:, -1] != slots) | (steps < 0).any(axis=1)
        self.report(broken, name, lambda k: f"does not ascend from 0 to {slots}: {_some(stored[k])}")
        ptr = np.where(self.sound[:, None], stored, np.r_[np.zeros(self.graphs, dtype=np.int64), slots])
        steps = np.diff(ptr, axis=1)
        ends = ptr[np.arange(self.packs), self.real_graphs]
        self.report(
            ends != real, name, lambda k: f"the real graphs end at {ends[k]}, num_real counts {real[k]} {axis.rows}"
        )
        self.null_graphs(steps, slots - real, name)
        self.ptr[axis.key], self.sizes[axis.key] = ptr, steps
        owner = _labels(ptr[:, 1:], slots)
        name, batch = axis.batch_name, self.block[axis.batch_name]
        wrong = batch != owner
        self.report(
            wrong.any(axis=1),
            name,
            lambda k: (
                f"{axis.level} {np.argmax(wrong[k])} is in graph {batch[k, np.argmax(wrong[k])]}, "
                f"ptr puts it into {owner[k, np.argmax(wrong[k])]}"
            ),
        )
        self.owner[axis.key] = owner

    def null_graphs(self, steps: np.ndarray, padding: np.ndarray, name: str) -> None:
        """The null graphs' sizes are those that the limits prescribe."""
        expected = self.spread(padding)
        wrong = ~self.in_use & (steps != expected)
        self.report(
            wrong.any(axis=1),
            name,
            lambda k: (
                f"null graph {np.argmax(wrong[k])} owns {steps[k, np.argmax(wrong[k])]} padding rows, "
                f"not {expected[k, np.argmax(wrong[k])]}"
            ),
        )

    def spread(self, padding: np.ndarray) -> np.ndarray:
        """Padding rows of each slot, 0 for real graphs: int64 [packs, slots]."""
        rank = np.arange(self.graphs) - self.real_graphs[:, None]
        if not self.limits.padding.each:
            return np.where(rank == 0, padding[:, None], 0)
        each, rest = np.divmod(padding, self.graphs - self.real_graphs)
        return np.where(rank < 0, 0, each[:, None] + (rank < rest[:, None]))

    def edges(self, axis: Axis) -> None:
        """Which graph each edge is in: a real one by where it starts, padding by the rule."""
        real, slots = self.real[axis.key], self.slots[axis.key]
        ends = real[:, None] + np.cumsum(self.spread(slots - real), axis=1)
        owner = _labels(np.where(self.in_use, 0, ends), slots)
        field = self.schema.edge_fields.get(axis.key)
        if field is not None:
            name, column = field.key, self.entries(field)[:, :, 0, 0].astype(np.int64)
            is_real = np.arange(slots) < real[:, None]
            safe = np.minimum(column, self.slots[axis.ends[0]] - 1)
            source_graph = np.take_along_axis(self.owner[axis.ends[0]], safe.astype(np.intp), axis=1)
            outside = is_real & ((column < 0) | (column != safe) | (source_graph >= self.real_graphs[:, None]))
            self.report(
                outside.any(axis=1),
                name,
                lambda k: (
                    f"edge {np.argmax(outside[k])} starts at node {column[k, np.argmax(outside[k])]}, "
                    "which belongs to no real graph"
                ),
            )
            owner = np.where(is_real, source_graph, owner)
            back = (np.diff(owner, axis=1) < 0) & is_real[:, 1:]
            self.report(
                back.any(axis=1),
                name,
                lambda k: f"edge {np.argmax(back[k]) + 1} belongs to an earlier graph than the edge before it",
            )
        # A padding edge's owner is below the slots too, so this stays in bounds.
        flat = owner + np.arange(self.packs)[:, None] * self.graphs
        sizes = np.bincount(flat.reshape(-1), minlength=self.packs * self.graphs).reshape(self.packs, self.graphs)
        if field is not None:
            self.sizes[axis.key] = sizes
        self.ptr[axis.key] = np.cumsum(np.pad(sizes, ((0, 0), (1, 0))), axis=1)
        self.owner[axis.key] = owner

    def entries(self, field: Field) -> np.ndarray:
        """An index field as [packs, rows, targets, rest]."""
        values = self.block[field.key]
        if field.cat_dim == -1 and field.axis is not None:
            values = np.moveaxis(values, -1, 1)
        return values.reshape(self.packs, values.shape[1], len(field.targets), -1)

    def index_field(self, field: Field) -> None:
        """Every number points into the graph that its row belongs to; padding to that null graph's first row."""
        values = self.entries(field)
        axis = field.axis
        key = None if axis is None else axis.key
        rows = np.arange(values.shape[1])
        real = rows < (self.real_graphs if key is None else self.real[key])[:, None]
        owner = np.broadcast_to(rows, real.shape) if key is None else self.owner[key]
        for i, target in enumerate(field.targets):
            ptr, index = self.ptr[target], values[:, :, i].astype(np.int64)
            first = np.take_along_axis(ptr, owner, axis=1)[:, :, None]
            after = np.take_along_axis(ptr, owner + 1, axis=1)[:, :, None]
            outside = (index < first) | (index >= after)
            if (key is not None and key not in self.sizes) or target not in self.sizes:  # nothing says whose edge it is
                outside = (index < 0) | (index >= self.slots[target])
            outside = (outside & real[:, :, None]).any(axis=2)
            # Where one null graph owns all padding, slots may be unused, without a first row: its own stands for it.
            null = np.take_along_axis(ptr, self.real_graphs[:, None], axis=1)[:, :, None]
            pad = np.where(first < self.slots[target], first, null)
            wrong = ((index != pad) & ~real[:, :, None]).any(axis=2)
            for bad, text in ((outside, "leaves its own graph"), (wrong, "is padding, but not at its null graph")):
                self.report(
                    bad.any(axis=1),
                    field.key,
                    lambda k, bad=bad, text=text, index=index, owner=owner: (
                        f"row {np.argmax(bad[k])} points to {_some(index[k, np.argmax(bad[k])])} and {text} "
                        f"{owner[k, np.argmax(bad[k])]}"
                    ),
                    fatal=False,
                )

    def budgets(self) -> None:
        """What the graphs of a pack take of each budget is within it."""
        for key in self.schema.budgets:
            taken = np.where(self.in_use, self.block[key], 0)
            total, most = taken.sum(axis=1, dtype=np.float64), self.limits.budgets[key]
            self.report(
                (taken < 0).any(axis=1) | (total > most),
                key,
                lambda k, taken=taken, most=most: f"graphs take {_some(taken[k])}; the budget of a pack is {most}",
                fatal=False,
            )
            self.sizes[key] = taken.astype(np.int64)

    def padding(self, field: Field) -> None:
        """Rows of padding hold the pad value, to the bit."""
        values = self.block[field.key]
        axis = field.axis
        real = self.real_graphs if axis is None else self.real[axis.key]
        first = int(real.min()) if self.packs else 0
        at_end = field.cat_dim == -1 and axis is not None
        part = np.moveaxis(values, -1, 1)[:, first:] if at_end else values[:, first:]
        if part.size == 0:
            return
        part = np.ascontiguousarray(part)
        bits = f"u{part.dtype.itemsize}"
        pad = pad_item(field)
        wrong = part.view(bits) != pad.reshape(-1).view(bits).reshape(pad.shape)
        wrong = wrong.reshape(*wrong.shape[:2], -1).any(axis=2)
        wrong &= np.arange(first, first + part.shape[1]) >= real[:, None]
        self.report(
            wrong.any(axis=1),
            field.key,
            lambda k: (
                f"row {first + np.argmax(wrong[k])} is padding, but holds {_some(part[k, np.argmax(wrong[k])])}, "
                f"not {field.pad}"
            ),
            fatal=False,
        )

    def graph_ids(self) -> None:
        ids = self.block["graph_ids"]
        wrong = np.where(self.in_use, ids < 0, ids != -1)
        self.report(
            wrong.any(axis=1),
            "graph_ids",
            lambda k: (
                f"slot {np.argmax(wrong[k])} has id {ids[k, np.argmax(wrong[k])]}; "
                f"{self.real_graphs[k]} graphs are real, the other slots have -1"
            ),
        )


def _labels(ends: np.ndarray, width: int) -> np.ndarray:
    """Which piece each of `width` places is in, when piece g ends before place ends[:, g]: int64 [packs, width]."""
    packs = len(ends)
    flat = ends + np.arange(packs)[:, None] * (width + 1)
    ended = np.bincount(flat.reshape(-1), minlength=packs * (width + 1)).reshape(packs, width + 1)
    return np.cumsum(ended[:, :width], axis=1)


def _some(values: np.ndarray) -> str:
    flat = values.reshape(-1)
    return f"{flat[:8].tolist()}{'...' if len(flat) > 8 else ''}"
