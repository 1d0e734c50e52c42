"""One shard, read a block at a time: a checked piece of the file in, arrays out."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import Any, Collection

import numpy as np
import pyarrow as pa

from packer.errors import FormatError
from packer.shards.files import open_plain, read_exactly
from packer.shards.manifest import Manifest, ShardEntry
from packer.shards.pages import CODECS, BlockFormat, decode_page, empty_column, walk_pages

VERIFY = ("off", "first-touch", "always")
MAGIC = b"PAR1"


class ShardReader:
    """Random access to the blocks of one shard.

    The file is opened on first use, not before, and by each process for itself: a reader can be pickled and survives
    a fork. A block is read by its place in the manifest into memory of its own and checked there, so that what was
    checked is what is used; a damaged disk or a shortened file is an error, not a signal.

    verify: "first-touch" (each block's checksum when it is first read), "always" or "off".
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        entry: ShardEntry,
        block_format: BlockFormat,
        verify: str = "first-touch",
    ) -> None:
        if verify not in VERIFY:
            raise FormatError(f"verify must be one of {', '.join(VERIFY)}; got {verify!r}")
        if sys.byteorder != "little":
            raise FormatError("packs are stored little-endian; this machine is big-endian, which is not supported")
        self.path = Path(path)
        self.entry = entry
        self.block_format = block_format
        self.verify = verify
        self._reset()

    def _reset(self) -> None:
        self._fd = -1
        self._checked: set[int] = set()
        codec = CODECS[self.block_format.compression]
        self._codec = None if codec is None else pa.Codec(codec)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("path", "entry", "block_format", "verify")}

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
        every = self.block_format.columns
        wanted = {column.name for column in every} if columns is None else set(columns)
        found = {column.name: empty_column(column, rows) for column in every if column.width == 0}
        try:
            for page in walk_pages(data, start_of_pages(block), rows, every):
                if page.column.name in wanted:
                    found[page.column.name] = decode_page(data, page, rows, self._codec)
        except FormatError as error:
            raise FormatError(f"{self.entry.name}, block {block}: {error}") from error
        if not wanted <= set(found):
            raise FormatError(f"no column {sorted(wanted - set(found))}; a pack has {[c.name for c in every]}")
        return {column.name: found[column.name] for column in every if column.name in wanted}

    def raw_block(self, block: int) -> bytearray:
        """The stored bytes of a block, checked as `verify` demands."""
        if not 0 <= block < self.entry.blocks:
            raise FormatError(f"{self.entry.name} has blocks 0 to {self.entry.blocks - 1}; asked for {block}")
        data = self._read(self.entry.block_offsets[block], self.entry.block_bytes[block])
        if self.verify == "always" or (self.verify == "first-touch" and block not in self._checked):
            self._compare(f"block {block}", zlib.crc32(data), self.entry.block_crc32[block])
            if block == 0 and not data.startswith(MAGIC):
                raise FormatError(f"{self.entry.name} is not a Parquet file: it starts with {bytes(data[:4])!r}")
            self._checked.add(block)
        return data

    def raw_footer(self) -> bytearray:
        """What follows the last block: the Parquet footer, its length and the closing magic. Unchecked."""
        start = self.entry.block_offsets[-1]
        return self._read(start, self.entry.bytes - start)

    def close(self) -> None:
        """Give the file back; the next read opens it again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _read(self, offset: int, size: int) -> bytearray:
        if self._fd < 0:
            self._open()
        return read_exactly(self._fd, offset, size, self.entry.name)

    def _open(self) -> None:
        entry = self.entry
        fd, size = open_plain(self.path)
        try:
            if size != entry.bytes:
                raise FormatError(f"{entry.name} has {size} bytes, the manifest says {entry.bytes}")
            if self.verify != "off":
                start = entry.block_offsets[-1]
                footer = read_exactly(fd, start, size - start, entry.name)
                self._compare("the footer", zlib.crc32(footer), entry.footer_crc32)
        except FormatError:
            os.close(fd)
            raise
        if self._fd >= 0:  # another thread was faster
            os.close(fd)
        else:
            self._fd = fd

    def _compare(self, what: str, found: int, stated: int) -> None:
        if found != stated:
            raise FormatError(
                f"{self.entry.name}: {what} is damaged: its CRC-32 is {found:08x}, the manifest says {stated:08x}. "
                "Restore the file from a copy, or build the data set anew"
            )


def open_shard(
    folder: str | os.PathLike[str], manifest: Manifest, shard: int, verify: str = "first-touch"
) -> ShardReader:
    """The reader of a data set's shard number `shard`."""
    entry = manifest.shards[shard]
    return ShardReader(Path(folder) / entry.name, entry, manifest.block_format, verify)


def start_of_pages(block: int) -> int:
    """Where the first page of a block starts: block 0 begins with the file's magic."""
    return len(MAGIC) if block == 0 else 0
