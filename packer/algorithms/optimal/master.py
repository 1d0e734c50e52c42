"""The linear program over patterns: least number of packs that cover every size, by OR-Tools' incremental GLOP."""

from __future__ import annotations

import datetime
import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from packer.algorithms.optimal.budget import Budget
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


class Master:
    """Columns are only ever added, so that the solver keeps its basis from round to round."""

    def __init__(self, count: np.ndarray) -> None:
        mathopt = self._mathopt = _mathopt()
        self._model = mathopt.Model()
        self._rows = [self._model.add_linear_constraint(lb=float(c)) for c in count.tolist()]
        self._columns: list[Any] = []
        self._exchanges: list[Any] = []
        self._solver: Any = None

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
        """Let one place for an item of size `large` serve one of size `small`, at no cost."""
        column = self._model.add_variable(lb=0.0)
        self._rows[small].set_coefficient(column, 1.0)
        self._rows[large].set_coefficient(column, -1.0)
        self._exchanges.append(column)

    def solve(self, budget: Budget, iterations: int | None = None, *, with_use: bool = False) -> MasterSolution:
        """Raises MasterError when every solver fails, when the budget ends or after so many simplex iterations."""
        mathopt, interrupter, seconds = self._mathopt, _interrupter(), budget.seconds_left
        limit = None if math.isinf(seconds) else datetime.timedelta(seconds=max(0.01, seconds))
        quick = mathopt.SolveParameters(
            threads=1, presolve=mathopt.Emphasis.OFF, time_limit=limit, iteration_limit=iterations
        )
        dual_simplex = mathopt.SolveParameters(
            threads=1,
            lp_algorithm=mathopt.LPAlgorithm.DUAL_SIMPLEX,
            time_limit=limit,
            iteration_limit=iterations,
        )
        # An ABNORMAL end happens on small degenerate programs: a fresh solver, another algorithm, another solver.
        tries = [
            (mathopt.SolverType.GLOP, quick, self._solver is None),
            (mathopt.SolverType.GLOP, quick, True),
            (mathopt.SolverType.GLOP, dual_simplex, True),
            (mathopt.SolverType.HIGHS, mathopt.SolveParameters(time_limit=limit), True),
        ]
        none = mathopt.VariableFilter(filtered_items=[])
        wanted = mathopt.ModelSolveParameters(
            variable_values_filter=mathopt.VariableFilter() if with_use else none, reduced_costs_filter=none
        )
        for solver_type, parameters, fresh in tries:
            try:
                if fresh:
                    self._solver = None
                    self._solver = mathopt.IncrementalSolver(self._model, solver_type)
                result = budget.interrupt.run(
                    partial(self._solver.solve, params=parameters, model_params=wanted, interrupter=interrupter),
                    interrupter.interrupt,
                )
            except (AttributeError, RuntimeError, ValueError):  # how the wheel tells of any status that is not OK
                self._solver = None
                continue
            if result.termination.reason == mathopt.TerminationReason.OPTIMAL:
                dual = np.maximum(np.array(result.dual_values(self._rows)), 0.0)
                use, swaps = (
                    np.array(result.variable_values(part) if with_use else [], dtype=np.float64)
                    for part in (self._columns, self._exchanges)
                )
                iterations = int(result.solve_stats.simplex_iterations)
                return MasterSolution(result.objective_value(), dual, use, swaps, iterations)
            if result.termination.limit is not None:
                raise MasterError("the limit was reached", True, int(result.solve_stats.simplex_iterations))
            self._solver = None
        raise MasterError("no LP solver ended with an optimum")
