"""Several packs as one: what a step takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

from packer.graphs.axes import Axis
from packer.graphs.schema import Field
from packer.shards.manifest import Manifest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Joint:
    """How the packs of one column join.

    dim: the joined dimension; shift: what pack i adds to its values i times: () nothing, one number, or one a row of
    `edge_index`; skip: leading values that pack 1 and later leave out (`ptr` repeats where the last one ended).
    """

    dim: int = 0
    shift: tuple[int, ...] = ()
    skip: int = 0


PLAIN = Joint()


@dataclass(frozen=True)
class PackShape:
    """What all packs of a data set have in common."""

    axes: tuple[Axis, ...]
    slots: tuple[int, ...]
    num_graphs: int
    joints: Mapping[str, Joint]

    def num(self, level: str) -> int:
        """Node or edge slots of one pack, all types together."""
        return sum(slots for axis, slots in zip(self.axes, self.slots) if axis.level == level)


def pack_shape(manifest: Manifest, followed: Sequence[Field] = ()) -> PackShape:
    """The shape of a data set's packs. followed: fields that have `NAME_batch` and `NAME_ptr` as well."""
    schema, limits = manifest.schema, manifest.limits
    slots = limits.slots(schema.axes)
    graphs = int(limits.num_graphs or 0)
    joints: dict[str, Joint] = {}
    for field in schema.fields:
        dim = -1 if field.cat_dim == -1 and field.axis is not None else 0
        shift = tuple(slots[key] for key in field.targets) if field.role == "index" else ()
        joints[field.key] = Joint(dim, shift)
    for axis in schema.axes:
        if axis.is_pointed:
            joints[axis.batch_name] = Joint(shift=(graphs,))
            joints[axis.ptr_name] = Joint(shift=(slots[axis.key],), skip=1)
    for field in followed:
        joints[f"{field.key}_batch"] = Joint(shift=(graphs,))
        joints[f"{field.key}_ptr"] = Joint(shift=(graphs if field.axis is None else slots[field.axis.key],), skip=1)
    return PackShape(schema.axes, tuple(slots[axis.key] for axis in schema.axes), graphs, joints)


def collate_tensors(packs: Sequence[Mapping[str, torch.Tensor]], shape: PackShape) -> dict[str, torch.Tensor]:
    """One larger pack: rows follow each other; node numbers, `batch` and `ptr` are shifted.

    A key that a transform added joins along dimension 0, unshifted.
    """
    import torch

    joined: dict[str, torch.Tensor] = {}
    for key, tensor in packs[0].items():
        bits = tensor.dtype == torch.bfloat16  # which numpy lacks
        parts = [(pack[key].view(torch.int16) if bits else pack[key]).numpy() for pack in packs]
        column = torch.from_numpy(collate_column(parts, parts[0].dtype, shape.joints.get(key, PLAIN)))
        joined[key] = column.view(torch.bfloat16) if bits else column
    return joined


def collate_arrays(packs: Sequence[Mapping[str, np.ndarray]], shape: PackShape) -> dict[str, np.ndarray]:
    """The same for packs of arrays."""
    return {
        key: collate_column([pack[key] for pack in packs], array.dtype, shape.joints.get(key, PLAIN))
        for key, array in packs[0].items()
    }


def collate_column(parts: Sequence[np.ndarray], dtype: np.dtype[Any], joint: Joint) -> np.ndarray:
    """One column of several packs, cast to `dtype`: [rows, ...] each -> [packs * rows, ...], or along dimension -1.

    A shift of several numbers is one for each entry of the first dimension that is not the joined one.
    """
    packs = len(parts)
    if joint.skip:
        parts = [parts[0], *(part[joint.skip :] for part in parts[1:])]
    column = np.concatenate(parts, axis=joint.dim, dtype=dtype, casting="unsafe")
    if not joint.shift:
        return column
    shift = np.array(joint.shift, dtype)
    steps = np.arange(packs, dtype=dtype)
    if joint.dim == -1 and column.ndim > 1:
        by_pack = column.reshape(*column.shape[:-1], packs, column.shape[-1] // packs)  # [entries, ..., packs, rows]
        by_pack += shift.reshape(-1, *[1] * (column.ndim - 2), 1, 1) * steps[:, None]
        return column
    rows = column[joint.skip :]
    by_pack = rows.reshape(packs, len(rows) // packs, *column.shape[1:])  # [packs, rows, entries, ...]
    entries = (len(shift), *[1] * (column.ndim - 2)) if column.ndim > 1 else ()
    by_pack += (steps[:, None] * shift).reshape(packs, 1, *entries)
    return column


def collate_unshifted(packs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Packs one after the other along dimension 0, values as they are: what PopTorch cuts into equal parts again."""
    import torch

    return {key: torch.cat([pack[key] for pack in packs]) for key in packs[0]}


def stack(packs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Packs side by side along a new dimension 0."""
    import torch

    return {key: torch.stack([pack[key] for pack in packs]) for key in packs[0]}
