"""Blocks as they lie on a device: which arrays, how large, and what redraws need of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packer.reading.reader import PackReader
from packer.reading.redraw import SizeClasses, is_swapping, needed_columns, redrawn
from packer.reading.ring_plan import Load
from packer.reading.stored import stored_arrays, stored_names
from packer.reading.take import TakeLayout

SLOTS = ":slots"
"""The name of the table of slots among the arrays of a block: no field's name begins so."""
_ALIGNED = 16  # bytes: the widest item that a device loads at once


@dataclass(frozen=True)
class RingSize:
    """What a ring takes, before anything is allocated.

    blocks: slots of the ring; all_blocks: blocks of the data set; block_bytes: one block in the ring; other_bytes: the
    empty pack, and the room through which blocks come.
    """

    blocks: int
    all_blocks: int
    block_bytes: int
    other_bytes: int

    @property
    def bytes(self) -> int:
        return self.blocks * self.block_bytes + self.other_bytes

    @property
    def resident(self) -> bool:
        """Whether all blocks stay, once they have come."""
        return self.blocks >= self.all_blocks

    def __str__(self) -> str:
        kind = "resident, all" if self.resident else "streaming,"
        return (
            f"{kind} {self.blocks:,} of {self.all_blocks:,} blocks of {self.block_bytes:,} bytes: {self.bytes:,} bytes"
        )


class BlockForm:
    """The arrays of one block: name -> (shape of one pack, dtype), the table of slots last where there are redraws."""

    def __init__(self, reader: PackReader, layout: TakeLayout, redraw: bool) -> None:
        self.reader, self.layout, self.redraw = reader, layout, redraw
        # Of the only block of a small data set a part is there.
        self.capacity = max(1, min(reader.manifest.packs_per_block, reader.manifest.num_packs))
        self.all_blocks = -(-reader.manifest.num_packs // self.capacity)
        names = stored_names(layout, redraw)
        self.wanted = list(dict.fromkeys([*names, *(needed_columns(reader.manifest.schema) if redraw else ())]))
        none = {name: values[:0] for name, values in reader.empty_columns().items()}
        self.empty = stored_arrays(none, reader, layout, 0, redraw)
        """The empty pack: name -> [1, *shape]."""
        if redraw:
            all_slots = (self.all_blocks * self.capacity + 1) * layout.num_graphs
            self.empty[SLOTS] = np.arange(layout.num_graphs, dtype=np.int32 if all_slots < 1 << 31 else np.int64)[None]
        self.spans, self.staging_bytes = self._staging()

    def _staging(self) -> tuple[dict[str, tuple[int, int]], int]:
        """Where each array of a block lies in the host's buffer: name -> (first byte, end), and the bytes in all."""
        spans: dict[str, tuple[int, int]] = {}
        end = 0
        for name, values in self.empty.items():
            first = -(-end // _ALIGNED) * _ALIGNED
            end = first + values.nbytes * self.capacity
            spans[name] = first, end
        return spans, end

    @property
    def block_bytes(self) -> int:
        return sum(values.nbytes for values in self.empty.values()) * self.capacity

    def size(self, blocks: int) -> RingSize:
        """Of a ring of so many blocks."""
        other = self.block_bytes // max(1, self.capacity) + self.staging_bytes
        return RingSize(blocks, self.all_blocks, self.block_bytes, other)

    def read(self, block: int, swaps: int) -> tuple[dict[str, np.ndarray], SizeClasses | None]:
        """Read, check and decode a block: name -> [capacity, *shape], filled with empty packs; what redraws need.
        swaps: the key of its swaps, 0 for none."""
        manifest = self.reader.manifest
        names = [*self.wanted, *needed_columns(manifest.schema)] if swaps else self.wanted
        columns = self.reader.blocks.columns(block, list(dict.fromkeys(names)))
        if swaps:
            columns = redrawn(columns, manifest.schema, manifest.limits, block, swaps)
        arrays = stored_arrays(columns, self.reader, self.layout, self.capacity, self.redraw)
        classes = SizeClasses.of(columns, manifest.schema) if self.redraw else None
        return {name: values[: self.capacity] for name, values in arrays.items()}, classes

    def table(self, load: Load, classes: SizeClasses, key: int) -> np.ndarray:
        """The slot of the ring whose graph each slot of a block takes: [capacity, G]. key: 0 for its own."""
        graphs = self.layout.num_graphs
        table = np.arange(self.capacity * graphs, dtype=np.int64).reshape(-1, graphs)
        if key:
            table[: classes.packs] = classes.slots(load.block, key)
        return (table + load.slot * self.capacity * graphs).astype(self.empty[SLOTS].dtype)


def swaps_of(key: int) -> int:
    """The key, where it is one of swaps."""
    return key if is_swapping(key) else 0
