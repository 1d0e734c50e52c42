"""Blocks of source graphs in a store: scanned once, then read by every later phase."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np

from packer.files.arrays import pack_arrays, unpack_arrays
from packer.graphs.schema import Schema
from packer.graphs.table import HASH_GRAPHS, GraphTable, concatenate
from packer.scan.attributes import Attributes
from packer.scan.block import RawBlock, narrowed
from packer.scan.statistics import Statistics
from pipelines.sources.protocol import BlockTask, Skip
from pipelines.sources.skips import Skips
from pipelines.stores.sealed import SealedStore


class Block(NamedTuple):
    """What the driver keeps of a block. first_id: of its source graphs; records: how many there are, skipped ones
    included; graphs: those that can be packed; size: bytes of its file."""

    number: int
    first_id: int
    records: int
    graphs: int
    size: int


@dataclass(frozen=True, eq=False)
class Blocks(Sequence[Block]):
    """Blocks as numbers, int64 [blocks, 5]: the million of them that a billion graphs are read in take 40 MB so, and
    ten times that as objects."""

    rows: np.ndarray

    @classmethod
    def of(cls, held: array[int]) -> Blocks:
        """held: the members of each block, one after the other."""
        return cls(np.array(held, dtype=np.int64).reshape(-1, len(Block._fields)))

    @property
    def num_records(self) -> int:
        return int(self.rows[:, 2].sum())

    @property
    def graphs(self) -> np.ndarray:
        """int64 [blocks]: how many graphs of each can be packed."""
        return self.rows[:, 3]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> Blocks: ...
    def __getitem__(self, index: int | slice) -> Block | Blocks:
        return Blocks(self.rows[index]) if isinstance(index, slice) else Block(*self.rows[index].tolist())


@dataclass(frozen=True)
class BlockFacts:
    """What a scan tells of a block. sizes: int64 [distinct, axes], its distinct sizes on `axes` (keys), `count`
    graphs of each."""

    block: Block
    statistics: Statistics
    skips: Skips
    axes: tuple[str, ...]
    sizes: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class ScanBlock:
    """A block to be scanned into a store, unless it is there as it was written."""

    number: int
    task: BlockTask
    work: SealedStore
    attributes: Attributes

    @property
    def label(self) -> str:
        return self.task.label


def scan_block(item: ScanBlock) -> BlockFacts:
    """Scan a block and keep its graphs; its facts come last and say that it is whole."""
    if any(item.work.sound(name(item.number)) is None for name in (_facts_name, _block_name)):
        scan = item.task.scan(item.attributes)
        data = scan.graphs.to_bytes()
        item.work.put(_block_name(item.number), data)
        head = {
            "records": scan.num_records,
            "size": len(data),
            "statistics": scan.graphs.statistics.to_dict(),
            "skips": Skips.of(scan.skips).to_plain(),
            "axes": list(scan.graphs.counts),
        }
        sizes = np.stack([np.asarray(count) for count in scan.graphs.counts.values()] or [scan.graphs.ids], axis=1)
        item.work.put(_facts_name(item.number), pack_arrays(head, {"ids": scan.graphs.ids, "sizes": sizes}))
    return read_facts(item.work, item.number, item.task.first_id)


def read_facts(work: SealedStore, number: int, first_id: int) -> BlockFacts:
    """The facts of a scanned block."""
    head, arrays = unpack_arrays(work.read(_facts_name(number)))
    sizes, count = np.unique(arrays["sizes"].astype(np.int64), axis=0, return_counts=True)
    block = Block(number, first_id, head["records"], len(arrays["ids"]), head["size"])
    statistics = Statistics.from_dict(head["statistics"])  # here, and not in the driver, which hears of every block
    return BlockFacts(
        block, statistics, Skips.from_plain(head["skips"]), tuple(head["axes"]), sizes, count.astype(np.int64)
    )


def sizes_of_block(
    work: SealedStore, number: int, axes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, dict[int, Skip]]:
    """(ids int64 [graphs], sizes int64 [graphs, axes], skipped ones by id) of a block, without its features."""
    head, arrays = unpack_arrays(work.read(_facts_name(number)))
    column_of = {key: column for column, key in enumerate(head["axes"])}
    stored = arrays["sizes"].astype(np.int64)
    sizes = np.zeros((len(arrays["ids"]), len(axes)), dtype=np.int64)
    for column, key in enumerate(axes):
        if key in column_of:
            sizes[:, column] = stored[:, column_of[key]]
    return arrays["ids"], sizes, {skip.graph_id: skip for skip in Skips.from_plain(head["skips"])}


def table_of_blocks(work: SealedStore, numbers: Sequence[int], schema: Schema) -> GraphTable:
    """The graphs of some blocks, in their order, in the data set's schema."""
    return concatenate([narrowed(RawBlock.from_bytes(work.read(_block_name(number))), schema) for number in numbers])


@dataclass(frozen=True)
class HashBlocks:
    """Some blocks that hold the graphs of whole blocks of the content hash. skip: leading graphs of others; graphs:
    how many follow."""

    work: SealedStore
    numbers: range
    schema: Schema
    skip: int
    graphs: int

    @property
    def label(self) -> str:
        return f"the hash of blocks {self.numbers[0]} to {self.numbers[-1]}"


def hash_blocks(item: HashBlocks) -> bytes:
    """Digests of the blocks of the content hash, see `GraphTable.content_hash`."""
    table = table_of_blocks(item.work, item.numbers, item.schema)
    table = table.select(np.arange(item.skip, item.skip + item.graphs))
    return b"".join(table.block_hash(first) for first in range(0, item.graphs, HASH_GRAPHS))


def _block_name(number: int) -> str:
    return f"blocks/{number:08d}"


def _facts_name(number: int) -> str:
    return f"facts/{number:08d}"
