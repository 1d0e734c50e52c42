"""The linear program over patterns: least number of packs that cover every size, by OR-Tools' incremental GLOP.

Where there are very many sizes, by HiGHS' interior point method, which ends in a basis too.
"""

from __future__ import annotations

import datetime
import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from packer.algorithms.budget import Budget
from packer.algorithms.optimal.params import PARAMS
from packer.errors import MissingExtraError


class MasterError(RuntimeError):
    """No LP solver gave an answer; the search goes on without new prices.

    stopped: by the limit, so that going on may help; iterations: of the simplex until then.
    """

    def __init__(self, text: str, stopped: bool = False, iterations: int = 0) -> None:
        super().__init__(text)
        self.stopped, self.iterations = stopped, iterations


class MasterSolution(NamedTuple):
    """objective: packs; dual: float64 [sizes], not negative; use: float64 [columns], swaps: float64 [exchanges], how
    often each is used (empty unless asked for); iterations: of the simplex."""

    objective: float
    dual: np.ndarray
    use: np.ndarray
    swaps: np.ndarray
    iterations: int


def _mathopt() -> Any:
    try:
        from ortools.math_opt.python import mathopt
    except ImportError as error:
        raise MissingExtraError("ortools", "optimal", "algorithm 'optimal'") from error
    return mathopt


def _interrupter() -> Any:
    from ortools.util.python.solve_interrupter import SolveInterrupter

    return SolveInterrupter()


def _devex() -> Any:
    """Norms of edges by reference: the exact ones, new for every column, cost more than a few steps from a basis."""
    from ortools.glop import parameters_pb2

    rules = parameters_pb2.GlopParameters.PricingRule
    return parameters_pb2.GlopParameters(feasibility_rule=rules.DEVEX, optimization_rule=rules.DEVEX)


def _iterations(result: Any) -> int:
    """The work of a run, in iterations of the simplex method."""
    return int(result.solve_stats.simplex_iterations + PARAMS.barrier_work * result.solve_stats.barrier_iterations)


class Master:
    """Columns are only ever added, so that the solver keeps its basis from round to round."""

    def __init__(self, count: np.ndarray) -> None:
        mathopt = self._mathopt = _mathopt()
        self._model = mathopt.Model()
        times = int(np.gcd.reduce(count))
        lowest = (count // times).tolist()
        unit = 2.0 ** max(0, sum(lowest).bit_length() - PARAMS.most_item_bits)
        self._scale = times * unit
        self._rows = [self._model.add_linear_constraint(lb=c / unit) for c in lowest]
        self._columns: list[Any] = []
        self._exchanges: list[Any] = []
        self._solver: Any = None

    @property
    def incremental(self) -> bool:
        """Solving again costs little where nothing is new."""
        return len(self._rows) <= PARAMS.many_rows

    @staticmethod
    def knapsack(need: np.ndarray, price: np.ndarray, most: np.ndarray, capacity: np.ndarray) -> np.ndarray:
        """Duals of the capacities, float64 [dims], in the fractional knapsack with at most `most` of each size."""
        mathopt = _mathopt()
        model = mathopt.Model()
        items = [model.add_variable(lb=0.0, ub=float(m)) for m in most.tolist()]
        rows = [model.add_linear_constraint(ub=1.0) for _ in capacity]
        for row, column, offered in zip(rows, need.T.tolist(), capacity.tolist()):
            for item, amount in zip(items, column):
                if amount:
                    row.set_coefficient(item, amount / offered)
        model.maximize(sum(p * item for p, item in zip(price.tolist(), items)))
        result = mathopt.solve(model, mathopt.SolverType.GLOP)
        return np.array(result.dual_values(rows)) / np.maximum(capacity, 1)

    def add(self, ids: np.ndarray, times: np.ndarray) -> None:
        """A pattern: `times` items of the sizes `ids`."""
        column = self._model.add_variable(lb=0.0)
        self._model.objective.set_linear_coefficient(column, 1.0)
        for row, repeat in zip(ids.tolist(), times.tolist()):
            self._rows[row].set_coefficient(column, float(repeat))
        self._columns.append(column)

    def exchange(self, small: int, large: int) -> None:
        """Let one slot for an item of size `large` serve one of size `small`, at no cost."""
        column = self._model.add_variable(lb=0.0)
        self._rows[small].set_coefficient(column, 1.0)
        self._rows[large].set_coefficient(column, -1.0)
        self._exchanges.append(column)

    def solve(self, budget: Budget, iterations: int | None = None, *, with_use: bool = False) -> MasterSolution:
        """Raises MasterError when every solver fails, when the budget ends or after so many simplex iterations."""
        mathopt = self._mathopt
        none = mathopt.VariableFilter(filtered_items=[])
        wanted = mathopt.ModelSolveParameters(
            variable_values_filter=mathopt.VariableFilter() if with_use else none, reduced_costs_filter=none
        )
        for solver_type, parameters, fresh in self._tries(budget, iterations):
            try:
                if fresh:
                    self._solver = None
                    self._solver = mathopt.IncrementalSolver(self._model, solver_type)
                result = self._run(solver_type, parameters, wanted, budget)
            except (AttributeError, RuntimeError, ValueError):  # how the wheel tells of any status that is not OK
                self._solver = None
                if budget.spent:
                    break
                continue
            if result.termination.reason == mathopt.TerminationReason.OPTIMAL:
                dual = np.maximum(np.array(result.dual_values(self._rows)), 0.0)
                use, swaps = (
                    np.array(result.variable_values(part) if with_use else [], dtype=np.float64) * self._scale
                    for part in (self._columns, self._exchanges)
                )
                objective = result.objective_value() * self._scale
                return MasterSolution(objective, dual, use, swaps, _iterations(result))
            if result.termination.limit is not None:
                raise MasterError("the limit was reached", True, _iterations(result))
            self._solver = None
        raise MasterError("no LP solver ended with an optimum")

    def _tries(self, budget: Budget, iterations: int | None) -> list[tuple[Any, Any, bool]]:
        """(solver, parameters, from nothing) in the order of trying.

        An ABNORMAL end happens on small degenerate programs: a fresh solver, another algorithm, another solver.
        """
        mathopt, seconds = self._mathopt, budget.seconds_left
        limit = None if math.isinf(seconds) else datetime.timedelta(seconds=max(0.01, seconds))
        common = partial(mathopt.SolveParameters, time_limit=limit)
        quick = common(threads=1, presolve=mathopt.Emphasis.OFF, iteration_limit=iterations)
        dual = common(threads=1, lp_algorithm=mathopt.LPAlgorithm.DUAL_SIMPLEX, iteration_limit=iterations)
        again = common(threads=1, presolve=mathopt.Emphasis.OFF, iteration_limit=iterations, glop=_devex())
        tries = [
            (mathopt.SolverType.GLOP, quick if self._solver is None else again, self._solver is None),
            (mathopt.SolverType.GLOP, quick, True),
            (mathopt.SolverType.GLOP, dual, True),
            (mathopt.SolverType.HIGHS, common(), True),
        ]
        if not self.incremental:
            tries.insert(0, (mathopt.SolverType.HIGHS, common(lp_algorithm=mathopt.LPAlgorithm.BARRIER), True))
        return tries

    def _run(self, solver_type: Any, parameters: Any, wanted: Any, budget: Budget) -> Any:
        """One run of the solver at hand, in a time that the budget allows."""
        call = partial(self._solver.solve, params=parameters, model_params=wanted)
        if solver_type == self._mathopt.SolverType.HIGHS:  # it looks at its limit now and then, and at nothing else
            return budget.interrupt.run_unstoppable(call, budget.seconds_left)
        interrupter = _interrupter()
        return budget.interrupt.run(partial(call, interrupter=interrupter), interrupter.interrupt)
