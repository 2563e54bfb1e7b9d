"""The sampler's view of a study: what is told to Optuna's samplers, apart from the record.

The record (`search.record.ledger`) says what happened. A model of what to try next is another
matter: a trial that was stopped early has no final values, and yet tells that its region is poor.
So the sampler works on an Optuna study of its own, in memory, that is built anew from the record at
every start, and costs no transaction per drawn value. Everything in it is minimised.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler
from optuna.trial import TrialState, create_trial

from analysis.statistics.pareto import non_domination_rank
from spaces.space import Space
from trainables.errors import unknown_name
from trainables.seeds import derive_seed

if TYPE_CHECKING:
    from search.samplers.learning_curves import KnownCost

CURVES = "curves"  # our own, see `search.samplers.learning_curves`
SAMPLERS = (CURVES, "tpe", "nsga2", "nsga3", "gp", "random")
GRID_SAMPLER = "grid"  # draws nothing: every trial of a grid is given

# What samplers are told of a trial that was stopped early; chosen by `benchmarks.search`.
STOPPED_VIEWS = ("poor", "ignored", "rung")

# Samplers whose cost of a draw grows with what they were told, and how many trials they are told
# of at most: the best and the newest. A draw then takes tens of milliseconds, however long a study.
_BOUNDED = ("tpe", "gp")
_MAX_TOLD = 400

_TOLD = (TrialState.COMPLETE, TrialState.PRUNED)
# Optuna's system attributes that draws depend on: of a trial, its generation; of the study, by
# generation, the trials it descends from, which are those that had ended when it began.
_FOREIGN = 10**9  # numbers of other studies' trials begin so far below 0
_GENERATION = ":generation"
_PARENTS = ":parent:"
# And one for other processes: all that a sampler had ready, used by the trial or not.
_UNUSED = ":relative_params:"

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
        if name in (CURVES, "random", GRID_SAMPLER):  # curves: what it does not propose
            return optuna.samplers.RandomSampler(seed=seed)
    raise unknown_name("sampler", name, SAMPLERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """A drawn trial. marks: what its sampler noted of it (of NSGA, generation and parents)."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    marks: Mapping[str, Any] = field(default_factory=dict)


class Model:
    """Draws trials and learns how they ended. One per driver; not thread-safe.

    num_objectives: length of every vector of values, minimised.
    seed: with a trial's number and what was told before, all that a draw depends on. A restarted
      driver draws the same if it tells of every trial so far, in the order of their numbers.
    stopped: what Optuna's samplers are told of a trial that was stopped early: `poor`, that it is
      worse than every complete one (Optuna's PRUNED); `ignored`, nothing; `rung`, its last
      vector, as if final. `curves` learns from its reports.
    known_cost: the last objective of a configuration, where it is known; read by `curves`.
    """

    def __init__(
        self,
        *,
        num_objectives: int,
        sampler: str,
        seed: int,
        num_startup_trials: int = 10,
        stopped: str = "poor",
        known_cost: "KnownCost | None" = None,
    ) -> None:
        if stopped not in STOPPED_VIEWS:
            raise unknown_name("view of stopped trials", stopped, STOPPED_VIEWS)
        self._sampler = sampler
        self._seed = seed
        self._num_startup_trials = num_startup_trials
        self._stopped = stopped
        self._live: dict[int, optuna.Trial] = {}  # by the trial's number in the record
        self._curves = None
        if sampler == CURVES:
            from search.samplers.learning_curves import CurveModel  # loads SciPy

            self._curves = CurveModel(
                num_objectives=num_objectives, seed=seed, known_cost=known_cost
            )
        self._num_objectives = num_objectives
        self._num_foreign = 0
        self._study = self._empty_study()

    def ask(
        self,
        number: int,
        suggest: Callable[[optuna.Trial], T],
        fixed: Mapping[str, Any] | None = None,
        space: Space | None = None,
    ) -> tuple[T, Draw]:
        """Draw trial `number` by `suggest`; `fixed` values are taken instead of drawn ones.

        space: what `suggest` draws from; without it `curves` proposes nothing.

        Returns what `suggest` gave, and what was drawn, for the record.
        """
        if fixed is None and self._curves is not None and space is not None:
            fixed = self._curves.propose(number, space)
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
        if self._curves is not None:
            self._curves.started(number, trial.params)
        return drawn, Draw(
            params=trial.params, distributions=trial.distributions, marks=self._marks(trial)
        )

    def report(
        self,
        number: int,
        fraction: float,
        values: Sequence[float],
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """What a trial says at a fraction of training, before its end is told.

        values: with the cost that it will end with. violations: as for `tell`.
        """
        if self._curves is not None:
            self._curves.reported(number, fraction, values, violations)

    def tell(
        self,
        number: int,
        status: str,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """How trial `number` ended, by a status of `trainables.report`.

        values: the final ones; of a stopped trial, those of its last report; None if it has none.
        violations: of the constraints by name, positive where one does not hold; the same names
          for every trial, so that samplers can compare them.
        """
        trial = self._live.pop(number)
        state, told = self._view(status, values)
        self._end_curve(number, status, told, violations)
        if state == TrialState.COMPLETE:
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
        *,
        number: int | None = None,
    ) -> None:
        """A trial that ended before this driver began, or (without a number) in another study: of
        a population that is bred from, it is of the first generation."""
        if self._curves is not None and number is None:
            number = self._num_foreign - _FOREIGN  # in their order, before our own
            self._num_foreign += 1
            self._curves.started(number, draw.params)
        state, told = self._view(status, values)
        if number is not None:
            self._end_curve(number, status, told, violations)
        final = state == TrialState.COMPLETE
        marks = self._take_parents(draw.marks)
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler) and not marks:
            marks = {sampler._get_generation_key(): 0}
        with quiet():
            self._study.add_trial(
                create_trial(
                    state=state,
                    values=told,
                    params=dict(draw.params),
                    distributions=dict(draw.distributions),
                    system_attrs=marks,
                    constraints=dict(violations) if final and violations else None,
                )
            )
        self._forget()

    def recall(self, number: int, draw: Draw) -> None:
        """A trial of an earlier driver, before its reports, and `learn` or `resume`."""
        if self._curves is not None:
            self._curves.started(number, draw.params)

    def resume(self, number: int, draw: Draw) -> None:
        """A trial that an earlier driver left running."""
        if self._curves is not None and not self._curves.knows(number):
            self._curves.started(number, draw.params)
        with quiet():
            self._study.enqueue_trial(dict(draw.params))
            trial = self._study.ask(fixed_distributions=dict(draw.distributions))
        for key, value in self._take_parents(draw.marks).items():
            self._study._storage.set_trial_system_attr(trial._trial_id, key, value)
        self._live[number] = trial

    def _marks(self, trial: optuna.Trial) -> dict[str, Any]:
        """Of a trial that has been drawn; takes away what a restarted driver would not know."""
        storage, sampler = self._study._storage, self._study.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna gives none to a trial of fixed values, which so would never have children.
            sampler.get_trial_generation(self._study, storage.get_trial(trial._trial_id))
        marks = {}
        for key, value in list(storage.get_trial_system_attrs(trial._trial_id).items()):
            if key.endswith(_GENERATION):
                marks[key] = value
                parents = f"{key.removesuffix(_GENERATION)}{_PARENTS}{value}"
                known = storage.get_study_system_attrs(self._study._study_id)
                if parents in known:
                    marks[parents] = list(known[parents])
            elif _UNUSED in key:
                storage.set_trial_system_attr(trial._trial_id, key, "")
        return marks

    def _take_parents(self, marks: Mapping[str, Any]) -> dict[str, Any]:
        """The trial's own among `marks`; the parents of its generation go to the study."""
        for key, value in marks.items():
            if _PARENTS in key:
                self._study._storage.set_study_system_attr(self._study._study_id, key, value)
        return {key: value for key, value in marks.items() if key.endswith(_GENERATION)}

    def _empty_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with quiet():
            return optuna.create_study(
                directions=["minimize"] * self._num_objectives,
                sampler=make_sampler(self._sampler, self._seed, self._num_startup_trials),
            )

    def _forget(self) -> None:
        """Where twice as many trials were told as need be, go on with the better half by
        non-domination rank, and the newest: all that a sampler draws on."""
        if self._sampler not in _BOUNDED:
            return
        told = [t for t in self._study.get_trials(deepcopy=False) if t.state in _TOLD]
        if len(told) < 2 * _MAX_TOLD:
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

    def _end_curve(
        self,
        number: int,
        status: str,
        told: Sequence[float] | None,
        violations: Mapping[str, float] | None,
    ) -> None:
        if self._curves is not None:
            final = told if status in ("complete", "infeasible") else None
            self._curves.ended(number, final, violations)

    def _view(
        self, status: str, values: Sequence[float] | None
    ) -> tuple[TrialState, list[float] | None]:
        final = status in ("complete", "infeasible")
        if final or (status == "stopped" and self._stopped == "rung"):
            if values is not None and all(map(math.isfinite, values)):
                return TrialState.COMPLETE, list(values)
            return TrialState.FAIL, None
        if status == "stopped" and self._stopped == "poor":
            return TrialState.PRUNED, None
        return TrialState.FAIL, None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's notes that an API is experimental: versions are pinned."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield
