"""Figures as people read them, and tables of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MB = 1e6


def table(head: str, rows: list[list[Any]], words: int) -> list[str]:
    """Lines of Markdown. head: names, with | between them; words: how many of the first columns hold no numbers."""
    names = head.split("|")
    rule = ["---"] * words + ["--:"] * (len(names) - words)
    return ["| " + " | ".join(map(str, row)) + " |" for row in (names, rule, *rows)]


def put_between(page: Path, name: str, lines: list[str]) -> None:
    """Lines of a page of documentation, between its markers of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text("\n".join([before + begin, *lines, end]) + rest.partition(end)[2])


def power(n: float) -> str:
    digits = f"{n:.0e}"
    return f"10^{int(digits[2:])}" if digits[0] == "1" else f"{n:,.0f}"


def duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def amount(number: float) -> str:
    """Of bytes."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.0f} {unit}" if number >= 10 * size else f"{number / size:.1f} {unit}"
    return f"{number:.0f} bytes"
