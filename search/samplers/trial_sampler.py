"""Draws trials, and tells Optuna's samplers of them apart from the record.

A trial that was stopped early has no final values, and yet tells that its region is poor. So the
sampler works on an Optuna study of its own, in memory, that is built anew from the record at every
start. Everything in it is minimised.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import BaseTrial, TrialState, create_trial

from search.plans.recipe import GRID_SAMPLER, SAMPLERS
from search.samplers.learning_curves import CurveModel
from search.samplers.prior import Prior
from spaces.space import Space
from trainables.errors import unknown_name
from trainables.seeds import derive_seed

# Optuna's version is pinned: that some of it is experimental is no news.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

Vector = Sequence[float] | None  # one value for each objective, minimised; None where unknown
Violations = Mapping[str, float]  # of the constraints by name, positive where missed

CURVES = "curves"  # our own, see `search.samplers.learning_curves`


def make_sampler(name: str, seed: int, num_startup_trials: int) -> optuna.samplers.BaseSampler:
    """Return a multi-objective sampler of Optuna. Raises `UserError` for an unknown name."""
    if name == "tpe":
        # Groups: one joint density per set of parameters that occur together, so that
        # conditional parameters are not drawn independently of their condition.
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=num_startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=num_startup_trials)
    if name in (CURVES, "random", GRID_SAMPLER):  # curves: what it does not propose
        return optuna.samplers.RandomSampler(seed=seed)
    raise unknown_name("sampler", name, SAMPLERS)


class TrialSampler:
    """Draws trials and learns how they ended. One per driver; not thread-safe.

    seed: with a trial's number and what was told before, all that a draw depends on. A restarted
      driver that tells of every trial so far, in the order of their numbers, draws the same by
      `curves` and `random`; Optuna's own samplers may draw otherwise while trials are at work.
    """

    def __init__(
        self,
        *,
        num_objectives: int,
        sampler: str,
        seed: int,
        num_startup_trials: int = 10,
        prior: Prior | None = None,
    ) -> None:
        self._sampler = sampler
        self._seed = seed
        self._num_startup_trials = num_startup_trials
        self._curves = CurveModel(seed=seed, prior=prior)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            directions=["minimize"] * num_objectives,
            sampler=make_sampler(sampler, seed, num_startup_trials),
        )
        self._live: dict[int, optuna.Trial] = {}  # by the trial's number in the record

    def ask(
        self, number: int, space: Space, fixed: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], optuna.Trial]:
        """Draw trial `number`; `fixed` values are taken instead of drawn ones.

        Returns all active parameters with their values, and what was drawn, for the record.
        """
        if fixed is None and self._sampler == CURVES:
            fixed = self._curves.propose(number, space)
        elif fixed is None:
            fixed = self._curves.believe(number, space)
        if fixed:
            self._study.enqueue_trial(dict(fixed))
        # A fresh generator for every trial: a restarted driver needs no saved one.
        seed = derive_seed(self._seed, "sampler", number) % 2**32
        self._study.sampler = make_sampler(self._sampler, seed, self._num_startup_trials)
        trial = self._study.ask()
        drawn = space.suggest(trial)
        self._live[number] = trial
        self._curves.started(number, trial.params)
        return drawn, trial

    def report(
        self, number: int, fraction: float, values: Sequence[float], violations: Violations
    ) -> None:
        """Learn what a trial reports at a fraction of training, before its end is told.

        values: with the cost that it will end with. violations: as for `tell`.
        """
        self._curves.reported(number, fraction, values, violations)

    def tell(
        self, number: int, status: str, values: Vector = None, violations: Violations | None = None
    ) -> None:
        """Learn how trial `number` ended, by a status of `trainables.report`.

        values: the final ones; of a stopped trial, those of its last report.
        violations: of the same constraints for every trial.
        """
        trial = self._live.pop(number)
        state, told = _view(status, values)
        self._curves.ended(number, told, violations)
        if told is not None:
            for name, value in (violations or {}).items():
                trial.set_constraint(name, value)
        self._study.tell(trial, told, state)

    def further_gain(self, space: Space, num_trials: int) -> float | None:
        """Return what so many more trials at full length would add to the hypervolume, as a share.

        By the model where it draws, else by the last trials; None where both know too little. It
        depends on nothing but the trials that ended.
        """
        gain = self._curves.further_gain(space, num_trials) if self._sampler == CURVES else None
        return self._curves.recent_gain(num_trials) if gain is None else gain

    def worth_finishing(self, number: int, space: Space, fraction: float) -> bool:
        """Return whether a trial is worth what is left of it after `fraction`; no without a model.

        For trials that a scheduler would stop: it goes by where others are, the model by what it
        expects of the end.
        """
        return self._sampler == CURVES and self._curves.worth_finishing(number, space, fraction)

    def learn(
        self,
        number: int,
        drawn: BaseTrial,
        status: str,
        values: Vector = None,
        violations: Violations | None = None,
    ) -> None:
        """Learn of a trial that ended before this driver began; below 0, in another study."""
        state, told = _view(status, values)
        self._curves.started(number, drawn.params)
        self._curves.ended(number, told, violations)
        ended = create_trial(
            state=state,
            values=told,
            params=drawn.params,
            distributions=drawn.distributions,
            constraints=dict(violations) if told is not None and violations else None,
        )
        self._study.add_trial(ended)

    def resume(self, number: int, drawn: BaseTrial) -> None:
        """Take over a trial that an earlier driver left running."""
        self._curves.started(number, drawn.params)
        self._study.enqueue_trial(drawn.params)
        self._live[number] = self._study.ask(fixed_distributions=drawn.distributions)


def _view(status: str, values: Vector) -> tuple[TrialState, list[float] | None]:
    """Return what samplers are told of an end: of a stopped trial, that it is poor."""
    if status == "stopped":
        return TrialState.PRUNED, None
    final = status in ("complete", "infeasible")
    if final and values is not None and all(map(math.isfinite, values)):
        return TrialState.COMPLETE, list(values)
    return TrialState.FAIL, None
