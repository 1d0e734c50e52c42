"""The integer certificate of a lower bound, and the checker that proves it again.

A certificate names some dimensions and a floor divisor for each. Dropping dimensions and flooring relax the problem:
floor(a / d) + floor(b / d) <= floor((a + b) / d), so whatever fits a pack still fits the reduced one. In the reduced
problem each size has an integer price, and no pack holds items worth more than `value`. Then any plan needs at least
ceil(total price / value) packs (Gilmore and Gomory 1961; for prices that are not optimal, Farley 1990).

The checker trusts nothing but the prices. That no pack holds more than `value` follows from one dimension alone, or it
is shown by dynamic programming over the grid of capacities, or by going through all packs that could hold more. It
shares no code with the solver and uses numpy and Python integers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, NamedTuple

import numpy as np

from packer.errors import PlanError

MAX_CELLS = 40_000_000
"""Cells of the largest grid that is checked: two int64 arrays of it take 640 MB."""
MAX_STEPS = 4_000_000_000
"""Cell updates that the check may take: about 10 s."""
MAX_PACKS = 40_000_000
"""Partly filled packs that the check may look at instead: about 10 s."""
MAX_TABLE = 4_000_000
"""Numbers in the table of sizes, the certificate's or that of the priced ones: more is refused before any work."""
MAX_COMPARED = 200_000_000
"""Comparisons that looking for sizes that others stand in for may take where no table can be had: about 1 s."""
ROUND_COST, SLICE_COST, ROW_COST = 300, 5_000, 30
"""What numpy takes for a step besides its numbers: of looking at packs, in packs; of the grid, in cells, for each
portion and for each row of the longest dimension."""
_MAX_PRICE_SUM = 1 << 62
_WAVE = 50_000
MAX_WAVES = 200
"""Waves of _WAVE / 2 packs that may wait: 16 columns of int64 take 640 MB."""


@dataclass(frozen=True)
class Certificate:
    """A proof that no plan has fewer than `bound` packs.

    dims: int64 [k], the dimensions used; divisors: int64 [k], positive; need: int64 [sizes, k], the distinct reduced
    sizes floor(need[:, dims] / divisors); price: int64 [sizes], not negative; value: the largest price sum of a pack;
    bound: ceil(sum of price * count / value).
    """

    dims: np.ndarray
    divisors: np.ndarray
    need: np.ndarray
    price: np.ndarray
    value: int
    bound: int

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and integers, for JSON."""
        return {
            "dims": self.dims.tolist(),
            "divisors": self.divisors.tolist(),
            "need": self.need.tolist(),
            "price": self.price.tolist(),
            "value": self.value,
            "bound": self.bound,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Certificate:
        """What `to_dict` gave. Raises PlanError where an entry is missing or is no integer table of its shape."""
        dims = _integers(stored, "dims", 1)
        need = _integers(stored, "need", 2, columns=len(dims))
        divisors, price = _integers(stored, "divisors", 1), _integers(stored, "price", 1)
        if len(divisors) != len(dims) or len(price) != len(need):
            raise PlanError(
                f"certificate: {len(dims)} dims, {len(divisors)} divisors, {len(need)} sizes and {len(price)} prices "
                "do not fit together"
            )
        value, bound = stored.get("value"), stored.get("bound")
        if type(value) is not int or type(bound) is not int:
            raise PlanError(f"certificate: value and bound must be integers; got {value!r} and {bound!r}")
        return cls(dims, divisors, need, price, value, bound)


def check_certificate(
    certificate: Certificate, need: np.ndarray, capacity: np.ndarray, count: np.ndarray, *, effort: float = 1.0
) -> int:
    """The number of packs that the certificate proves to be necessary, recomputed from its prices.

    need: int64 [rows, dims], one row a size with its count, or one row an item with count 1, in any order;
    capacity: int64 [dims]; count: int64 [rows]. A row that the certificate does not price counts as worth nothing.
    effort: share of about 10 s that the check may take. Raises PlanError when a pack can hold more than the stated
    value, when less is proven than the stated bound, or when that takes more effort or 1 GiB. No randomness.

        >>> need, capacity = np.array([[3], [2]]), np.array([5])
        >>> count = np.array([4, 4])
        >>> check_certificate(volume_certificate(need, capacity, count), need, capacity, count)
        4
    """
    need = np.asarray(need, dtype=np.int64)
    capacity = np.asarray(capacity, dtype=np.int64)
    count = np.asarray(count, dtype=np.int64)
    _check_form(certificate, need, capacity, count)
    sizes = _priced_sizes(certificate, need, count)
    total = sum(price * times for price, times in zip(sizes.price.tolist(), sizes.copies))
    proven = -(-total // certificate.value)
    if proven < certificate.bound:
        raise PlanError(
            f"certificate: states at least {certificate.bound} packs but proves {proven} "
            f"(prices sum to {total}, a pack holds at most {certificate.value})"
        )
    room = capacity[certificate.dims] // certificate.divisors
    if total > certificate.value and not _proven_by_one_dimension(certificate.value, sizes, room):
        _check_largest(certificate.value, _useful(sizes, room), room, effort)
    return proven


def volume_certificate(need: np.ndarray, capacity: np.ndarray, count: np.ndarray) -> Certificate:
    """The best bound from one dimension alone: everything needed over what a pack offers, rounded up.

    need: int64 [sizes, dims]; capacity: int64 [dims]; count: int64 [sizes]. At least 1 where there is an item.
    """
    counts = count.tolist()
    # Whether one product after the other may be added in int64: Python's integers take a hundred times as long.
    short = int(need.max(initial=0)) * sum(counts) < 2**63
    best = Certificate(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((1, 0), np.int64), np.ones(1, np.int64), 1, 0
    )
    if not sum(counts):
        return best
    best = Certificate(best.dims, best.divisors, best.need, best.price, sum(counts), 1)
    for dim, offered in enumerate(capacity.tolist()):
        divisor = int(np.gcd.reduce(need[:, dim], initial=0)) or 1
        room = offered // divisor
        if short:
            total = int((need[:, dim] // divisor) @ count)
        else:
            total = sum(n // divisor * c for n, c in zip(need[:, dim].tolist(), counts))
        if room > 0 and -(-total // room) > best.bound:
            # Asked for no counts, np.unique first loads numpy.ma, which takes 0.1 s.
            sizes, _ = np.unique(need[:, dim] // divisor, return_counts=True)
            best = Certificate(
                np.array([dim]), np.array([divisor]), sizes[:, None], sizes.copy(), room, -(-total // room)
            )
    return best


class _Sizes(NamedTuple):
    """Distinct reduced sizes with a price: need int64 [sizes, k], price int64 [sizes], copies as Python integers."""

    need: np.ndarray
    price: np.ndarray
    copies: list[int]


def _integers(stored: Mapping[str, Any], name: str, ndim: int, columns: int = 0) -> np.ndarray:
    try:
        array = np.asarray(stored[name])
        if array.size == 0:
            array = np.zeros((len(array), columns) if ndim == 2 else 0, np.int64)
        if array.dtype.kind != "i" or array.ndim != ndim or (ndim == 2 and array.shape[1] != columns):
            raise TypeError(f"{array.dtype} {list(array.shape)}")
        return array.astype(np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PlanError(f"certificate: {name} is not a table of integers in {ndim} dimensions: {error}") from None


def _check_form(certificate: Certificate, need: np.ndarray, capacity: np.ndarray, count: np.ndarray) -> None:
    if need.ndim != 2 or capacity.shape != need.shape[1:] or count.shape != need.shape[:1]:
        raise PlanError(
            f"certificate: need {list(need.shape)}, capacity {list(capacity.shape)} and count {list(count.shape)} "
            "do not fit together; expected [rows, dims], [dims] and [rows]"
        )
    if need.min(initial=0) < 0 or capacity.min(initial=0) < 0 or count.min(initial=0) < 0:
        raise PlanError("certificate: need, capacity and count must not be negative")
    dims, divisors = certificate.dims, certificate.divisors
    if certificate.need.size > MAX_TABLE:
        raise PlanError(f"certificate: {certificate.need.size} numbers of sizes; at most {MAX_TABLE} are checked")
    table, price = certificate.need, certificate.price
    if (
        divisors.shape != dims.shape
        or dims.ndim != 1
        or table.shape != (len(price), len(dims))
        or price.ndim != 1
        or any(array.dtype != np.int64 for array in (dims, divisors, table, price))
    ):
        raise PlanError(
            f"certificate: dims {list(dims.shape)}, divisors {list(divisors.shape)}, need {list(table.shape)} and "
            f"price {list(price.shape)} are not int64 tables that fit together"
        )
    if len(set(dims.tolist())) != len(dims) or any(not 0 <= d < len(capacity) for d in dims.tolist()):
        raise PlanError(f"certificate: dims {dims.tolist()} are not distinct dimensions of {len(capacity)}")
    if divisors.min(initial=1) < 1 or price.min(initial=0) < 0 or table.min(initial=0) < 0:
        raise PlanError("certificate: divisors must be positive, prices and sizes not negative")
    if len(np.unique(table, axis=0)) != len(table):
        raise PlanError("certificate: a reduced size appears twice")
    if not 0 < certificate.value < _MAX_PRICE_SUM:
        raise PlanError(f"certificate: value {certificate.value} must be positive and below 2^62")


def _priced_sizes(certificate: Certificate, need: np.ndarray, count: np.ndarray) -> _Sizes:
    """The rows as distinct reduced sizes with their prices and summed counts; worthless ones are dropped."""
    reduced = need[:, certificate.dims] // certificate.divisors
    both = np.concatenate([certificate.need, reduced])
    _, first, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    table = len(certificate.need)
    price = np.zeros(len(first), np.int64)
    price[inverse[:table]] = certificate.price
    counts = [0] * len(first)
    # Sums of counts may pass 2^63: add the halves of 32 bits apart.
    low, high = np.zeros(len(first), np.int64), np.zeros(len(first), np.int64)
    np.add.at(low, inverse[table:], count & 0xFFFFFFFF)
    np.add.at(high, inverse[table:], count >> 32)
    counts = [(h << 32) + lo for h, lo in zip(high.tolist(), low.tolist())]
    kept = [i for i, times in enumerate(counts) if times and price[i]]
    return _Sizes(both[first[kept]], price[kept], [counts[i] for i in kept])


def _proven_by_one_dimension(value: int, sizes: _Sizes, room: np.ndarray) -> bool:
    """True when for some dimension d price * room[d] <= value * need[d]: the volume bound, at any scale."""
    prices = sizes.price.tolist()
    return any(
        all(p * offered <= value * n for p, n in zip(prices, sizes.need[:, d].tolist()))
        for d, offered in enumerate(room.tolist())
    )


def _check_largest(value: int, sizes: _Sizes, room: np.ndarray, effort: float) -> None:
    """Raise PlanError unless every pack's prices sum to `value` at most."""
    if sizes.need.size * (len(room) + 1) > MAX_TABLE:
        raise PlanError(
            f"certificate: {len(sizes.need)} sizes in {len(room)} dimensions are too much to check: sizes x dimensions "
            f"x (dimensions + 1) may be {MAX_TABLE}"
        )
    longest_last = np.argsort(room, kind="stable")
    room, sizes = room[longest_last], sizes._replace(need=np.ascontiguousarray(sizes.need[:, longest_last]))
    bought = sum(price * times for price, times in zip(sizes.price.tolist(), sizes.copies))
    if bought >= _MAX_PRICE_SUM:
        raise PlanError(f"certificate: prices in one pack may sum to {bought}; at most 2^62 can be checked")
    cells = 1
    for extent in room.tolist():
        cells *= extent + 1
    rows = cells // (int(room[-1]) + 1) if len(room) else 1
    steps = (cells + ROW_COST * rows + SLICE_COST) * sum(len(_portions(times)) for times in sizes.copies)
    by_grid = cells <= MAX_CELLS and steps <= effort * MAX_STEPS
    # A small grid is sure to be quick; else the packs that could hold more may be few.
    if not (by_grid and steps <= MAX_STEPS // 40) and _check_packs(value, sizes, room, effort):
        return
    if not by_grid:
        raise PlanError(
            f"certificate: too much to check at effort {effort}: {cells} cells and {steps} steps (at most {MAX_CELLS} "
            f"and {MAX_STEPS}), or more than {MAX_PACKS} packs"
        )
    _check_grid(value, sizes, room)


def _check_grid(value: int, sizes: _Sizes, room: np.ndarray) -> None:
    """The largest sum in every room up to `room`, by dynamic programming over portions of each size."""
    best = np.zeros(tuple((room + 1).tolist()), np.int64)
    spare = np.empty(best.size, np.int64)
    for need, price, times in zip(sizes.need, sizes.price.tolist(), sizes.copies):
        for portion in _portions(times):
            step = (need * portion).tolist()
            into = best[tuple(slice(s, None) for s in step)]
            before = best[tuple(slice(0, extent - s) for s, extent in zip(step, best.shape))]
            np.maximum(into, np.add(before, price * portion, out=spare[: into.size].reshape(into.shape)), out=into)
        if best.flat[-1] > value:
            raise PlanError(f"certificate: a pack can hold {int(best.flat[-1])}, more than the stated value {value}")


def _check_packs(value: int, sizes: _Sizes, room: np.ndarray, effort: float) -> bool:
    """Go through the packs, size by size, leaving out those that cannot come to more than `value`; False: too many.

    The bound on what a partly filled pack can come to: give each size a weight of floor(multipliers . need), then no
    pack weighs more than floor(multipliers . room); what may still be added is worth at most the weight left, plus by
    how much the prices of the sizes still to come exceed their weights. That holds for any multipliers.
    """
    times = np.array(sizes.copies)
    if value >= 1 << 55 or sum(p * t for p, t in zip(sizes.price.tolist(), sizes.copies)) >= 1 << 60:
        return False  # sums below could pass 2^63
    weight, total = _weights(sizes.need, sizes.price, times, room, value)
    order = np.argsort(-(sizes.price - weight[0]), kind="stable")
    need, price, times, weight = sizes.need[order], sizes.price[order], times[order], weight[:, order]
    excess = np.maximum(price - weight, 0) * times
    to_come = np.zeros((len(weight), len(price) + 1), np.int64)
    to_come[:, :-1] = np.cumsum(excess[:, ::-1], axis=1)[:, ::-1]
    looked = 0
    # Columns of a state: room left, weight left under each bound, value.
    step = np.concatenate([-need, -weight.T, price[:, None]], axis=1)
    dims = len(room)
    wide = step.shape[1] / 8
    held_most = int(MAX_WAVES * _WAVE / 2 * min(1.0, 2 / wide))
    waves = [(0, np.concatenate([room, total, [0]])[None, :])]
    while waves:
        at, state = waves.pop()
        while at < len(price) and len(state):
            looked += int(len(state) * max(1.0, wide)) + ROUND_COST
            if looked > effort * MAX_PACKS or len(waves) * (_WAVE // 2) > held_most:
                return False
            state = state[((state[:, dims:-1] + state[:, -1:] + to_come[:, at]) > value).all(axis=1)]
            added, held = [state], len(state)
            for _ in range(int(times[at])):
                last = added[-1]
                more = last[(last[:, :dims] >= need[at]).all(axis=1)] + step[at]
                if not len(more):
                    break
                added.append(more)
                held += len(more)
                looked += ROUND_COST
                if held > held_most // 4 or looked > effort * MAX_PACKS:
                    return False
                if more[:, -1].max() > value:
                    largest = int(more[:, -1].max())
                    raise PlanError(f"certificate: a pack can hold {largest}, more than the stated value {value}")
            state = np.concatenate(added)
            at += 1
            if len(state) > _WAVE:
                waves.append((at, state[_WAVE // 2 :].copy()))
                state = state[: _WAVE // 2]
    return True


def _weights(
    need: np.ndarray, price: np.ndarray, times: np.ndarray, room: np.ndarray, value: int
) -> tuple[np.ndarray, np.ndarray]:
    """int64 [bounds, sizes], [bounds]: weights of sizes and of the room, for a few sets of multipliers.

    The first set comes from a subgradient search for the best bound of an empty pack, the others use one dimension.
    """
    share = need / np.maximum(room, 1)
    worth = price / value
    multipliers = np.full(len(room), 1.0 / max(1, len(room)))
    best, best_bound = multipliers, np.inf
    for turn in range(400):
        gain = worth - share @ multipliers
        bound = multipliers.sum() + (np.maximum(gain, 0) * times).sum()
        if bound < best_bound:
            best, best_bound = multipliers, bound
        slope = 1.0 - (share * (times * (gain > 0))[:, None]).sum(axis=0)
        length = float((slope**2).sum())
        if not length:
            break
        multipliers = np.clip(multipliers - (0.3 * 0.985**turn) * slope / length**0.5, 0.0, 8.0)
    sets = [best]
    for d in range(len(room)):
        ratio = worth / np.maximum(share[:, d], 1e-9)
        order = np.argsort(-ratio, kind="stable")
        filled = int(np.searchsorted(np.cumsum(share[order, d] * times[order]), 1.0))
        alone = np.zeros(len(room))
        alone[d] = min(float(ratio[order[min(filled, len(order) - 1)]]), 2.0)
        sets.append(alone)
    # In units of value / 2^30 / room, exactly: the floor of a sum of products of Python integers.
    integers = np.array(
        [[int(m * 2.0**30) * value // max(1, r) for m, r in zip(s, room.tolist())] for s in sets], object
    )
    weight = (integers @ need.T.astype(object)) >> 30
    return weight.astype(np.int64), ((integers @ room.astype(object)) >> 30).astype(np.int64)


def _useful(sizes: _Sizes, room: np.ndarray) -> _Sizes:
    """The sizes that can matter in a pack, and how many of each it can hold at most.

    A size is dropped when one that is not larger, not cheaper and never used up can stand in for it every time.
    """
    need, price = sizes.need, sizes.price
    endless = np.iinfo(np.int64).max
    holds = np.full(need.shape, endless)
    np.floor_divide(room, need, out=holds, where=need > 0)
    fits = holds.min(axis=1, initial=endless)
    times = np.array([min(int(fit), count) for fit, count in zip(fits, sizes.copies)], dtype=np.int64)
    kept = times > 0
    endless_ones = np.flatnonzero(kept & (times == fits))
    grid = _covered_by_grid(need, price, endless_ones, room)
    if grid is not None:
        kept &= ~grid
        return _Sizes(need[kept], price[kept], times[kept].tolist())
    # Dearest first, and no more of them than some 10^8 comparisons allow: one that is kept for nothing does no harm.
    most = max(1, MAX_COMPARED // (len(need) * max(1, len(room))))
    for i in endless_ones[np.argsort(-price[endless_ones], kind="stable")[:most]].tolist():
        if kept[i]:
            covered = (need >= need[i]).all(axis=1) & (price <= price[i])
            covered[i] = False
            kept &= ~covered
    return _Sizes(need[kept], price[kept], times[kept].tolist())


def _covered_by_grid(need: np.ndarray, price: np.ndarray, stand_ins: np.ndarray, room: np.ndarray) -> np.ndarray | None:
    """bool [sizes]: those for which one of `stand_ins` (rows) that is not larger and not cheaper can stand in; None
    where the needs that occur, in all combinations, are too many for a table.

    best[cell] is the largest price of a stand-in in the cell or below; a size looks at the cells one step below its
    own, which no other size shares (sizes are distinct), so that none stands in for itself.
    """
    cells_of, shape = [], []
    for column in need.T:
        values, cell = np.unique(column, return_inverse=True)
        cells_of.append(cell.reshape(-1) + 1)
        shape.append(len(values) + 1)
    cells = 1
    for extent in shape:
        cells *= extent
    if not shape or cells > MAX_CELLS // 2:
        return None
    best = np.full(shape, -1, np.int64)
    best[tuple(cell[stand_ins] for cell in cells_of)] = price[stand_ins]
    for axis in range(len(shape)):
        np.maximum.accumulate(best, axis=axis, out=best)
    below = np.full(len(need), -1, np.int64)
    for axis in range(len(shape)):
        np.maximum(below, best[tuple(p - (a == axis) for a, p in enumerate(cells_of))], out=below)
    return below >= price


def _portions(times: int) -> list[int]:
    """Multiples whose sub-sums are exactly 0..times: 1, 2, 4, ... and the rest."""
    portions: list[int] = []
    power = 1
    while times > 0:
        portions.append(min(power, times))
        times -= portions[-1]
        power *= 2
    return portions
