"""The optimal solver: proofs on real sizes, reproducible, any-time, independent of counts, and of numba."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance, Patterns
from packer.algorithms.optimal import cpsat, master
from packer.algorithms.optimal.column_generation import ColumnGeneration, PatternLP
from packer.algorithms.optimal.columns import proper, to_patterns
from packer.algorithms.optimal.greedy import greedy_plans, repeated_plans, single_sizes
from packer.algorithms.optimal.master import Master, MasterError
from packer.algorithms.optimal.params import PARAMS
from packer.algorithms.optimal.presolve import merge_sizes, presolve, restore
from packer.algorithms.optimal.price_dp import GridPricer
from packer.algorithms.optimal.sample import repeated, sampled_patterns
from packer.algorithms.optimal.solver import solve
from packer.algorithms.solution import Solution
from packer.certificate import check_certificate
from packer.plan.bound import vector_bound

pytest.importorskip("ortools")


def instance_of(need: object, capacity: object, count: object) -> Instance:
    return Instance(np.array(need, dtype=np.int64), np.array(capacity, dtype=np.int64), np.array(count, dtype=np.int64))


def vectors(seed: int, items: int, dims: int, low: int, high: int, capacity: int) -> Instance:
    need = np.random.default_rng(seed).integers(low, high + 1, (items, dims))
    rows, count = np.unique(need, axis=0, return_counts=True)
    return instance_of(rows, [capacity] * dims, count)


def assert_each_item_in_a_pack(instance: Instance, plan: Patterns) -> None:
    held = np.zeros(len(instance.need), np.int64)
    for p in range(len(plan)):
        ids, times = plan[p]
        assert (times @ instance.need[ids] <= instance.capacity).all()
        held[ids] += times * plan.counts[p]
    assert held.tolist() == instance.count.tolist()


def assert_plan(instance: Instance, solution: Solution) -> None:
    assert_each_item_in_a_pack(instance, solution.patterns)
    bound = check_certificate(solution.certificate, instance.need, instance.capacity, instance.count)
    assert bound == solution.certificate.bound <= solution.patterns.num_packs
    assert (solution.status == "optimal") == (bound == solution.patterns.num_packs)
    assert (solution.stopped_by == "proof") == (solution.status == "optimal")


def plain(plan: Patterns) -> list[list[int]]:
    return [part.tolist() for part in (plan.ptr, plan.size_ids, plan.multiplicity, plan.counts)]


def test_beyond_the_volume_bound_by_hand() -> None:
    # Seven items of 4 in packs of 10: 28 / 10 = 3 by volume, but two fit a pack, so 4.
    solution = solve(instance_of([[4]], [10], [7]))
    assert (solution.patterns.num_packs, solution.certificate.bound, solution.status) == (4, 4, "optimal")
    # Patterns: twos three times and a single one.
    assert sorted(zip(solution.patterns.multiplicity.tolist(), solution.patterns.counts.tolist(), strict=True)) == [
        (1, 1),
        (2, 3),
    ]


def test_nothing_to_pack_one_pack_and_useless_dimensions() -> None:
    empty = solve(instance_of(np.zeros((0, 2)), [5, 5], []))
    assert (empty.patterns.num_packs, empty.certificate.bound, empty.status) == (0, 0, "optimal")
    one = instance_of([[0, 0], [0, 3]], [0, 9], [5, 3])
    solution = solve(one)
    assert_plan(one, solution)
    assert solution.patterns.num_packs == 1
    # The second dimension never binds, and sizes without need ride along.
    mixed = instance_of([[0, 0], [0, 1], [6, 1]], [10, 100], [2, 3, 4])
    solution = solve(mixed)
    assert_plan(mixed, solution)
    assert (solution.patterns.num_packs, solution.status) == (4, "optimal")


def test_reducing_keeps_plans() -> None:
    # Dimension 1 is implied by 0 (at most 5 items of 2 fit), dimension 2 is twice a divisor; sizes 0 and 1 merge.
    instance = instance_of([[2, 1, 6], [2, 2, 6], [3, 1, 9]], [10, 20, 30], [3, 2, 2])
    reduced = presolve(instance)
    assert reduced.inner.need.tolist() in ([[2], [3]], [[2, 2], [3, 3]])
    plan = greedy_plans(instance)[0]
    again = restore(reduced, merge_sizes(reduced, plan))
    assert again.num_packs == plan.num_packs
    held = np.zeros(3, np.int64)
    np.add.at(held, again.size_ids, again.multiplicity * np.repeat(again.counts, np.diff(again.ptr)))
    assert held.tolist() == [3, 2, 2]


def test_a_billion_items_of_three_sizes_are_proven() -> None:
    few = instance_of([[3, 1], [5, 2], [7, 4]], [16, 9], [50, 31, 23])
    many = instance_of(few.need, few.capacity, few.count * 10**7)
    solution = solve(many, time_limit=20)
    assert_plan(many, solution)
    assert solution.status == "optimal"


def test_bounds_of_billions_are_exact_to_the_pack() -> None:
    # Two fit a pack: an odd number of them needs the half pack more.
    for count in (2 * 10**9 + 1, 2 * 10**12 + 1, 2 * 10**14 + 1):
        many = instance_of([[4, 1]], [10, 9], [count])
        solution = solve(many, time_limit=20)
        assert_plan(many, solution)
        assert (solution.patterns.num_packs, solution.status) == ((count + 1) // 2, "optimal")


def test_a_sample_s_patterns_fit_hold_rare_sizes_and_are_the_same_at_any_scale() -> None:
    need = np.unique(np.random.default_rng(0).integers(1, 40, (50, 3)), axis=0)
    instance = instance_of(need, [100, 110, 90], [10**7] * (len(need) - 2) + [1, 2])
    plan = sampled_patterns(instance, 1, Budget(0.2, 60.0), 3, 4.0)
    assert (plan.multiplicity * np.repeat(plan.counts, np.diff(plan.ptr))).sum() > 0.9 * PARAMS.sampled
    for p in range(len(plan)):
        ids, times = plan[p]
        assert (times @ instance.need[ids] <= instance.capacity).all()
    assert np.isin([len(need) - 2, len(need) - 1], plan.size_ids).all()
    for scale in (7, 10**6):
        more = instance_of(need, instance.capacity, instance.count * scale)
        assert plain(sampled_patterns(more, 1, Budget(0.2, 60.0), 3, 4.0)) == plain(plan)
    assert_each_item_in_a_pack(instance, repeated(instance, plan))
    assert repeated(instance, plan).num_packs < 1.05 * greedy_plans(instance)[0].num_packs
    some = proper(plan, instance.count)
    assert 0 < len(some) <= len(plan)
    assert (some.multiplicity <= instance.count[some.size_ids]).all()
    of_one = proper(plan, np.ones(len(need), np.int64))
    assert (of_one.multiplicity == 1).all()
    assert plain(proper(plan, np.full(len(need), 10**9))) == plain(plan)


def test_the_lp_takes_the_same_steps_at_any_scale() -> None:
    """Until where fewer packs may stop: more of them only add steps."""
    rng = np.random.default_rng(1)
    need = np.unique(rng.integers([3, 5], [60, 120], (60, 2)), axis=0)
    count = rng.integers(1, 10**5, len(need))
    found = []
    for scale in (1, 1000):
        instance = instance_of(need, [128, 250], count * scale)
        plans = [single_sizes(instance, proper=False), *repeated_plans(instance)]
        generation = ColumnGeneration(instance, GridPricer(instance), plans, 0)
        found.append(generation.run(10**12, Budget(20.0, 60.0), good=0.0))
    few, many = ([(ids.tolist(), times.tolist()) for ids, times in zip(*_both(lp), strict=True)] for lp in found)
    assert few == many
    assert found[1].objective == pytest.approx(1000 * found[0].objective, rel=1e-12)


def _both(lp: PatternLP) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return lp.columns.ids, lp.columns.times


def test_whole_numbers_are_looked_for_among_the_columns_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many columns that cost the same, those of the LP's solution come first."""
    instance = instance_of([[2], [3], [5]], [10], [30, 20, 12])
    generation = ColumnGeneration(instance, GridPricer(instance), [single_sizes(instance), *greedy_plans(instance)], 0)
    for a in range(6):
        for b in range(4):
            for c in range(3):
                if 2 * a + 3 * b + 5 * c == 10:
                    ids = np.flatnonzero([a, b, c])
                    generation.add(to_patterns([(ids, np.array([a, b, c])[ids], 1)]))
    lp = generation.run(10**9, Budget(5.0, 60.0), good=0.0)
    used = np.flatnonzero(lp.use > 0)
    monkeypatch.setattr(cpsat, "PARAMS", replace(PARAMS, most_columns=len(used)))
    for seed in range(5):
        chosen = cpsat.candidates(instance, lp, lp.bound + 1, seed)
        assert sorted(chosen.tolist()) == used.tolist()


SIXTY = vectors(4, 60, 3, 20, 100, 150)


@pytest.fixture(scope="module")
def solved_sixty() -> Solution:
    return solve(SIXTY, time_limit=20)


def test_the_same_lp_by_an_interior_point(solved_sixty: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "PARAMS", replace(PARAMS, many_rows=0))
    interior = solve(SIXTY, time_limit=20)
    assert_plan(SIXTY, interior)
    assert interior.certificate.bound == solved_sixty.certificate.bound


def test_same_seed_and_work_same_plan() -> None:
    instance = vectors(3, 60, 4, 20, 100, 170)
    first, second = (solve(instance, seed=5, work_limit=0.6, time_limit=None) for _ in range(2))
    assert plain(first.patterns) == plain(second.patterns)
    assert first.certificate.to_dict() == second.certificate.to_dict()
    assert first.stopped_by == second.stopped_by


def test_never_worse_than_the_plans_it_starts_from() -> None:
    instance = vectors(1, 300, 3, 1, 100, 140)
    start = greedy_plans(instance)[-1]
    solution = solve(instance, work_limit=0.01, start=[start])
    assert_plan(instance, solution)
    assert solution.patterns.num_packs <= min(plan.num_packs for plan in greedy_plans(instance))


def test_progress_tells_every_improvement() -> None:
    told: list[tuple[int, int, float]] = []
    instance = vectors(2, 80, 3, 20, 100, 150)
    solution = solve(instance, work_limit=1.5, progress=lambda *state: told.append(state))
    packs, bounds, seconds = zip(*told, strict=True)
    assert list(packs) == sorted(packs, reverse=True) and list(bounds) == sorted(bounds)
    assert list(seconds) == sorted(seconds)
    assert (packs[-1], bounds[-1]) == (solution.patterns.num_packs, solution.certificate.bound)


def test_progress_goes_on_while_nothing_improves() -> None:
    told: list[tuple[int, int, float]] = []
    instance = vectors(0, 200, 10, 1, 100, 300)
    solve(instance, time_limit=4.0, work_limit=1e9, progress=lambda *state: told.append(state))
    assert len(told) > len({state[:2] for state in told})


def test_the_clock_stops_it_with_a_plan_and_a_bound() -> None:
    instance = vectors(0, 400, 10, 1, 100, 300)
    solve(instance, work_limit=0.5)  # compiles
    solution = solve(instance, time_limit=1.0, work_limit=1e9)
    assert_plan(instance, solution)
    assert solution.stopped_by in ("time", "proof")


def test_an_lp_cut_short_by_its_turn_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    generation = ColumnGeneration(SIXTY, GridPricer(SIXTY), [single_sizes(SIXTY)], 0)
    solve_lp = Master.solve

    def stopped(*_: object, **__: object) -> None:
        raise MasterError("the limit was reached", stopped=True, iterations=10**9)

    monkeypatch.setattr(Master, "solve", stopped)
    budget = Budget(1e9, 60.0)
    assert generation.run(1000, budget.part(1.0)).progress
    monkeypatch.setattr(Master, "solve", solve_lp)
    assert generation.run(1000, budget.part(100.0)).closed


def test_a_part_ends_with_its_work_or_its_share_of_the_clock() -> None:
    budget = Budget(10.0, 60.0)
    part = budget.part(2.0, 0.5)
    assert (part.work_left, part.time_limit) == (2.0, 30.0)
    assert not part.spend(3.0)
    assert budget.work_left == 7.0
    assert Budget(10.0, float("inf")).part(1.0, 0.5).time_limit == float("inf")
    over = Budget(10.0, 1.0, started=budget.started - 0.7)
    assert over.part(1.0, 0.5).spent
    assert not over.part(1.0).spent


def test_bound_alone(solved_sixty: Solution) -> None:
    certificate = vector_bound(SIXTY, time_limit=20)
    assert check_certificate(certificate, SIXTY.need, SIXTY.capacity, SIXTY.count) == certificate.bound
    assert certificate.bound == solved_sixty.certificate.bound


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import numpy as np
from packer.algorithms.instance import Instance
from packer.algorithms.optimal import cpsat, master
from packer.algorithms.optimal.solver import solve
need = np.array([[3, 1], [4, 5], [5, 2], [7, 4]])
solution = solve(Instance(need, np.array([11, 9]), np.array([4, 3, 5, 2])), seed=1, work_limit=0.02, time_limit=None)
print([part.tolist() for part in (solution.patterns.ptr, solution.patterns.size_ids, solution.patterns.multiplicity,
                                  solution.patterns.counts)], solution.certificate.to_dict())
"""


def test_without_numba_the_same_plan() -> None:
    root = ROOT
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for code in (WITHOUT_NUMBA, WITHOUT_NUMBA.replace('sys.modules["numba"] = None', ""))
    ]
    assert outputs[0] == outputs[1] != ""


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    code = "from packer.algorithms.jit import _compile\nimport test_kernel\nprint(test_kernel.double(21))"
    (tmp_path / "test_kernel.py").write_text(
        "from packer.algorithms.jit import kernel\n\n@kernel\ndef inner(x):\n    return x + x\n\n"
        "@kernel\ndef double(x):\n    return inner(x)\n"
    )
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(blocked / "no"), "HOME": str(blocked)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout == "42\n", run.stderr


def real_sizes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(distinct (nodes, edges), count)."""
    stored = np.load(path)
    both = np.stack([stored["num_nodes"], stored["num_edges"]], axis=1).astype(np.int64)
    return np.unique(both[both[:, 0] > 0], axis=0, return_counts=True)


@pytest.mark.parametrize(
    ("name", "limits", "packs"),
    [
        ("moses_train", (60, 120, 8), 705_243),
        ("moses_train", (128, 276, 16), 268_309),
        ("tu_MUTAG", (28, 66, 188), 144),
        ("tox21", (132, 290, 7823), 1101),
    ],
)
def test_records(shared_data: Path, name: str, limits: tuple[int, int, int], packs: int) -> None:
    sizes, count = real_sizes(shared_data / "sizes" / f"{name}.npz")
    instance = instance_of(np.column_stack([sizes, np.ones(len(sizes))]), limits, count)
    solution = solve(instance, time_limit=60)
    assert_plan(instance, solution)
    assert (solution.patterns.num_packs, solution.status) == (packs, "optimal")


@pytest.mark.parametrize(
    ("name", "limits", "times", "packs"),
    [
        ("moses_train", (60, 120, 8), 1000, 705_243_000),
        # 268,308.0363... packs by the LP: what is above the last whole one must be found, and nothing more.
        pytest.param("moses_train", (128, 276, 16), 300, 80_492_411, marks=pytest.mark.slow),
        ("moses_train", (128, 276, 16), 1000, 268_308_037),
        # Too large a grid to price: the patterns come from a sample. Of 431 sizes, then of 39.
        pytest.param("tu_ENZYMES", (1045, 3977, 32), 1000, 18_754, marks=pytest.mark.slow),
        ("tu_MUTAG", (574, 1267, 32), 1000, 5_879),
    ],
)
def test_records_many_times_over(
    shared_data: Path, name: str, limits: tuple[int, int, int], times: int, packs: int
) -> None:
    sizes, count = real_sizes(shared_data / "sizes" / f"{name}.npz")
    instance = instance_of(np.column_stack([sizes, np.ones(len(sizes))]), limits, count * times)
    solution = solve(instance, time_limit=60)
    assert_plan(instance, solution)
    assert (solution.patterns.num_packs, solution.status) == (packs, "optimal")
