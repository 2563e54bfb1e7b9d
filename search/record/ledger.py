"""The study's own record of trials, in an Optuna storage. No Ray here.

One Optuna trial per trial of the study, for ever: its number is the trial's identity
(`demo-00003`), its user attributes carry what a trial was given and what became of it. A trial is
written twice: when it is handed out, with everything it was given, and when it has ended. So a
driver that dies leaves whole trials, some of them RUNNING; `next` hands those out first, under
the same number. What to try next is asked of a `search.samplers.trial_sampler.Model`, told of all
that is recorded.
"""

import contextlib
import datetime
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.statistics.pareto import non_dominated
from search.plans.objective_values import final_costs, final_density, final_values, known_cost
from search.plans.plan import Plan
from search.record.addresses import refused
from search.record.outcomes import Outcome
from search.record.storage import flush, open_storage
from search.record.warm_start import WarmTrial
from search.samplers.trial_sampler import Draw, Model, quiet
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.report import describe

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_STATES = {
    "complete": TrialState.COMPLETE,
    "infeasible": TrialState.COMPLETE,  # with its values; Optuna knows it by its constraints
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_MAX_IDLE = 20  # a study whose trials all fail at once would never use up its epochs
_MAX_REASON_CHARACTERS = 4000  # a reason, not a log; MLflow tags hold 8,000
# The two user attributes of a trial: a single one is written ten times as fast as many.
_GIVEN = "given"  # when it was handed out
_OUTCOME = "outcome"  # when it had ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One trial to run. `params` holds the drawn values and pins, `config` everything, and
    `settings` the same by dotted names.

    reference: trained to its end, whatever others do.
    """

    name: str
    number: int
    params: Mapping[str, Any]
    seed: int
    config: TrialConfig
    settings: Mapping[str, Any]
    reference: bool
    resumed: bool


def trial_name(study: str, number: int) -> str:
    return f"{study}-{number:05d}"


def open_optuna(plan: Plan, storage: str) -> optuna.Study:
    """Create or load the Optuna study. Raises `UserError` where the storage cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with quiet():
            study = optuna.create_study(
                study_name=plan.study,
                storage=open_storage(storage),
                directions=[describe(name).direction for name in plan.objectives],
                load_if_exists=True,
            )
            study.set_metric_names(list(plan.objectives))
    except UserError:
        raise
    except Exception as error:
        raise refused("--study-storage", storage, error) from None
    return study


def load_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All recorded trials by number. Their user attributes are `params` (drawn values and pins),
    `seed`, `config` (flat; not of a refused one) and `reference`; of an ended one also `status`,
    `reason`, `metrics` and `fraction`."""
    trials = study.get_trials(deepcopy=True)
    for trial in trials:
        _flatten(trial)
    return trials


class Ledger:
    """Hands out trials and takes their outcomes. One per driver; not thread-safe.

    warm: trials of other studies that the model is told of beforehand.
    on_finished: called with a trial's number and outcome, after the storage has it.
    """

    def __init__(
        self,
        plan: Plan,
        study: optuna.Study,
        on_finished: Callable[[int, Outcome], None] | None = None,
        warm: tuple[WarmTrial, ...] = (),
    ) -> None:
        self.plan = plan
        self.study = study
        self.on_finished = on_finished
        # One transaction for a whole trial, and one for its end: by way of `Study` it is one for
        # every value and attribute, ten times as long.
        self._storage, self._study_id = study._storage, study._study_id
        self._starts = plan.starts()
        self._trials = load_trials(study)
        self._finished: list[FrozenTrial] = []
        self._unfinished: list[int] = []
        self._live: set[int] = set()
        self._used: dict[int, float] = {}  # of a budget that is not counted in trials
        self._num_idle = 0  # trials of this driver that ended and used nothing of it, in a row
        self._last: dict[int, Mapping[str, float]] = {}  # the furthest report of a trial
        self._configurations: Counter[str] = Counter()
        self._model = Model(
            num_objectives=len(plan.objectives),
            sampler=plan.sampler,
            seed=plan.seed,
            num_startup_trials=plan.recipe.num_startup_trials,
            known_cost=lambda params: known_cost(plan, params),
        )
        for one in warm:
            draw, values = one.draw(plan.space), final_values(plan, None, one.metrics)
            if draw is not None and values is not None:
                violations = plan.constraints.violations(one.metrics)
                self._model.learn(draw, "complete", values, violations)
        for trial in self._trials:
            self._recall(trial)
        self._num_idle = 0  # who begins again has mended the cause

    @property
    def num_asked(self) -> int:
        return len(self._trials)

    @property
    def num_finished(self) -> int:
        return len(self._finished)

    @property
    def num_remaining(self) -> int:
        """Trials still to hand out or to finish. By a budget of epochs or hours, those at work,
        and one more while there is some left."""
        budget = self.plan.budget
        if budget.trials is not None:
            return max(0, budget.trials - self.num_finished)
        return self.num_asked - self.num_finished + self._may_ask()

    @property
    def used(self) -> float:
        """Of the budget, in its own unit."""
        if self.plan.budget.trials is not None:
            return self.num_finished
        return sum(self._used.values())

    @property
    def idle(self) -> str:
        """Why a budget is left unused, or ''."""
        if self.plan.budget.trials is not None or self._num_idle < _MAX_IDLE:
            return ""
        return (
            f"the study ended, as the last {self._num_idle} trials used nothing of "
            f"{self.plan.budget.text}; mend what they say, and the same command goes on"
        )

    def trials(self) -> list[FrozenTrial]:
        """All that were handed out, by number. Not to be changed."""
        return self._trials

    def finished(self) -> list[FrozenTrial]:
        """In the order they ended, as far as this driver saw it. Not to be changed."""
        return self._finished

    def next(self, ray_trial_id: str = "") -> Assignment | None:
        """The next trial to run, unfinished ones first; None when all have been handed out."""
        while self._unfinished or self._may_ask():
            if self._unfinished:
                trial = self._trials[self._unfinished.pop(0)]
                self._storage.set_trial_user_attr(trial._trial_id, "ray_trial_id", ray_trial_id)
                assignment = self._assignment(trial, None, resumed=True)
            else:
                assignment = self._draw(ray_trial_id)
            if assignment is not None:
                return assignment
        return None

    def reported(self, number: int, metrics: Mapping[str, float]) -> None:
        """What a trial says of itself: the model learns from it, and what it used of the budget
        is counted."""
        metric = self.plan.budget.metric
        if metric is not None and math.isfinite(used := metrics.get(metric, math.nan)):
            self._used[number] = max(used, self._used.get(number, 0.0))
        config = self._trials[number].user_attrs.get("config")
        density = None if config is None else final_density(config)
        values = final_values(self.plan, density, metrics)
        fraction = metrics.get("training/fraction", 0.0)
        if fraction > self._last.get(number, {}).get("training/fraction", 0.0):
            self._last[number] = metrics
        if values is not None and fraction > 0:
            ending = {**metrics, **final_costs(density, metrics)}
            violations = self.plan.constraints.violations(ending)
            self._model.report(number, fraction, values, violations)

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record an end, once; a trial that has ended already stays as it is.

        The outcome is written before the trial's state: a driver killed in between finds it, and
        need not run the trial's end again.
        """
        if number not in self._live:
            return
        trial = self._trials[number]
        metrics, fraction = outcome.metrics, outcome.fraction
        last = self._last.pop(number, {})
        reached = last.get("training/fraction", 0.0)
        if outcome.status == "failed" and reached > fraction:
            # A second attempt that failed at once does not take back what the first one said.
            metrics, fraction = {**metrics, **last}, reached
        kept = {
            "status": outcome.status,
            "reason": outcome.reason[:_MAX_REASON_CHARACTERS],
            "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
            "fraction": fraction,
        }
        self._storage.set_trial_user_attr(trial._trial_id, _OUTCOME, kept)
        self._live.remove(number)
        trial.user_attrs |= kept
        self.reported(number, outcome.metrics)
        self._close(trial)
        if self.on_finished is not None:
            self.on_finished(number, outcome)

    def flush(self) -> None:
        """Have the record on the disk: before something else that must not know more than it."""
        flush(self._storage)

    def give_back(self, number: int) -> None:
        """A trial that could not go on through no fault of its own: `next` hands it out again."""
        self._live.remove(number)
        self._unfinished.append(number)

    def front(self) -> list[int]:
        """Numbers of the non-dominated complete trials."""
        complete = [t for t in self._finished if t.user_attrs["status"] == "complete"]
        if not complete:
            return []
        signs = [describe(name).sign for name in self.plan.objectives]
        values = [[s * v for s, v in zip(signs, t.values, strict=True)] for t in complete]
        return sorted(t.number for t, on in zip(complete, non_dominated(values), strict=True) if on)

    def _may_ask(self) -> bool:
        budget = self.plan.budget
        if budget.trials is not None:
            return self.num_asked < budget.trials
        return self.used < budget.amount and not self.idle

    def _recall(self, trial: FrozenTrial) -> None:
        """Take a trial of an earlier driver into account."""
        attributes = trial.user_attrs
        self._configurations[_key(attributes["params"])] += 1
        draw = Draw(
            params=trial.params, distributions=trial.distributions, marks=trial.system_attrs
        )
        self._model.recall(trial.number, draw)
        if trial.state in FINISHED:
            self.reported(trial.number, attributes["metrics"])
            self._end(trial)
            values, violations = self._told(trial)
            self._model.learn(draw, attributes["status"], values, violations, number=trial.number)
            return
        self._model.resume(trial.number, draw)
        if "status" in attributes:  # killed between the outcome and the state
            self.reported(trial.number, attributes["metrics"])
            self._close(trial)
        else:
            self._unfinished.append(trial.number)

    def _draw(self, ray_trial_id: str) -> Assignment | None:
        """A new trial, see `_assignment`."""
        number = self.num_asked
        start = self._starts[number] if number < len(self._starts) else None
        pins = {} if start is None else start.pins
        space = self.plan.space.pinned(pins)
        drawn, draw = self._model.ask(number, space.suggest, start.params if start else None, space)
        params = {**pins, **drawn}  # pins of a grid are settings that its space does not hold
        key = _key(params)
        seed = start.seed if start is not None else None
        if seed is None:
            # All trials share the study's seed, so that they differ by their configuration alone;
            # the same configuration again becomes a replicate under the next seed.
            seed = self.plan.seed + self._configurations[key]
        reference = start is not None and start.reference
        given: dict[str, Any] = {"params": params, "seed": seed, "reference": reference}
        config = None
        with contextlib.suppress(UserError):  # said by `_assignment`, when the trial is recorded
            config = self.plan.config(params, seed)
            given["config"] = config.flat()
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(draw.params),
            distributions=dict(draw.distributions),
            user_attrs={_GIVEN: given | {"ray_trial_id": ray_trial_id}},
            system_attrs=dict(draw.marks),
        )
        trial._trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
        trial.number = number
        _flatten(trial)
        self._configurations[key] += 1
        self._trials.append(trial)
        return self._assignment(trial, config, resumed=False)

    def _assignment(
        self, trial: FrozenTrial, config: TrialConfig | None, *, resumed: bool
    ) -> Assignment | None:
        """None where the trial's own rules refuse it, which then has failed."""
        params, seed = trial.user_attrs["params"], int(trial.user_attrs["seed"])
        self._live.add(trial.number)
        try:
            config = config or self.plan.config(params, seed)
        except UserError as error:
            refused = Outcome(status="failed", reason=str(error), metrics={}, fraction=0.0)
            self.finish(trial.number, refused)
            return None
        return Assignment(
            name=trial_name(self.plan.study, trial.number),
            number=trial.number,
            params=params,
            seed=seed,
            config=config,
            settings=config.flat() if resumed else trial.user_attrs["config"],
            reference=bool(trial.user_attrs["reference"]),
            resumed=resumed,
        )

    def _close(self, trial: FrozenTrial) -> None:
        """Give a trial whose outcome is recorded its final state, here and in the storage."""
        status, metrics = trial.user_attrs["status"], trial.user_attrs["metrics"]
        state, values = _STATES[status], None
        told, violations = self._told(trial)
        if state == TrialState.COMPLETE:
            values = [metrics[name] for name in self.plan.objectives]
            for name, value in violations.items():
                self._storage.set_trial_system_attr(trial._trial_id, f"constraints:{name}", value)
        self._storage.set_trial_state_values(trial._trial_id, state, values)
        trial.state, trial.values = state, values
        trial.datetime_complete = datetime.datetime.now()
        self._end(trial)
        self._model.tell(trial.number, status, told, violations)

    def _end(self, trial: FrozenTrial) -> None:
        self._finished.append(trial)
        self._num_idle = 0 if self._used.get(trial.number) else self._num_idle + 1

    def _told(self, trial: FrozenTrial) -> tuple[list[float] | None, dict[str, float]]:
        """For the model: the vector, and the constraints' violations."""
        attributes = trial.user_attrs
        metrics = attributes["metrics"]
        if attributes["status"] in ("complete", "infeasible"):
            return final_values(self.plan, None, metrics), self.plan.constraints.violations(metrics)
        density = final_density(attributes["config"]) if "config" in attributes else None
        values, ending = final_values(self.plan, density, metrics), {**metrics}
        ending |= final_costs(density, metrics)
        return values, self.plan.constraints.violations(ending)


def _flatten(trial: FrozenTrial) -> None:
    for name in (_GIVEN, _OUTCOME):
        trial.user_attrs |= trial.user_attrs.pop(name, {})


def _key(params: Mapping[str, Any]) -> str:
    """Equal for equal configurations."""
    return json.dumps(dict(params), sort_keys=True)
