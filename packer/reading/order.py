"""Which pack comes when: a pure function of seed, epoch and position, the same for any number of ranks and workers.

Position p of an epoch belongs to rank p mod world. Positions are dealt to `lanes` lanes (position p to lane p mod
lanes) and a lane reads whole blocks one after the other, so a rank, or a worker of a rank, that sees only some lanes
reads only their blocks, each once. All is integer hashing and sorting: the same on every platform and numpy version.
"""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Union

import numpy as np

from packer.errors import StateError
from packer.hashing import id_hashes, key_of

EMPTY = -1  # the id of an empty pack, which fills the last steps so that every rank takes as many
LANES = 8
MOST_LANES = 1 << 16  # far more blocks in turn than any memory holds
MOST = 2**63 - 1  # of epochs, positions and seeds
SWAPS = "swaps"
Redraw = Union[bool, str]
"""Whether graphs of one size change places in every epoch; SWAPS: graphs of any sizes do."""
_KEYS = {"epoch", "packs_seen", "seed", "lanes", "fingerprint"}


@dataclass(frozen=True)
class State:
    """How far an epoch was consumed; all that resuming needs.

    packs_seen: positions of the epoch that all ranks together have consumed, empty packs included; fingerprint: which
    data set and which packs of it (`order_fingerprint`); redraw: whether and how graphs change places in every epoch.
    """

    epoch: int
    packs_seen: int
    seed: int
    lanes: int
    fingerprint: str
    redraw: Redraw = False  # states of earlier versions do not say

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for any checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Any, fingerprint: str) -> State:
        """The inverse of to_dict. StateError when it is not a state, or one of a data set other than `fingerprint`."""
        missing = sorted(_KEYS.difference(plain)) if isinstance(plain, Mapping) else sorted(_KEYS)
        if missing:
            raise StateError(
                f"not a loader state: {_shown(plain, 200)}; expected what state_dict() gave: "
                f"epoch, packs_seen, seed, lanes and fingerprint. Missing: {', '.join(missing)}"
            )
        named, redraw = plain["fingerprint"], plain.get("redraw", False)
        if not isinstance(named, str) or not is_redraw(redraw):
            raise StateError(
                'not a loader state: fingerprint must be text and redraw True, False or "swaps"; '
                f"got {_shown(named)} and {_shown(redraw)}"
            )
        if named != fingerprint:
            raise StateError(
                f"this state belongs to another data set or another shuffle setting: it names {named[:200]}, "
                f"this loader reads {fingerprint}. Resume with the data set and options it was saved with, "
                "or start a new epoch without loading it"
            )
        prefix = "not a loader state: "
        return cls(
            epoch=whole_number(prefix + "epoch", plain["epoch"]),
            packs_seen=whole_number(prefix + "packs_seen", plain["packs_seen"]),
            seed=whole_number(prefix + "seed", plain["seed"]),
            lanes=whole_number(prefix + "lanes", plain["lanes"], 1, MOST_LANES),
            fingerprint=named,
            redraw=redraw,
        )


def is_redraw(value: Any) -> bool:
    """Whether a value says how graphs are redrawn."""
    return isinstance(value, bool) or (isinstance(value, str) and value == SWAPS)


def whole_number(name: str, value: Any, least: int = 0, most: int = MOST) -> int:
    """`value` as an int. StateError unless it is a whole number from `least` to `most`: no bool, text or 2.0."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise StateError(f"{name} must be a whole number; got {_shown(value)}, a {type(value).__name__}")
    if not least <= number <= most:
        upto = "2**63 - 1" if most == MOST else f"{most}"
        raise StateError(f"{name} must be a whole number from {least} to {upto}; got {_shown(number)}")
    return number


def _shown(value: Any, most: int = 80) -> str:
    """Not all of what may be long; and Python refuses to write out whole numbers of thousands of digits."""
    try:
        return repr(value)[:most]
    except ValueError:
        return f"a {type(value).__name__} of too many digits"


def order_fingerprint(manifest_sha256: str, shuffle: bool) -> str:
    """Names the data set and whether it is shuffled: positions mean nothing under another."""
    return f"{manifest_sha256[:32]}-{'shuffled' if shuffle else 'in-order'}"


def epoch_order(num_packs: int, packs_per_block: int, seed: int, epoch: int, lanes: int = LANES) -> np.ndarray:
    """Pack ids in the order of one shuffled epoch: int64 [packs], each id once.

    The blocks come in random order, `lanes` of them in turn at any time, and the packs inside a block in random order:
    a run of positions mixes packs of `lanes` blocks. The blocks left over when the full ones are dealt evenly (fewer
    than `lanes`, and the short last one) close the epoch; they are cut where lanes end, so that no rank takes an empty
    pack for a block it lacks. With `world * workers` dividing `lanes` at most that many blocks, less one, are read by
    two processes; all others by one. Time O(packs log packs). Randomness: a hash of (seed, epoch, id).
    """
    inside = _shuffle_inside_blocks(num_packs, packs_per_block, key_of(seed, epoch, 1))
    blocks = np.argsort(id_hashes(np.arange(-(-num_packs // packs_per_block)), key_of(seed, epoch, 2)))
    full = blocks[blocks < num_packs // packs_per_block]
    rounds = len(full) // lanes
    dealt = full[: rounds * lanes]

    first = dealt.reshape(rounds, lanes, 1) * packs_per_block + np.arange(packs_per_block)
    body = inside[first].transpose(0, 2, 1).reshape(-1)
    left = blocks[~np.isin(blocks, dealt)]
    tail = np.concatenate([inside[b * packs_per_block : (b + 1) * packs_per_block] for b in left] or [inside[:0]])
    return np.concatenate([body, tail[_deal_contiguously(len(tail), lanes)]])


def share(order: np.ndarray, packs_seen: int, rank: int, world: int, step: int = 1) -> np.ndarray:
    """What one rank still has to take of an epoch, in whole steps of `step` packs: int64 [steps * step], EMPTY filled.

    order: int64 [packs], all ranks together; packs_seen: positions already consumed. Every rank gets as many steps.
    """
    count = num_steps(len(order) - packs_seen, world, step) * step
    positions = packs_seen + np.arange(count, dtype=np.int64) * world + (rank - packs_seen) % world
    ids = np.full(count, EMPTY, np.int64)
    real = positions < len(order)
    ids[real] = order[positions[real]]
    return ids


def num_steps(num_packs: int, world: int, step: int = 1) -> int:
    """Steps of `step` packs that each of `world` ranks takes for `num_packs` packs."""
    return max(0, -(-num_packs // (world * step)))


def _shuffle_inside_blocks(num_packs: int, packs_per_block: int, key: int) -> np.ndarray:
    """Pack ids with those of each block permuted among themselves: int64 [packs]."""
    keys = id_hashes(np.arange(num_packs), key)  # pairwise different: any sort gives the same
    full = num_packs // packs_per_block * packs_per_block
    within = np.argsort(keys[:full].reshape(-1, packs_per_block), axis=1)
    starts = np.arange(0, full, packs_per_block, dtype=np.int64)[:, None]
    return np.concatenate([(within + starts).reshape(-1), np.argsort(keys[full:]) + full])


def _deal_contiguously(count: int, lanes: int) -> np.ndarray:
    """The index that each of `count` positions takes when every lane (position mod lanes) reads one run: int64 [count].

    Lanes whose numbers agree modulo a power of two lie side by side, as ranks and workers see exactly such sets.
    """
    bits = max(1, (lanes - 1).bit_length())
    by_bits = sorted(range(lanes), key=lambda lane: f"{lane:0{bits}b}"[::-1])
    lengths = np.array([-(-(count - lane) // lanes) if lane < count else 0 for lane in range(lanes)], np.int64)
    starts = np.zeros(lanes, np.int64)
    starts[by_bits[1:]] = np.cumsum(lengths[by_bits])[:-1]
    positions = np.arange(count, dtype=np.int64)
    return starts[positions % lanes] + positions // lanes
