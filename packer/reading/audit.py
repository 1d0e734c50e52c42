"""What shuffled epochs of packs do to learning, in figures: an audit of the order, of companions and of weights.

All of it follows from graphs.parquet, the seed and the rules of order and redraws; shards are read for classes alone.
Memory grows by some 8 bytes a graph and axis, and 100 a graph beside that; time by a sort of all graphs an epoch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from packer.errors import CONTRADICTION, FieldError, FormatError
from packer.graphs.ragged import pointers, segments
from packer.graphs.schema import Field
from packer.hashing import id_hashes
from packer.reading.audit_facts import Balance, Companions, Drift, PackAudit, Spread, Weights
from packer.reading.order import epoch_order, whole_number
from packer.reading.reader import PackReader
from packer.reading.redraw import SizeClasses, redraw_key
from packer.shards.graphs_file import iter_graphs, size_column

MOST_CLASSES = 1000
_NO_CLASS = np.iinfo(np.int64).min
_FOLLOWED = 2000
"""Graphs whose companions are counted, at most: drawn among all by a hash."""
_MOST_MET = 1 << 22
"""Meetings of followed graphs that are held at a time."""
_ORDERS, _ORDERED_PACKS = 400, 1 << 21
"""Epochs whose order is looked at: those asked for, and more of small data sets, whose single epochs say little."""
_PARTS = 20
_COUNTED = 1 << 20
"""Classes times steps that are counted at a time."""


def audit_packs(
    packs: PackReader | str | os.PathLike[str],
    epochs: int = 10,
    batch_size: int = 1,
    seed: int = 0,
    target: str | None = None,
) -> PackAudit:
    """Look at how shuffled epochs give the graphs of a data set, `batch_size` packs a step, on one rank.

    packs: a reader, or its path. epochs: of which companions and classes are counted. target: a whole-numbered field of
    graphs, whose classes are counted; None: `y`, or the only such field there is; "" for none. Randomness: `seed`
    alone, as in `torch_loader(shuffle=True, seed=seed)`, whose steps these are. The companions of at most 2,000 graphs
    are counted. Raises FieldError for a target that is no class, FormatError for packs that contradict themselves.

        >>> result = build([Data(x=torch.eye(3))] * 50, "packs", PackLimits(10, 4, 4), workers=1)
        >>> audit_packs("packs").companions.alone
        0.0
    """
    reader = packs if isinstance(packs, PackReader) else PackReader(packs)
    epochs, batch_size = whole_number("epochs", epochs, 1), whole_number("batch_size", batch_size, 1)
    seed = whole_number("seed", seed)
    held = Held.read(reader)
    field = _class_field(reader, target)
    steps = Steps(held.per_pack, batch_size)
    orders = max(epochs, min(_ORDERS, _ORDERED_PACKS // held.num_packs))
    order = [held.order(seed, epoch) for epoch in range(epochs)]
    companions = companions_of(held, steps, order, seed)
    balance = None if field is None else balance_of(held, steps, order, seed, field, _labels(reader, field))
    totals = np.concatenate([steps.totals(held.per_pack, packs_in_order) for packs_in_order in order])
    return PackAudit(
        graphs=held.num_graphs,
        packs=held.num_packs,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        graphs_per_pack=_spread(held.per_pack),
        graphs_per_step=_spread(totals),
        drifts=_drifts(held, steps, seed, orders),
        companions=companions,
        weights=weights_of(totals),
        balance=balance,
    )


@dataclass(frozen=True)
class Held:
    """The graphs in packs, pack after pack and slot after slot: places 0..N-1.

    per_pack: int64 [packs], graphs of each; counts: int64 [graphs] for each axis; nodes, edges: of all types together;
    classes: of each block of packs, what its redraws need.
    """

    per_pack: np.ndarray
    starts: np.ndarray
    sizes: dict[str, np.ndarray]
    counts: list[np.ndarray]
    classes: list[SizeClasses]
    per_block: int

    @classmethod
    def read(cls, reader: PackReader) -> Held:
        manifest = reader.manifest
        schema, slots = manifest.schema, int(manifest.limits.num_graphs or 0)
        # In the order in which redraws look at them: edges after all that packs have pointers of, budgets last.
        axes = sorted(schema.sized, key=lambda axis: 0 if axis.is_pointed else 1 if axis.level == "edge" else 2)
        names = ["pack", "slot", *(size_column(axis) for axis in axes)]
        parts: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in names]
        for batch in iter_graphs(reader.place, manifest, names):
            packed = batch.column("pack").to_numpy() >= 0
            for part, name in zip(parts, names):
                part.append(batch.column(name).to_numpy()[packed])
        pack, slot, *counts = (np.concatenate(part).astype(np.int64) for part in parts)
        in_order = np.argsort(pack * slots + slot)
        per_pack = np.bincount(pack, minlength=manifest.num_packs)
        starts = pointers(per_pack)
        if not per_pack.all() or (slot[in_order] != segments(np.zeros_like(per_pack), per_pack)).any():
            raise FormatError(f"graphs.parquet leaves slots of packs free, or fills them twice{CONTRADICTION}")
        counts = [count[in_order] for count in counts]
        sizes = {
            f"{level}s": np.sum([count for axis, count in zip(axes, counts) if axis.level == level], axis=0)
            for level in ("node", "edge")
            if any(axis.level == level for axis in axes)
        }
        counts = [
            count if axis.level != "edge" or axis.key in schema.edge_fields else np.zeros_like(count)
            for axis, count in zip(axes, counts)
        ]
        per_block = manifest.packs_per_block
        classes = [
            SizeClasses.of_sizes(
                [count[starts[first] : starts[min(first + per_block, len(per_pack))]] for count in counts],
                per_pack[first : first + per_block],
                slots,
            )
            for first in range(0, len(per_pack), per_block)
        ]
        return cls(per_pack, starts, sizes, counts, classes, per_block)

    @property
    def num_graphs(self) -> int:
        return int(self.starts[-1])

    @property
    def num_packs(self) -> int:
        return len(self.per_pack)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [packs]: as loaders give them."""
        return epoch_order(self.num_packs, self.per_block, seed, epoch)

    def redrawn(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [graphs]: the place whose graph lies in each place in an epoch with redraws."""
        key, parts = redraw_key(seed, epoch), list[np.ndarray]()
        for block, of_block in enumerate(self.classes):
            places = np.cumsum(of_block.real) - 1 + self.starts[block * self.per_block]
            parts.append(places[of_block.slots(block, key).reshape(-1)[of_block.real]])
        return np.concatenate(parts)

    def alone(self) -> tuple[float, float]:
        """Shares of graphs: of no other's size in their block; and in the whole data set."""
        in_blocks = sum(int((np.unique(one.classes, return_counts=True)[1] == 1).sum()) for one in self.classes)
        in_all = np.unique(np.stack(self.counts, axis=1), axis=0, return_counts=True)[1]
        return in_blocks / self.num_graphs, int((in_all == 1).sum()) / self.num_graphs


@dataclass(frozen=True)
class Steps:
    """Packs in the order of an epoch, `size` a step; the last step may have fewer."""

    per_pack: np.ndarray
    size: int

    def totals(self, values: np.ndarray, order: np.ndarray) -> np.ndarray:
        """[steps]: sums over the packs of each step. values: [packs]."""
        return np.add.reduceat(values[order], np.arange(0, len(order), self.size))

    def full(self, num_packs: int) -> int:
        """Steps that have all their packs."""
        return num_packs // self.size


def _spread(values: np.ndarray) -> Spread:
    return Spread(float(values.mean()), float(values.std()), int(values.min()), int(values.max()))


def _drifts(held: Held, steps: Steps, seed: int, orders: int) -> tuple[Drift, ...]:
    """Sizes against the position in the epoch. Redraws have no part in it: the graphs that change places are of one
    size."""
    ranks = {name: _midranks(values) for name, values in held.sizes.items()}
    by_pack = {name: np.add.reduceat(values, held.starts[:-1]) for name, values in ranks.items()}
    sums = {name: np.add.reduceat(values, held.starts[:-1]) for name, values in held.sizes.items()}
    correlations: dict[str, list[float]] = {name: [] for name in [*ranks, "graphs"]}
    along: dict[str, np.ndarray] = {name: np.zeros((2, _PARTS)) for name in correlations}
    for epoch in range(orders):
        order = held.order(seed, epoch)
        graphs = steps.totals(held.per_pack, order)
        ends = np.cumsum(graphs)
        middle = ends - graphs / 2
        part = np.minimum((middle * _PARTS / ends[-1]).astype(np.int64), _PARTS - 1)
        for name, of_pack in by_pack.items():
            total = steps.totals(of_pack, order)
            correlations[name].append(_correlation(middle, graphs, total / graphs, float(np.var(ranks[name]))))
            along[name] += [np.bincount(part, weights, _PARTS) for weights in (steps.totals(sums[name], order), graphs)]
        full = graphs[: steps.full(len(order))]
        if len(full) > 2:
            step_ranks = _midranks(full)
            correlations["graphs"].append(
                _correlation(np.arange(len(full)), np.ones(len(full)), step_ranks, float(np.var(step_ranks)))
            )
        along["graphs"] += [np.bincount(part, weights, _PARTS) for weights in (graphs, np.ones(len(graphs)))]
    drifts: list[Drift] = []
    for name, each in correlations.items():
        if each:
            mean = along[name][0].sum() / along[name][1].sum()
            means = along[name][0] / np.maximum(along[name][1], 1) / mean if mean else np.ones(_PARTS)
            profile = tuple(float(m) if n else math.nan for m, n in zip(means, along[name][1]))
            error = float(np.std(each) / math.sqrt(len(each)))
            drifts.append(Drift(name, float(np.mean(each)), error, len(each), profile))
    return tuple(drifts)


def _midranks(values: np.ndarray) -> np.ndarray:
    """float64: ranks from 0, equal values sharing the mean of theirs."""
    _, rank, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[rank.reshape(-1)]


def _correlation(position: np.ndarray, weight: np.ndarray, value: np.ndarray, variance: float) -> float:
    """Spearman's, of positions and values that stand for `weight` items each; variance: of the single items' ranks."""
    weight = weight / weight.sum()
    off = position - weight @ position
    spread = math.sqrt(float(weight @ (off * off)) * variance)
    return float(weight @ (off * value)) / spread if spread > 0 else 0.0


def companions_of(held: Held, steps: Steps, orders: Sequence[np.ndarray], seed: int) -> Companions:
    """Distinct graphs that a graph has shared a step with, after each epoch, with and without redraws."""
    epochs, in_step = len(orders), held.num_graphs / math.ceil(held.num_packs / steps.size)
    most = max(1, int(_MOST_MET / (epochs * in_step)))
    number = min(held.num_graphs, _FOLLOWED, most)
    followed = np.sort(np.argsort(id_hashes(np.arange(held.num_graphs), seed))[:number])
    met: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for epoch, order in enumerate(orders):
        step_of_pack = np.empty(held.num_packs, np.int64)
        step_of_pack[order] = np.arange(held.num_packs) // steps.size
        in_order = segments(held.starts[order], held.per_pack[order])  # places, as the epoch gives them
        graphs = steps.totals(held.per_pack, order)
        starts = pointers(graphs)
        for redraw in (True, False):
            lying = held.redrawn(seed, epoch) if redraw else np.arange(held.num_graphs)
            position = np.empty_like(lying)
            position[lying] = np.arange(held.num_graphs)
            pack = np.searchsorted(held.starts, position[followed], side="right") - 1
            step = step_of_pack[pack]
            companions = lying[in_order[segments(starts[step], graphs[step])]]
            follower = np.repeat(np.arange(number), graphs[step])
            met[redraw].append((follower * held.num_graphs + companions)[companions != followed[follower]])
    with_redraws, without = (_distinct(met[redraw], number) for redraw in (True, False))
    others = held.num_graphs - 1
    share = min((in_step - 1) / max(others, 1), 1.0)
    unpacked = tuple(others * (1 - (1 - share) ** (epoch + 1)) for epoch in range(epochs))
    in_block, in_all = held.alone()
    return Companions(number, with_redraws, without, unpacked, in_block, in_all)


def _distinct(met: Sequence[np.ndarray], number: int) -> tuple[float, ...]:
    """Mean number of distinct companions after each epoch. met: of each epoch, graph and companion as one number."""
    _, first = np.unique(np.concatenate(met), return_index=True)
    epoch = np.searchsorted(np.cumsum([len(one) for one in met]), first, side="right")
    new = np.bincount(epoch, minlength=len(met))
    return tuple((np.cumsum(new) / number).tolist())


def weights_of(graphs: np.ndarray) -> Weights:
    """Of graphs in a mean of the means of steps. graphs: int [steps]."""
    values, steps = np.unique(graphs, return_counts=True)
    count = values * steps  # graphs in steps of so many; each weighs 1 / values
    effective = float(steps.sum()) ** 2 / float((steps / values).sum()) / float(count.sum())
    relative = float(count.sum()) / steps.sum() / values
    return Weights(
        float(values.max() / values.min()), effective, tuple(relative.tolist()), tuple((count / count.sum()).tolist())
    )


def _class_field(reader: PackReader, target: str | None) -> Field | None:
    """The field of graphs that holds classes; None where there is none, or it is not asked for."""
    if target == "":
        return None
    classes = [
        field
        for field in reader.fields
        if field.level == "graph" and field.role == "value" and math.prod(field.shape) == 1
        if field.dtype == "bool" or field.dtype.startswith(("int", "uint"))
        if field.key not in reader.manifest.schema.budgets
    ]
    named = [field for field in classes if field.key == (target or "y")]
    if target and not named:
        known = ", ".join(field.key for field in classes) or "none"
        raise FieldError(f"{target!r} is no field of graphs of one whole number each; there are: {known}")
    return named[0] if named else classes[0] if len(classes) == 1 else None


def _labels(reader: PackReader, field: Field) -> np.ndarray:
    """int64 [graphs]: the class of the graph in each place, _NO_CLASS where it has none."""
    present = f"{field.key}_present"
    names = [field.key, "num_real", *(other.key for other in reader.fields if other.key == present)]
    parts: list[np.ndarray] = []
    for block in range(reader.manifest.num_blocks):
        columns = reader.blocks.columns(block, names)
        stored = columns[field.key].reshape(len(columns["num_real"]), -1)
        real = np.arange(stored.shape[1]) < columns["num_real"][:, -1:]
        known = columns[present].astype(bool) if present in columns else real
        parts.append(np.where(known, stored.astype(np.int64), _NO_CLASS)[real])
    return np.concatenate(parts)


def balance_of(
    held: Held, steps: Steps, orders: Sequence[np.ndarray], seed: int, field: Field, labels: np.ndarray
) -> Balance | None:
    """Classes of the graphs of each step, against those of batches drawn from all graphs at random."""
    if len(labels) != held.num_graphs:
        raise FormatError(f"shards hold {len(labels)} graphs, graphs.parquet {held.num_graphs}{CONTRADICTION}")
    classes, class_of = np.unique(labels, return_inverse=True)
    class_of = class_of.reshape(-1)
    first = int(classes[0] == _NO_CLASS)
    if not 2 <= len(classes) - first <= MOST_CLASSES:
        return None
    shares = np.bincount(class_of, minlength=len(classes))[first:].astype(np.float64)
    known = shares.sum()
    shares /= known
    squares, chance, number = np.zeros(len(shares)), 0.0, 0
    at_once = max(1, _COUNTED // len(classes))
    for epoch, order in enumerate(orders):
        in_order = class_of[held.redrawn(seed, epoch)][segments(held.starts[order], held.per_pack[order])]
        graphs = steps.totals(held.per_pack, order)
        ends = pointers(graphs)
        for at in range(0, len(graphs), at_once):
            some = graphs[at : at + at_once]
            cell = np.repeat(np.arange(len(some)), some) * len(classes) + in_order[ends[at] : ends[at + len(some)]]
            counts = np.bincount(cell, minlength=len(some) * len(classes)).reshape(-1, len(classes))[:, first:]
            with_class = counts.sum(axis=1)
            counts, with_class = counts[with_class > 0], with_class[with_class > 0]
            squares += np.square(counts / with_class[:, None] - shares).sum(axis=0)
            # Drawn without putting back, the share of a class has this variance, times that of a single graph.
            chance += float(((known - with_class) / max(known - 1, 1) / with_class).sum())
            number += len(counts)
    expected = chance * shares * (1 - shares)
    sd, by_chance = (tuple(np.sqrt(values / number).tolist()) for values in (squares, expected))
    ratio = math.sqrt(squares.sum() / expected.sum()) if chance else 1.0
    return Balance(field.key, tuple(classes[first:].tolist()), tuple(shares.tolist()), sd, by_chance, ratio)
