"""The lifted volume bound: never above what a pack can hold, and more than the volume where giants waste space."""

import math

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance
from packer.algorithms.optimal.lift import SCALE, lifted_bound, lifted_prices
from packer.algorithms.optimal.presolve import presolve
from packer.certificate import Certificate, check_certificate, volume_certificate


def instance_of(need: object, capacity: object, count: object) -> Instance:
    return Instance(np.array(need, dtype=np.int64), np.array(capacity, dtype=np.int64), np.array(count, dtype=np.int64))


def test_a_giant_by_hand() -> None:
    # Beside the giant 2 of the second are free: of (5, 3) worth at most 2 * 5 / 3 in fractions. So it is worth at
    # least 10 - 10/3 = 6.67 of a pack's 10, and five of 5 with it 31.67: 4 packs. By volume 27 / 10 or 23 / 10: 3.
    instance = instance_of([[2, 8], [5, 3]], [10, 10], [1, 5])
    assert volume_certificate(instance.need, instance.capacity, instance.count).bound == 3
    price, value = lifted_prices(instance)
    assert value == 10 * SCALE and price[1] == 5 * SCALE
    assert price[0] == 10 * SCALE - 10 * SCALE // 3
    found = lifted_bound(presolve(instance), 3, Budget(math.inf, math.inf))
    assert found is not None and found.bound == 4
    assert check_certificate(found, instance.need, instance.capacity, instance.count) == 4
    assert lifted_bound(presolve(instance), 4, Budget(math.inf, math.inf)) is None


def test_two_of_a_kind_share_what_a_pack_leaves_empty() -> None:
    # Three of (3, 5): two fill the second and leave 10 - 6 empty, so each is worth 5 at most, though one alone
    # leaves more: beside it, there is room for 5 of (1, 2), or 2.5 of it. min(10 - 2.5, 10 / 2) = 5.
    price, value = lifted_prices(instance_of([[1, 2], [3, 5]], [10, 10], [20, 3]))
    assert value == 10 * SCALE and price.tolist() == [2 * SCALE, 5 * SCALE]  # (1, 2): five fill the second


def test_no_pack_holds_more_than_the_prices_allow() -> None:
    raised = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        capacity = random.integers(5, 30, 2)
        need = np.unique(random.integers(0, capacity + 1, (random.integers(2, 9), 2)), axis=0)
        need = need[need.any(axis=1)]
        count = random.integers(1, 5, len(need))
        price, value = lifted_prices(Instance(need, capacity, count))
        total = sum(p * c for p, c in zip(price.tolist(), count.tolist(), strict=True))
        stated = Certificate(np.arange(2), np.ones(2, np.int64), need, price, value, -(-total // value))
        assert check_certificate(stated, need, capacity, count) == stated.bound  # by dynamic programming, or it raises
        raised += stated.bound > volume_certificate(need, capacity, count).bound
    assert raised > 20


def test_huge_numbers_are_left_alone() -> None:
    need, many = [[2**50 + 1, 2**43 + 1], [5 * 2**49, 2**41]], [10**12, 10**12]
    instance = instance_of(need, [2**53 - 1, 2**44], many)
    assert lifted_bound(presolve(instance), 1, Budget(math.inf, math.inf)) is None
    half = instance_of([[2, 8], [5, 3]], [10, 10], many)  # counts beyond what products of prices can hold
    found = lifted_bound(presolve(half), 1, Budget(math.inf, math.inf))
    assert found is not None and check_certificate(found, half.need, half.capacity, half.count) == found.bound
