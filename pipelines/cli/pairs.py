"""Texts of options that are repeated, NAME=VALUE, as values. Raises UsageError, LimitsError or SourceError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packer.errors import LimitsError, SourceError
from pipelines.cli.checks import UsageError, check_choice, usage
from pipelines.text.numbers import SLOTS_MOST, Range, real_of, whole_of

_NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def read_pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """["x=node"] -> {"x": "node"}."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise UsageError(f"{option} takes NAME=VALUE; got {text!r}")
        if name in pairs:
            raise UsageError(f"{option} {name} is given twice, {pairs[name]} and {value}: give it once")
        pairs[name] = value
    return pairs


def read_levels(texts: Sequence[str] | None) -> dict[str, str]:
    """["x=node"] -> {"x": "node"}, where node is a level."""
    levels = read_pairs("--field", texts)
    for name, level in levels.items():
        check_choice(f"--field {name}", level, ("node", "edge", "graph"))
    return levels


def read_pads(texts: Sequence[str] | None) -> dict[str, float | list[float]]:
    """["y=-1", "shifts=10,0,0"] -> {"y": -1, "shifts": [10, 0, 0]}; NaN and infinities too, which fields of floats may
    be padded with."""
    pads: dict[str, float | list[float]] = {}
    for name, text in read_pairs("--pad", texts).items():
        row: list[float] = []
        for part in text.split(","):
            readings = whole_of(part), real_of(part), _NOT_FINITE.get(part.lower().removeprefix("+"))
            number = next((reading for reading in readings if reading is not None), None)
            if number is None:
                raise UsageError(f"--pad takes NAME=NUMBER, or NAME=NUMBER,NUMBER,...; got {name}={text}")
            row.append(number)
        pads[name] = row if len(row) > 1 else row[0]
    return pads


def read_axes(texts: Sequence[str] | None) -> dict[str, list[str]]:
    """["triplet=idx_kj,idx_ji"] -> {"triplet": ["idx_kj", "idx_ji"]}."""
    fields = {name: text.split(",") for name, text in read_pairs("--axis", texts).items()}
    return {name: [field.strip() for field in several if field.strip()] for name, several in fields.items()}


def read_counts(option: str, texts: Sequence[str] | None) -> dict[str, int]:
    """["triplet=4000"] -> {"triplet": 4000}."""
    with usage():
        return {name: _whole(option, text) for name, text in read_pairs(option, _apart(texts or ())).items()}


def read_slots(option: str, texts: Sequence[str] | None) -> Any:
    """["256"] -> 256; ["author=10", "paper=5"] -> by node type; "a__to__b=7" -> by edge type."""
    if not texts:
        return None
    parts = _apart(texts)
    if len(parts) == 1 and "=" not in parts[0]:
        return _whole(option, parts[0])
    by_type = {name: _whole(option, text) for name, text in read_pairs(option, parts).items()}
    if option == "--num-nodes":
        return by_type
    wrong = [name for name in by_type if name.count("__") != 2]
    if wrong:
        raise SourceError(f"{option}: an edge type is written SOURCE__RELATION__TARGET=E; got {wrong[0]!r}")
    return {tuple(name.split("__")): number for name, number in by_type.items()}


def _apart(texts: Sequence[str]) -> list[str]:
    return [part for text in texts for part in text.split(",")]


def _whole(option: str, text: str) -> int:
    allowed = Range(1 if option == "--num-nodes" else 0, SLOTS_MOST)
    fault = allowed.fault(text)
    if fault is not None:
        raise LimitsError(f"{option} {fault}")
    return allowed.read(text)
