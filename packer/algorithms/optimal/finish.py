"""The pattern LP in whole numbers, by CP-SAT: for instances of few items, where the LP's own patterns often suffice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from packer.algorithms.instance import Instance
from packer.algorithms.optimal.budget import Budget
from packer.algorithms.optimal.generation import PatternLP

MOST_COLUMNS = 4000


def choose_whole(instance: Instance, lp: PatternLP, packs: int, budget: Budget, seed: int) -> PatternLP | None:
    """The LP with whole numbers for `use` and `swaps` and at most `packs` patterns in all; None: not found.

    Only columns that the final prices do not exclude take part: those of the least reduced cost. One worker, so the
    result depends on `seed` and the budget's work alone, unless the clock stops it.
    """
    from ortools.sat.python import cp_model

    reduced_cost = np.array(
        [lp.value - int((lp.price[ids] * times).sum()) for ids, times in zip(lp.columns.ids, lp.columns.times)]
    )
    chosen = np.argsort(reduced_cost, kind="stable")[:MOST_COLUMNS]
    model = cp_model.CpModel()
    held: list[list[Any]] = [[] for _ in range(len(instance.need))]
    use: dict[int, Any] = {}
    for column in chosen.tolist():
        ids, times = lp.columns.ids[column].tolist(), lp.columns.times[column].tolist()
        most = max(-(-int(instance.count[i]) // t) for i, t in zip(ids, times))
        use[column] = variable = model.new_int_var(0, min(most, packs), "")
        if lp.use[column]:
            model.add_hint(variable, int(lp.use[column]))
        for i, t in zip(ids, times):
            held[i].append(variable * t)
    swaps: list[Any] = []
    for small, large in lp.exchanges.tolist():
        swap = model.new_int_var(0, int(instance.count.sum()), "")
        swaps.append(swap)
        held[small].append(swap)
        held[large].append(-swap)
    for terms, count in zip(held, instance.count.tolist()):
        model.add(cp_model.LinearExpr.sum(terms) >= count)
    model.add(cp_model.LinearExpr.sum(list(use.values())) <= packs)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = max(0.1, budget.work_left)
    if not math.isinf(budget.seconds_left):
        solver.parameters.max_time_in_seconds = max(0.05, budget.seconds_left)
    solver.parameters.catch_sigint_signal = False  # Ctrl-C is Python's
    status = budget.interrupt.run(lambda: solver.solve(model), solver.stop_search)
    budget.spend(solver.response_proto.deterministic_time)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    whole = np.zeros(len(lp.use))
    whole[list(use)] = [solver.value(variable) for variable in use.values()]
    return replace(lp, use=whole, swaps=np.array([float(solver.value(swap)) for swap in swaps]))
