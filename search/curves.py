"""What to try next, learned from learning curves: Bayesian optimisation over several fidelities.

Shape suffixes: C candidates, P trials at work, F members of the front, M objectives, W weights.

A Gaussian process for every objective has the configuration and the fraction of training as its
features, so that trials that are at work or were stopped early teach as well, and slow learners
are told from poor ones. A cost that is known with the configuration is not predicted. Of many
candidates, half of them drawn and half mutated from the front, the one is taken that is expected
to add the most hypervolume, by random scalarisations (Zhang and Golovin 2020, "Random hypervolume
scalarizations for provable multi-objective black box optimization", equation 3). Trials at work
count as ended at their predicted ends, so that no two workers get the same.

Deviations, measured by `benchmarks.search`: the posterior mean is used, without a bonus for what
is uncertain (mutation explores), and improvements are not averaged over the posterior.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.pareto import non_dominated
from search.gaussian_process import GaussianProcess
from spaces.space import GivenValues, Parameter, Space
from trainables.seeds import derive_seed

_MIN_COMPLETE = 2  # trials; before, draws are random
_NUM_CANDIDATES = 400
_NUM_WEIGHTS = 128
_REFERENCE = 1.1  # of the front's range, as everywhere (analysis.indicators)
_MILESTONES = (1.0 / 9.0, 1.0 / 3.0)  # a curve is learned at its first reports after these
_MAX_POINTS = 240  # a fit of so many takes a fifth of a second
_STEPS = (0.03, 0.1, 0.3)  # deviations of a mutation, in shares of a parameter's range
_REDRAWN = 0.1  # share of numbers that a mutation draws anew; and of choices
_REDRAWN_CHOICES = 0.15
_UNMOVED = 0.3  # share of the other numbers that it leaves as they are
_EPSILON = 1e-9

KnownCost = Callable[[Mapping[str, Any]], float | None]


@dataclass(slots=True)
class _Curve:
    """What is known of a trial. points: (fraction, values, violations) by milestone, then 1."""

    params: Mapping[str, Any]
    points: dict[float, tuple[float, tuple[float, ...], Mapping[str, float]]] = field(
        default_factory=dict
    )
    ended: bool = False


class CurveModel:
    """Proposes trials. Everything is minimised; one per driver; not thread-safe.

    known_cost: the last objective of a configuration, where it is known beforehand.
    seed: with a trial's number and what was told, all that a proposal depends on.
    """

    def __init__(
        self, *, num_objectives: int, seed: int, known_cost: KnownCost | None = None
    ) -> None:
        self._num_objectives = num_objectives
        self._seed = seed
        self._known_cost = known_cost or (lambda params: None)
        self._curves: dict[int, _Curve] = {}

    def knows(self, number: int) -> bool:
        """Whether the trial was started."""
        return number in self._curves

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial is at work. Trials of other studies have numbers below 0."""
        self._curves[number] = _Curve(params=dict(params))

    def reported(
        self,
        number: int,
        fraction: float,
        values: Sequence[float],
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Of the reports before the end, the first after each milestone is learned from.

        values: with the cost of the end, as the scheduler has them. What is not finite is left
        out.
        """
        reached = [m for m in _MILESTONES if m <= fraction + _EPSILON]
        if not reached or fraction >= 1.0 - _EPSILON:
            return
        known = self._curves[number].points.get(reached[-1])
        if known is None or fraction < known[0]:  # in whatever order a restart tells them
            self._add(number, reached[-1], fraction, values, violations or {})

    def ended(
        self,
        number: int,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """values: the final ones; None for a trial that was stopped or failed."""
        self._curves[number].ended = True
        if values is not None:
            self._add(number, 1.0, 1.0, values, violations or {})

    def propose(self, number: int, space: Space) -> dict[str, Any] | None:
        """Values for all parameters of trial `number`; None where too little is known."""
        curves = {n: c for n, c in sorted(self._curves.items()) if _is_drawn(c.params, space)}
        complete = [c for c in curves.values() if 1.0 in c.points]
        if len(complete) < _MIN_COMPLETE:
            return None
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", number))
        names = sorted({name for c in complete for name in c.points[1.0][2]})
        final = [(c.params, *c.points[1.0][1:]) for c in complete]
        feasible = [(p, v) for p, v, missed in final if all(x <= 0 for x in missed.values())]
        known = feasible or [(p, v) for p, v, _ in final]
        values_FM = np.array([values for _, values in known])
        on_front = non_dominated(values_FM)
        parents = [params for (params, _), on in zip(known, on_front, strict=True) if on]
        candidates = _candidates(space, parents, generator)
        working = [c.params for c in curves.values() if not c.ended]
        ends, missed = self._predict(space, list(curves.values()), [*candidates, *working], names)
        num = len(candidates)
        violation_C = np.maximum(missed[:num], 0.0).sum(axis=1) if names else np.zeros(num)
        if not feasible:
            return candidates[int(np.argmin(violation_C))]
        gain_C = _gains(ends[:num], values_FM[on_front], ends[num:], generator)
        holds_C = violation_C <= 0.0
        # Where nothing that is expected to hold the constraints gains, the nearest miss does.
        order = np.lexsort((violation_C, -gain_C * holds_C))
        return candidates[int(order[0])]

    def _add(
        self,
        number: int,
        milestone: float,
        fraction: float,
        values: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        if all(map(math.isfinite, (*values, *violations.values()))):
            point = (fraction, tuple(map(float, values)), dict(violations))
            self._curves[number].points[milestone] = point

    def _predict(
        self,
        space: Space,
        curves: Sequence[_Curve],
        asked: Sequence[Mapping[str, Any]],
        names: Sequence[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of `asked`, the objectives at the end, (C, M), and the violations of `names`."""
        encoder = _Encoder(space)
        points = [(c.params, *point) for c in curves for point in c.points.values()]
        # The ends first, then what is new: trials come in the order of their numbers.
        newest = sorted(range(len(points)), key=lambda i: (points[i][1] < 1.0, -i))[:_MAX_POINTS]
        points = [points[index] for index in sorted(newest)]
        features = np.array([encoder.encode(params, t) for params, t, _, _ in points])
        wanted = np.array([encoder.encode(params, 1.0) for params in asked])

        def predicted(outputs: Sequence[float]) -> NDArray[np.float64]:
            return GaussianProcess(encoder.groups, features, outputs).predict(wanted)[0]

        columns = [
            predicted([values[j] for _, _, values, _ in points])
            for j in range(self._num_objectives - 1)
        ]
        costs = [self._known_cost(params) for params in asked]
        if any(cost is None for cost in costs):
            columns.append(predicted([values[-1] for _, _, values, _ in points]))
        else:
            columns.append(np.array(costs, dtype=float))
        missed = [predicted([m.get(name, 0.0) for *_, m in points]) for name in names]
        return np.column_stack(columns), np.column_stack(missed) if missed else np.empty((0, 0))


def _gains(
    ends_CM: NDArray[np.float64],
    front_FM: NDArray[np.float64],
    working_PM: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """(C,): the hypervolume that each candidate adds to the front and the trials at work.

    The mean over directions λ of max(0, min_i (r_i - v_i) / λ_i)^M is the hypervolume, up to a
    constant.
    """
    low_M, high_M = front_FM.min(axis=0), front_FM.max(axis=0)
    width_M = np.where(high_M > low_M, high_M - low_M, 1.0)
    num_objectives = front_FM.shape[1]
    weights_WM = np.abs(generator.normal(size=(_NUM_WEIGHTS, num_objectives)))
    weights_WM /= np.linalg.norm(weights_WM, axis=1, keepdims=True)

    def lengths(values_KM: NDArray[np.float64]) -> NDArray[np.float64]:
        room_KM = _REFERENCE - (values_KM - low_M) / width_M
        reach_KW = (room_KM[:, None, :] / weights_WM[None]).min(axis=2)
        volumes: NDArray[np.float64] = np.maximum(reach_KW, 0.0) ** num_objectives
        return volumes

    there_W = lengths(np.vstack([front_FM, working_PM])).max(axis=0)
    gains: NDArray[np.float64] = np.maximum(lengths(ends_CM) - there_W, 0.0).mean(axis=1)
    return gains


def _is_drawn(params: Mapping[str, Any], space: Space) -> bool:
    """Whether `space` could have drawn just these: a reference of another method it could not."""
    try:
        drawn = space.suggest(GivenValues(params))
    except KeyError:
        return False
    return all(
        parameter.contains(drawn[parameter.name])
        for parameter in space.parameters
        if parameter.name in drawn and parameter.name not in space.fixed
    )


def _candidates(
    space: Space, parents: Sequence[Mapping[str, Any]], generator: np.random.Generator
) -> list[dict[str, Any]]:
    drawn = [_Mutation({}, 0.0, generator) for _ in range(_NUM_CANDIDATES // 2)]
    mutated = [
        _Mutation(
            parents[int(generator.integers(len(parents)))],
            float(generator.choice(_STEPS)),
            generator,
        )
        for _ in range(_NUM_CANDIDATES // 2)
    ]
    candidates = []
    for trial in (*drawn, *mutated):
        space.suggest(trial)
        candidates.append(trial.values)
    return candidates


class _Mutation:
    """Stands in for a trial of Optuna: a parent's values, moved a little; others are drawn.

    values: what was given, by name.
    """

    def __init__(
        self, parent: Mapping[str, Any], step: float, generator: np.random.Generator
    ) -> None:
        self._parent = parent
        self._step = step
        self._generator = generator
        self.values: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        forth, back = (math.log, math.exp) if log else (float, float)
        bottom, top = forth(low), forth(high)
        if name not in self._parent or self._generator.random() < _REDRAWN:
            place = self._generator.uniform(bottom, top)
        else:
            place = forth(self._parent[name])
            if self._generator.random() >= _UNMOVED:
                place += self._generator.normal() * self._step * (top - bottom)
        value = min(max(back(min(max(place, bottom), top)), low), high)
        self.values[name] = value
        return value

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        value = min(max(round(self.suggest_float(name, low, high, log=log)), low), high)
        self.values[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        kept = name in self._parent and self._generator.random() >= _REDRAWN_CHOICES
        value = self._parent[name] if kept else choices[int(self._generator.integers(len(choices)))]
        self.values[name] = value
        return value


class _Encoder:
    """Numbers for a Gaussian process: ranges on [-1, 1], choices one feature each, and time.

    A parameter that a configuration does not read is 0 in all its features.
    """

    def __init__(self, space: Space) -> None:
        self._parameters = [p for p in space.parameters if p.name not in space.fixed]
        self.groups: list[int] = []
        for group, parameter in enumerate(self._parameters):
            self.groups += [group] * max(1, len(parameter.choices))
        self.groups.append(len(self._parameters))

    def encode(self, params: Mapping[str, Any], fraction: float) -> list[float]:
        features: list[float] = []
        for parameter in self._parameters:
            features += _features(parameter, params)
        # 1 at the end, 0 at a third of training, -1 at a ninth: where rungs are.
        return [*features, 1.0 + math.log(fraction) / math.log(3.0)]


def _features(parameter: Parameter, params: Mapping[str, Any]) -> list[float]:
    if parameter.kind == "categorical":
        return [float(params.get(parameter.name) == choice) for choice in parameter.choices]
    if parameter.name not in params:
        return [0.0]
    assert parameter.low is not None
    assert parameter.high is not None
    forth = math.log if parameter.log else float
    low, high = forth(parameter.low), forth(parameter.high)
    width = high - low
    return [2.0 * (forth(params[parameter.name]) - low) / width - 1.0 if width else 0.0]
