"""Arrays in one piece of bytes: a line of JSON that says what they are, and their items, one array after the other.

What a job's tasks leave for each other is written once and read once; an archive would copy it twice more each way and
check sums that its seal checks already. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
from typing import Any, Mapping

import numpy as np

from packer.errors import FormatError

_ALIGN = 64
"""Arrays begin at multiples of this many bytes, counted from the first one."""

_KINDS = "biuf"


def pack_arrays(head: Any, arrays: Mapping[str, np.ndarray]) -> bytes:
    """`head`, a value of JSON, and named arrays of booleans and numbers. Equal arguments give equal bytes."""
    parts: list[Any] = []
    listed: list[Any] = []
    for name, values in arrays.items():
        values = np.ascontiguousarray(values).reshape(values.shape)  # the first makes a scalar a row
        if values.dtype.kind not in _KINDS:
            raise TypeError(f"array {name!r} is of {values.dtype}")
        listed.append([name, values.dtype.str, values.shape])
        parts += [values.reshape(-1).view(np.uint8), bytes(-values.nbytes % _ALIGN)]
    text = json.dumps([head, listed]).encode()
    text += b" " * (-(len(text) + 1) % _ALIGN) + b"\n"
    return b"".join([text, *parts])


def unpack_arrays(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The inverse; the arrays are views of `data`, read-only. Raises FormatError for anything else."""
    try:
        at = data.index(b"\n") + 1
        head, listed = json.loads(data[:at])
        arrays: dict[str, np.ndarray] = {}
        for name, dtype, shape in listed:
            kind = np.dtype(dtype)
            if kind.kind not in _KINDS or min(shape, default=0) < 0:
                raise FormatError(f"array {name!r} cannot be {dtype!r} {shape}")
            items = math.prod(shape)
            arrays[name] = np.frombuffer(data, kind, items, at).reshape(shape)
            at += items * kind.itemsize + -(items * kind.itemsize) % _ALIGN
    except (ValueError, TypeError) as error:
        raise FormatError(f"these {len(data):,} bytes hold no arrays: {error}") from error
    if at != len(data):
        raise FormatError(f"the arrays end at byte {at:,} of {len(data):,}")
    return head, arrays
