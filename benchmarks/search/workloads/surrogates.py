"""Closed-form learning curves with a known front, written down before anything was compared.

A configuration is (method, sparsity s, learning rate, and what the method reads). With
    u = (s - 0.5) / 0.49 in [0, 1]   and   x = (log10 rate + 2.5) / 1.5 in [-1, 1]
task j ends at the error
    E_j = 0.2 + 0.3 u + 0.4 u^6 + w_j sin(5 π u)   what sparsity takes
        + a_j(method) + b_j(method) u              what the method adds; none is best throughout
        + 0.2 (x - x*_j + 0.3 u)^2                 a rate off the optimum, which falls with sparsity
        + 0.6 (r - r*_j)^2                         regrowth off its optimum (dynamic alone)
        + 0 | 0.03 | 0.06                          the score (saliency alone)
        + 0 | 0.02 | 0.06                          the allocation (random and dynamic)
and is at time t in (0, 1], with g(t) = (exp(-k t) - exp(-k)) / (1 - exp(-k)),
    parallel:  e_j(t) = E_j + 0.6 g(t),              k = 4
    crossing:  e_j(t) = E_j + (1.2 - E_j) g(t),      k = k_0 exp(-k_u u + k_x x)
so that curves end at E_j. Crossing curves all begin at 1.2; sparse models learn slower (k_u), a
small rate learns slower too (k_x) and x* < 0 makes slow learners of one cost end better.
Measured errors carry normal noise of deviation 0.005, seeded by the configuration and the seed.
The cost is the density 1 - s, exact.
"""

import functools
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.indicators import Normalisation
from analysis.statistics.pareto import non_dominated
from benchmarks.search.workloads.surrogate_points import METHODS, SPACE, Points, Task
from benchmarks.search.workloads.workload import Report
from spaces.space import Space
from trainables.errors import unknown_name
from trainables.seeds import derive_seed

NUM_EPOCHS = 27
NOISE = 0.005
_DYNAMIC = METHODS.index("dynamic")
_START = 1.2
_FRONT_SPARSITIES, _FRONT_RATES, _FRONT_REGROWTHS = 401, 11, 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Surrogate:
    """One of `SURROGATES`.

    speed: (k_0, k_u, k_x) of crossing curves; None for parallel ones.
    max_error: a floor on quality of every task; max_density: a cap on the cost.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    speed: tuple[float, float, float] | None
    max_error: float = math.inf
    max_density: float = math.inf

    @property
    def space(self) -> Space:
        """The space that parameters are drawn from."""
        return SPACE

    @property
    def num_objectives(self) -> int:
        """How many objectives there are."""
        return len(self.tasks) + 1

    @property
    def num_epochs(self) -> int:
        """The full length of a trial, in epochs."""
        return NUM_EPOCHS

    @property
    def constrained(self) -> bool:
        """Whether trials have to meet a constraint."""
        return math.isfinite(self.max_error) or math.isfinite(self.max_density)

    @property
    def normalisation(self) -> Normalisation:
        """What scales the objectives: the ideal and the nadir of the true front."""
        return Normalisation.of(self.front())

    def final(self, points: Points) -> NDArray[np.float64]:
        """The objectives at the end without noise, (N, tasks + 1)."""
        u_N = points.u_N
        columns = [self._final_error(task, points, u_N) for task in self.tasks]
        return np.column_stack([*columns, 1.0 - points.sparsity_N])

    def curve(self, points: Points, fractions_T: NDArray[np.float64]) -> NDArray[np.float64]:
        """The objectives at fractions of training without noise, (N, T, tasks + 1)."""
        final_NM = self.final(points)
        errors_NJ, cost_N = final_NM[:, :-1], final_NM[:, -1]
        if self.speed is None:
            decay_NT = np.tile(_decay(fractions_T, np.array([4.0])), (len(cost_N), 1))
            above_NJ = np.full_like(errors_NJ, 0.6)
        else:
            base, by_u, by_x = self.speed
            decay_NT = _decay(fractions_T, base * np.exp(-by_u * points.u_N + by_x * points.rate_N))
            above_NJ = _START - errors_NJ
        errors_NTJ = errors_NJ[:, None, :] + above_NJ[:, None, :] * decay_NT[:, :, None]
        cost_NT1 = np.broadcast_to(cost_N[:, None, None], (*errors_NTJ.shape[:2], 1))
        return np.concatenate([errors_NTJ, cost_NT1], axis=2)

    def violations(self, values_NM: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """(N,) by constraint, relative to its bound; positive where it is missed."""
        found = {}
        if math.isfinite(self.max_error):
            for index in range(len(self.tasks)):
                found[f"error-{index}"] = values_NM[:, index] / self.max_error - 1.0
        if math.isfinite(self.max_density):
            found["density"] = values_NM[:, -1] / self.max_density - 1.0
        return found

    def feasible(self, values_NM: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,): whether all constraints hold."""
        feasible_N = np.ones(len(values_NM), dtype=bool)
        for missed_N in self.violations(values_NM).values():
            feasible_N &= missed_N <= 0.0
        return feasible_N

    def front(self) -> NDArray[np.float64]:
        """(F, M): the feasible non-dominated final vectors of a dense grid.

        Only what can be on the front is in the grid: the best score and allocation, rates and
        regrowth between the tasks' optima. With one task it is the exact front at 401 sparsities.
        """
        return _front(self.name)

    def start(self, params: Mapping[str, Any], seed: int) -> "Curve":
        """Begin a trial with these parameters."""
        return Curve(self, params, seed)

    def candidates(self) -> Points:
        """The grid of `front`."""
        single = len(self.tasks) == 1
        sparsities = np.linspace(0.5, 0.99, _FRONT_SPARSITIES if single else 41)
        optima = [task.best_rate for task in self.tasks]
        rates = np.linspace(min(optima), max(optima), 1 if single else _FRONT_RATES)
        growths = [task.best_regrowth for task in self.tasks]
        regrowths = np.linspace(min(growths), max(growths), 1 if single else _FRONT_REGROWTHS)
        parts = []
        for method in range(len(METHODS)):
            grid = np.meshgrid(
                sparsities, rates, regrowths if method == _DYNAMIC else [0.0], indexing="ij"
            )
            s_N, x_N, r_N = (axis.ravel() for axis in grid)
            # The optimum of the rate falls with sparsity, equally for all tasks.
            parts.append((np.full(len(s_N), method), s_N, x_N - 0.3 * (s_N - 0.5) / 0.49, r_N))
        method_N, sparsity_N, rate_N, regrowth_N = (
            np.concatenate([part[column] for part in parts]) for column in range(4)
        )
        return Points(
            method_N=method_N,
            sparsity_N=sparsity_N,
            rate_N=np.clip(rate_N, -1.0, 1.0),
            regrowth_N=regrowth_N,
            details_N=np.zeros(len(method_N)),
        )

    def _final_error(
        self, task: Task, points: Points, u_N: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        offset_N, slope_N = np.array(task.methods)[points.method_N].T
        regrowth_N = 0.6 * (points.regrowth_N - task.best_regrowth) ** 2
        error_N: NDArray[np.float64] = (
            0.2
            + 0.3 * u_N
            + 0.4 * u_N**6
            + task.wave * np.sin(5 * np.pi * u_N)
            + offset_N
            + slope_N * u_N
            + 0.2 * (points.rate_N - task.best_rate + 0.3 * u_N) ** 2
            + np.where(points.method_N == _DYNAMIC, regrowth_N, 0.0)
            + points.details_N
        )
        return error_N


class Curve:
    """One simulated trial."""

    def __init__(self, surrogate: Surrogate, params: Mapping[str, Any], seed: int) -> None:
        self._surrogate = surrogate
        self._epoch = 0
        fractions_T = np.arange(1, NUM_EPOCHS + 1) / NUM_EPOCHS
        self._worth_TM = surrogate.curve(Points.of(params), fractions_T)[0]
        text = json.dumps(dict(params), sort_keys=True)
        noise = np.random.default_rng(derive_seed(seed, "data", zlib.crc32(text.encode())))
        self._values_TM = self._worth_TM.copy()
        self._values_TM[:, :-1] += NOISE * noise.standard_normal((NUM_EPOCHS, len(surrogate.tasks)))

    def next_report(self) -> Report:
        """Train one epoch and return its report."""
        row = slice(self._epoch, self._epoch + 1)
        self._epoch += 1
        values_1M, worth_1M = self._values_TM[row], self._worth_TM[row]
        return Report(
            epoch=self._epoch,
            fraction=self._epoch / NUM_EPOCHS,
            values=tuple(values_1M[0].tolist()),
            worth=tuple(worth_1M[0].tolist()),
            violations={
                name: float(missed_1[0])
                for name, missed_1 in self._surrogate.violations(values_1M).items()
            },
            feasible=bool(self._surrogate.feasible(worth_1M)[0]),
        )


# Mild: sparse models learn slower, and a larger rate learns faster.
_MILD = (6.0, 0.8, 0.5)

SURROGATES: dict[str, Surrogate] = {
    surrogate.name: surrogate
    for surrogate in (
        Surrogate(
            name="parallel",
            title="parallel curves, 2 objectives",
            tasks=(Task(best_rate=0.2),),
            speed=None,
        ),
        Surrogate(
            name="crossing",
            title="crossing curves, 2 objectives",
            tasks=(Task(best_rate=-0.2),),
            speed=(8.0, 1.2, 0.9),
        ),
        Surrogate(
            name="discontinuous",
            title="discontinuous front, 2 objectives",
            tasks=(Task(best_rate=0.1, wave=0.1),),
            speed=_MILD,
        ),
        Surrogate(
            name="three",
            title="two tasks, 3 objectives",
            tasks=(
                Task(best_rate=-0.3, best_regrowth=0.25),
                Task(
                    best_rate=0.4,
                    best_regrowth=0.5,
                    methods=((0.15, 0.0), (0.05, 0.1), (0.0, 0.08), (0.1, -0.05)),
                ),
            ),
            speed=_MILD,
        ),
        Surrogate(
            name="six",
            title="five tasks, 6 objectives",
            tasks=(
                Task(best_rate=-0.3, best_regrowth=0.25),
                Task(
                    best_rate=0.4,
                    best_regrowth=0.5,
                    methods=((0.15, 0.0), (0.05, 0.1), (0.0, 0.08), (0.1, -0.05)),
                ),
                Task(
                    best_rate=0.0,
                    best_regrowth=0.15,
                    methods=((0.12, 0.0), (0.0, 0.1), (0.06, 0.0), (0.04, 0.04)),
                ),
                Task(best_rate=-0.5, best_regrowth=0.4),
                Task(
                    best_rate=0.6,
                    best_regrowth=0.55,
                    methods=((0.1, 0.05), (0.06, 0.06), (0.03, 0.06), (0.0, 0.05)),
                ),
            ),
            speed=_MILD,
        ),
        Surrogate(
            name="infeasible",
            title="floor on quality and cap on density, 2 objectives",
            tasks=(Task(best_rate=-0.2),),
            speed=_MILD,
            max_error=0.5,
            max_density=0.25,
        ),
    )
}


def get_surrogate(name: str) -> Surrogate:
    """Raises `UserError` for an unknown name; lists the valid ones."""
    if name not in SURROGATES:
        raise unknown_name("surrogate", name, SURROGATES)
    return SURROGATES[name]


def _decay(fractions_T: NDArray[np.float64], k_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the function g of the equations, (N, T): from 1 at time 0 to 0 at time 1."""
    last_N1 = np.exp(-k_N)[:, None]
    decay_NT: NDArray[np.float64] = (np.exp(-k_N[:, None] * fractions_T) - last_N1) / (1 - last_N1)
    return decay_NT


@functools.cache
def _front(name: str) -> NDArray[np.float64]:
    surrogate = SURROGATES[name]
    values_NM = surrogate.final(surrogate.candidates())
    feasible_NM = values_NM[surrogate.feasible(values_NM)]
    return feasible_NM[non_dominated(feasible_NM)]
