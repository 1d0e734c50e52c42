"""Which dtype each tensor has: the logical one unless an option says otherwise."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from packer.errors import FieldError
from packer.graphs.schema import Field
from packer.packs.columns import Column

FLOATS = ("float16", "bfloat16", "float32", "float64")
INDICES = ("int32", "int64")
_32_BIT = {"int64": "int32", "uint64": "int32", "uint32": "int32", "uint16": "int32", "float64": "float32"}
_32_BIT["bfloat16"] = "float32"


def dtype_name(dtype: Any, allowed: Sequence[str], option: str) -> str:
    """The name of a numpy or torch dtype, or of the name itself; FieldError for one not allowed."""
    name = dtype if isinstance(dtype, str) else str(dtype).split(".")[-1]
    if name not in allowed:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype)
    if name not in allowed:
        raise FieldError(f"{option} must be one of {', '.join(allowed)}; got {dtype!r}")
    return name


def tensor_dtype(
    column: Column, field: Field | None, index_dtype: str, float_dtype: str | None, only_32_bit: bool, num_graphs: int
) -> str:
    """The dtype of a column's tensors.

    index_dtype: of index fields, batch and ptr; float_dtype: of floating fields, None to keep; only_32_bit: also turn
    every wider or unsigned integer into int32, float64 and bfloat16 into float32; num_graphs: of the source. Raises
    FieldError where stored integers might not fit.
    """
    name = column.dtype
    if column.kind in ("batch", "ptr") or (field is not None and field.role == "index"):
        name = index_dtype
    elif float_dtype is not None and name in FLOATS:
        name = float_dtype
    if only_32_bit:
        name = _32_BIT.get(name, name)
    stored = np.dtype(column.storage)
    if column.kind == "graph_ids" and name == "int32" and num_graphs <= 1 << 31:
        return name
    if name == "int32" and stored.kind in "iu" and not np.can_cast(stored, np.int32):
        raise FieldError(
            f"{column.name} is stored as {stored}: some of its values do not fit int32. "
            "Leave it out with columns=[...], or map it to smaller numbers before building"
        )
    return name
