"""What is learned from packs: a target, and where it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from packer.errors import MissingExtraError, SourceError
from packer.graphs.axes import Axis, Type
from packer.graphs.schema import Field
from packer.reading import PackDataset

try:
    import torch
except ImportError as error:
    raise MissingExtraError("torch", "torch", "training") from error


MOST_VALUES = 1 << 20
"""Classes, or values of integer features: more are numbers, not kinds."""


@dataclass(frozen=True)
class Task:
    """What is learned.

    target: key of the field; level: "node", "edge" or "graph"; kind: "classification" (outputs = classes) or
    "regression" (outputs = targets, each with the mean and standard deviation of its known training values); type: of
    the nodes or edges that have the target, in heterogeneous graphs.
    """

    target: str
    level: str
    kind: str
    outputs: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    type: Type = None

    def known(self, batch: Any) -> torch.Tensor:
        """Which targets there are: bool [rows] for classes, [rows, outputs] for numbers, of which NaN is none.

        False for padding, and for graphs that lack the target. batch: a PackBatch, or a dict of its tensors.
        """
        axis = Axis(self.level, self.type)
        mask: torch.Tensor = batch["graphs_mask" if self.level == "graph" else axis.mask_name]
        if f"{self.target}_present" in batch:
            present = batch[f"{self.target}_present"]
            mask = mask & (present if self.level == "graph" else present[_graph_of_rows(batch, axis)])
        if self.kind == "classification":
            return mask
        return mask[:, None] & ~batch[self.target].reshape(len(mask), -1).isnan()


def find_task(packs: PackDataset, target: str) -> Task:
    """Level, kind and width of the target, from the schema and the known values; mean and standard deviation of numbers
    of graphs from the manifest, where it has them."""
    fields = [field for field in packs.fields if field.role == "value"]
    keys = [field.key for field in fields if target == field.key] or [f.key for f in fields if target == f.name]
    if len(keys) != 1:
        usable = ", ".join(field.key for field in fields) or "none"
        raise SourceError(
            f"{target!r} may be {' or '.join(keys)}: name one of them"
            if keys
            else f"no field {target!r} to learn; there are: {usable}. Name one by target (--target)"
        )
    field = next(one for one in fields if one.key == keys[0])
    kind = "regression" if field.dtype.startswith(("float", "bfloat")) else "classification"
    task = Task(field.key, field.level, kind, 0, type=field.type)
    stats = packs.target_stats.get(field.key)
    if stats is not None:
        if not any(stats.count):
            raise _nothing_known(field)
        return replace(task, outputs=len(stats.mean), mean=stats.mean, std=tuple(std or 1.0 for std in stats.std))
    known = torch.cat([task.known(pack) for pack in packs_of(packs)])
    if not known.any():
        raise _nothing_known(field)
    rows = torch.cat([pack[field.key] for pack in packs_of(packs)]).reshape(len(known), -1)
    if kind == "classification":
        if rows.shape[1] != 1 or rows[known].min() < 0:
            fault = (
                f"{rows.shape[1]} numbers a {field.level}" if rows.shape[1] != 1 else f"as low as {rows[known].min()}"
            )
            raise SourceError(
                f"{field.key!r} is whole numbers, {fault}: classes are one number each, from 0; make it floating for a "
                "regression"
            )
        if rows[known].max() >= MOST_VALUES:
            raise SourceError(
                f"{field.key!r} is whole numbers up to {rows[known].max()}: classes are numbered from 0 to "
                f"{MOST_VALUES - 1} at most; make it floating for a regression"
            )
        return replace(task, outputs=max(2, int(rows[known].max()) + 1))
    count = known.sum(dim=0).clamp(min=1)
    rows = torch.where(known, rows.double(), 0)
    mean = rows.sum(dim=0) / count
    std = (torch.where(known, rows - mean, 0).square().sum(dim=0) / count).sqrt()
    std[std == 0] = 1.0
    return replace(task, outputs=rows.shape[1], mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _nothing_known(field: Field) -> SourceError:
    return SourceError(f"{field.key!r} is known of no {field.level}: there is nothing to learn")


def packs_of(dataset: PackDataset) -> Iterable[dict[str, torch.Tensor]]:
    """All packs, in order."""
    return (dataset[i] for i in range(len(dataset)))


def _graph_of_rows(batch: Any, axis: Axis) -> torch.Tensor:
    """The graph slot of each node, or of each edge: that of the node it leads from."""
    if axis.level == "node":
        return batch[axis.column("batch")]
    source = "batch" if axis.type is None else f"{axis.ends[0]}/batch"
    return batch[source][batch[axis.column("edge_index")][0]]
