"""The solver and the checker against exhaustive search on tiny instances."""

import itertools

import numpy as np
import pytest

from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal.greedy import greedy_plans
from packer.algorithms.optimal.solver import solve
from packer.certificate import check_certificate, volume_certificate
from packer.plan.bound import vector_bound

pytest.importorskip("ortools")


def fewest_packs(need: np.ndarray, capacity: np.ndarray, count: np.ndarray) -> int:
    """Exhaustive: put the items one by one into every distinct open pack with room, or into a new one."""
    items = [tuple(row) for row, times in zip(need.tolist(), count.tolist(), strict=True) for _ in range(times)]
    items.sort(key=lambda item: -sum(item))
    room = tuple(capacity.tolist())
    best = len(items)
    seen: set[tuple[int, tuple[tuple[int, ...], ...]]] = set()

    def place(item: int, packs: tuple[tuple[int, ...], ...]) -> None:
        nonlocal best
        if len(packs) >= best or (item, packs) in seen:
            return
        seen.add((item, packs))
        if item == len(items):
            best = len(packs)
            return
        for left in sorted(set(packs)) + [room]:
            after = tuple(a - b for a, b in zip(left, items[item], strict=True))
            if min(after, default=0) >= 0:
                others = list(packs)
                if left in others and left is not room:
                    others.remove(left)
                place(item + 1, tuple(sorted([*others, after])))

    place(0, ())
    return best


def random_instance(random: np.random.Generator) -> Instance:
    """1 to 9 items in 1 to 5 dimensions; with rows of zeros, useless dimensions, common divisors and equal needs."""
    dims, sizes = int(random.integers(1, 6)), int(random.integers(1, 7))
    capacity = random.integers(0, 13, dims) * random.integers(1, 4, dims)
    need = np.stack([random.integers(0, c + 1, sizes) for c in capacity], axis=1)
    if random.random() < 0.3:
        need = need // 2 * 2
    if random.random() < 0.3:
        need[:, 0] = min(1, capacity[0])
    need = np.unique(need, axis=0).astype(np.int64)
    count = np.ones(len(need), np.int64)
    for _ in range(int(random.integers(0, 10 - len(need)))):
        count[random.integers(len(need))] += 1
    return Instance(need, capacity.astype(np.int64), count)


def assert_valid(instance: Instance, plan: Patterns) -> None:
    held = np.zeros(len(instance.need), np.int64)
    for p in range(len(plan)):
        ids, times = plan[p]
        assert (np.diff(ids) > 0).all() and (times > 0).all() and plan.counts[p] > 0
        assert (times @ instance.need[ids] <= instance.capacity).all()
        held[ids] += times * plan.counts[p]
    assert held.tolist() == instance.count.tolist()
    assert len({(ids.tobytes(), times.tobytes()) for ids, times in map(plan.__getitem__, range(len(plan)))}) == len(
        plan
    )


def compare(seed: int) -> None:
    instance = random_instance(np.random.default_rng(seed))
    need, capacity, count = instance.need, instance.capacity, instance.count
    optimum = fewest_packs(need, capacity, count)
    solution = solve(instance, seed=seed, work_limit=0.3)
    assert_valid(instance, solution.patterns)
    packs, bound = solution.patterns.num_packs, solution.certificate.bound
    assert volume_certificate(need, capacity, count).bound <= bound <= optimum <= packs
    assert packs <= min(plan.num_packs for plan in greedy_plans(instance))
    assert (solution.status == "optimal") == (bound == packs)
    # Items one by one, in any order, prove the same as sizes with counts.
    items = np.random.default_rng(seed).permutation(np.repeat(need, count, axis=0))
    assert check_certificate(solution.certificate, need, capacity, count) == bound
    assert check_certificate(solution.certificate, items, capacity, np.ones(len(items), np.int64)) == bound
    alone = vector_bound(instance, time_limit=5.0, seed=seed)
    assert check_certificate(alone, need, capacity, count) == alone.bound <= optimum


def test_oracle_by_hand() -> None:
    # 6+4, 5+5, 3: three packs of 10 hold 6+4 | 5+5 | 3, and 23 items' worth does not fit two.
    assert fewest_packs(np.array([[6], [4], [5], [3]]), np.array([10]), np.array([1, 1, 2, 1])) == 3
    # Two dimensions: 6/1 and 1/6 share a pack, 6/6 stands alone.
    assert fewest_packs(np.array([[6, 1], [1, 6], [6, 6]]), np.array([7, 7]), np.array([2, 2, 1])) == 3


@pytest.mark.parametrize("block", range(10))
def test_bound_optimum_and_plan_on_tiny_instances(block: int) -> None:
    for seed in range(30 * block, 30 * (block + 1)):
        compare(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(50))
def test_bound_optimum_and_plan_on_thousands_of_tiny_instances(block: int) -> None:
    for seed in range(1000 + 100 * block, 1000 + 100 * (block + 1)):
        compare(seed)


PADDED = {"one": (1, 1, 1), "jraph": (1, 0, 1), "none": (0, 0, 0)}


@pytest.mark.parametrize("rule", ["all", "one", "jraph", "none"])
def test_limit_rules_with_edgeless_graphs(rule: str) -> None:
    """Graphs as the limit rules turn them into vectors; every subset of sizes over a small table."""
    limits = {"all": (12, 12, 4), "one": (10, 9, 4), "jraph": (10, 8, 4), "none": (9, 8, 3)}[rule]
    nodes_edges = [(1, 0), (2, 1), (2, 2), (4, 3), (5, 0)]
    for chosen in itertools.combinations(nodes_edges, 3):
        n, e = np.array(chosen).T
        if rule == "all":
            need, capacity = np.stack([n - 1, np.maximum(e, 1) - 1, n * 0 + 1], 1), np.array(limits) - [4, 4, 1]
        else:
            need, capacity = np.stack([n, e, n * 0 + 1], 1), np.array(limits) - PADDED[rule]
        need, place = np.unique(need, axis=0, return_inverse=True)
        count = np.bincount(place.reshape(-1), weights=[3, 2, 3]).astype(np.int64)
        instance = Instance(need.astype(np.int64), capacity.astype(np.int64), count)
        solution = solve(instance, work_limit=0.3)
        assert_valid(instance, solution.patterns)
        optimum = fewest_packs(need, capacity, count)
        assert solution.certificate.bound <= optimum <= solution.patterns.num_packs
        assert check_certificate(solution.certificate, need, capacity, count) == solution.certificate.bound
