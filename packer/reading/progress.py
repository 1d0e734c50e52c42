"""How far an epoch is: the state that a loader saves and loads, counted where the packs are consumed."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from packer.errors import StateError
from packer.reading.order import EMPTY, LANES, State, epoch_order, num_steps, order_fingerprint, share
from packer.reading.redraw import redraw_key
from packer.shards.manifest import Manifest


class Progress:
    """The passes of one rank over a data set, `step` packs at a time.

    Every pass is an epoch: the first is `epoch`, and a pass that begins when one was begun before, finished or not,
    is the next. `set_epoch` names it; a loaded state is resumed by the next pass. Plain values: it pickles.
    """

    def __init__(
        self,
        manifest: Manifest,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
        step: int = 1,
        lanes: int = LANES,
        redraw: bool | None = None,
    ) -> None:
        if world < 1 or not 0 <= rank < world:
            raise StateError(f"rank must be from 0 to world_size - 1; got rank {rank} of {world}")
        if step < 1 or lanes < 1:
            raise StateError(f"batch_size and lanes must be at least 1; got {step} and {lanes}")
        if redraw and not shuffle:
            raise StateError("redraw=True needs shuffle=True: without it packs come as they are stored")
        self.redraw = shuffle if redraw is None else bool(redraw)
        self.num_packs = manifest.num_packs
        self.packs_per_block = manifest.packs_per_block
        self.shuffle = shuffle
        self.rank, self.world, self.step = rank, world, step
        self.fingerprint = order_fingerprint(manifest.sha256, shuffle)
        self.seed, self.lanes, self.epoch = int(seed), lanes, 0
        self.packs_seen = 0
        self._touched = False  # a pass over this epoch has begun
        self.latest = 0  # number of the pass begun last

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return num_steps(self.num_packs, self.world, self.step)

    def begin(self) -> tuple[int, np.ndarray]:
        """Start a pass: its number, and the pack ids that this rank takes, EMPTY filled: int64 [steps * step]."""
        if self._touched:
            self.set_epoch(self.epoch + 1)
        self.latest += 1
        if self.shuffle:
            order = epoch_order(self.num_packs, self.packs_per_block, self.seed, self.epoch, self.lanes)
        else:
            order = np.arange(self.num_packs, dtype=np.int64)
        return self.latest, share(order, self.packs_seen, self.rank, self.world, self.step)

    @property
    def redraw_key(self) -> int:
        """The key of redraws in the pass begun last, 0 for none."""
        return redraw_key(self.seed, self.epoch) if self.redraw else 0

    def numbered(self, ids: np.ndarray) -> np.ndarray:
        """Pack ids of the pass begun last with the key of its redraws: key * num_packs + id, int64; EMPTY stays."""
        return np.where(ids == EMPTY, ids, ids + self.num_packs * self.redraw_key)

    def touch(self) -> None:
        """Of the pass begun last something is under way: the next one is the next epoch."""
        self._touched = True

    def consumed(self, number: int) -> None:
        """A step of pass `number` has reached its consumer. Only the pass begun last counts."""
        if number == self.latest:
            self._touched = True
            self.packs_seen += self.step * self.world

    def finished(self, number: int) -> None:
        """Pass `number` is exhausted: the state is now the start of the next epoch."""
        if number == self.latest:
            self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`, from its start; a state loaded for the same epoch stays."""
        if epoch != self.epoch or self._touched:
            self.epoch, self.packs_seen, self._touched = int(epoch), 0, False

    def state_dict(self) -> dict[str, Any]:
        """{epoch, packs_seen, seed, lanes, fingerprint, redraw}: plain values, the same on every rank."""
        return State(self.epoch, self.packs_seen, self.seed, self.lanes, self.fingerprint, self.redraw).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken, under any number of ranks and workers. StateError for another data set."""
        found = State.from_dict(state, self.fingerprint)
        self.epoch, self.packs_seen, self.seed, self.lanes = found.epoch, found.packs_seen, found.seed, found.lanes
        self.redraw = found.redraw
        self._touched = False
