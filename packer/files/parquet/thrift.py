"""Thrift's compact encoding as Parquet uses it, read by a description of what may stand there and nothing else.

A lenient reader skips what it does not know and lets the last of two values win; two lenient readers then disagree on
what a file says. So every field must be known, of its type, in ascending order and given once, and every number as
short as it can be: the bytes mean one thing, whoever reads them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, NamedTuple, Union

from packer.errors import FormatError

Bytes = Union[bytes, bytearray, memoryview]
Struct = Dict[int, Any]
"""Field number -> bool, int, bytes, list or Struct."""

BOOL, BYTE, I16, I32, I64, BINARY, LIST, STRUCT = 2, 3, 4, 5, 6, 8, 9, 12
_TRUE, _FALSE = 1, 2
_BITS = {I16: 16, I32: 32, I64: 64}


class Fields(NamedTuple):
    """What a struct may hold. name: for errors; known: field number -> (type, what is in it), the latter the Fields of
    a struct, or (type, Fields or None, how many at most) of a list's entries; required: numbers that must be there."""

    name: str
    known: Mapping[int, tuple[int, Any]]
    required: tuple[int, ...] = ()


EachEntry = Mapping[int, Callable[[Any], None]]
"""Field number -> what takes the entries of that list, one after the other: they are then not kept."""


def read_struct(data: bytes, at: int, fields: Fields, each: EachEntry | None = None) -> tuple[Struct, int]:
    """The struct at data[at:] and the position after it; a list given to `each` becomes the number of its entries.

    Time is bounded by the bytes that are read times a constant, memory by the lengths of lists that `fields` allows.
    Raises FormatError for anything but such a struct.
    """
    start = at
    struct: Struct = {}
    known = fields.known
    last = 0
    try:
        while True:
            head = data[at]
            at += 1
            if head == 0:
                break
            kind, step = head & 15, head >> 4
            number = last + step
            if not step or number not in known:
                raise FormatError(f"{fields.name} at byte {start} has field {_number(data, at, number, step)}{_ODD}")
            wanted, inner = known[number]
            if I16 <= wanted <= I64:  # nearly all there is
                if kind != wanted:
                    raise _mistyped(fields, number, kind, wanted, at)
                value = data[at]
                at += 1
                if value > 127:
                    value, at = _varint(data, at - 1, _BITS[wanted])
                struct[number] = (value >> 1) ^ -(value & 1)
            elif wanted == BOOL:
                if kind not in (_TRUE, _FALSE):
                    raise _mistyped(fields, number, kind, wanted, at)
                struct[number] = kind == _TRUE
            elif kind != wanted:
                raise _mistyped(fields, number, kind, wanted, at)
            elif wanted == STRUCT:
                struct[number], at = read_struct(data, at, inner)
            elif wanted == LIST:
                struct[number], at = _list(data, at, inner, f"{fields.name}, field {number}", (each or {}).get(number))
            else:
                struct[number], at = _value(data, at, wanted)
            last = number
    except IndexError:
        raise FormatError(f"{fields.name} at byte {start} goes on after its end at {len(data)}") from None
    for number in fields.required:
        if number not in struct:
            raise FormatError(f"{fields.name} at byte {start} has no field {number}")
    return struct, at


_ODD = ": unknown, given twice or out of order"


def _number(data: bytes, at: int, number: int, step: int) -> int:
    """The number of a field whose header is not the short one."""
    if step:
        return number
    value, _ = _varint(data, at, 16)
    return (value >> 1) ^ -(value & 1)


def _mistyped(fields: Fields, number: int, kind: int, wanted: int, at: int) -> FormatError:
    return FormatError(f"{fields.name}, field {number} at byte {at} is of Thrift type {kind}, not {wanted}")


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in _BITS:
        value, at = _varint(data, at, _BITS[kind])
        return (value >> 1) ^ -(value & 1), at
    if kind == BYTE:
        return data[at], at + 1
    assert kind == BINARY, "what the descriptions hold"
    size, at = _varint(data, at, 31)
    if size > len(data) - at:
        raise IndexError
    return bytes(data[at : at + size]), at + size


def _list(
    data: bytes, at: int, entries: tuple[int, Any, int], where: str, each: Callable[[Any], None] | None
) -> tuple[Any, int]:
    wanted, fields, most = entries
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at, 31)
        if size < 15:
            raise FormatError(f"{where} at byte {at} says its length of {size} in more bytes than it needs")
    if kind != wanted:
        raise FormatError(f"{where} at byte {at} is a list of Thrift type {kind}, not {wanted}")
    if size > min(most, len(data) - at):
        raise FormatError(
            f"{where}: a list of {size} entries at byte {at} does not fit its {len(data) - at} bytes, or has more than "
            f"{most}"
        )
    entries_read: list[Any] = []
    take = entries_read.append if each is None else each
    for _ in range(size):
        value, at = read_struct(data, at, fields) if wanted == STRUCT else _value(data, at, wanted)
        take(value)
    return (entries_read if each is None else size), at


def _varint(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number below 2^bits in as few bytes as it takes, and the position after it."""
    start, value, shift = at, 0, 0
    while shift < bits:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> bits or (byte == 0 and shift):
                break
            return value, at
        shift += 7
    raise FormatError(f"a Thrift number at byte {start} is not below 2^{bits}, or takes more bytes than it needs")
