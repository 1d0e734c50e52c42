"""What the job needs of a source: a key, and tasks that each scan one block of consecutive graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from packer.scan.attributes import ALL, Attributes
from packer.scan.block import RawBlock


@dataclass(frozen=True)
class Skip:
    """A source graph that cannot be packed: id, reason (a few words, the same for all such graphs), where in the source
    (such as "line 7", may be empty), and its string attributes (name, text) as far as known."""

    graph_id: int
    reason: str
    where: str = ""
    strings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Scan:
    """One scanned block: its graphs that can be packed, and how many source graphs it covers, skipped ones included."""

    num_records: int
    graphs: RawBlock
    skips: tuple[Skip, ...]


class BlockTask(Protocol):
    """A block of consecutive source graphs that is yet to be scanned. Picklable where the source is parallel."""

    @property
    def first_id(self) -> int: ...

    @property
    def label(self) -> str: ...

    def scan(self, attributes: Attributes = ALL) -> Scan: ...


def pinned(source: Source) -> Source:
    """The source as it is now: its key no longer changes, and reading what is not what the key says is a SourceError.

    Sources that read files have a method `pinned` for this; others are as they are.
    """
    pin = getattr(source, "pinned", None)
    return source if pin is None else pin()


class Source(Protocol):
    """Graphs in a fixed order. Graph i of the source has the id i, whether it can be packed or not.

    parallel: tasks can be sent to other processes; repeatable: an equal key means equal graphs, so a finished scan need
    not be done again; on_empty: "error" or "skip", what to do about graphs that cannot be packed unless the user says;
    num_graphs: for progress, None if unknown; argv: the source on a command line, () for Python objects.
    """

    @property
    def name(self) -> str: ...

    @property
    def parallel(self) -> bool: ...

    @property
    def repeatable(self) -> bool: ...

    @property
    def on_empty(self) -> str: ...

    @property
    def num_graphs(self) -> int | None: ...

    @property
    def argv(self) -> tuple[str, ...]: ...

    def key(self) -> dict[str, Any]:
        """What the graphs depend on, as plain values: kind, hash of the bytes, columns, versions of the featuriser."""
        ...

    def tasks(self) -> Iterator[BlockTask]:
        """The blocks in order; the same blocks at every call."""
        ...
