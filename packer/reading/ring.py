"""Blocks of packs in device memory, in stored dtypes: a ring of equal slots, filled by a thread ahead of the steps."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import torch

from packer.errors import StateError
from packer.reading.block_form import SLOTS, BlockForm, RingSize, swaps_of
from packer.reading.redraw import SizeClasses
from packer.reading.ring_plan import Load

SHARE = 0.5
"""Of the memory that is free, for a ring of which nothing is said."""


def ring_size(form: BlockForm, memory: float | None, least: int, device: torch.device) -> RingSize:
    """The ring that `memory` allows: of all blocks where they fit. least: slots that it needs.

    memory: bytes, or a share of what is free, 0 < share <= 1; None for SHARE. StateError where it does not fit, or for
    what is neither.
    """
    free = free_memory(device)
    allowed = _allowed(memory, free)
    small, all_there = form.size(least), form.size(max(1, form.all_blocks))
    size = form.size(min(all_there.blocks, (allowed - small.other_bytes) // max(1, form.block_bytes)))
    if size.blocks < least or size.bytes > free:
        rule = f"{SHARE:g} of what is free by default" if memory is None else f"memory={memory!r}"
        raise StateError(
            f"the ring does not fit: {small.blocks:,} blocks at least take {small.bytes:,} bytes, all "
            f"{all_there.blocks:,} take {all_there.bytes:,}; {rule} allows {allowed:,}, and {free:,} bytes are free on "
            f"{device}. Pass memory={small.bytes} or more, as many bytes (or a share of what is free), lower lanes or "
            "batch_size; or use torch_loader, which keeps nothing on the device"
        )
    return size


def _allowed(memory: Any, free: int) -> int:
    if memory is None:
        return int(SHARE * free)
    if isinstance(memory, (float, np.floating)) and 0 < memory <= 1:
        return int(float(memory) * free)
    if isinstance(memory, (int, np.integer)) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    raise StateError(f"memory must be bytes (int > 0) or a share of what is free (0 < float <= 1); got {memory!r}")


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device: also what torch holds there and does not use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("MemAvailable:")]
        return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that says nothing
        return 4 << 30


class Ring:
    """Slots for blocks, and what lies in each. `arrays` and `slots` are what `take` takes: they stay the same tensors.

    One pass at a time fills it: `begin` ends the one before. A thread calls `load`; nothing waits for the device there
    but the next use of the buffer that blocks come through: one for all, and for tables of slots that come alone one
    for each slot, so that a resident ring never waits where steps are launched far ahead of the device.
    """

    def __init__(self, form: BlockForm, size: RingSize, device: torch.device) -> None:
        self.form, self.size, self.device = form, size, device
        rows = size.blocks * form.capacity + 1
        self._tensors: dict[str, torch.Tensor] = {}
        hold = form.layout.ops.hold
        for name, empty in form.empty.items():
            last = hold(empty)
            # Zeros, as a step of a graph that is captured may run before its blocks have come.
            self._tensors[name] = torch.zeros((rows, *last.shape[1:]), dtype=last.dtype, device=device)
            self._tensors[name][-1:].copy_(last + (rows - 1) * form.layout.num_graphs if name == SLOTS else last)
        self.slots = self._tensors.get(SLOTS)
        self.arrays = {name: values for name, values in self._tensors.items() if name != SLOTS}
        self._on_cuda = device.type == "cuda"
        self._host_buffer = torch.empty(max(1, form.staging_bytes), dtype=torch.uint8, pin_memory=self._on_cuda)
        self._device_buffer = (
            torch.empty_like(self._host_buffer, device=device, pin_memory=False) if self._on_cuda else self._host_buffer
        )
        self._host_views = {name: values.numpy() for name, values in self._views(self._host_buffer).items()}
        self._tables = self._pinned_tables()
        self._device_views = self._views(self._device_buffer)
        self._copy_stream: Any = torch.cuda.Stream(device) if self._on_cuda else None
        if self._on_cuda:
            self._copy_stream.wait_stream(torch.cuda.current_stream(device))
            for values in (*self._tensors.values(), self._device_buffer):  # not given away while a copy is under way
                values.record_stream(self._copy_stream)
        self._lock = threading.Lock()
        self._sent: Any = None
        self._tables_sent: list[Any] = [None] * size.blocks
        self.turn = 0
        """Counts passes: the ring is that of the latest."""
        self._blocks = [-1] * size.blocks
        self._keys, self._swaps = [0] * size.blocks, [0] * size.blocks
        self._classes: list[SizeClasses | None] = [None] * size.blocks
        self.num_read = self.num_copied = 0
        """Blocks read so far, and bytes copied to the device."""

    def _views(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arrays of a block in the buffer that it comes through: name -> [capacity, *shape]."""
        views: dict[str, torch.Tensor] = {}
        for name, (first, end) in self.form.spans.items():
            like = self._tensors[name]
            views[name] = buffer[first:end].view(like.dtype).reshape(self.form.capacity, *like.shape[1:])
        return views

    def _pinned_tables(self) -> torch.Tensor | None:
        """Tables of slots on their way to the device, one for each slot: [blocks, capacity, G], not of its memory."""
        if self.slots is None or not self._on_cuda:
            return None
        shape = (self.size.blocks, self.form.capacity, *self.slots.shape[1:])
        return torch.empty(shape, dtype=self.slots.dtype, pin_memory=True)

    def begin(self) -> tuple[int, list[int]]:
        """A pass begins, and the one before ends: its turn, and the block that lies in each slot, -1 for none."""
        with self._lock:
            self.turn += 1
            if self._on_cuda:  # what the pass before has sent and not waited for
                torch.cuda.current_stream(self.device).wait_stream(self._copy_stream)
            return self.turn, list(self._blocks)

    def still(self) -> threading.Lock:
        """With it nothing is copied into the ring, as nothing may be while a CUDA graph is captured."""
        return self._lock

    def ready(self, load: Load, key: int) -> bool:
        """Whether there is nothing to do for a block, asked when a pass begins."""
        same = self._swaps[load.slot] == swaps_of(key)
        return load.kept and same and (not self.form.redraw or self._keys[load.slot] == key)

    def moment(self) -> Any:
        """Now, on the stream that steps run on: what is loaded after it disturbs no step before it."""
        if not self._on_cuda:
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return event

    def load(self, load: Load, key: int, turn: int, after: Any) -> Any:
        """Bring a block to its slot, or where it lies there already its table of slots alone; what to `wait` for.
        A block whose graphs are swapped is another one in every epoch.

        key: of the pass' redraws; after: a `moment`. Does nothing once another pass has begun.
        """
        arrays: dict[str, np.ndarray] = {}
        classes, swaps = self._classes[load.slot], swaps_of(key)
        if self._blocks[load.slot] != load.block or self._swaps[load.slot] != swaps:
            arrays, classes = self.form.read(load.block, swaps)
        if classes is not None:
            arrays[SLOTS] = self.form.table(load, classes, 0 if swaps else key)
        with self._lock:
            if turn != self.turn:
                return None
            self._blocks[load.slot] = -1  # in case of an error
            ready = self._send(arrays, load.slot, after)
            self._blocks[load.slot], self._keys[load.slot], self._classes[load.slot] = load.block, key, classes
            self._swaps[load.slot] = swaps
            self.num_read += len(arrays) > 1 or SLOTS not in arrays
        return ready

    def _send(self, arrays: Mapping[str, np.ndarray], slot: int, after: Any) -> Any:
        """One copy to the device, on a stream of its own, and one there for each array."""
        if self._tables is not None and SLOTS in arrays and len(arrays) == 1:
            return self._send_table(self._tables[slot], arrays[SLOTS], slot, after)
        if self._sent is not None:
            self._sent.synchronize()
        for name, values in arrays.items():
            self._host_views[name][...] = values.view(self._host_views[name].dtype)
        first = min(self.form.spans[name][0] for name in arrays)
        end = max(self.form.spans[name][1] for name in arrays)
        self.num_copied += end - first
        if not self._on_cuda:
            self._spread(arrays, slot)
            return None
        with torch.cuda.device(self.device), torch.cuda.stream(self._copy_stream):
            # Nothing but the ring itself is read by steps: the copy across the bus need not wait for them.
            self._device_buffer[first:end].copy_(self._host_buffer[first:end], non_blocking=True)
            self._sent = self._recorded()
            self._copy_stream.wait_event(after)
            self._spread(arrays, slot)
            return self._recorded()

    def _send_table(self, here: torch.Tensor, table: np.ndarray, slot: int, after: Any) -> Any:
        """Straight to its slot. Only the copy of the pass before must have left the buffer."""
        if self._tables_sent[slot] is not None:
            self._tables_sent[slot].synchronize()
        here.numpy()[...] = table
        self.num_copied += table.nbytes
        with torch.cuda.device(self.device), torch.cuda.stream(self._copy_stream):
            self._copy_stream.wait_event(after)
            self._slot(SLOTS, slot).copy_(here, non_blocking=True)
            self._tables_sent[slot] = self._recorded()
        return self._tables_sent[slot]

    def _recorded(self) -> Any:
        """What has been asked of the stream of blocks so far. Whoever waits for it on the host sleeps: by default a
        thread would spin, on a core that others need."""
        event = torch.cuda.Event(blocking=True)
        event.record(self._copy_stream)
        return event

    def _slot(self, name: str, slot: int) -> torch.Tensor:
        return self._tensors[name][slot * self.form.capacity : (slot + 1) * self.form.capacity]

    def _spread(self, names: Iterable[str], slot: int) -> None:
        for name in names:
            self._slot(name, slot).copy_(self._device_views[name], non_blocking=True)

    def wait(self, ready: Sequence[Any]) -> None:
        """Steps launched from now on see what was loaded; the host does not wait."""
        for event in ready:
            if event is not None:
                torch.cuda.current_stream(self.device).wait_event(event)
