"""Thrift's compact encoding, as Parquet uses it for page headers and footers: just enough to check them, in bounds."""

from __future__ import annotations

from typing import Any, Dict, Union

from packer.errors import FormatError

Bytes = Union[bytes, bytearray, memoryview]
Struct = Dict[int, Any]
"""Field number -> bool, int, bytes, list or Struct."""

_MAX_DEPTH = 12


def read_struct(data: Bytes, start: int, end: int) -> tuple[Struct, int]:
    """The struct at data[start:end] and the position after it.

    Work and memory are bounded by end - start. Raises FormatError for anything that is no struct within these bounds.
    """
    try:
        return _struct(data, start, end, 0)
    except IndexError:
        raise FormatError(f"a Thrift struct at byte {start} goes on after its end at {end}") from None


def _struct(data: Bytes, at: int, end: int, depth: int) -> tuple[Struct, int]:
    if depth > _MAX_DEPTH:
        raise FormatError(f"Thrift structs are nested more than {_MAX_DEPTH} deep at byte {at}")
    found: Struct = {}
    number = 0
    while True:
        if at >= end:
            raise IndexError
        head = data[at]
        at += 1
        if head == 0:
            return found, at
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            value, at = _varint(data, at, end)
            number = (value >> 1) ^ -(value & 1)
        if 0 < kind < 3:
            found[number] = kind == 1
        else:
            found[number], at = _value(data, at, end, kind, depth)


def _value(data: Bytes, at: int, end: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (4, 5, 6):
        value, at = _varint(data, at, end)
        return (value >> 1) ^ -(value & 1), at
    if kind == 8:
        size, at = _varint(data, at, end)
        if size > end - at:
            raise IndexError
        return bytes(data[at : at + size]), at + size
    if kind == 12:
        return _struct(data, at, end, depth + 1)
    if kind == 9:
        return _list(data, at, end, depth + 1)
    if kind in (1, 2, 3):
        return data[at], at + 1
    if kind == 7 and end - at >= 8:
        return bytes(data[at : at + 8]), at + 8
    raise FormatError(f"Thrift type {kind} at byte {at} is not one that Parquet uses")


def _list(data: Bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at, end)
    if size > end - at or depth > _MAX_DEPTH:
        raise FormatError(f"a Thrift list of {size} entries at byte {at} does not fit its {end - at} bytes")
    found: list[Any] = []
    for _ in range(size):
        value, at = _value(data, at, end, kind, depth)
        found.append(value)
    return found, at


def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise FormatError(f"a Thrift number at byte {at} does not end")
