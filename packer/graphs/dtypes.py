"""How values are stored: the narrowest dtype that holds them all, and what fills padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from packer.graphs.schema import Field

SIGNED = ("int8", "int16", "int32", "int64")

UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def narrow_index(largest: int) -> str:
    """The narrowest unsigned dtype that holds 0..largest."""
    return next(name for name in ("uint8", "uint16", "uint32", "uint64") if largest <= np.iinfo(name).max)


def value_range(values: np.ndarray, dtype: str) -> dict[str, Any]:
    """low, high and whole of FieldStatistics for an array in its logical dtype; nothing is known of bfloat16."""
    if not values.size or dtype in ("bfloat16", "string"):
        return {"whole": dtype != "bfloat16"}
    if values.dtype.kind == "f" and not (all_whole(values.reshape(-1)[:64]) and all_whole(values)):
        return {"whole": False}
    return {"low": int(values.min()), "high": int(values.max()), "whole": True}


def narrowest(dtype: str, low: float | int | None, high: float | int | None, whole: bool) -> str:
    """The narrowest dtype that holds every value between low and high without loss; `dtype` where none is narrower."""
    if dtype == "bfloat16":
        return "uint16"
    if dtype == "bool" or not whole or low is None or high is None:
        return dtype
    names = (name for pair in zip(UNSIGNED, SIGNED) for name in pair)
    fitting = next((name for name in names if np.iinfo(name).min <= low and high <= np.iinfo(name).max), dtype)
    return fitting if np.dtype(fitting).itemsize < np.dtype(dtype).itemsize else dtype


def pad_item(field: Field) -> np.ndarray:
    """The field's padding in storage dtype: 0-d where one number fills rows, else a row, [*field.shape]."""
    pad = np.asarray(field.pad)
    if field.dtype != "bfloat16":
        item = pad.astype(field.storage)
    else:
        bits = pad.astype(np.float32).view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest even
        item = np.where(np.isnan(pad), 0x7FC0, rounded).astype(np.uint16)
    return item.reshape(field.shape) if pad.ndim else item


def all_whole(values: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(values).all() and (values == np.floor(values)).all()
    return bool(whole) and not bool((np.signbit(values) & (values == 0)).any())
