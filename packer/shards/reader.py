"""One shard, read a block at a time: a checked piece of the file in, arrays out."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Collection

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.files.open import place_of
from packer.files.protocol import PlacedFile, Where
from packer.shards.manifest import Manifest, ShardEntry
from packer.shards.pages import CODECS, BlockFormat, decode_page, empty_column, walk_pages

VERIFY = ("off", "first-touch", "always")
MAGIC = b"PAR1"


class ShardReader:
    """Random access to the blocks of one shard.

    The file is opened on first use, not before, and by each process for itself: a reader can be pickled and survives
    a fork. A block is read by its place in the manifest into memory of its own and checked there, so that what was
    checked is what is used; a damaged disk or a shortened file is an error, not a signal.

    verify: "first-touch" (each block's checksum when it is first read), "always" or "off". A block of a copy, or from
    a network, that fails is fetched once more before it counts as damaged.
    """

    def __init__(
        self,
        where: Where,
        entry: ShardEntry,
        block_format: BlockFormat,
        verify: str = "first-touch",
    ) -> None:
        if verify not in VERIFY:
            raise FormatError(f"verify must be one of {', '.join(VERIFY)}; got {verify!r}")
        if sys.byteorder != "little":
            raise FormatError("packs are stored little-endian; this machine is big-endian, which is not supported")
        self.place = place_of(where)
        self.entry = entry
        self.block_format = block_format
        self.verify = verify
        self._reset()

    def _reset(self) -> None:
        self._file: PlacedFile | None = None
        self._checked: set[int] = set()
        codec = CODECS[self.block_format.compression]
        self._codec = None if codec is None else pa.Codec(codec)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("place", "entry", "block_format", "verify")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def rows(self, block: int) -> int:
        """Packs of a block."""
        per_block = self.block_format.packs_per_block
        return min(per_block, self.entry.packs - block * per_block)

    def block(self, block: int, columns: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Column name -> [packs of the block, *shape] in storage dtype, for all columns or those named.

        The arrays are nobody else's and writable. Raises FormatError naming shard and block for damage of any kind.
        """
        rows = self.rows(block)
        data = self.raw_block(block)
        stored = self.block_format.columns
        wanted = {column.name for column in stored} if columns is None else set(columns)
        arrays = {column.name: empty_column(column, rows) for column in stored if column.width == 0}
        try:
            for page in walk_pages(data, start_of_pages(block), rows, stored):
                if page.column.name in wanted:
                    arrays[page.column.name] = decode_page(data, page, rows, self._codec)
        except FormatError as error:
            raise FormatError(f"{self.entry.name}, block {block}: {error}") from error
        if not wanted <= set(arrays):
            raise FormatError(f"no column {sorted(wanted - set(arrays))}; a pack has {[c.name for c in stored]}")
        return {column.name: arrays[column.name] for column in stored if column.name in wanted}

    def raw_block(self, block: int) -> bytearray:
        """The stored bytes of a block, checked as `verify` demands."""
        if not 0 <= block < self.entry.blocks:
            raise FormatError(f"{self.entry.name} has blocks 0 to {self.entry.blocks - 1}; asked for {block}")
        file, offset = self._opened(), self.entry.block_offsets[block]
        data = file.read(offset, self.entry.block_bytes[block])
        if self.verify == "always" or (self.verify == "first-touch" and block not in self._checked):
            kept, data = self._compared(file, offset, data, self.entry.block_crc32[block], f"block {block}")
            if kept is not file:
                self._file = kept
            if block == 0 and not data.startswith(MAGIC):
                raise FormatError(f"{self.entry.name} is not a Parquet file: it starts with {bytes(data[:4])!r}")
            self._checked.add(block)
        return data

    def raw_footer(self) -> bytearray:
        """What follows the last block: the Parquet footer, its length and the closing magic. Unchecked."""
        start = self.entry.block_offsets[-1]
        return self._opened().read(start, self.entry.bytes - start)

    def close(self) -> None:
        """Give the file back; the next read opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> PlacedFile:
        if self._file is not None:
            return self._file
        entry = self.entry
        file = self._sized(self.place.open(entry.name, entry))
        if self.verify != "off":
            try:
                file = self._with_footer(file)
            except FormatError:
                file.close()
                raise
        if self._file is None:
            self._file = file
        elif self._file is not file:  # another thread was faster
            file.close()
        return self._file

    def _with_footer(self, file: PlacedFile) -> PlacedFile:
        """The file, or a new copy of it, whose footer has the CRC-32 that the manifest states."""
        start = self.entry.block_offsets[-1]
        footer = file.read(start, self.entry.bytes - start)
        return self._compared(file, start, footer, self.entry.footer_crc32, "the footer")[0]

    def _sized(self, file: PlacedFile) -> PlacedFile:
        if file.size != self.entry.bytes:
            file.close()
            raise FormatError(f"{self.entry.name} has {file.size} bytes, the manifest says {self.entry.bytes}")
        return file

    def _compared(
        self, file: PlacedFile, offset: int, data: bytearray, stated: int, part: str
    ) -> tuple[PlacedFile, bytearray]:
        """The file's bytes from `offset` on, with the CRC-32 that the manifest states, and the file that has them."""
        crc32 = zlib.crc32(data)
        if crc32 == stated:
            return file, data
        copy = file.renewed()
        if copy is not None:
            file = self._sized(copy)
            data = file.read(offset, len(data))
            crc32 = zlib.crc32(data)
            if crc32 == stated:
                return file, data
        raise FormatError(
            f"{self.entry.name}: {part} is damaged: its CRC-32 is {crc32:08x}, the manifest says {stated:08x}. "
            + ("Restore the file from a copy, or build the data set anew" if copy is None else _DAMAGED_THERE)
        )


_DAMAGED_THERE = (
    "It was fetched twice. Open the data set again if it has been built anew meanwhile; else restore the file from a "
    "copy, or build the data set anew"
)


def open_shard(where: Where, manifest: Manifest, shard: int, verify: str = "first-touch") -> ShardReader:
    """The reader of a data set's shard number `shard`."""
    return ShardReader(where, manifest.shards[shard], manifest.block_format, verify)


def start_of_pages(block: int) -> int:
    """Where the first page of a block starts: block 0 begins with the file's magic."""
    return len(MAGIC) if block == 0 else 0
