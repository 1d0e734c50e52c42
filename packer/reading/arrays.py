"""Packs for numpy, and through it for JAX: steps of arrays, stacked by device, without torch."""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from packer.errors import StateError
from packer.reading.blocks import DecodedBlock
from packer.reading.collate import PackShape
from packer.reading.order import LANES, MOST, whole_number
from packer.reading.prefetch import BlocksAhead
from packer.reading.progress import Pass, Progress
from packer.reading.reader import Arrays, PackReader, Rows
from packer.reading.sharing import not_packed


def numpy_loader(
    dataset: PackReader | str | os.PathLike[str],
    batch_size: int = 1,
    devices: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    redraw: bool | None = None,
    rank: int = 0,
    world_size: int = 1,
    index_dtype: Any = "int32",
    float_dtype: Any = "float32",
    lanes: int = LANES,
) -> NumpyLoader:
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
    reader = _reader_of(dataset)
    if devices is not None and whole_number("devices", devices, -MOST) < 1:
        raise StateError(f"devices must be None, or at least 1; got {devices}")
    if whole_number("batch_size", batch_size, -MOST) < 1:
        raise StateError(f"batch_size must be at least 1; got {batch_size}")
    reader = reader.with_dtypes(index_dtype, float_dtype, only_32_bit=np.dtype(index_dtype) == np.int32)
    step = batch_size * (devices or 1)
    progress = Progress(reader.manifest, shuffle, seed, rank, world_size, step, lanes, redraw)
    return NumpyLoader(reader, progress, batch_size, devices)


def _reader_of(dataset: Any) -> PackReader:
    if isinstance(dataset, PackReader):
        return dataset
    if isinstance(dataset, (str, os.PathLike)):
        return PackReader(dataset)
    raise not_packed(dataset, "PackReader", "numpy_loader")


class NumpyLoader:
    """The iterator of numpy_loader. Every pass is a new epoch unless set_epoch names it."""

    def __init__(self, reader: PackReader, progress: Progress, batch_size: int, devices: int | None) -> None:
        self.reader = reader
        self.progress = progress
        self.batch_size = batch_size
        self.devices = devices

    def __len__(self) -> int:
        """Steps of a whole epoch, also where the next pass resumes one (`steps_left`)."""
        return len(self.progress)

    def __iter__(self) -> Iterator[Arrays]:
        return self._steps(self.progress.begin())

    def _steps(self, run: Pass) -> Iterator[Arrays]:
        progress, packs = self.progress, _ArrayPacks(self.reader)
        with run, BlocksAhead(packs, run.ids, progress.ahead(run), run.redraw_key) as blocks:
            wanted = run.ids.reshape(-1, self.batch_size).tolist()
            groups = self.devices or 1
            for start in range(0, len(wanted), groups):
                parts = [blocks.packs(packs, self.reader.shape) for packs in wanted[start : start + groups]]
                step = parts[0] if self.devices is None else _stacked(parts)
                progress.consumed(run)
                yield step
            progress.finished(run)

    @property
    def steps_left(self) -> int:
        """Steps that the pass under way still gives; without one, those of the next pass."""
        return self.progress.steps_left

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`; one under way goes on. StateError for what is no epoch."""
        self.progress.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop that consumes this loader is: plain values."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass gives exactly what was left when `state` was taken; one under way goes on. StateError for what
        is no state, or one of another data set."""
        self.progress.load_state_dict(state)


class _ArrayPacks:
    """Cuts packs from decoded blocks into arrays."""

    def __init__(self, reader: PackReader) -> None:
        self.reader = reader

    def pack(self, several: Rows, at: int) -> Arrays:
        return self.reader.widened(self.reader.cut(several, at))

    def cut_joined(self, parts: Sequence[tuple[DecodedBlock, int]], shape: PackShape) -> Arrays:
        return self.reader.widened(self.reader.cut_joined(parts, shape))

    def empty_pack(self) -> Arrays:
        return self.reader.empty_pack()


def _stacked(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
