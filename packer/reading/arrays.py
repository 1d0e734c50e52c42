"""Packs for numpy: steps of arrays, stacked by device, without torch."""

from __future__ import annotations

import os
from typing import Any, Iterator, Sequence

import numpy as np

from packer.errors import StateError
from packer.reading.array_loader import ArrayLoader, reader_of
from packer.reading.blocks import DecodedBlock
from packer.reading.collate import PackShape
from packer.reading.order import LANES, MOST, Redraw, whole_number
from packer.reading.prefetch import PrefetchedBlocks
from packer.reading.progress import Pass, Progress
from packer.reading.reader import Arrays, PackReader, Rows


def numpy_loader(
    dataset: PackReader | str | os.PathLike[str],
    batch_size: int = 1,
    devices: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    redraw: Redraw | None = None,
    rank: int = 0,
    world_size: int = 1,
    index_dtype: Any = "int32",
    float_dtype: Any = "float32",
    lanes: int = LANES,
) -> ArrayLoader:
    """Iterate over the packs of a data set as dicts of arrays, every step of the same shapes.

    dataset: a PackReader, or the folder or URL of packs. batch_size: packs that are joined into one larger pack, with
    their node numbers, `batch` and `ptr` shifted. devices: None for a step of such a pack, or D for one stacked from D,
    every array `[D, ...]`: one pack for each local device, never joined across them. index_dtype: "int32" gives nothing
    wider than 32 bits, which is what devices take (FieldError where a field's integers might not fit), "int64" the
    dtypes of the source; float_dtype: of floating fields, None keeps theirs within these bounds.

    The order, shuffle, seed, redraw, the filled tail and the state are those of `torch_loader`: the same packs with the
    same graphs in the same slots. rank, world_size: of this process among those that share the epoch, such as
    `jax.process_index()` and `jax.process_count()`. A step's arrays are the caller's own.
    """
    reader = reader_of(dataset, "numpy_loader")
    if devices is not None and whole_number("devices", devices, -MOST) < 1:
        raise StateError(f"devices must be None, or at least 1; got {devices}")
    if whole_number("batch_size", batch_size, -MOST) < 1:
        raise StateError(f"batch_size must be at least 1; got {batch_size}")
    reader = reader.with_dtypes(index_dtype, float_dtype, only_32_bit=np.dtype(index_dtype) == np.int32)
    step = batch_size * (devices or 1)
    progress = Progress(reader.manifest, shuffle, seed, rank, world_size, step, lanes, redraw)
    return ArrayLoader(reader, progress, _Steps(reader, progress, batch_size, devices))


class _Steps:
    """The steps of a pass as arrays of numpy."""

    def __init__(self, reader: PackReader, progress: Progress, batch_size: int, devices: int | None) -> None:
        self.packs, self.progress, self.batch_size, self.devices = _ArrayPacks(reader), progress, batch_size, devices

    def __call__(self, run: Pass) -> Iterator[Arrays]:
        progress, reader = self.progress, self.packs.reader
        with run, PrefetchedBlocks(reader, run.ids, progress.prefetch_depth(run), run.redraw_key) as blocks:
            steps = run.ids.reshape(-1, self.batch_size).tolist()
            groups = self.devices or 1
            for start in range(0, len(steps), groups):
                parts = [blocks.packs(self.packs, packs, reader.shape) for packs in steps[start : start + groups]]
                step = parts[0] if self.devices is None else _stacked(parts)
                progress.consumed(run)
                yield step
            progress.finished(run)


class _ArrayPacks:
    """Cuts packs from decoded blocks into arrays."""

    def __init__(self, reader: PackReader) -> None:
        self.reader = reader

    def pack(self, several: Rows, at: int) -> Arrays:
        return self.reader.widened(self.reader.cut(several, at))

    def cut_collated(self, parts: Sequence[tuple[DecodedBlock, int]], shape: PackShape) -> Arrays:
        return self.reader.widened(self.reader.cut_collated(parts, shape))

    def empty_pack(self) -> Arrays:
        return self.reader.empty_pack()


def _stacked(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
