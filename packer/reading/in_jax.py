"""Packs for JAX: stored bytes go to the devices some steps at once, and become steps there, under jit."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Dict, Iterator, Mapping, Sequence

import numpy as np

from packer.errors import StateError
from packer.reading.array_loader import ArrayLoader, reader_of
from packer.reading.array_ops import BITS, JaxOps
from packer.reading.blocks import Cast, DecodedBlock
from packer.reading.calls import CallThread
from packer.reading.in_jax_resident import ResidentSteps
from packer.reading.order import LANES, MOST, Redraw, whole_number
from packer.reading.prefetch import PrefetchedBlocks
from packer.reading.progress import Pass, Progress
from packer.reading.reader import PackReader
from packer.reading.redraw import edge_pointers
from packer.reading.stored import check_real, layout_of, stored_names
from packer.reading.take import take

CHUNK_BYTES = 1 << 20
"""Of stored packs that go to each device at once: as a copy and a call cost the same for one pack, many share them."""

Step = Dict[str, Any]


def jax_loader(
    dataset: PackReader | str | Any,
    batch_size: int = 1,
    devices: int | None = None,
    sharding: Any = None,
    shuffle: bool = True,
    seed: int = 0,
    redraw: Redraw | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    index_dtype: Any = "int32",
    float_dtype: Any = "float32",
    lanes: int = LANES,
    resident: bool = False,
) -> ArrayLoader:
    """Iterate over the packs of a data set as dicts of jax.Arrays, every step of the same shapes.

    A thread reads ahead and puts packs on the device in the narrow dtypes that they are stored in; there a program,
    compiled once for all epochs, makes each step of them. Steps hold what those of `numpy_loader` hold, the same graphs
    in the same slots; shuffle, seed, redraw, lanes, the filled tail and the state are those of `torch_loader`.

    dataset: a PackReader, or the folder or URL of packs. batch_size: packs that are joined into one larger pack.
    devices: None for JAX's default device, or D: every array is `[D, ...]`, one (joined) pack on each of the first D
    local devices. sharding: instead, how steps lie along their first dimension, such as a NamedSharding over a mesh of
    all processes' devices; then each process gives the packs of its own devices. rank, world_size: by default
    `jax.process_index()` and `jax.process_count()`, asked when a pass begins. index_dtype, float_dtype: see
    `numpy_loader`; 64 bits need `jax_enable_x64`. resident: all packs stay on each device, as they are stored: after
    the first pass nothing is read, and nothing goes there but the numbers of packs and, with redraws, 4 bytes a graph
    slot an epoch (with redraw="swaps" all packs again). Raises StateError for numbers out of range and for more devices
    than there are, FieldError for integers that might not fit, MissingExtraError without JAX.
    """
    ops = JaxOps()
    reader = reader_of(dataset, "jax_loader")
    if whole_number("batch_size", batch_size, -MOST) < 1:
        raise StateError(f"batch_size must be at least 1; got {batch_size}")
    sharding, groups = _placed(ops.jax, devices, sharding)
    wide = [name for name in (np.dtype(index_dtype).name, str(float_dtype)) if name in ("int64", "float64")]
    if wide and not ops.jax.config.jax_enable_x64:
        raise StateError(f"JAX makes 32 bits of {wide[0]}: set jax_enable_x64, or ask for int32 and float32")
    reader = reader.with_dtypes(index_dtype, float_dtype, only_32_bit=np.dtype(index_dtype) == np.int32)
    progress = Progress(
        reader.manifest,
        shuffle,
        seed,
        rank,
        world_size,
        batch_size * groups,
        lanes,
        redraw,
        lambda: (int(ops.jax.process_index()), int(ops.jax.process_count())),
    )
    side_by_side = groups if sharding is not None else None
    steps = ResidentSteps if resident else _Steps
    return ArrayLoader(reader, progress, steps(reader, progress, ops, batch_size, side_by_side, sharding))


def _placed(jax: Any, devices: int | None, sharding: Any) -> tuple[Any, int]:
    """How steps lie on devices, None for the default one, and the number of packs that this process gives a step."""
    if sharding is not None:
        if devices is not None:
            raise StateError(f"give devices or sharding, not both; got devices={devices}, sharding={sharding}")
        return sharding, len(sharding.addressable_devices)
    if devices is None:
        return None, 1
    local = jax.local_devices()
    if not 1 <= whole_number("devices", devices, -MOST) <= len(local):
        raise StateError(
            f"devices must be None, or from 1 to the {len(local)} local devices of this process; got {devices}. "
            "numpy_loader stacks for any number"
        )
    mesh = jax.sharding.Mesh(np.array(local[:devices]), ("devices",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices")), devices


class _Steps:
    """The steps of a pass as arrays of JAX. groups: packs (joined ones) of a step that stand side by side, or None."""

    def __init__(
        self, reader: PackReader, progress: Progress, ops: JaxOps, batch_size: int, groups: int | None, sharding: Any
    ) -> None:
        self.jax, self.progress, self.batch_size, self.groups, self.sharding = (
            ops.jax,
            progress,
            batch_size,
            groups,
            sharding,
        )
        self.layout = layout_of(reader, ops)
        names = stored_names(self.layout, redraw=False)
        self.reader = reader.as_stored([_cast(name, self.layout.carried[name]) for name in names])
        widths = {column.name: column.width for column in reader.manifest.columns}
        self.most = max(1, CHUNK_BYTES // max(1, batch_size * sum(widths[name] for name in names)))
        """Steps that go to the devices at once."""
        self.step = self.jax.jit(self._one if groups is None else self._stacked, out_shardings=sharding)

    def __call__(self, run: Pass) -> Iterator[Step]:
        progress = self.progress
        at_once = min(self.most, max(1, len(progress)))  # the same in every pass, so that one program serves them all
        size = at_once * progress.step
        starts = range(0, len(run.ids), size)
        prefetched = PrefetchedBlocks(self.reader, run.ids, progress.prefetch_depth(run), run.redraw_key)
        with run, closing(CallThread("stored packs")) as thread, prefetched as blocks:

            def put(start: int) -> Any:
                return self._put(blocks.rows(run.ids[start : start + size].tolist()), at_once)

            coming = thread.submit(put, 0)
            for start in starts:
                chunk = coming.result()
                if start + size < len(run.ids):
                    coming = thread.submit(put, start + size)
                for number in range(min(at_once, (len(run.ids) - start) // progress.step)):
                    step = self.step(chunk, np.int32(number))
                    progress.consumed(run)
                    yield step
            progress.finished(run)

    def _put(self, rows: Sequence[tuple[DecodedBlock, int]], at_once: int) -> Any:
        """Packs in the order of their steps, on the devices: name -> [at_once * batch_size, *shape], of each group."""
        groups = self.groups or 1
        number = np.arange(len(rows)).reshape(-1, groups, self.batch_size)
        step, group, pack = np.indices(number.shape)
        positions = ((group * at_once + step) * self.batch_size + pack).reshape(-1)
        chunk = gathered(rows, positions, groups * at_once * self.batch_size)
        check_real(chunk["num_real"], self.layout)
        for key, axis in ((axis, self.layout.axes[axis]) for _, axis in self.layout.followed if axis):
            if axis.edge_index:
                pointers = edge_pointers(chunk[axis.batch], chunk[axis.edge_index], self.layout.num_graphs)
                chunk[self.layout.axes[key].first] = pointers
        if self.groups is None:
            return self.jax.device_put(chunk)
        chunk = {name: values.reshape(groups, -1, *values.shape[1:]) for name, values in chunk.items()}
        if self.sharding.is_fully_addressable:
            return self.jax.device_put(chunk, self.sharding)
        place_local = self.jax.make_array_from_process_local_data
        return {name: place_local(self.sharding, values) for name, values in chunk.items()}

    def _one(self, chunk: Mapping[str, Any], number: Any) -> Step:
        packs = number * self.batch_size + self.layout.ops.arange(self.batch_size, number)
        return take(chunk, packs, self.layout)

    def _stacked(self, chunk: Mapping[str, Any], number: Any) -> Step:
        return self.jax.vmap(self._one, in_axes=(0, None))(chunk, number)


def gathered(parts: Sequence[tuple[DecodedBlock, int]], positions: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """Packs (block, row) as they are stored, side by side: name -> [rows, *shape], pack i at positions[i],
    zeros elsewhere.

    All packs of a block are copied by one call for each column.
    """
    by_block: dict[int, tuple[DecodedBlock, list[int], list[int]]] = {}
    for number, (block, row) in enumerate(parts):
        _, numbers, taken = by_block.setdefault(id(block), (block, [], []))
        numbers.append(number)
        taken.append(row)
    arrays: dict[str, np.ndarray] = {}
    for block, numbers, taken in by_block.values():
        to, source = positions[numbers], np.array(taken)
        for name, stored, dtype in block:
            if name not in arrays:
                arrays[name] = np.zeros((rows, *stored.shape[1:]), dtype)
            arrays[name][to] = stored[source]
    return arrays


def _cast(name: str, carried: str) -> Cast:
    return Cast(name, np.dtype("uint16" if carried == BITS else carried))
