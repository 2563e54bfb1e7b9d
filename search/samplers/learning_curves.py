"""Proposes what to try next from learning curves: Bayesian optimisation over several fidelities.

Shape suffix: C candidates.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from search.samplers.candidates import drawn_and_mutated, moved_a_little
from search.samplers.further_gain import trend_gain
from search.samplers.outlook import Outlook, best_first
from search.samplers.posterior import Curve, Point
from search.samplers.prior import Belief, Prior
from spaces.space import GivenValues, Space
from trainables.seeds import derive_seed

_MIN_COMPLETE = 2  # trials; before, draws are random
_NUM_REFINED = 100  # more candidates in a round, near the best
_NUM_BEST = 5
_MAX_ROUNDS = 6
MILESTONES = (1.0 / 9.0, 1.0 / 3.0)  # a curve is learned at its first reports after these
_EPSILON = 1e-9


class CurveModel:
    """Proposes trials. Everything is minimised; one per driver; not thread-safe.

    seed: with a trial's number and what was told, all that a proposal depends on.
    """

    def __init__(self, *, seed: int, prior: Prior | None = None) -> None:
        self._seed = seed
        self._prior = prior
        self._curves: dict[int, Curve] = {}

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """Learn that a trial is at work; once is enough. Other studies' have numbers below 0."""
        self._curves.setdefault(number, Curve(params=dict(params)))

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
        curves = self._drawn_in(space)
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", number))
        outlook = Outlook(space, curves)
        if outlook.num_complete < _MIN_COMPLETE:
            return None if self._prior is None else self._prior.near(space, {}, generator)
        working = [c.params for c in curves if not c.ended]
        belief = self._held(space, curves, outlook, generator)

        def scores(candidates: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
            score_C2 = outlook.scores(working, candidates, generator)
            if belief and outlook.feasible:
                score_C2[:, 0] *= belief.weights(candidates)
            return score_C2

        parents = outlook.parents
        candidates = drawn_and_mutated(space, parents, generator)
        candidates = belief.mixed_into(candidates) if belief else candidates
        best = [candidates[index] for index in best_first(scores(candidates))[:_NUM_BEST]]
        leader = None
        for _ in range(_MAX_ROUNDS):
            chosen = (best[index % len(best)] for index in range(_NUM_REFINED))
            near = [moved_a_little(space, parent, generator) for parent in chosen]
            candidates = [*best, *(belief.kept(near) if belief else near)]
            best = [candidates[index] for index in best_first(scores(candidates))[:_NUM_BEST]]
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
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", number))
        belief = self._held(space, ended, Outlook(space, ended), generator)
        return self._prior.near(space, {}, generator) if belief and belief.drawn else None

    @threadpool_limits.wrap(limits=1)
    def further_gain(self, space: Space, num_trials: int) -> float | None:
        """Return what so many more full-length trials would add, as a share of the hypervolume.

        Of the trials that ended alone, so that it is the same after a restart. None where too few
        are complete, or none holds the constraints.
        """
        curves = [c for c in self._drawn_in(space) if c.ended]
        outlook = Outlook(space, curves)
        if outlook.num_complete < _MIN_COMPLETE or not outlook.feasible:
            return None
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", -len(curves)))
        candidates = drawn_and_mutated(space, outlook.parents, generator)
        return outlook.batch_gain(candidates, num_trials, generator)

    @threadpool_limits.wrap(limits=1)
    def worth_finishing(self, number: int, space: Space, fraction: float) -> bool:
        """Return whether a trial at work is worth what is left of its training after `fraction`.

        It is where an epoch more of it promises as much as one of the best new candidate: where
        its own expected gain is at least the candidate's, times the share of training left. Of
        a trial that has not reported after a milestone nothing is expected.
        """
        trial = self._curves[number]
        curves = self._drawn_in(space)
        outlook = Outlook(space, curves)
        known = _is_drawn(trial.params, space) and trial.points
        if not known or outlook.num_complete < _MIN_COMPLETE:
            return False
        generator = np.random.default_rng(derive_seed(self._seed, "stopping", number))
        fresh = drawn_and_mutated(space, outlook.parents, generator)
        others = [c.params for c in curves if not c.ended and c is not trial]
        own, *new = outlook.scores(others, [trial.params, *fresh], generator)[:, 0]
        return bool(own > 0.0 and own >= (1.0 - fraction) * max(new))

    def recent_gain(self, num_trials: int) -> float | None:
        """Return the same as `further_gain`, by what the study's own last trials added."""
        ended = [c for n, c in sorted(self._curves.items()) if n >= 0 and c.ended]
        held = [c.final for c in ended if c.feasible]
        generator = np.random.default_rng(derive_seed(self._seed, "sampler", -len(ended)))
        return trend_gain(np.array(held, dtype=float), num_trials, generator)

    def _held(
        self,
        space: Space,
        curves: Sequence[Curve],
        outlook: Outlook,
        generator: np.random.Generator,
    ) -> Belief | None:
        """Return the prior as far as what has ended bears it out; None without one."""
        if self._prior is None:
            return None
        ended = [c.params for c in curves if c.ended]
        return self._prior.held(space, ended, outlook.parents, outlook.num_complete, generator)

    def _drawn_in(self, space: Space) -> list[Curve]:
        return [c for _, c in sorted(self._curves.items()) if _is_drawn(c.params, space)]

    def _add(self, number: int, milestone: float, point: Point) -> None:
        _, values, violations = point
        if all(map(math.isfinite, (*values, *violations.values()))):
            self._curves[number].points[milestone] = point


def _is_drawn(params: Mapping[str, Any], space: Space) -> bool:
    """Return whether `space` could draw just these; a reference of another method it could not."""
    try:
        drawn = space.suggest(GivenValues(params))
    except KeyError:
        return False
    free = [p for p in space.parameters if p.name in drawn and p.name not in space.fixed]
    return all(parameter.contains(drawn[parameter.name]) for parameter in free)
