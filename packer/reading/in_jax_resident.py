"""Packs that stay on JAX's devices: every step is taken there, out of all of them."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from packer.errors import StateError
from packer.reading.array_ops import JaxOps
from packer.reading.block_form import SLOTS, BlockForm, swaps_of
from packer.reading.progress import Pass, Progress
from packer.reading.reader import PackReader
from packer.reading.redraw import SizeClasses
from packer.reading.ring_plan import Load
from packer.reading.stored import layout_of
from packer.reading.take import take


class ResidentSteps:
    """The steps of a pass as arrays of JAX. groups: packs (joined ones) of a step that stand side by side, or None.

    Memory: the stored bytes of all packs on each device, and once on the host while they come.
    """

    def __init__(
        self, reader: PackReader, progress: Progress, ops: JaxOps, batch_size: int, groups: int | None, sharding: Any
    ) -> None:
        self.jax, self.progress, self.batch_size, self.groups = ops.jax, progress, batch_size, groups
        self.layout = layout_of(reader, ops)
        # As whether there are redraws may come with a state, shuffled loaders can always make them.
        self.form = BlockForm(reader, self.layout, redraw=progress.shuffle)
        self.sharding, self.everywhere = sharding, _replicated(ops.jax, sharding)
        self.step = self.jax.jit(self._one if groups is None else self._stacked, out_shardings=sharding)
        self._arrays: dict[str, Any] = {}
        self._classes: list[SizeClasses] = []
        self._swaps = -1  # the key of the swaps of what lies there

    def __call__(self, run: Pass) -> Iterator[dict[str, Any]]:
        with run:
            if self._swaps != swaps_of(run.redraw_key):
                self._load(swaps_of(run.redraw_key))
            slots = self._put(self._table(run.redraw_key)) if self.form.redraw else None
            shape = (-1, self.batch_size) if self.groups is None else (-1, self.groups, self.batch_size)
            for packs in run.ids.reshape(shape).astype(np.int32):
                step = self.step(self._arrays, self._placed(packs), slots)
                self.progress.consumed(run)
                yield step
            self.progress.finished(run)

    def _load(self, swaps: int) -> None:
        """All packs to the devices, the empty pack last."""
        form = self.form
        rows = form.all_blocks * form.capacity
        with_empty = {name: np.repeat(values, rows + 1, axis=0) for name, values in form.empty.items() if name != SLOTS}
        self._arrays, self._classes, self._swaps = {}, [], -1
        for block in range(form.all_blocks):
            arrays, classes = form.read(block, swaps)
            for name, values in arrays.items():
                with_empty[name][block * form.capacity : (block + 1) * form.capacity] = values
            self._classes += [classes] if classes is not None else []
        self._arrays, self._swaps = {name: self._put(values) for name, values in with_empty.items()}, swaps

    def _table(self, key: int) -> np.ndarray:
        """The slot whose graph each slot takes: [packs + 1, G]."""
        form, key = self.form, 0 if swaps_of(key) else key
        tables = [form.table(Load(block, block, 0, 0), classes, key) for block, classes in enumerate(self._classes)]
        last = form.empty[SLOTS] + form.all_blocks * form.capacity * self.layout.num_graphs
        return np.concatenate([*tables, last])

    def _put(self, values: np.ndarray) -> Any:
        on_device = self.layout.ops.hold(values) if self.everywhere is None else values
        if self.everywhere is None or self.everywhere.is_fully_addressable:
            return self.jax.device_put(on_device, self.everywhere)
        return self.jax.make_array_from_process_local_data(self.everywhere, on_device)

    def _placed(self, packs: np.ndarray) -> Any:
        """The numbers of a step's packs, each where its pack is wanted."""
        if self.sharding is None or self.sharding.is_fully_addressable:
            return packs
        return self.jax.make_array_from_process_local_data(self.sharding, packs)

    def _one(self, arrays: Any, packs: Any, slots: Any) -> dict[str, Any]:
        return take(arrays, packs, self.layout, slots)

    def _stacked(self, arrays: Any, packs: Any, slots: Any) -> dict[str, Any]:
        return self.jax.vmap(self._one, in_axes=(None, 0, None))(arrays, packs, slots)


def _replicated(jax: Any, sharding: Any) -> Any:
    """The same devices, with everything on each."""
    if sharding is None:
        return None
    if not isinstance(sharding, jax.sharding.NamedSharding):
        raise StateError(f"resident=True takes a NamedSharding, which tells of its mesh; got {sharding}")
    return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
