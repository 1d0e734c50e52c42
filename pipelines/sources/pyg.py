"""PyG objects as sources: data sets, lists and other iterables of Data or HeteroData, and `pyg:module:callable`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from packer.errors import SourceError
from packer.scan.attributes import ALL, Attributes
from packer.scan.from_objects import block_of_graphs, block_of_storage, reads_from_storage
from packer.scan.items import check_source, graphs_of, length_of
from pipelines.sources.protocol import Scan, Skip

# Storage is cut without touching graphs one by one, so its blocks may be larger.
_GRAPHS_PER_BLOCK, _STORED_PER_BLOCK = 1024, 8192


@dataclass(frozen=True)
class PygSource:
    """Graphs that live in this process. `load` gives the data set or iterable; it is called once, when first needed.

    pin: the same source, of the files as they are now, where it reads files.
    """

    name: str
    load: Callable[[], Any]
    facts: Callable[[], dict[str, Any]]
    repeatable: bool = False
    on_empty: str = "error"
    parallel: bool = False
    argv: tuple[str, ...] = ()
    pin: Callable[[], PygSource] | None = None

    def pinned(self) -> PygSource:
        """See `protocol.pinned`."""
        return self if self.pin is None else self.pin()

    @cached_property
    def graphs(self) -> Any:
        return self.load()

    @property
    def num_graphs(self) -> int | None:
        return length_of(self.graphs, self.name)

    def key(self) -> dict[str, Any]:
        return self.facts()

    def tasks(self) -> Iterator[PygTask]:
        graphs = self.graphs
        check_source(graphs, self.name)
        if hasattr(type(graphs), "indices") and reads_from_storage(graphs):
            for start in range(0, len(graphs), _STORED_PER_BLOCK):
                yield PygTask(self.name, start, min(start + _STORED_PER_BLOCK, len(graphs)), graphs)
            return
        rest = graphs_of(graphs, self.name)
        start = 0
        while block := list(islice(rest, _GRAPHS_PER_BLOCK)):
            yield PygTask(self.name, start, start + len(block), block)
            start += len(block)
        if not start:
            raise SourceError(
                f"{self.name} holds no graph: it is empty, or an iterator that was used up before (pass a list, or a "
                "fresh one)"
            )


@dataclass(frozen=True)
class PygTask:
    """Graphs first_id to stop - 1: a list of just these, or the InMemoryDataset to cut them from."""

    source: str
    first_id: int
    stop: int
    graphs: Any = field(repr=False)

    @property
    def label(self) -> str:
        return f"graphs {self.first_id} to {self.stop - 1} of {self.source}"

    def scan(self, attributes: Attributes = ALL) -> Scan:
        if isinstance(self.graphs, list):
            block = block_of_graphs(self.graphs, self.first_id, attributes=attributes)
        else:
            block = block_of_storage(self.graphs, self.first_id, self.stop, attributes)
        skips = tuple(Skip(graph_id, reason) for graph_id, reason in block.skipped.items())
        return Scan(self.stop - self.first_id, block, skips)


def from_object(graphs: Any) -> PygSource:
    """A source of a PyG data set, a list of Data, or any iterable of Data."""
    kind = f"{type(graphs).__module__}.{type(graphs).__qualname__}"
    return PygSource(f"a {type(graphs).__name__}", lambda: graphs, lambda: {"kind": "objects", "type": kind})


def from_callable(text: str) -> PygSource:
    """`pyg:module:callable`; modules of the working folder are found after all installed ones."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise SourceError(f"{f'pyg:{text}'!r} names no callable: write pyg:module:callable, e.g. pyg:mydata:load")
    facts = {"kind": "pyg", "name": text}
    return PygSource(f"pyg:{text}", partial(_call, module, name), facts.copy, argv=(f"pyg:{text}",))


def _call(module: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        member = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SourceError(
            f"pyg:{module}:{name}: no module named {error.name!r}; give one that Python finds from {here}"
        ) from error
    for part in name.split("."):
        if not hasattr(member, part):
            known = [other for other in dir(member) if callable(getattr(member, other, None)) and other[0] != "_"]
            near = get_close_matches(part, known, 1)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"What can be called there: {', '.join(known[:8]) or 'nothing'}"
            )
            raise SourceError(f"pyg:{module}:{name}: {module} has no {part!r}. {hint}")
        member = getattr(member, part)
    if not callable(member):
        raise SourceError(f"pyg:{module}:{name} is a {type(member).__name__}: name something to call without arguments")
    return member()
