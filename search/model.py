"""The sampler's view of a study: what is told to Optuna's samplers, apart from the record.

The record (`search.ledger`) says what happened. A model of what to try next is another matter: a
trial that was stopped early has no final values, and yet tells that its region is poor. So the
sampler works on an Optuna study of its own, in memory, that is built anew from the record at
every start, and costs no transaction per drawn value. Everything in it is minimised.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from analysis.pareto import non_domination_rank
from trainables.errors import unknown_name
from trainables.seeds import derive_seed

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random")
GRID_SAMPLER = "grid"  # draws nothing: every trial of a grid is given

# What samplers are told of a trial that was stopped early; chosen by `benchmarks.search`.
STOPPED_VIEWS = ("poor", "ignored", "rung")

# Samplers whose cost of a draw grows with what they were told, and how many trials they are told
# of at most: the best and the newest. A draw then takes tens of milliseconds, however long a study.
_BOUNDED = ("tpe", "gp")
_MAX_TOLD = 400

_TOLD = (TrialState.COMPLETE, TrialState.PRUNED)
_GENERATION = "generation"  # part of the name of NSGA's system attribute

T = TypeVar("T")


def make_sampler(name: str, seed: int, num_startup_trials: int) -> optuna.samplers.BaseSampler:
    """A multi-objective sampler. Raises `UserError` for an unknown name."""
    with quiet():
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
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=num_startup_trials)
        if name == "nsga3":
            return optuna.samplers.NSGAIIISampler(seed=seed, population_size=num_startup_trials)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=num_startup_trials)
        if name in ("random", GRID_SAMPLER):
            return optuna.samplers.RandomSampler(seed=seed)
    raise unknown_name("sampler", name, SAMPLERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """A drawn trial. marks: what its sampler noted of it (the generation, of NSGA)."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    marks: Mapping[str, Any] = field(default_factory=dict)


class Model:
    """Draws trials and learns how they ended. One per driver; not thread-safe.

    num_objectives: length of every vector of values, minimised.
    seed: with a trial's number and what was told before, all that a draw depends on; a restarted
      driver that tells the same trials draws the same.
    stopped: what is told of a trial that was stopped early: `poor`, that it is worse than every
      complete one (Optuna's PRUNED); `ignored`, nothing; `rung`, its last vector, as if final.
    """

    def __init__(
        self,
        *,
        num_objectives: int,
        sampler: str,
        seed: int,
        num_startup_trials: int = 10,
        stopped: str = "poor",
    ) -> None:
        if stopped not in STOPPED_VIEWS:
            raise unknown_name("view of stopped trials", stopped, STOPPED_VIEWS)
        self._sampler = sampler
        self._seed = seed
        self._num_startup_trials = num_startup_trials
        self._stopped = stopped
        self._live: dict[int, optuna.Trial] = {}  # by the trial's number in the record
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._num_objectives = num_objectives
        self._study = self._empty_study()

    def ask(
        self,
        number: int,
        suggest: Callable[[optuna.Trial], T],
        fixed: Mapping[str, Any] | None = None,
    ) -> tuple[T, Draw]:
        """Draw trial `number` by `suggest`; `fixed` values are taken instead of drawn ones.

        Returns what `suggest` gave, and what was drawn, for the record.
        """
        with quiet():
            if fixed:
                self._study.enqueue_trial(dict(fixed))
            # A fresh generator for every trial: a restarted driver needs no saved one.
            self._study.sampler = make_sampler(
                self._sampler,
                derive_seed(self._seed, "sampler", number) % 2**32,
                self._num_startup_trials,
            )
            trial = self._study.ask()
            drawn = suggest(trial)
        self._live[number] = trial
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        kept = {k: v for k, v in frozen.system_attrs.items() if _GENERATION in k}
        return drawn, Draw(params=trial.params, distributions=trial.distributions, marks=kept)

    def tell(
        self,
        number: int,
        status: str,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """How trial `number` ended, by a status of `trainables.report`.

        values: the final ones; of a stopped trial, those of its last report; None if it has none.
        violations: of the constraints by name, positive where one does not hold.
        """
        trial = self._live.pop(number)
        state, told = self._view(status, values)
        if state != TrialState.FAIL:
            for name, value in (violations or {}).items():
                trial.set_constraint(name, value)
        with quiet():
            self._study.tell(trial, told, state)
        self._forget()

    def learn(
        self,
        draw: Draw,
        status: str,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """A trial that ended before this driver began, or in another study."""
        state, told = self._view(status, values)
        if state == TrialState.FAIL:
            return
        with quiet():
            self._study.add_trial(
                create_trial(
                    state=state,
                    values=told,
                    params=dict(draw.params),
                    distributions=dict(draw.distributions),
                    system_attrs=dict(draw.marks),
                    constraints=dict(violations or {}) or None,
                )
            )
        self._forget()

    def resume(self, number: int, draw: Draw) -> None:
        """A trial that an earlier driver left running."""
        with quiet():
            self._study.enqueue_trial(dict(draw.params))
            self._study.sampler = make_sampler("random", 0, self._num_startup_trials)
            self._live[number] = self._study.ask(fixed_distributions=dict(draw.distributions))

    def _empty_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with quiet():
            return optuna.create_study(directions=["minimize"] * self._num_objectives)

    def _forget(self) -> None:
        """Where twice as many trials were told as need be, go on with the better half by
        non-domination rank, and the newest: all that a sampler draws on."""
        told = [t for t in self._study.get_trials(deepcopy=False) if t.state in _TOLD]
        if self._sampler not in _BOUNDED or len(told) < 2 * _MAX_TOLD:
            return
        feasible = [t for t in told if t.values and all(v <= 0 for v in t.constraints.values())]
        values = [t.values for t in feasible] or np.empty((0, self._num_objectives))
        ranks = non_domination_rank(values)
        best = sorted(zip(ranks, feasible, strict=True), key=lambda rt: (rt[0], -rt[1].number))
        kept = {t.number: t for _, t in best[: _MAX_TOLD // 2]}
        for trial in reversed(told):
            if len(kept) == _MAX_TOLD:
                break
            kept[trial.number] = trial
        live = {
            number: Draw(params=trial.params, distributions=trial.distributions)
            for number, trial in self._live.items()
        }
        self._study = self._empty_study()
        with quiet():
            self._study.add_trials([kept[number] for number in sorted(kept)])
        for number, draw in live.items():
            self.resume(number, draw)

    def _view(
        self, status: str, values: Sequence[float] | None
    ) -> tuple[TrialState, list[float] | None]:
        if status in ("complete", "infeasible") and values is not None:
            return TrialState.COMPLETE, list(values)
        if status == "stopped" and self._stopped == "rung" and values is not None:
            return TrialState.COMPLETE, list(values)
        if status == "stopped" and self._stopped == "poor":
            return TrialState.PRUNED, None
        return TrialState.FAIL, None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's notes that an API is experimental: versions are pinned."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield
