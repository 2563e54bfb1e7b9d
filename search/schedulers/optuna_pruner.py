"""ParetoASHA for studies of plain Optuna, whose own pruners refuse several objectives.

    pruner = ParetoPruner(max_steps=27)

    def objective(trial):
        ...
        for epoch in range(1, 28):
            error, megaflops = train(...)
            pruner.check(trial, (error, megaflops), step=epoch)
        return error, megaflops

The rule is that of `search.schedulers.rungs`; no Ray. What is compared lies in the study, so that
threads, processes and a resumed study decide by the same records.
"""

import threading
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.study import StudyDirection

from search.plans.rung_settings import EPSILON, RungSettings
from search.samplers.learning_curves import MILESTONES
from search.samplers.optuna_reports import ATTRIBUTE, StoredReport, reports_of
from search.schedulers.rungs import Rung
from trainables.errors import UserError


class ParetoPruner:
    """Says which trials of an Optuna study are to stop, by all objectives at once.

    It is no `optuna.pruners.BasePruner`: Optuna asks those for one objective alone. Call `check`,
    or `report` and `should_prune`, in the objective. A trial that ends by `optuna.TrialPruned` is
    on no front (`study.best_trials`), and `LearningCurveSampler` knows its last values for those of
    an earlier step. One may serve several studies, and threads.

    max_steps: a trial's full length, at which nothing is decided. grace_steps: no trial is stopped
      before; a third of the full length by default. reduction_factor: about one in so many goes on.

    Raises `UserError` for settings that do not fit together.
    """

    def __init__(
        self, *, max_steps: float, grace_steps: float | None = None, reduction_factor: float = 3.0
    ) -> None:
        grace = max_steps / 3.0 if grace_steps is None else grace_steps
        settings = RungSettings(grace=grace, maximum=max_steps, reduction_factor=reduction_factor)
        self._max_steps = max_steps
        self._factor = reduction_factor
        self._rungs = [step / max_steps for step in settings.milestones()]
        self._marks = sorted({*self._rungs, *MILESTONES, 1.0})
        self._known: dict[tuple[str, int], list[StoredReport]] = {}  # of trials at work
        self._lock = threading.Lock()

    def check(
        self,
        trial: optuna.Trial,
        values: Sequence[float],
        *,
        step: float,
        violation: float = 0.0,
    ) -> None:
        """Report, and raise `optuna.TrialPruned` where the trial is to stop."""
        self.report(trial, values, step=step, violation=violation)
        if self.should_prune(trial):
            raise optuna.TrialPruned(f"others were better in every objective at step {step:g}")

    def report(
        self,
        trial: optuna.Trial,
        values: Sequence[float],
        *,
        step: float,
        violation: float = 0.0,
    ) -> None:
        """Take what a trial says after `step` steps, and decide where it has reached a rung.

        values: one for each objective, in its direction; of a cost, what the trial will end with.
        violation: of constraints in all, 0 where they hold.

        Raises `UserError` for another number of values, or a step that is not above 0.
        """
        directions = trial.study.directions
        if len(values) != len(directions):
            raise UserError(
                f"`values` must hold one for each of the study's {len(directions)} objectives, "
                f"got {len(values)}; give them in the order of `directions`"
            )
        if not step > 0:
            raise UserError(f"`step` must be above 0, got {step:g}; the first one is 1")
        fraction = step / self._max_steps
        reports = self._reports(trial)
        before = reports[-1].fraction if reports else 0.0
        if not any(before < mark * (1 - EPSILON) <= fraction for mark in self._marks):
            return  # nobody asks for it
        passed = [rung for rung in self._rungs if rung * (1 - EPSILON) <= fraction]
        decided = {report.rung for report in reports}
        rung = passed[-1] if passed and fraction < 1.0 - EPSILON else None
        rung = None if rung in decided else rung
        stored = tuple(map(float, values))
        signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions]
        kept = rung is None or self._keeps(trial, rung, stored, violation, signs)
        kept = kept and all(report.kept for report in reports)
        reports.append(
            StoredReport(
                fraction=fraction, values=stored, violation=violation, rung=rung, kept=kept
            )
        )
        trial.set_user_attr(ATTRIBUTE, [report.to_json() for report in reports])

    def should_prune(self, trial: optuna.Trial) -> bool:
        """Return whether the trial is to stop after what it last reported."""
        return not all(report.kept for report in self._reports(trial))

    def _reports(self, trial: optuna.Trial) -> list[StoredReport]:
        key = (trial.study.study_name, trial.number)
        with self._lock:
            if key not in self._known:
                self._known[key] = reports_of(trial.user_attrs)
            return self._known[key]

    def _keeps(
        self,
        trial: optuna.Trial,
        rung: float,
        values: tuple[float, ...],
        violation: float,
        signs: list[float],
    ) -> bool:
        """Return the decision of `ParetoRungs` on the records that the study holds now."""
        records = Rung(len(signs))
        for other in trial.study.get_trials(deepcopy=False):
            if other.number == trial.number:
                continue
            for report in reports_of(other.user_attrs):
                if report.rung == rung and len(report.values) == len(signs):
                    records.add(np.multiply(signs, report.values), report.violation)
        num_before = records.add(np.multiply(signs, values), violation)
        return num_before / records.num_records <= 1.0 / self._factor
