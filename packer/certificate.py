"""The integer certificate of a lower bound, and the checker that proves it again.

A certificate names some dimensions and a floor divisor for each. Dropping dimensions and flooring relax the problem:
floor(a / d) + floor(b / d) <= floor((a + b) / d), so whatever fits a pack still fits the reduced one. In the reduced
problem each size has an integer price, and no pack holds items worth more than `value`. Then any plan needs at least
ceil(total price / value) packs (Gilmore and Gomory 1961; for prices that are not optimal, Farley 1990).

The checker trusts nothing but the prices: it finds the largest value of a pack by its own dynamic programming. It
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
_MAX_PRICE_SUM = 1 << 62


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


def check_certificate(certificate: Certificate, need: np.ndarray, capacity: np.ndarray, count: np.ndarray) -> int:
    """The number of packs that the certificate proves to be necessary, recomputed from its prices.

    need: int64 [rows, dims], one row a size with its count, or one row an item with count 1, in any order;
    capacity: int64 [dims]; count: int64 [rows]. A row that the certificate does not price counts as worth nothing.
    Raises PlanError when a pack can hold more than the stated value, when less is proven than the stated bound, or when
    the check would take more than about 10 s or 1 GiB. No randomness.
    """
    need = np.asarray(need, dtype=np.int64)
    capacity = np.asarray(capacity, dtype=np.int64)
    count = np.asarray(count, dtype=np.int64)
    _check_form(certificate, need, capacity, count)
    sizes = _priced_sizes(certificate, need, count)
    total = sum(price * times for price, times in zip(sizes.price.tolist(), sizes.count))
    if certificate.value > 0 and total > 0:
        room = capacity[certificate.dims] // certificate.divisors
        if not (total <= certificate.value or _proven_by_one_dimension(certificate.value, sizes, room)):
            _check_largest(certificate.value, sizes, room)
    proven = -(-total // max(certificate.value, 1))
    if proven < certificate.bound:
        raise PlanError(
            f"certificate: states at least {certificate.bound} packs but proves {proven} "
            f"(prices sum to {total}, a pack holds at most {certificate.value})"
        )
    return proven


def volume_certificate(need: np.ndarray, capacity: np.ndarray, count: np.ndarray) -> Certificate:
    """The best bound from one dimension alone: everything needed over what a pack offers, rounded up.

    need: int64 [sizes, dims]; capacity: int64 [dims]; count: int64 [sizes]. At least 1 where there is an item.
    """
    counts = [int(c) for c in count]
    best = Certificate(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((1, 0), np.int64), np.ones(1, np.int64), 1, 0
    )
    if not sum(counts):
        return best
    best = Certificate(best.dims, best.divisors, best.need, best.price, sum(counts), 1)
    for dim, offered in enumerate(capacity.tolist()):
        divisor = int(np.gcd.reduce(need[:, dim], initial=0)) or 1
        room = offered // divisor
        total = sum(n // divisor * c for n, c in zip(need[:, dim].tolist(), counts))
        if room > 0 and -(-total // room) > best.bound:
            sizes = np.unique(need[:, dim] // divisor)
            best = Certificate(
                np.array([dim]), np.array([divisor]), sizes[:, None], sizes.copy(), room, -(-total // room)
            )
    return best


def check_steps(need: np.ndarray, room: np.ndarray, price: np.ndarray, count: np.ndarray) -> int:
    """How many cell updates `check_certificate` takes for reduced sizes; above MAX_STEPS or MAX_CELLS it refuses.

    need: int64 [sizes, k], distinct; room: int64 [k]; price, count: int64 [sizes].
    """
    sizes = _Sizes(need, price, count.tolist())
    cells = _cells(room)
    if cells > MAX_CELLS:
        return cells * max(1, len(need))
    kept, times = _useful(sizes, room)
    return cells * sum(len(_portions(int(t))) for t in times[kept])


class _Sizes(NamedTuple):
    """Distinct reduced sizes that have a price: need int64 [sizes, k], price int64 [sizes], count as Python integers."""

    need: np.ndarray
    price: np.ndarray
    count: list[int]


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
    """The rows as distinct reduced sizes with the certificate's prices and their summed counts; worthless ones dropped."""
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
    """True when some dimension d has price * room[d] <= value * need[d] for all sizes: the volume bound, at any scale."""
    prices = sizes.price.tolist()
    return any(
        all(p * offered <= value * n for p, n in zip(prices, sizes.need[:, d].tolist()))
        for d, offered in enumerate(room.tolist())
    )


def _check_largest(value: int, sizes: _Sizes, room: np.ndarray) -> None:
    """Raise PlanError unless every pack's prices sum to `value` at most: dynamic programming over the grid of room."""
    cells = _cells(room)
    if cells > MAX_CELLS:
        raise PlanError(f"certificate: a grid of {cells} cells is too large to check; at most {MAX_CELLS} are")
    kept, times = _useful(sizes, room)
    steps = cells * sum(len(_portions(int(t))) for t in times[kept])
    if steps > MAX_STEPS:
        raise PlanError(f"certificate: {steps} steps are too many to check; at most {MAX_STEPS} are")
    bought = sum(p * int(t) for p, t in zip(sizes.price.tolist(), times.tolist()))
    if bought >= _MAX_PRICE_SUM:
        raise PlanError(f"certificate: prices of one pack may sum to {bought}; at most {_MAX_PRICE_SUM} can be checked")
    best = np.zeros(tuple((room + 1).tolist()), np.int64)
    spare = np.empty(best.size, np.int64)
    for i in np.flatnonzero(kept).tolist():
        for portion in _portions(int(times[i])):
            step = (sizes.need[i] * portion).tolist()
            into = best[tuple(slice(s, None) for s in step)]
            before = best[tuple(slice(0, extent - s) for s, extent in zip(step, best.shape))]
            with_portion = np.add(before, sizes.price[i] * portion, out=spare[: into.size].reshape(into.shape))
            np.maximum(into, with_portion, out=into)
        if best[-1:].flat[-1] > value if best.ndim == 0 else best.flat[-1] > value:
            raise PlanError(f"certificate: a pack can hold {int(best.flat[-1])}, more than the stated value {value}")


def _useful(sizes: _Sizes, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes that can matter in a pack: bool [sizes]; and how many of each it can hold: int64 [sizes].

    A size is dropped when one that is not larger, not cheaper and never used up can stand in for it every time.
    """
    need, price = sizes.need, sizes.price
    holds = np.full(need.shape, np.iinfo(np.int64).max)
    np.floor_divide(room, need, out=holds, where=need > 0)
    fits = holds.min(axis=1, initial=np.iinfo(np.int64).max)
    times = np.array([min(int(f), c) for f, c in zip(fits, sizes.count)], dtype=np.int64)
    kept = times > 0
    order = np.lexsort((need.sum(axis=1), -price))
    endless = [i for i in order.tolist() if times[i] == fits[i] > 0]
    for i in endless:
        if kept[i]:
            covered = (need >= need[i]).all(axis=1) & (price <= price[i])
            covered[i] = False
            kept &= ~covered
    return kept, times


def _portions(times: int) -> list[int]:
    """Multiples whose sub-sums are exactly 0..times: 1, 2, 4, ... and the rest."""
    portions: list[int] = []
    power = 1
    while times > 0:
        portions.append(min(power, times))
        times -= portions[-1]
        power *= 2
    return portions


def _cells(room: np.ndarray) -> int:
    cells = 1
    for extent in room.tolist():
        cells *= extent + 1
    return cells
