"""The blocks of a pass, decoded by one thread a little before their packs are asked for."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any, Iterator, Protocol, Sequence

import numpy as np

from packer.reading.blocks import DecodedBlock
from packer.reading.calls import CallThread
from packer.reading.collate import PackShape
from packer.reading.order import EMPTY
from packer.reading.reader import PackReader, Rows


class Cutter(Protocol):
    """What cuts packs from decoded blocks: into tensors, or into arrays."""

    def pack(self, several: Rows, at: int) -> Any: ...
    def cut_collated(self, parts: Sequence[tuple[DecodedBlock, int]], shape: PackShape) -> Any: ...
    def empty_pack(self) -> Any: ...


class PrefetchedBlocks:
    """The packs `ids` of a reader in this order: each block decoded once, in a thread, shortly before it is needed.

    A block is let go with its last pack. At most `depth` blocks wait, and as many are in use. Leaving does not wait for
    a store that does not answer. redraw: the key of the pass' redraws, 0 for none.
    """

    def __init__(self, reader: PackReader, ids: np.ndarray, depth: int, redraw: int = 0) -> None:
        self._reader = reader
        self._decode = partial(reader.blocks.decode, redraw=redraw)
        self._per_block = reader.manifest.packs_per_block
        number, row = np.divmod(ids[ids != EMPTY], self._per_block)
        blocks, first, counts = np.unique(number, return_index=True, return_counts=True)
        rows = np.split(row[np.argsort(number, kind="stable")], np.cumsum(counts)[:-1])
        self._rows = dict(zip(blocks.tolist(), rows))
        self._order: Iterator[int] = iter(blocks[np.argsort(first)].tolist())
        self._open: dict[int, _Open] = {}
        self._waiting: dict[int, Future[DecodedBlock]] = {}
        self._depth = max(1, depth)

    def __enter__(self) -> PrefetchedBlocks:
        self._thread = CallThread("packs")
        for _ in range(self._depth):
            self._submit()
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._waiting.values():
            future.cancel()
        self._thread.close()

    def packs(self, cutter: Cutter, ids: Sequence[int], shape: PackShape) -> Any:
        """The next packs, joined; `ids` are the next of the ids."""
        if len(ids) > 1:
            return cutter.cut_collated(self.rows(ids), shape)
        if ids[0] == EMPTY:
            return cutter.empty_pack()
        number = ids[0] // self._per_block
        block = self._open.get(number) or self._opened(number)
        if block.at == block.cast_until:
            block.cast = self._reader.cast(block.block, block.rows[block.at : block.at + self._reader.packs_per_cast])
            block.cast_from, block.cast_until = block.at, block.at + len(block.cast[0][1])
        pack = cutter.pack(block.cast, block.at - block.cast_from)
        self._pass_on(number, block)
        return pack

    def rows(self, ids: Sequence[int]) -> list[tuple[DecodedBlock, int]]:
        """Where the next packs lie: their blocks, and the row of each; `ids` are the next of the ids."""
        return [self._row(pack) for pack in ids]

    def _row(self, pack: int) -> tuple[DecodedBlock, int]:
        if pack == EMPTY:
            return self._reader.empty_block(), 0
        number = pack // self._per_block
        block = self._open.get(number) or self._opened(number)
        row = int(block.rows[block.at])
        self._pass_on(number, block)
        return block.block, row

    def _opened(self, number: int) -> _Open:
        block = self._open[number] = _Open(self._waiting.pop(number).result(), self._rows.pop(number))
        self._submit()
        return block

    def _pass_on(self, number: int, block: _Open) -> None:
        block.at += 1
        if block.at == len(block.rows):
            del self._open[number]

    def _submit(self) -> None:
        block = next(self._order, None)
        if block is not None:
            self._waiting[block] = self._thread.submit(self._decode, block)


class _Open:
    """A block in use: the rows still to be given, in their order, from `at` on; some next ones are cast already."""

    __slots__ = ("at", "block", "cast", "cast_from", "cast_until", "rows")

    def __init__(self, block: DecodedBlock, rows: np.ndarray) -> None:
        self.block, self.rows = block, rows
        self.at = self.cast_from = self.cast_until = 0
        self.cast: Rows = []
