"""The certificate checker: what it proves by hand, what it refuses, and that the listing of sizes does not matter."""

import dataclasses
import json

import numpy as np
import pytest

from packer import certificate as module
from packer.certificate import Certificate, check_certificate, volume_certificate
from packer.errors import PlanError


def int64(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int64)


# Items of 6, 5 and 4 in packs of 10: 5+5 and 6+4 fill a pack, and nothing else does.
NEED, CAPACITY, COUNT = int64([[6], [5], [4]]), int64([10]), int64([4, 3, 2])


def certificate(price: list[int], value: int, bound: int, divisor: int = 1, need: object = NEED) -> Certificate:
    return Certificate(int64([0]), int64([divisor]), int64(need) // divisor, int64(price), value, bound)


def test_proves_the_bound_by_hand() -> None:
    # Prices 1, 1/2, 0 in halves: a pack holds one 6 (2) or two 5s (2), never both; 4*2 + 3*1 = 11, ceil(11 / 2) = 6.
    assert check_certificate(certificate([2, 1, 0], 2, 6), NEED, CAPACITY, COUNT) == 6
    # The volume: 24 + 15 + 8 = 47, ceil(47 / 10) = 5.
    assert volume_certificate(NEED, CAPACITY, COUNT).bound == 5
    # A weaker statement than what is proven is no lie; the checker tells what is proven.
    assert check_certificate(certificate([2, 1, 0], 2, 3), NEED, CAPACITY, COUNT) == 6


def test_items_one_by_one_and_in_any_order_prove_the_same() -> None:
    items = np.random.default_rng(0).permutation(np.repeat(NEED, COUNT, axis=0))
    assert check_certificate(certificate([2, 1, 0], 2, 6), items, CAPACITY, np.ones(9, np.int64)) == 6


def test_counts_limit_what_a_pack_holds() -> None:
    # Three dimensions of 1 each: 2, 2, 2 in a pack of 5 would be two, but there is one item of each size.
    need, capacity, count = int64([[2, 1], [2, 2], [3, 1]]), int64([5, 9]), int64([1, 1, 1])
    # Prices 1, 1, 1: of the proper packs the largest holds two items (2+2 or 2+3): 3 items, at least 2 packs.
    both = Certificate(int64([0, 1]), int64([1, 1]), need, int64([1, 1, 1]), 2, 2)
    assert check_certificate(both, need, capacity, count) == 2
    with pytest.raises(PlanError, match="a pack can hold 2, more than the stated value 1"):
        check_certificate(dataclasses.replace(both, value=1, bound=3), need, capacity, count)


def test_a_divisor_relaxes_downwards() -> None:
    # floor(6/5), floor(5/5), floor(4/5) = 1, 1, 0 in packs of 2: two of the 7 large items a pack, 4 packs.
    assert check_certificate(certificate([1, 0], 2, 0, 5, [[5], [0]]), NEED, CAPACITY, COUNT) == 4


def test_sums_beyond_64_bits_are_exact() -> None:
    count = int64([2**62, 2**62, 2**61])
    # 2 * 2^62 + 2^62 = 3 * 2^62; over 2.
    assert check_certificate(certificate([2, 1, 0], 2, 0), NEED, CAPACITY, count) == 3 * 2**61
    # (6 * 2^62 + 5 * 2^62 + 4 * 2^61) / 10 = 13 * 2^62 / 10.
    stated = volume_certificate(NEED, CAPACITY, count)
    assert stated.bound == -(-13 * 2**62 // 10) == check_certificate(stated, NEED, CAPACITY, count)


def test_volume_at_any_scale_needs_no_grid() -> None:
    need, capacity = int64([[2**52, 7], [2**51, 7]]), int64([2**53 - 1, 10**9])
    stated = volume_certificate(need, capacity, int64([3, 3]))
    # 3 * 2^52 + 3 * 2^51 = 9 * 2^51, a pack holds less than 4 * 2^51: three packs.
    assert stated.bound == check_certificate(stated, need, capacity, int64([3, 3])) == 3


def test_nothing_to_pack_and_nothing_needed() -> None:
    empty = volume_certificate(np.zeros((0, 2), np.int64), int64([3, 3]), int64([]))
    assert check_certificate(empty, np.zeros((0, 2), np.int64), int64([3, 3]), int64([])) == 0
    need = int64([[0, 0]])
    one = volume_certificate(need, int64([0, 3]), int64([5]))
    assert one.bound == check_certificate(one, need, int64([0, 3]), int64([5])) == 1


def test_survives_json() -> None:
    stated = certificate([2, 1, 0], 2, 6)
    again = Certificate.from_dict(json.loads(json.dumps(stated.to_dict())))
    assert again.to_dict() == stated.to_dict()
    assert check_certificate(again, NEED, CAPACITY, COUNT) == 6
    trivial = volume_certificate(int64([[1]]), int64([5]), int64([2]))
    assert Certificate.from_dict(json.loads(json.dumps(trivial.to_dict()))).to_dict() == trivial.to_dict()


TAMPERED = {
    "a higher price": (certificate([3, 1, 0], 2, 6), "a pack can hold 3, more than the stated value 2"),
    "a lower value": (certificate([2, 1, 0], 1, 6), "a pack can hold 2, more than the stated value 1"),
    "a higher bound": (certificate([2, 1, 0], 2, 7), "states at least 7 packs but proves 6"),
    "a lower price": (certificate([1, 1, 0], 2, 6), "states at least 6 packs but proves 4"),
    "a size left out": (certificate([1, 0], 2, 6, 1, [[5], [4]]), "proves 2"),
    "a negative price": (certificate([2, 1, -1], 2, 6), "not negative"),
    "no value": (certificate([2, 1, 0], 0, 6), "must be positive"),
    "a value beyond 2^62": (certificate([2, 1, 0], 2**62, 6), "below 2\\^62"),
    "a size twice": (certificate([2, 1, 0], 2, 6, 1, [[6], [5], [5]]), "appears twice"),
    "a divisor of 0": (dataclasses.replace(certificate([2, 1, 0], 2, 6), divisors=int64([0])), "must be positive"),
    "a dimension that is not": (dataclasses.replace(certificate([2, 1, 0], 2, 6), dims=int64([1])), "not distinct"),
    "prices that overflow": (certificate([2**61, 2**61, 2**61], 2**61, 6), "at most 2\\^62|more than the stated"),
    "a table of floats": (dataclasses.replace(certificate([2, 1, 0], 2, 6), price=np.ones(3)), "not int64"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_found(what: str) -> None:
    stated, message = TAMPERED[what]
    with pytest.raises(PlanError, match=message):
        check_certificate(stated, NEED, CAPACITY, COUNT)


@pytest.mark.parametrize(
    "change",
    [
        {"price": None},
        {"price": [1.5, 1, 0]},
        {"price": [1, 2]},
        {"need": [[6, 1], [5, 1], [4, 1]]},
        {"need": [6, 5, 4]},
        {"value": "2"},
        {"value": True},
        {"bound": 6.0},
        {"dims": [[0]]},
        {"price": [2**70, 1, 0]},
    ],
)
def test_a_damaged_file_is_refused(change: dict[str, object]) -> None:
    stored = certificate([2, 1, 0], 2, 6).to_dict() | change
    with pytest.raises(PlanError, match="certificate: "):
        Certificate.from_dict(stored)
    with pytest.raises(PlanError, match="certificate: "):
        Certificate.from_dict({name: value for name, value in stored.items() if name not in change})


def test_too_much_to_check_is_refused() -> None:
    # Half a million small items a pack in four dimensions: no grid and no enumeration could end.
    random = np.random.default_rng(0)
    need = random.integers(10**5, 10**6, (60, 4))
    capacity, count = np.full(4, 10**8), np.full(60, 1000)
    stated = Certificate(np.arange(4), np.ones(4, np.int64), need, need.sum(axis=1), 4 * 10**8 - 1, 1)
    with pytest.raises(PlanError, match="too much to check"):
        check_certificate(stated, need, capacity, count, effort=0.002)


def largest_pack(need: list[list[int]], price: list[int], copies: list[int], room: list[int]) -> int:
    """The largest price sum of a pack, by plain recursion over how many of the first size it holds."""
    if not need:
        return 0
    best, k = 0, 0
    while k <= copies[0] and min(room) >= 0:
        best = max(best, k * price[0] + largest_pack(need[1:], price[1:], copies[1:], room))
        room = [r - n for r, n in zip(room, need[0], strict=True)]
        k += 1
    return best


def test_all_ways_to_check_agree() -> None:
    """Grid, enumeration and a plain recursion give the same largest pack."""
    for seed in range(40):
        random = np.random.default_rng(seed)
        dims = int(random.integers(1, 4))
        capacity = random.integers(5, 15, dims)
        need = np.unique(np.stack([random.integers(0, c + 1, 5) for c in capacity], 1), axis=0)
        need = need[need.any(axis=1)]
        price, copies = random.integers(1, 20, len(need)), random.integers(1, 4, len(need)).tolist()
        true = largest_pack(need.tolist(), price.tolist(), copies, capacity.tolist())
        sizes = module._useful(module._Sizes(need, price, copies), capacity)
        module._check_grid(true, sizes, capacity)
        assert module._check_packs(true, sizes, capacity, 1.0)
        with pytest.raises(PlanError, match="a pack can hold"):
            module._check_grid(true - 1, sizes, capacity)
        with pytest.raises(PlanError, match="a pack can hold"):
            module._check_packs(true - 1, sizes, capacity, 1.0)


def test_sizes_that_others_stand_in_for_are_the_same_by_table_and_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(60):
        random = np.random.default_rng(seed)
        dims = int(random.integers(1, 4))
        capacity = random.integers(4, 9, dims)
        need = np.unique(np.stack([random.integers(0, c + 1, 30) for c in capacity], 1), axis=0)
        need = need[need.any(axis=1)]
        sizes = module._Sizes(need, random.integers(1, 9, len(need)), random.integers(1, 9, len(need)).tolist())
        by_table = module._useful(sizes, capacity)
        monkeypatch.setattr(module, "MAX_CELLS", 0)
        by_pair = module._useful(sizes, capacity)
        monkeypatch.undo()
        assert by_table.need.tolist() == by_pair.need.tolist()
        assert by_table.copies == by_pair.copies


def test_too_many_numbers_are_refused_before_any_work() -> None:
    rows = module.MAX_TABLE + 1
    stated = Certificate(int64([0]), int64([1]), np.zeros((rows, 1), np.int64), np.zeros(rows, np.int64), 1, 1)
    with pytest.raises(PlanError, match="at most 4000000 are checked"):
        check_certificate(stated, NEED, CAPACITY, COUNT)
