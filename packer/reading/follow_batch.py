"""PyG's `follow_batch`: for an attribute, which graph slot each of its rows belongs to."""

from __future__ import annotations

from typing import Collection, Dict, Sequence

import numpy as np

from packer.errors import FieldError
from packer.graphs.schema import Field
from packer.shards.manifest import Manifest

Arrays = Dict[str, np.ndarray]


def follow(pack: Arrays, fields: Sequence[Field], num_graphs: int, dtype: str) -> Arrays:
    """Add `NAME_batch` (slot of each row) and `NAME_ptr` (first row of each slot, and the end) to a pack, in the dtype
    of its `batch` and `ptr`. Padding rows belong to the null graphs that own them."""
    for field in fields:
        pack[f"{field.key}_batch"], pack[f"{field.key}_ptr"] = _of(field, pack, num_graphs, dtype)
    return pack


def _of(field: Field, pack: Arrays, num_graphs: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    axis = field.axis
    if axis is None:
        return np.arange(num_graphs, dtype=dtype), np.arange(num_graphs + 1, dtype=dtype)
    if axis.is_pointed:
        return pack[axis.batch_name].copy(), pack[axis.ptr_name].copy()
    owner = pack[axis.batch_name][pack[axis.column("edge_index")][0]]
    # Edges of one graph stand together, in the order of the slots.
    return owner, np.searchsorted(owner, np.arange(num_graphs + 1)).astype(owner.dtype)


def followed(manifest: Manifest, names: Sequence[str] | str | None, loaded: Collection[str]) -> tuple[Field, ...]:
    """The fields to follow, by name or key; none for None, as in PyG.

    FieldError for an unknown one, or where what it takes is not loaded.
    """
    wanted = [names] if isinstance(names, str) else list(names or ())
    fields = [field for field in manifest.schema.fields if field.role not in ("count", "present")]
    known = {name for field in fields for name in (field.name, field.key)}
    for name in wanted:
        if name not in known:
            raise FieldError(f"follow_batch={wanted}: there is no field {name!r}; there are {sorted(known)}")
    followed_fields = tuple(field for field in fields if field.name in wanted or field.key in wanted)
    for field in followed_fields:
        need = _needs(field)
        if not need <= set(loaded):
            raise FieldError(
                f"follow_batch of {field.key!r} takes the columns {sorted(need)}: add them to columns=[...]"
            )
        taken = {f"{field.key}_batch", f"{field.key}_ptr"} & {column.name for column in manifest.columns}
        if taken:
            raise FieldError(f"follow_batch of {field.key!r} makes {sorted(taken)}, which the packs already have")
    return followed_fields


def _needs(field: Field) -> set[str]:
    axis = field.axis
    if axis is None:
        return set()
    if axis.is_pointed:
        return {axis.batch_name, axis.ptr_name}
    return {axis.batch_name, axis.column("edge_index")}
