"""Canonical JSON: one way to write a value, so that bytes can be hashed, compared and refused."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Mapping

from packer.errors import FormatError

MAX_BYTES = 64 << 20
MAX_CONTAINERS = 1 << 18
MAX_COMMAS = 1 << 23
"""What a document may hold: about 80,000 shards; parsing takes less than 1 GiB whatever it says."""
MAX_PLAN_CONTAINERS = 1 << 21
"""The same for what a plan states of itself: a list a size."""

_TAIL = re.compile(rb',"sha256":"([0-9a-f]{64})"}\n\Z')
_TAIL_BYTES = len(b',"sha256":""}\n') + 64
_LONG_NUMBER = re.compile(rb"[0-9]{20}")
_MAX_DIGITS = 40


def dumps(value: Any) -> str:
    """Members sorted by name, no spaces, ASCII only, finite numbers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def seal(members: Mapping[str, Any]) -> bytes:
    """A document of `members` in the order given (nested ones sorted), its last member the SHA-256 of the rest."""
    body = _document(members)
    return body[:-1] + f',"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def unseal(data: bytes, name: str) -> dict[str, Any]:
    """The members that `seal` was given. Anything but the bytes that `seal` would write is a FormatError.

    Repeated names, NaN, other spacing and a missing or wrong hash are refused with it; time and memory are bounded.
    """
    tail = _TAIL.search(data, max(0, len(data) - _TAIL_BYTES))
    body = data[:-_TAIL_BYTES] + b"}"
    if tail is None or hashlib.sha256(body).hexdigest().encode() != tail[1]:
        raise FormatError(f"{name} is damaged or edited: its last member is not the SHA-256 of the rest")
    members = bounded_loads(body, name, MAX_CONTAINERS, "canonical JSON")
    try:
        same = isinstance(members, dict) and _document(members) == body
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} is not canonical JSON: {error}") from error
    if not same:
        raise FormatError(f"{name} is not canonical JSON: written anew, its bytes differ")
    return members


def bounded_loads(data: bytes, name: str, containers: int = MAX_PLAN_CONTAINERS, kind: str = "JSON") -> Any:
    """The value of a JSON text of whatever origin, in less than 1 GiB; a FormatError where it takes more or is none."""
    if len(data) > MAX_BYTES or data.count(b"{") + data.count(b"[") > containers or data.count(b",") > MAX_COMMAS:
        raise FormatError(f"{name} is too large: {len(data)} bytes (at most {MAX_BYTES}), or too many entries")
    try:
        long = _LONG_NUMBER.search(data) is not None
        return json.loads(data, parse_int=_bounded_int if long else None)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} is not {kind}: {error}") from error


def _document(members: Mapping[str, Any]) -> bytes:
    return ("{" + ",".join(f"{json.dumps(name)}:{dumps(value)}" for name, value in members.items()) + "}").encode()


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
