"""The pattern LP in whole numbers, by CP-SAT, near its solution in fractions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.instance import Instance
from packer.algorithms.optimal.column_generation import PatternLP, total_price
from packer.algorithms.optimal.params import PARAMS


def choose_whole(
    instance: Instance, lp: PatternLP, packs: int, reach: int, budget: Budget, seed: int
) -> PatternLP | None:
    """The LP with whole numbers for `use` and `swaps` and at most `packs` patterns in all; None: not found.

    reach: how far from its rounded-down value each may lie, so that the cost does not grow with the number of items.
    Only columns that the final prices do not exclude take part: those of the least reduced cost. One worker, so the
    result depends on `seed` and the budget's work alone, unless the clock stops it.
    """
    from ortools.sat.python import cp_model

    chosen = candidates(instance, lp, packs, seed)
    use, swaps = (np.floor(part + 1e-6).astype(np.int64) for part in (lp.use, lp.swaps))
    model = cp_model.CpModel()
    served: list[list[Any]] = [[] for _ in range(len(instance.need))]
    missing = instance.count.tolist()
    more: dict[int, Any] = {}
    for column in chosen.tolist():
        base = int(use[column])
        more[column] = variable = model.new_int_var(-min(base, reach), reach, "")
        for i, t in zip(lp.columns.ids[column].tolist(), lp.columns.times[column].tolist()):
            served[i].append(variable * t)
            missing[i] -= base * t
    passed: list[Any] = []
    for (small, large), base in zip(lp.exchanges.tolist(), swaps.tolist()):
        passed.append(model.new_int_var(-min(base, reach * PARAMS.swap_reach), reach * PARAMS.swap_reach, ""))
        served[small].append(passed[-1])
        served[large].append(-passed[-1])
        missing[small] -= base
        missing[large] += base
    for terms, count in zip(served, missing):
        model.add(cp_model.LinearExpr.sum(terms) >= count)
    model.add(cp_model.LinearExpr.sum(list(more.values())) <= packs - int(use[chosen].sum()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed % 2**31
    solver.parameters.max_deterministic_time = max(0.1, budget.work_left)
    if not math.isinf(budget.seconds_left):
        solver.parameters.max_time_in_seconds = max(0.05, budget.seconds_left)
    solver.parameters.catch_sigint_signal = False  # Ctrl-C is Python's
    status = budget.interrupt.run(lambda: solver.solve(model), solver.stop_search)
    budget.spend(solver.response_proto.deterministic_time)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    integral = np.zeros(len(use))
    integral[chosen] = use[chosen] + [solver.value(variable) for variable in more.values()]
    return replace(lp, use=integral, swaps=swaps + np.array([float(solver.value(part)) for part in passed]))


def candidates(instance: Instance, lp: PatternLP, packs: int, seed: int) -> np.ndarray:
    """The columns that a plan of `packs` packs may use, int64, at most `most_columns`: those of the least reduced cost,
    of equal ones those that the LP uses, then at random.

    The reduced costs of the packs of a plan add up to no more than the plan lies above the proven bound.
    """
    reduced_cost = np.array(
        [lp.value - int((lp.price[ids] * times).sum()) for ids, times in zip(lp.columns.ids, lp.columns.times)]
    )
    spare = packs * lp.value - total_price(lp.price, instance.count)
    order = np.lexsort((np.random.default_rng(seed).random(len(reduced_cost)), lp.use <= 0, reduced_cost))
    return order[reduced_cost[order] <= spare][: PARAMS.most_columns]
