"""Thrift's compact encoding as a tree that can be bent and written again: fields are [number, kind, value] in order.

Kinds: 1 and 2 bool, 3 byte, 4 to 6 numbers, 8 bytes, 9 a list as [entry kind, *values], 12 a struct as a list of
fields.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

Tree = list[list[Any]]

MOST_VALUES = 1_000_000
"""About so many values a bend lengthens a tree to at most: they are written in seconds."""


def parse(data: bytes, at: int = 0) -> tuple[Tree, int]:
    """The struct at data[at:], which is trusted, and the position after it."""
    fields: Tree = []
    number = 0
    while data[at]:
        head = data[at]
        number, at = number + (head >> 4), at + 1
        value, at = (None, at) if head & 15 < 3 else _value(data, at, head & 15)
        fields.append([number, head & 15, value])
    return fields, at + 1


def write(fields: Tree) -> bytes:
    """The bytes of a struct, fields in the order given: steps back and repeats get the long form of a header."""
    out, last = bytearray(), 0
    for number, kind, value in fields:
        step = number - last
        if 0 < step < 16:
            out.append(step << 4 | kind)
        else:
            out += bytes([kind]) + zigzag(number)
        last = number
        out += b"" if kind < 3 else _written(kind, value)
    return bytes(out) + b"\0"


def varint(number: int, spare: int = 0) -> bytes:
    """A number as Thrift writes it; spare: bytes more than it takes."""
    out = bytearray()
    while number > 127 or spare:
        out.append(number & 127 | 128)
        spare -= number <= 127
        number >>= 7
    return bytes([*out, number])


def zigzag(number: int, spare: int = 0) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1, spare)


def all_structs(fields: Tree) -> list[Tree]:
    """A struct and all within it."""
    found = [fields]
    for _, kind, value in fields:
        if kind == 12:
            found += all_structs(value)
        elif kind == 9 and value[0] == 12:
            for entry in value[1:]:
                found += all_structs(entry) if isinstance(entry, list) else []  # a list called one of structs
    return found


def repeated_groups(footer: Tree) -> Iterator[tuple[str, bytes]]:
    """Footers of up to 60 MB, well formed, that name the same row group, or none, again and again: what, its bytes."""
    groups = next(field for field in footer if field[0] == 4)[2]
    start = write([field for field in footer if field[0] < 4])[:-1] + b"\x19\xfc"
    empty: Tree = [[1, 9, [12]], [2, 6, 0], [3, 6, 1]]
    for name, group in (("one row group", groups[1]), ("a group without columns", empty)):
        written = write(group)
        number = min(1 << 20, (60 << 20) // len(written))
        yield f"{name}, {number} times", start + varint(number) + written * number + b"\0"


def _values(fields: Tree) -> int:
    """Fields of a struct and entries of its lists, all within counted."""
    found = 1
    for _, kind, value in fields:
        if kind == 12 and isinstance(value, list):
            found += _values(value)
        elif kind == 9:
            found += len(value)
            found += sum(_values(entry) for entry in value[1:] if isinstance(entry, list)) if value[0] == 12 else 0
        found += 1
    return found


def bend(fields: Tree, rng: random.Random) -> None:
    """Change the structure of a random struct within: types, repeats, order, unknown fields, lists, numbers."""
    struct = rng.choice(all_structs(fields))
    at = rng.randrange(len(struct) or 1)
    what = rng.randrange(9)
    if not struct or what == 0:
        struct.insert(at, [rng.choice((1, 2, 7, 15, 20, 300)), *_any(rng)])
    elif what == 1:  # twice, the second otherwise
        struct.insert(at + rng.randrange(2), [struct[at][0], *_any(rng)])
    elif what == 2:
        struct[at][1:] = _any(rng)
    elif what == 3:
        struct.insert(rng.randrange(len(struct)), struct.pop(at))
    elif what == 4:
        struct.pop(at)
    elif what == 5 and struct[at][1] in (4, 5, 6):
        struct[at][2] = rng.choice((0, -1, 1, 2**31 - 1, -(2**31), 2**31, 2**62, struct[at][2] + 1, struct[at][2] * 8))
    elif what == 6 and struct[at][1] == 9:
        entries = struct[at][2]
        # Lists within lists may be lengthened a thousandfold each: what is written must stay of a size.
        room = 1 + MOST_VALUES // _values(fields)
        longer = (entries[1:] * min(room, rng.choice((0, 2, 3, 1000))))[:1000]
        entries[1:] = [copy.deepcopy(entry) for entry in longer]  # a later bend is to change one of them
    elif what == 7 and struct[at][1] == 9:
        struct[at][2][0] = rng.choice((1, 3, 5, 6, 8, 12))
    elif struct[at][1] == 9:
        struct[at][2] = _empty_structs(rng.choice((1, 20, 100_000)))
    else:
        struct.append(copy.deepcopy(struct[at]))


def _empty_structs(number: int) -> list[Any]:
    return [12, *([] for _ in range(number))]


def _any(rng: random.Random) -> list[Any]:
    return rng.choice(
        [
            [1, None],
            [5, rng.choice((0, 1, 2, 3, 6, 7, 2**31 - 1, -1))],
            [6, rng.choice((0, 4, 2**40, -1))],
            [8, b"x" * rng.choice((0, 1, 300))],
            [9, _empty_structs(rng.choice((1, 30, 100_000)))],
            [9, [5, *range(rng.choice((0, 3, 40)))]],
            [12, []],
            [12, [[1, 5, 7], [2, 5, 0], [3, 5, 3], [4, 5, 3]]],
        ]
    )


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (4, 5, 6):
        number, at = _number(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == 8:
        size, at = _number(data, at)
        return data[at : at + size], at + size
    if kind == 12:
        return parse(data, at)
    if kind == 9:
        size, entry = data[at] >> 4, data[at] & 15
        size, at = _number(data, at + 1) if size == 15 else (size, at + 1)
        found: list[Any] = [entry]
        for _ in range(size):
            value, at = _value(data, at, entry)
            found.append(value)
        return found, at
    return data[at], at + 1


def _written(kind: int, value: Any) -> bytes:
    if kind in (4, 5, 6):
        return zigzag(value if isinstance(value, int) else 0)
    if kind == 8:
        value = value if isinstance(value, bytes) else b""
        return varint(len(value)) + value
    if kind == 12:
        return write(value if isinstance(value, list) else [])
    if kind == 9:
        entry, *values = value
        head = bytes([len(values) << 4 | entry]) if len(values) < 15 else bytes([0xF0 | entry]) + varint(len(values))
        return head + b"".join(_written(entry, each) for each in values)
    return bytes([value & 255 if isinstance(value, int) else 0])


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at
