"""Proposes what to try next from learning curves: Bayesian optimisation over several fidelities.

Shape suffixes: C candidates, P trials at work, F members of the front, M objectives, S samples,
W weights.

A Gaussian process for every objective has the configuration and the fraction of training as its
features, so that trials that are at work or were stopped early teach as well, and slow learners
are told from poor ones. Of many candidates, half of them drawn and half mutated from the front,
and then in rounds of more near the best so far, until none of these is better, the one is taken
whose gain in hypervolume is largest on average over joint samples of the posterior (Daulton et al.
2020, "Differentiable Expected Hypervolume Improvement for Parallel Multi-Objective Bayesian
Optimization", equation 4). Trials at work end as in each sample, so that no two workers get the
same.

Deviations: hypervolumes are means over random directions, which takes any number of objectives
(Zhang and Golovin 2020, "Random hypervolume scalarizations for provable multi-objective black box
optimization", equation 3); candidates are compared rather than climbed from, for the sake of
choices and conditions; and samples deviate from the mean by a share of what the posterior says:
a budget of tens of trials does not pay for all the exploring that an endless one would.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from analysis.statistics.pareto import non_dominated
from search.samplers.candidates import drawn_and_mutated, moved_a_little
from search.samplers.further_gain import batch_gain, reach_in_directions, trend_gain
from search.samplers.gaussian_process import GaussianProcess, hyperparameters
from search.samplers.prior import Prior
from spaces.space import GivenValues, Parameter, Space
from trainables.seeds import derive_seed

_MIN_COMPLETE = 2  # trials; before, draws are random
_NUM_REFINED = 100  # more candidates in a round, near the best
_NUM_BEST = 5
_MAX_ROUNDS = 6
_NUM_SAMPLES = 32
_BOLDNESS = 0.6  # share of the posterior's deviations that samples have; measured, 0.3 to 1
MILESTONES = (1.0 / 9.0, 1.0 / 3.0)  # a curve is learned at its first reports after these
_MAX_POINTS = 240  # a draw from so many takes 0.1 s
_MAX_FRESH = 120  # of up to so many points, hyperparameters are fitted for every draw
_GROWTH = 1.1  # and then when the trials that have ended are so many times as many
_EPSILON = 1e-9

_Floats = NDArray[np.float64]
# What a trial said: the fraction of training, the values, the violations of constraints.
_Point = tuple[float, tuple[float, ...], Mapping[str, float]]


@dataclass(slots=True)
class _Curve:
    """Holds what is known of a trial. points: by milestone; that of the end is 1."""

    params: Mapping[str, Any]
    points: dict[float, _Point] = field(default_factory=dict)
    ended: bool = False


class CurveModel:
    """Proposes trials. Everything is minimised; one per driver; not thread-safe.

    seed: with a trial's number and what was told, all that a proposal depends on.
    """

    def __init__(self, *, num_objectives: int, seed: int, prior: Prior | None = None) -> None:
        self._num_objectives = num_objectives
        self._seed = seed
        self._prior = prior
        self._curves: dict[int, _Curve] = {}

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """Learn that a trial is at work; once is enough. Other studies' have numbers below 0."""
        self._curves.setdefault(number, _Curve(params=dict(params)))

    def reported(
        self,
        number: int,
        fraction: float,
        values: Sequence[float],
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Learn from the first report after each milestone, before the end.

        values: with the cost of the end, as the scheduler has them; left out if not finite.
        """
        reached = [m for m in MILESTONES if m <= fraction + _EPSILON]
        if not reached or fraction >= 1.0 - _EPSILON:
            return
        known = self._curves[number].points.get(reached[-1])
        if known is None or fraction < known[0]:  # in whatever order a restart tells them
            self._add(number, reached[-1], (fraction, tuple(values), dict(violations or {})))

    def ended(
        self,
        number: int,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Learn that a trial ended. values: the final ones; None if it was stopped or failed."""
        self._curves[number].ended = True
        if values is not None:
            self._add(number, 1.0, (1.0, tuple(values), dict(violations or {})))

    @threadpool_limits.wrap(limits=1)  # small matrices: threads that wait for a busy core lose
    def propose(self, number: int, space: Space) -> dict[str, Any] | None:
        """Return values for all parameters of trial `number`; None if too little is known."""
        curves = {n: c for n, c in sorted(self._curves.items()) if _is_drawn(c.params, space)}
        complete = [c for c in curves.values() if 1.0 in c.points]
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", number))
        if len(complete) < _MIN_COMPLETE:
            return None if self._prior is None else self._prior.near(space, {}, generator)
        names = sorted({name for c in complete for name in c.points[1.0][2]})
        feasible = [c for c in complete if all(x <= 0 for x in c.points[1.0][2].values())]
        known = feasible or complete
        values_FM = np.array([c.points[1.0][1] for c in known], dtype=float)
        on_front = non_dominated(values_FM)
        parents = [c.params for c, on in zip(known, on_front, strict=True) if on]
        working = [c.params for c in curves.values() if not c.ended]
        ended = [c.params for c in curves.values() if c.ended]
        belief = self._prior and self._prior.held(space, ended, parents, len(complete), generator)
        posterior = _Posterior(space, list(curves.values()), names)

        def scores(candidates: Sequence[Mapping[str, Any]]) -> _Floats:
            """Return (C, 2): what is gained, and what is missed of the constraints.

            Every round has samples of its own: a candidate that was lucky in one must lead again.
            """
            drawn_SKM = posterior.sample([*working, *candidates], generator)
            ends_SKM, missed_SK = np.split(drawn_SKM, [self._num_objectives], axis=2)
            missed_SK = np.maximum(missed_SK, 0.0).sum(axis=2)
            missed_C = missed_SK[:, len(working) :].mean(axis=0)
            gain_C = np.zeros(len(candidates))
            if feasible:
                front_FM = values_FM[on_front]
                spare_M = np.ptp(values_FM, axis=0)
                holds_SK = missed_SK <= 0.0
                gain_C = _gains(ends_SKM, holds_SK, front_FM, len(working), generator, spare_M)
                gain_C *= belief.weights(candidates) if belief else 1.0
            return np.column_stack([gain_C, missed_C])

        candidates = drawn_and_mutated(space, parents, generator)
        candidates = belief.mixed_into(candidates) if belief else candidates
        best = [candidates[index] for index in _best_first(scores(candidates))[:_NUM_BEST]]
        leader = None
        for _ in range(_MAX_ROUNDS):
            chosen = (best[index % len(best)] for index in range(_NUM_REFINED))
            near = [moved_a_little(space, parent, generator) for parent in chosen]
            candidates = [*best, *(belief.kept(near) if belief else near)]
            best = [candidates[index] for index in _best_first(scores(candidates))[:_NUM_BEST]]
            if best[0] is leader:
                break
            leader = best[0]
        return best[0]

    def believe(self, number: int, space: Space) -> dict[str, Any] | None:
        """Return a draw from the prior for trial `number`; None without one, or by chance.

        It is for samplers that know nothing of priors.
        """
        if self._prior is None:
            return None
        ended = [c for c in self._drawn_in(space) if c.ended]
        complete, _, parents = _front(ended)
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", number))
        params = [c.params for c in ended]
        belief = self._prior.held(space, params, parents, len(complete), generator)
        return self._prior.near(space, {}, generator) if belief.drawn else None

    @threadpool_limits.wrap(limits=1)
    def further_gain(self, space: Space, num_trials: int) -> float | None:
        """Return what so many more full-length trials would add, as a share of the hypervolume.

        Of the trials that ended alone, so that it is the same after a restart. None where too few
        are complete, or none holds the constraints.
        """
        curves = [c for c in self._drawn_in(space) if c.ended]
        complete, front_FM, parents = _front(curves)
        if len(complete) < _MIN_COMPLETE or front_FM is None:
            return None
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", -len(curves)))
        candidates = drawn_and_mutated(space, parents, generator)
        names = sorted({name for c in complete for name in c.points[1.0][2]})
        drawn_SCM = _Posterior(space, curves, names).sample(candidates, generator)
        ends_SCM, missed_SC = np.split(drawn_SCM, [self._num_objectives], axis=2)
        holds_SC = np.maximum(missed_SC, 0.0).sum(axis=2) <= 0.0
        return batch_gain(ends_SCM, holds_SC, front_FM, num_trials, generator)

    def recent_gain(self, num_trials: int) -> float | None:
        """Return the same as `further_gain`, by what the study's own last trials added."""
        ended = [c for n, c in sorted(self._curves.items()) if n >= 0 and c.ended]
        complete = [c.points[1.0] for c in ended if 1.0 in c.points]
        held = [values for _, values, missed in complete if all(x <= 0 for x in missed.values())]
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", -len(ended)))
        return trend_gain(np.array(held, dtype=float), num_trials, generator)

    def _drawn_in(self, space: Space) -> list[_Curve]:
        return [c for _, c in sorted(self._curves.items()) if _is_drawn(c.params, space)]

    def _add(self, number: int, milestone: float, point: _Point) -> None:
        _, values, violations = point
        if all(map(math.isfinite, (*values, *violations.values()))):
            self._curves[number].points[milestone] = point


class _Posterior:
    """Holds what is believed of the ends of trials: their objectives, then what they miss of names.

    Of many points, hyperparameters are those of the first trials that ended, whose number grows by
    a tenth at a time: so most draws find them in memory. Whether they do changes nothing.
    """

    def __init__(self, space: Space, curves: Sequence[_Curve], names: Sequence[str]) -> None:
        self._encoder = _Encoder(space)
        features_ND, output_NM = settled_ND, settled_NM = self._table(curves, names)
        if len(features_ND) > _MAX_FRESH:
            ended = [curve for curve in curves if curve.ended and curve.points]
            num_settled = math.ceil(_GROWTH ** int(math.log(len(ended), _GROWTH)))
            settled_ND, settled_NM = self._table(ended[:num_settled], names)
        groups, settled = self._encoder.groups, settled_ND.tobytes()
        thetas = [hyperparameters(groups, settled, column.tobytes()) for column in settled_NM.T]
        self._processes = [
            GaussianProcess(groups, features_ND, *given)
            for given in zip(output_NM.T, thetas, strict=True)
        ]

    def sample(self, asked: Sequence[Mapping[str, Any]], generator: np.random.Generator) -> _Floats:
        """Draw the ends of `asked` (S, K, M), jointly over these."""
        features_KD = self._encoder.encode(asked, 1.0)
        sizes = len(self._processes), _NUM_SAMPLES, len(asked)
        both = zip(self._processes, _BOLDNESS * generator.normal(size=sizes), strict=True)
        return np.stack([process.sample(features_KD, normal) for process, normal in both], axis=2)

    def _table(self, curves: Sequence[_Curve], names: Sequence[str]) -> tuple[_Floats, _Floats]:
        # By milestone, in whatever order a restart tells them.
        points = [(c.params, *point) for c in curves for _, point in sorted(c.points.items())]
        # The ends first, then what is new: trials come in the order of their numbers.
        newest = sorted(range(len(points)), key=lambda i: (points[i][1] < 1.0, -i))[:_MAX_POINTS]
        params, fractions, values, missed = zip(*(points[i] for i in sorted(newest)), strict=True)
        rows = [[*v, *(m.get(n, 0.0) for n in names)] for v, m in zip(values, missed, strict=True)]
        return self._encoder.encode(params, fractions), np.array(rows)


def _gains(
    ends_SKM: _Floats,
    holds_SK: NDArray[np.bool_],
    front_FM: _Floats,
    num_working: int,
    generator: np.random.Generator,
    spare_M: _Floats | float = 1.0,
) -> _Floats:
    """Return the hypervolume that each candidate adds, on average over samples (C,).

    It is added to the front and to the trials at work, which are the first `num_working` of K.
    holds_SK: what misses a constraint adds nothing. spare_M: as in `reach_in_directions`.
    """
    reach = reach_in_directions(front_FM, len(ends_SKM), generator, spare_M)
    front_SFM = np.broadcast_to(front_FM, (len(ends_SKM), *front_FM.shape))
    volume_SKW = reach(ends_SKM) * holds_SK[:, :, None]
    there_SW = volume_SKW[:, :num_working].max(axis=1, initial=0.0)
    there_SW = np.maximum(there_SW, reach(front_SFM).max(axis=1))
    added_SCW = np.maximum(volume_SKW[:, num_working:] - there_SW[:, None], 0.0)
    return added_SCW.mean(axis=(0, 2))


def _front(
    curves: Sequence[_Curve],
) -> tuple[list[_Curve], _Floats | None, list[Mapping[str, Any]]]:
    """Return the complete trials, and the values (F, M) and configurations of their front.

    Those that hold the constraints are on it; without one, there is none.
    """
    complete = [c for c in curves if 1.0 in c.points]
    feasible = [c for c in complete if all(x <= 0 for x in c.points[1.0][2].values())]
    if not feasible:
        return complete, None, []
    values_FM = np.array([c.points[1.0][1] for c in feasible], dtype=float)
    on_front = non_dominated(values_FM)
    return (
        complete,
        values_FM[on_front],
        [c.params for c, on in zip(feasible, on_front, strict=True) if on],
    )


def _best_first(score_C2: _Floats) -> NDArray[np.intp]:
    """Order by gain; where nothing that holds the constraints gains, by the nearest miss."""
    gain_C, missed_C = score_C2.T
    return np.lexsort((missed_C, -gain_C))


def _is_drawn(params: Mapping[str, Any], space: Space) -> bool:
    """Return whether `space` could draw just these; a reference of another method it could not."""
    try:
        drawn = space.suggest(GivenValues(params))
    except KeyError:
        return False
    free = [p for p in space.parameters if p.name in drawn and p.name not in space.fixed]
    return all(parameter.contains(drawn[parameter.name]) for parameter in free)


class _Encoder:
    """Makes numbers for a Gaussian process: ranges on [-1, 1], a feature for each choice, and time.

    A parameter that a configuration does not read is 0 in all its features.
    """

    def __init__(self, space: Space) -> None:
        self._parameters = [p for p in space.parameters if p.name not in space.fixed]
        sizes = [*(max(1, len(p.choices)) for p in self._parameters), 1]
        self.groups = tuple(group for group, size in enumerate(sizes) for _ in range(size))

    def encode(self, asked: Sequence[Mapping[str, Any]], fractions: ArrayLike) -> _Floats:
        """Return the features (N, D) of configurations at fractions of training."""
        columns = [column for p in self._parameters for column in _features(p, asked)]
        # 1 at the end, 0 at a third of training, -1 at a ninth: where curves are learned.
        time_N = np.broadcast_to(1.0 + np.log(fractions) / math.log(3.0), len(asked))
        return np.column_stack([*columns, time_N])


def _features(parameter: Parameter, asked: Sequence[Mapping[str, Any]]) -> list[ArrayLike]:
    given = [params.get(parameter.name, math.nan) for params in asked]
    if parameter.kind == "categorical":
        return [[value == choice for value in given] for choice in parameter.choices]
    value_N = np.array([parameter.low, parameter.high, *given], dtype=float)
    value_N = np.log(value_N) if parameter.log else value_N
    low, high = value_N[:2]
    return [np.nan_to_num(2.0 * (value_N[2:] - low) / (high - low or 1.0) - 1.0)]
