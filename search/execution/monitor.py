"""Carries a study's events to its records: reports on disk, MLflow, the table, the screen."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune import Callback
from ray.tune.experiment import Trial

from search.execution.progress_display import Progress
from search.record.ledger import Assignment, Ledger, trial_name
from search.record.outcomes import Outcome, metrics_of
from search.record.study_folder import (
    StudyFiles,
    append_json_line,
    read_json_lines,
    remove_checkpoints,
)
from search.record.trials_table import TrialsWriter
from search.tracking.events import end_of, start_of
from search.tracking.tracker import Tracker

logger = logging.getLogger(__name__)


class Monitor:
    """Listens to one launch of a study. Nothing here raises into Tune's loop, a full disk aside.

    Every report is on disk (`trials/NNNNN/reports.jsonl`) before it is sent to MLflow, so a
    driver that dies with points in its queue loses none: `replay` sends them at the next launch.
    """

    def __init__(
        self, files: StudyFiles, ledger: Ledger, tracker: Tracker, progress: Progress
    ) -> None:
        self._files = files
        self._ledger = ledger
        self._tracker = tracker
        self._progress = progress
        # A table that knew of more trials than the record would keep the study from going on.
        self._writer = TrialsWriter(files.trials, files.study, before=ledger.flush)
        self._steps: dict[int, int] = {}  # last step on disk, by trial number
        self._to_clear: list[str] = []  # finished trials that may have checkpoints
        ledger.on_finished = self.finished

    def replay(self) -> None:
        """Bring MLflow level with the ledger: finished trials that it lacks or left open."""
        for trial in self._ledger.finished():
            name = trial_name(self._files.study, trial.number)
            self._to_clear.append(name)
            if name in self._tracker.ended:
                continue
            self._open_run(trial)
            for row in read_json_lines(self._files.reports(trial.number)):
                self._tracker.report(name, step=row["step"], metrics=row["metrics"], at=row["at"])
            ended = end_of(trial)
            self._tracker.trial_ended(name, status=ended.status, reason=ended.reason, at=ended.at)
        self._guard(self.clear_checkpoints)

    def assigned(self, assignment: Assignment) -> None:
        """A trial is about to start, or to start again; earlier ones need no checkpoint now."""
        self._guard(self.clear_checkpoints)
        method = assignment.config.method
        self._guard(lambda: self._progress.started(assignment.name, method))
        rows = read_json_lines(self._files.reports(assignment.number))
        self._steps[assignment.number] = max((row["step"] for row in rows), default=-1)
        self._tracker.trial_started(
            assignment.name, method=method, params=assignment.settings, started=time.time()
        )
        for row in rows:
            self._tracker.report(
                assignment.name, step=row["step"], metrics=row["metrics"], at=row["at"]
            )

    def reported(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial has reported; a step known from before a restart is not recorded again."""
        name, step = trial_name(self._files.study, number), int(result.get("training/step", 0))
        metrics = metrics_of(result)
        fraction = float(result.get("training/fraction", 0.0))
        self._guard(lambda: self._progress.reported(name, fraction, metrics))
        if step <= self._steps.get(number, -1) or result.get("status") == "failed":
            return
        self._steps[number] = step
        at = time.time()
        row = {"step": step, "at": at, "metrics": metrics}
        append_json_line(self._files.reports(number), row)
        self._tracker.report(name, step=step, metrics=metrics, at=at)

    def finished(self, number: int, outcome: Outcome) -> None:
        """A trial's outcome is in the ledger. Ray may still be writing its last checkpoint."""
        name = trial_name(self._files.study, number)
        self._to_clear.append(name)
        if number not in self._steps:  # refused before it could start
            trial = next(t for t in self._ledger.finished() if t.number == number)
            self._open_run(trial)
        self._tracker.trial_ended(
            name, status=outcome.status, reason=outcome.reason, at=time.time()
        )
        self._guard(
            lambda: self._progress.ended(name, outcome.status, outcome.reason, outcome.metrics)
        )
        self._guard(lambda: self._writer.update(self._ledger.finished()))

    def hurry(self) -> None:
        """No trial is at work any more."""
        self._tracker.hurry()

    def clear_checkpoints(self) -> None:
        """Delete what resuming no longer needs; a trial's model is kept in its own folder."""
        while self._to_clear:
            remove_checkpoints(self._files, self._to_clear[-1])
            self._to_clear.pop()

    def close(self) -> None:
        """The table as it stands, the front's tags, and no checkpoint of a finished trial."""
        finished = self._ledger.finished()
        self._to_clear = [trial_name(self._files.study, t.number) for t in finished]
        self._guard(self.clear_checkpoints)
        self._writer.update(finished, force=True)
        front = set(self._ledger.front())
        self._tracker.tag_front(
            {trial_name(self._files.study, t.number): t.number in front for t in finished}
        )

    def _open_run(self, trial: FrozenTrial) -> None:
        started = start_of(trial)
        self._tracker.trial_started(
            trial_name(self._files.study, trial.number),
            method=started.method,
            params=started.params,
            started=started.at,
        )

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            logger.warning("the study goes on; its record has a gap: %s", error)


class TuneEvents(Callback):
    """Tune's side of the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        try:
            self._monitor.reported(int(trial.config["number"]), result)
        except OSError:
            raise  # the disk is full: the launch ends before the trial's checkpoint is written
        except Exception as error:
            logger.warning("a report of %s was not recorded: %s", trial, error)

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Callback, ())
