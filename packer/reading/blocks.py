"""Decoded blocks of a data set: opened by each process for itself, kept in stored dtypes, a bounded number of them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from packer.errors import CONTRADICTION, FieldError, FormatError
from packer.files.open import place_of
from packer.files.protocol import Where
from packer.reading.redraw import needed_columns, redrawn
from packer.shards.manifest import Manifest
from packer.shards.reader import ShardReader, open_shard

CACHED_BYTES = 8 << 20
"""Of a block that is kept, on average: writers make no larger blocks of several packs, and where a block is one pack
nothing is gained by keeping it."""
OPEN_SHARDS = 64  # file descriptors a process holds at most
_BOOL = np.dtype(bool)
_OF_THIS_PROCESS = ("_pid", "_lock", "_open", "_cache", "_last", "_spare")


class Cast(NamedTuple):
    """A column to load and the dtype that its rows are cast to when they leave the block.

    view: read the stored bits as this dtype first, None to take them as they are.
    """

    name: str
    dtype: np.dtype[Any]
    view: str | None = None


class Mask(NamedTuple):
    """A mask to make from counts: its slots, and the column of num_real that counts them."""

    name: str
    slots: int
    real_column: int


class MaskColumn:
    """The masks of a block's packs, bool [packs, slots], made when they are read: True for the first `real` slots."""

    def __init__(self, slots: int, real: np.ndarray) -> None:
        self._slots = np.arange(slots, dtype=np.int32)
        self._real = real[:, None]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self._slots < self._real[rows]


DecodedBlock = List[Tuple[str, Any, "np.dtype[Any]"]]
"""A block ready to be cut into packs: name, [packs, *shape] as stored (or MaskColumn), the dtype to cast rows to."""


def decoded_block(columns: Mapping[str, np.ndarray], casts: Sequence[Cast], masks: Sequence[Mask]) -> DecodedBlock:
    """columns: name -> [packs, *shape] in storage dtype, `num_real` among them where there are masks."""
    for cast in casts:
        check_finite(cast.name, columns[cast.name], cast.dtype)
    decoded: DecodedBlock = [
        (cast.name, columns[cast.name] if cast.view is None else columns[cast.name].view(cast.view), cast.dtype)
        for cast in casts
    ]
    if masks:
        num_real = columns["num_real"]
        for mask in masks:
            decoded.append((mask.name, MaskColumn(mask.slots, num_real[:, mask.real_column]), _BOOL))
        check_counts(num_real, masks)
    return decoded


def check_counts(num_real: np.ndarray, masks: Sequence[Mask]) -> None:
    """Raise FormatError where packs count more real rows than a mask has slots, or fewer than none."""
    slots = [mask.slots for mask in masks]
    real = num_real[:, [mask.real_column for mask in masks]]
    if ((real < 0) | (real > slots)).any():
        raise FormatError(
            f"num_real counts up to {real.max(0).tolist()}, down to {real.min(0).tolist()}, of "
            f"{slots} slots for {[mask.name for mask in masks]}{CONTRADICTION}"
        )


def check_finite(name: str, values: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Raise FieldError where floating numbers would become infinite in a narrower `dtype`."""
    if values.dtype.kind != "f" or dtype.kind != "f" or dtype.itemsize >= values.dtype.itemsize:
        return
    largest = np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max(initial=0)
    if largest > np.finfo(dtype).max:
        raise FieldError(
            f"{name} holds {largest:g}, beyond what {dtype} reaches ({np.finfo(dtype).max:g}): read it as "
            f'{values.dtype} (float_dtype="{values.dtype}", index_dtype="int64"), leave it out with columns=[...], or '
            "scale it before building"
        )


class Blocks:
    """The blocks of a data set, numbered through all shards.

    where, manifest: of the data set; casts, masks: what to load; verify: as in ShardReader; cache_blocks: how many
    decoded blocks are kept, fewer where these would take more than 8 MiB each.
    Pickled or forked, it opens its files anew: no descriptor is shared between processes.
    Threads may share it.
    """

    def __init__(
        self,
        where: Where,
        manifest: Manifest,
        casts: Sequence[Cast],
        masks: Sequence[Mask],
        verify: str,
        cache_blocks: int,
    ) -> None:
        self.place = place_of(where)
        self.manifest = manifest
        self.casts = tuple(casts)
        self.masks = tuple(masks)
        self.verify = verify
        self._per_shard = max(1, -(-manifest.packs_per_shard // manifest.packs_per_block))
        self._stored = [cast.name for cast in casts] + (["num_real"] if masks else [])
        width = sum(column.width for column in manifest.columns if column.name in self._stored)
        most = cache_blocks * CACHED_BYTES // max(1, width * manifest.packs_per_block)
        self.cache_blocks = max(1, min(cache_blocks, most))
        self._to_redraw = list(dict.fromkeys([*self._stored, *needed_columns(manifest.schema)]))
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a new one: another thread may have held the old one during a fork
        self._open: OrderedDict[int, ShardReader] = OrderedDict()
        self._cache: OrderedDict[tuple[int, int], DecodedBlock] = OrderedDict()
        self._last: tuple[tuple[int, int], DecodedBlock | None] = (-1, 0), None
        self._spare: dict[str, np.ndarray] = {}  # arrays of the block redrawn last, as it was stored: for the next one

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def decode(self, block: int, redraw: int = 0) -> DecodedBlock:
        """Read and decode a block now. redraw: the key of its graphs' redraw, 0 for packs as they are stored."""
        columns = self.columns(block, self._to_redraw if redraw else self._stored)
        if redraw:
            stored = columns
            with self._lock:
                spare, self._spare = self._spare, {}
            columns = redrawn(stored, self.manifest.schema, self.manifest.limits, block, redraw, spare)
            self._spare = {name: values for name, values in stored.items() if columns[name] is not values}
        return decoded_block(columns, self.casts, self.masks)

    def columns(self, block: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Read some columns of a block now: name -> [packs, *shape] as they are stored, the caller's own."""
        if self._pid != os.getpid():
            self._reset()
        shard, inside = divmod(block, self._per_shard)
        with self._lock:
            return self._reader(shard).block(inside, names)

    def cached(self, block: int, redraw: int = 0) -> DecodedBlock:
        """The same, kept; the block unused for longest makes room."""
        key = block, redraw
        last, decoded = self._last
        if last == key and decoded is not None:
            return decoded
        decoded = self._cache.get(key)
        if decoded is None:
            decoded = self.decode(block, redraw)
        self._last = key, decoded
        with self._lock:
            self._cache[key] = decoded
            self._cache.move_to_end(key)
            while len(self._cache) > self.cache_blocks:
                self._cache.popitem(last=False)
        return decoded

    def drop(self, block: int) -> None:
        """Forget a block that a reader in order has left behind: its memory serves the next one."""
        with self._lock:
            self._cache.pop((block, 0), None)

    def close(self) -> None:
        """Give files and memory back; the next read opens again."""
        with self._lock:
            for reader in self._open.values():
                reader.close()
            self._open.clear()
            self._cache.clear()
            self._last = (-1, 0), None
            self._spare = {}

    def _reader(self, shard: int) -> ShardReader:
        reader = self._open.get(shard)
        if reader is None:
            if len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            reader = self._open[shard] = open_shard(self.place, self.manifest, shard, self.verify)
        self._open.move_to_end(shard)
        return reader
