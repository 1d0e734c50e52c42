"""Arrays in one piece of bytes: what went in comes out, and what is no such piece is refused, at no cost."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from packer.errors import FormatError
from packer.files.arrays import pack_arrays, unpack_arrays

DTYPES = st.one_of(hn.boolean_dtypes(), hn.integer_dtypes(), hn.unsigned_integer_dtypes(), hn.floating_dtypes())
ARRAYS = DTYPES.flatmap(lambda dtype: hn.arrays(dtype, hn.array_shapes(min_dims=0, min_side=0, max_side=7)))


@given(st.dictionaries(st.text(max_size=9), ARRAYS, max_size=4), st.dictionaries(st.text(), st.integers() | st.text()))
def test_round_trip(arrays: dict[str, np.ndarray], head: dict[str, Any]) -> None:
    data = pack_arrays(head, arrays)
    there, back = unpack_arrays(data)
    assert there == head and list(back) == list(arrays)
    for name, values in arrays.items():
        assert (back[name].dtype, back[name].shape) == (values.dtype, values.shape)
        assert back[name].tobytes() == values.tobytes()
    assert pack_arrays(there, back) == data


def test_arrays_that_do_not_lie_in_order() -> None:
    table = np.arange(12).reshape(3, 4)
    _, back = unpack_arrays(pack_arrays(None, {"t": table.T, "every other": table[:, ::2]}))
    assert np.array_equal(back["t"], table.T) and np.array_equal(back["every other"], table[:, ::2])


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="'names'"):
        pack_arrays(None, {"names": np.array(["a", None], dtype=object)})


@pytest.mark.parametrize(
    "listed",
    [
        [["x", "|O", [1]]],
        [["x", "<i8", [10**12]]],
        [["x", "<i8", [-1]]],
        [["x", "<i8", [1.5]]],
        [["x", "no dtype", [1]]],
        [["x", "<i8,<i8", [1]]],
        [["x", "<i8", 3]],
        [["x", "<i8"]],
        [["x", "<i8", [0]]] * 2 + [3],
        "x",
    ],
    ids=repr,
)
def test_lists_that_are_none(listed: Any) -> None:
    with pytest.raises(FormatError):
        unpack_arrays(json.dumps([None, listed]).encode() + b"\n" + bytes(64))


@given(st.binary(max_size=200))
def test_other_bytes(data: bytes) -> None:
    with pytest.raises(FormatError):
        unpack_arrays(data)
