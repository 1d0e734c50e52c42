"""What the driver of a build asks of a carrier, which brings graphs from their source to their shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from packer.files.atomic import FileEntry
from packer.graphs.schema import Schema
from packer.graphs.sizes import GraphSizes
from packer.limits.pack_limits import PackLimits
from packer.plan.pack_plan import PackPlan
from packer.shards import GraphCounts, Layout
from pipelines.sources.skips import Skips
from pipelines.stores.journal import Journal

Files = dict[str, dict[str, dict[str, Any]]]
"""Split -> file, graphs.parquet and the shards -> its entry in the manifest, as plain values."""
Clock = Callable[[str], AbstractContextManager[None]]
"""Measures a stage, by its name."""


class Scanned(Protocol):
    """A source that has been read. ambiguous: fields whose level the data leave open; skips: the graphs that cannot be
    packed; content_hash: of all the others."""

    @property
    def schema(self) -> Schema: ...
    @property
    def ambiguous(self) -> tuple[str, ...]: ...
    @property
    def skips(self) -> Skips: ...
    @property
    def content_hash(self) -> str: ...


@dataclass(frozen=True)
class Target:
    """One data set that is to be written; split: its name, "" without splits."""

    split: str
    plan: PackPlan
    plan_file: FileEntry


class Carrier(Protocol):
    """The stages of one build, each called once, in this order. A carrier journals what it need not do again."""

    def scan(self, anew: bool) -> Scanned:
        """Read the source, or go on. anew: no build of this job has begun; what is there of any other may go."""
        ...

    def limits(self) -> PackLimits:
        """The limits asked for, or those that follow from the sizes."""
        ...

    def choose(self, limits: PackLimits) -> Sequence[str]:
        """Cut down, leave out or refuse what does not fit, and deal the rest out: the names of the data sets.

        Raises SizesError and SourceError.
        """
        ...

    def sizes(self, split: str) -> GraphSizes:
        """Of the graphs of one data set, as far as its plan wants to know them."""
        ...

    def layout(self, limits: PackLimits) -> Layout:
        """Packs per block and shard."""
        ...

    def write(self, targets: Sequence[Target], layout: Layout, clock: Clock) -> Files:
        """All files of all data sets but plans and manifests."""
        ...

    def counts(self, target: Target) -> GraphCounts:
        """What became of the graphs of one data set."""
        ...

    def give_up(self, error: Exception) -> None:
        """The job was refused before it began: let go of what is of no use to another try."""
        ...

    def finish(self) -> None:
        """All is committed: leave nothing behind."""
        ...


Opened = Callable[[Journal], AbstractContextManager[Carrier]]
"""Gives the carrier of a job for as long as a context lasts: nobody else builds there meanwhile."""
