"""Carries a launch's events to the study's files, and to the screen."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.execution.callbacks.checkpoints import checkpoints_of
from search.record.files.study_folder import StudyFiles, append_json_line, read_json_lines
from search.record.files.trials_table import write_trials
from search.record.ledger import Assignment, Ledger
from search.record.outcomes import Outcome, metrics_of
from trainables.sweep.display import Progress
from trainables.sweep.folder import trial_name

_TABLE_SECONDS = 2.0  # at least between two writings of the table of trials
_TABLE_SHARE = 0.02  # of the driver's time, at most: the table grows with the study

logger = logging.getLogger(__name__)


class Monitor(Callback):
    """Listens to one launch of a study. Nothing here raises into Tune's loop, a full disk aside."""

    def __init__(self, files: StudyFiles, ledger: Ledger, progress: Progress) -> None:
        self._files = files
        self._ledger = ledger
        self._progress = progress
        self._table_due = 0.0
        self._steps: dict[int, int] = {}  # last step on disk, by trial number
        # Finished trials that may have checkpoints.
        self._to_clear = [self._name(trial.number) for trial in ledger.finished()]
        ledger.on_finished = self.finished

    def assigned(self, assignment: Assignment) -> None:
        """Note that a trial starts, or starts again."""
        if not assignment.resumed:  # a trial of this number that a lost host's record forgot
            shutil.rmtree(self._files.trial(assignment.number), ignore_errors=True)
            self._to_clear.append(assignment.name)
        self._guard(self.clear_checkpoints)
        what, repeats = assignment.config.method, assignment.repeats
        what = what if repeats is None else f"repeats {repeats}: {what}"
        rows = read_json_lines(self._files.reports(assignment.number))
        fraction = float(rows[-1]["metrics"].get("training/fraction", 0.0)) if rows else 0.0
        self._guard(lambda: self._progress.started(assignment.name, what, fraction))
        self._steps[assignment.number] = max((row["step"] for row in rows), default=-1)

    def reported(self, number: int, result: Mapping[str, Any]) -> None:
        """Record a trial's report; a step known from before a restart is not recorded again."""
        step, metrics = int(result.get("training/step", 0)), metrics_of(result)
        fraction = float(result.get("training/fraction", 0.0))
        self._guard(lambda: self._progress.reported(self._name(number), fraction, metrics))
        for note in result.get("notes", ()):
            self._guard(partial(self._progress.note, note))
        if step > self._steps.get(number, -1) and result.get("status") != "failed":
            self._steps[number] = step
            row = {"step": step, "at": time.time(), "metrics": metrics}
            append_json_line(self._files.reports(number), row)

    def finished(self, number: int, outcome: Outcome) -> None:
        """Show a trial's end. Ray may still be writing its last checkpoint."""
        name = self._name(number)
        self._to_clear.append(name)
        said = (name, outcome.status, outcome.reason, outcome.metrics)
        self._guard(lambda: self._progress.ended(*said))
        if time.monotonic() >= self._table_due:
            self._guard(self._write_table)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Record a report of Tune's. Raises `OSError` for a full disk, before the checkpoint."""
        try:
            self.reported(int(trial.config["number"]), result)
        except OSError:
            raise
        except Exception as error:
            logger.warning("a report of %s was not recorded: %s", trial, error)

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Callback, ())

    def clear_checkpoints(self) -> None:
        """Delete what resuming no longer needs; a trial's model is kept in its own folder."""
        while self._to_clear:
            for folder in checkpoints_of(self._files, self._to_clear[-1]):
                shutil.rmtree(folder, ignore_errors=True)
            self._to_clear.pop()

    def close(self) -> None:
        """Write the table as it stands, and delete every checkpoint of a finished trial."""
        self._to_clear = [self._name(trial.number) for trial in self._ledger.finished()]
        self._guard(self.clear_checkpoints)
        self._write_table()

    def _write_table(self) -> None:
        began = time.monotonic()
        # A table that knew of more trials than the record would keep the study from resuming.
        self._ledger.record.flush()
        write_trials(self._files.trials, self._files.study, self._ledger.finished())
        now = time.monotonic()
        self._table_due = now + max(_TABLE_SECONDS, (now - began) / _TABLE_SHARE)

    def _name(self, number: int) -> str:
        return trial_name(self._files.study, number)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            logger.warning("the study continues; its record has a gap: %s", error)
