"""How far an epoch is: the state that a loader saves and loads, counted where the packs are consumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Mapping, Protocol, Sequence, Tuple

import numpy as np

from packer.errors import StateError
from packer.reading.order import (
    EMPTY,
    LANES,
    MOST,
    MOST_LANES,
    Redraw,
    State,
    epoch_order,
    is_redraw,
    num_steps,
    order_fingerprint,
    share,
    whole_number,
)
from packer.reading.redraw import redraw_key
from packer.shards.manifest import Manifest

RankAndWorld = Tuple[int, int]


class Numbered(Protocol):
    """What passes give by number, as a manifest says it of packs: how many, how many are read together, how many
    graphs they hold, and a name."""

    num_packs: int
    packs_per_block: int
    num_graphs: int
    sha256: str


class Pass:
    """One pass of one rank over (the rest of) an epoch: from where, what it gives, and how much of it was taken.

    What it gives is settled when it begins. `with` it while its steps are given out: then it is under way.
    """

    def __init__(self, start: State, ids: np.ndarray, key: int, packs: int, step: int) -> None:
        self.start = start
        self.ids = ids
        """int64 [steps * step]: the packs of this rank, EMPTY filled."""
        self.redraw_key = key
        """The key of its redraws, 0 for none."""
        self.packs = packs
        """That a step of all ranks takes."""
        self.num_steps = len(ids) // step
        self.taken = 0
        self.touched = False  # a step was taken, or it ended without one
        self.open = False  # its steps are being given out

    def __enter__(self) -> Pass:
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False

    def state(self, taken: int | None = None) -> State:
        """After the steps taken, or after as many as are given."""
        steps = self.taken if taken is None else taken
        return replace(self.start, packs_seen=self.start.packs_seen + steps * self.packs)


class Progress:
    """The passes of one rank over a data set, `step` packs at a time.

    Every pass is an epoch: the first is epoch 0, and the one after a pass of which something was taken is the next.
    `set_epoch` and `load_state_dict` say where the *next* pass begins; one that has begun goes on as it was. The state
    is that of the pass begun last: what was consumed of it, also after it was left, until it is exhausted or a later
    call names another start. rank and world, where both are None, are those of `current`, asked at every pass.
    """

    def __init__(
        self,
        manifest: Manifest | Numbered,
        shuffle: bool,
        seed: int,
        rank: int | None = 0,
        world: int | None = 1,
        step: int = 1,
        lanes: int = LANES,
        redraw: Redraw | None = None,
        current: Callable[[], RankAndWorld] | None = None,
    ) -> None:
        if (rank is None) != (world is None):
            raise StateError(f"give both rank and world_size, or neither; got rank={rank}, world_size={world}")
        self._current = current if rank is None else None
        rank = whole_number("rank", 0 if rank is None else rank, -MOST)
        world = whole_number("world_size", 1 if world is None else world, -MOST)
        step, lanes = whole_number("batch_size", step, -MOST), whole_number("lanes", lanes, -MOST)
        if world < 1 or not 0 <= rank < world:
            raise StateError(f"rank must be from 0 to world_size - 1; got rank {rank} of {world}")
        if step < 1 or lanes < 1:
            raise StateError(f"batch_size and lanes must be at least 1; got {step} and {lanes}")
        if lanes > MOST_LANES:
            raise StateError(f"lanes must be at most {MOST_LANES}; got {lanes}")
        if redraw is not None and not is_redraw(redraw):
            raise StateError(f'redraw must be True, False, "swaps" or None; got {redraw!r}')
        if not isinstance(shuffle, (bool, np.bool_)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StateError(f"shuffle must be True or False; got {shuffle!r}")
        if redraw and not shuffle:
            raise StateError(f"redraw={redraw!r} needs shuffle=True: without it packs come as they are stored")
        self.num_packs, self.num_graphs = manifest.num_packs, manifest.num_graphs
        self.packs_per_block = manifest.packs_per_block
        self.shuffle = shuffle
        self.step = step
        self._given = rank, world
        self.fingerprint = order_fingerprint(manifest.sha256, shuffle)
        drawn = bool(shuffle) if redraw is None else redraw
        self._next = State(0, 0, whole_number("seed", seed), lanes, self.fingerprint, drawn)
        self._latest: Pass | None = None  # the state is this one's, once something of it was taken
        self._named = ""  # what has named the start of the next pass since the latest began: "epoch", "state" or ""

    @property
    def rank_and_world(self) -> RankAndWorld:
        """This process's rank, and the number of ranks."""
        return self._given if self._current is None else self._current()

    @property
    def rank(self) -> int:
        return self.rank_and_world[0]

    @property
    def world(self) -> int:
        return self.rank_and_world[1]

    def __len__(self) -> int:
        """Steps of a whole epoch, also where the next pass resumes one."""
        return num_steps(self.num_packs, self.world, self.step)

    @property
    def steps_left(self) -> int:
        """Steps that the pass under way still gives; without one, those of the next pass."""
        latest = self._latest
        if latest is not None and latest.touched and latest.open:
            return latest.num_steps - latest.taken
        return num_steps(self.num_packs - self._next.packs_seen, self.world, self.step)

    @property
    def graphs_per_pack(self) -> float:
        """Real graphs a pack in the mean over an epoch, the empty packs counted that fill its last steps."""
        return self.num_graphs / max(1, len(self) * self.world * self.step)

    def prefetch_depth(self, run: Pass) -> int:
        """Blocks that a pass has in use at a time."""
        return run.start.lanes if self.shuffle else 1

    def begin(self) -> Pass:
        """The next pass. It counts, and the one after it is another, from its first step on."""
        start = self._next
        rank, world = self.rank_and_world
        ids = share(self.order(start, world), start.packs_seen, rank, world, self.step)
        key = redraw_key(start.seed, start.epoch, start.redraw)
        self._latest = Pass(start, ids, key, self.step * world, self.step)
        self._named = ""
        return self._latest

    def order(self, start: State, world: int) -> np.ndarray:
        """The packs of an epoch in the order in which all ranks together take them: int64 [packs]."""
        if not self.shuffle:
            return np.arange(self.num_packs, dtype=np.int64)
        return epoch_order(self.num_packs, self.packs_per_block, start.seed, start.epoch, start.lanes)

    def numbered(self, run: Pass) -> np.ndarray:
        """The ids of a pass with the key of its redraws: key * num_packs + id, int64; EMPTY stays."""
        return np.where(run.ids == EMPTY, run.ids, run.ids + self.num_packs * run.redraw_key)

    def steps(self, run: Pass) -> Sequence[list[int]]:
        """What a batch sampler gives in each step of a pass."""
        numbers: list[list[int]] = self.numbered(run).reshape(-1, self.step).tolist()
        return numbers

    def touch(self, run: Pass) -> None:
        """Something of a pass is under way: it is the one that counts, and the next pass is another."""
        if run.touched:
            return
        run.touched = True
        self._latest = run
        if not self._named:
            self._next = replace(run.start, epoch=run.start.epoch + 1, packs_seen=0)
        elif self._named == "epoch":  # the state that was loaded for that epoch is this pass
            self._next = replace(self._next, packs_seen=0)

    def consumed(self, run: Pass) -> None:
        """A step of a pass has reached its consumer."""
        if not run.touched:
            self.touch(run)
        run.taken += 1

    def finished(self, run: Pass) -> None:
        """A pass is exhausted: if it was the latest, the state is now the start of the next."""
        self.touch(run)
        if run is self._latest:
            self._latest = None

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`, from its start; a state loaded for the same epoch stays. StateError for what is no
        number of an epoch."""
        epoch = whole_number("epoch", epoch)
        if epoch != self._next.epoch:
            self._next = replace(self._next, epoch=epoch, packs_seen=0)
        self._name("epoch" if self._named != "state" else "state")

    def state_dict(self) -> dict[str, Any]:
        """{epoch, packs_seen, seed, lanes, fingerprint, redraw}: plain values, the same on every rank."""
        latest = self._latest
        return (latest.state() if latest is not None and latest.touched else self._next).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass goes on where `state` was taken, under any number of ranks and workers. StateError for what is
        no state, or one of another data set; then nothing has changed."""
        loaded = State.from_dict(state, self.fingerprint)
        if loaded.redraw and not self.shuffle:
            raise StateError(f"not a loader state: redraw is {loaded.redraw!r} without shuffle")
        self._next = loaded
        self._name("state")

    def _name(self, position: str) -> None:
        self._named = position
        if self._latest is not None and not (self._latest.touched and self._latest.open):
            self._latest = None  # nothing is under way: the state is what was named
