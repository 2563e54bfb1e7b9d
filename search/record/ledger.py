"""The study's own record of trials: hands them out and takes their ends. No Ray here.

There is one Optuna trial per trial of the study, whose number is the trial's identity
(`demo-00003`). It is written twice: when it is handed out, with everything it was given, and when
it has ended. So a driver that dies leaves whole trials, some of them RUNNING; `next` hands those
out first, under the same number and with the configuration that was recorded.
"""

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial, FrozenTrial, TrialState, create_trial

from search.plans.limits.plateau import trials_left
from search.plans.plan import Plan
from search.record.confirmations import confirmations_due, given_again
from search.record.draws import Draws, told_of
from search.record.front import CONFIRMS, front_of, is_confirmation
from search.record.outcomes import Outcome
from search.record.storage import GIVEN, OUTCOME, StudyRecord, flattened
from search.record.warm_start import WarmTrial
from search.samplers.trial_sampler import TrialSampler
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.sweep.folder import trial_name
from trainables.terminal.as_typed import DEFAULT_STORAGE

_STATES = {
    "complete": TrialState.COMPLETE,
    "infeasible": TrialState.COMPLETE,  # with its values; Optuna knows it by its constraints
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_MAX_IDLE = 20  # a study whose trials all fail at once would never use up its epochs
_MAX_REASON_CHARACTERS = 4000  # a reason, not a log; MLflow tags hold 8,000
_FRACTION = "training/fraction"


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One trial to run.

    reference: trained to its end, whatever others do. repeats: the number of the trial that it
    confirms.
    """

    name: str
    number: int
    config: TrialConfig
    reference: bool
    resumed: bool
    repeats: int | None = None


class Ledger:
    """Hands out trials and takes their outcomes. One per driver; not thread-safe.

    sampler, warm: as for `Draws`.
    on_finished: called with a trial's number and outcome, after the storage has it.
    plateau: what was found when the study reached one; on_plateau: called with it when it does,
      before anything else is recorded.
    """

    def __init__(
        self,
        plan: Plan,
        record: StudyRecord,
        sampler: TrialSampler,
        warm: Sequence[WarmTrial] = (),
        plateau: Mapping[str, Any] | None = None,
        on_plateau: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.plan = plan
        self.record = record
        self.on_finished: Callable[[int, Outcome], None] | None = None
        self.plateau = plateau
        self._on_plateau = on_plateau
        self._num_judged = -1  # trials that had ended when a plateau was last looked for
        self._draws = Draws(plan, sampler, warm)
        self._trials = {trial.number: trial for trial in record.trials()}
        self._finished: list[FrozenTrial] = []
        self._unfinished: list[int] = []
        self._to_confirm: list[tuple[FrozenTrial, int]] = []  # with the fresh seed
        self._confirming = False
        self._live: dict[int, int] = {}  # the record's ids, by number
        self._used: dict[int, float] = {}  # of a budget that is not counted in trials
        self._num_idle = 0  # trials of this driver that ended and used nothing of it, in a row
        self._last: dict[int, Mapping[str, float]] = {}  # the furthest report of a trial
        for trial in self._trials.values():
            self._recall(trial)
        self._num_idle = 0  # whoever starts again has removed the cause

    @property
    def num_asked(self) -> int:
        """How many trials were handed out so far, confirmations aside."""
        return sum(not is_confirmation(trial) for trial in self._trials.values())

    @property
    def num_finished(self) -> int:
        """How many trials have ended, confirmations aside."""
        return sum(not is_confirmation(trial) for trial in self._finished)

    @property
    def num_remaining(self) -> int:
        """How many trials are to be handed out or to end; of a budget in hours, at least."""
        due = len(self._trials) - len(self._finished) + len(self._to_confirm)
        if not self._may_ask():
            return due
        return due + (1 if (trials := self.plan.budget.trials) is None else trials - self.num_asked)

    @property
    def used(self) -> float:
        """How much of the budget is used, in its own unit."""
        by_trials = self.plan.budget.trials is not None
        return self.num_finished if by_trials else sum(self._used.values())

    @property
    def idle(self) -> str:
        """Why a budget is left unused, or ''."""
        if self.plan.budget.trials is not None or self._num_idle < _MAX_IDLE:
            return ""
        return (
            f"the study ended because its last {self._num_idle} trials used nothing of "
            f"{self.plan.budget.text}. Mend the cause that they report"
        )

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that were handed out, by number. Not to be changed."""
        return list(self._trials.values())

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that ended, in that order as far as this driver saw it."""
        return self._finished

    def front(self) -> list[int]:
        """Return the numbers of the non-dominated complete trials."""
        return front_of(self._finished, self.plan.objectives)

    def confirm(self, num_seeds: int, storage: Path | str = DEFAULT_STORAGE) -> str:
        """Hand out confirmations at so many fresh seeds instead of new trials; say what is due.

        Returns '' where nothing is. storage: the folder of the study's folder, for messages.
        Raises `UserError` for a study that has not ended, or whose front is empty.
        """
        self._confirming = True
        self._to_confirm, said = confirmations_due(
            self.plan,
            self.trials(),
            self.front(),
            num_seeds,
            used=self.used if self.plateau is None else self.plan.budget.amount,
            storage=storage,
        )
        return said

    def next(self) -> Assignment | None:
        """Return the next trial to run, unfinished ones first; None when there is none left."""
        while self._unfinished or self._to_confirm or self._may_ask():
            resumed = bool(self._unfinished)
            if resumed:
                trial = self._trials[self._unfinished.pop(0)]
                self._live[trial.number] = self.record.id_of(trial.number)
            elif self._to_confirm:
                repeated, seed = self._to_confirm.pop(0)
                trial = self._hand_out(repeated, given_again(repeated, seed))
            else:
                trial = self._hand_out(*self._draws.draw())
                self._draws.handed_out(trial)
            try:
                return self._assignment(trial, resumed=resumed)
            except UserError as error:  # the trial's own rules refuse it
                self.finish(trial.number, Outcome(status="failed", reason=str(error)))
        return None

    def baseline(self, config: TrialConfig) -> TrialConfig | None:
        """Return the dense trial that `config` is compared with, of its seed; None without one."""
        # As it was recorded, whatever the presets say now.
        for trial in self.trials()[: self._draws.num_starts]:
            recorded = trial.user_attrs.get("config")
            if recorded and trial.user_attrs["reference"] and recorded["method"] == "dense":
                dense = TrialConfig.from_dict({**recorded, "seed": config.seed})
                return dense.replace({"data.root": config.data.root})
        return self.plan.baseline_config(config)

    def reported(self, number: int, metrics: Mapping[str, float]) -> None:
        """Take a trial's report: the sampler learns from it, and its use of the budget counts."""
        fraction = metrics.get(_FRACTION, 0.0)
        if fraction > self._last.get(number, {}).get(_FRACTION, 0.0):
            self._last[number] = metrics
        if is_confirmation(self._trials[number]):
            return
        metric = self.plan.budget.metric
        if metric is not None and math.isfinite(used := metrics.get(metric, math.nan)):
            self._used[number] = max(used, self._used.get(number, 0.0))
        self._draws.reported(self._trials[number], fraction, metrics)

    def worth_finishing(self, number: int, metrics: Mapping[str, float]) -> bool:
        """Return whether a trial that its scheduler would stop after this report is to go on."""
        self.reported(number, metrics)  # a scheduler hears of it first
        return self._draws.worth_finishing(self._trials[number], metrics.get(_FRACTION, 0.0))

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
        reached = last.get(_FRACTION, 0.0)
        if outcome.status == "failed" and reached > fraction:
            # A second attempt that failed at once does not take back what the first one said.
            metrics, fraction = {**metrics, **last}, reached
        kept = {
            "status": outcome.status,
            "reason": outcome.reason[:_MAX_REASON_CHARACTERS],
            "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
            "fraction": fraction,
        }
        self.record.note(self._live[number], OUTCOME, kept)
        trial.user_attrs |= kept
        self.reported(number, outcome.metrics)
        self._close(trial, self._live.pop(number))
        if self.on_finished is not None:
            self.on_finished(number, outcome)

    def give_back(self, number: int) -> None:
        """Take back a trial that was lost with its node, to hand it out again."""
        del self._live[number]
        self._unfinished.append(number)

    def _may_ask(self) -> bool:
        budget = self.plan.budget
        if self._confirming:
            return False
        if budget.trials is not None:
            left = self.num_asked < budget.trials
        else:
            left = self.used < budget.amount and not self.idle
        return left and not self._is_at_plateau()

    def _is_at_plateau(self) -> bool:
        """Look whenever a trial has ended, at those that have; once found, it stays."""
        share, num_ended = self.plan.budget.plateau, self.num_finished
        if self.plateau is not None or share is None:
            return self.plateau is not None
        if num_ended == self._num_judged or num_ended < self._draws.num_starts:
            return False
        self._num_judged = num_ended
        found = self.further()
        if found is None or found["gain"] >= share:
            return False
        by_trials = self.plan.budget.trials is not None
        self.plateau = {**found, "used": self.num_asked if by_trials else self.used}
        if self._on_plateau is not None:
            self._on_plateau(self.plateau)
        return True

    def further(self, at_least: int = 1) -> dict[str, Any] | None:
        """Return what the rest of the budget is thought to add to the hypervolume.

        trials: how many at full length it is worth, `at_least` so many; gain: what they add, as a
        share. None where too little is known. It depends on the trials that ended alone.
        """
        own = [t for t in self._finished if not is_confirmation(t)]
        by_trials = self.plan.budget.trials is not None
        used = len(own) if by_trials else sum(self._used.get(t.number, 0.0) for t in own)
        num_complete = sum(t.user_attrs["status"] == "complete" for t in own)
        left = trials_left(self.plan.budget.amount, used, num_complete)
        if left is None:
            return None
        trials = max(left, at_least)
        gain = self._draws.further_gain(trials)
        return None if gain is None else {"trials": trials, "gain": gain}

    def _recall(self, trial: FrozenTrial) -> None:
        """Take a trial of an earlier driver into account."""
        attributes = trial.user_attrs
        if not is_confirmation(trial):
            self._draws.recall(trial)
        if "status" not in attributes:
            self._unfinished.append(trial.number)
            return
        self.reported(trial.number, attributes["metrics"])
        if trial.state.is_finished():
            self._count_end(trial)
        else:  # killed between the outcome and the state
            self._close(trial, self.record.id_of(trial.number))

    def _hand_out(self, draw: BaseTrial, given: dict[str, Any]) -> FrozenTrial:
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(draw.params),
            distributions=dict(draw.distributions),
            user_attrs={GIVEN: given | {"number": len(self._trials)}},
        )
        trial_id = self.record.add(trial)
        number = trial.number = self.record.number_of(trial_id)
        self._live[number] = trial_id
        self._trials[number] = flattened(trial)
        return trial

    def _assignment(self, trial: FrozenTrial, *, resumed: bool) -> Assignment:
        """Raises `UserError` where the trial's own rules refuse it."""
        params, seed = trial.user_attrs["params"], int(trial.user_attrs["seed"])
        recorded = trial.user_attrs.get("config")
        config = TrialConfig.from_dict(recorded) if recorded else self.plan.config(params, seed)
        again = resumed or is_confirmation(trial)
        if again and self.plan.data_root is not None:  # the same data may have moved
            config = config.replace({"data.root": self.plan.data_root})
        return Assignment(
            name=trial_name(self.plan.study, trial.number),
            number=trial.number,
            config=config,
            reference=bool(trial.user_attrs["reference"]),
            resumed=resumed,
            repeats=trial.user_attrs.get(CONFIRMS),
        )

    def _close(self, trial: FrozenTrial, trial_id: int) -> None:
        """Give a trial whose outcome is recorded its final state, here and in the storage."""
        status, metrics = trial.user_attrs["status"], trial.user_attrs["metrics"]
        trial.state = _STATES[status]
        _, violations = told_of(self.plan, trial)
        final = trial.state == TrialState.COMPLETE
        trial.values = [metrics[name] for name in self.plan.objectives] if final else None
        if is_confirmation(trial):
            violations = {CONFIRMS: 1.0}  # so that it is not on Optuna's own front either
        self.record.end(trial_id, trial.state, trial.values, violations if final else {})
        trial.datetime_complete = datetime.datetime.now()
        self._count_end(trial)
        if not is_confirmation(trial):
            self._draws.ended(trial)

    def _count_end(self, trial: FrozenTrial) -> None:
        self._finished.append(trial)
        if is_confirmation(trial):
            return
        self._num_idle = 0 if self._used.get(trial.number) else self._num_idle + 1
