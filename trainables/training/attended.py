"""Trains a run to its end, showing its progress and saving it from time to time."""

import contextlib
import sys
import time
from pathlib import Path

from trainables.errors import Failure, UserError
from trainables.training.loop.loop import Diverged
from trainables.training.loop.phases import report_steps
from trainables.training.trial import TrialRun
from trainables.training.watching.progress import TrialProgress

_CHECKPOINT_SECONDS = 60.0  # between two saves, besides those at reports


def train_to_end(run: TrialRun, progress: TrialProgress, checkpoint: Path | None) -> None:
    """Train until the final report. checkpoint: the folder to save into; None saves nothing.

    Where a report fails (a metric that raises, say), what was trained for it is saved before the
    error goes on.
    """
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if checkpoint is not None:
            run.save(checkpoint)
            saved = time.monotonic()

    def on_step(phase: str, done: int, total: int) -> None:
        progress.step(phase, done, total)
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            save()

    run.on_progress = on_step
    while True:
        try:
            report = run.next_report()
        except Diverged:
            raise  # nothing worth keeping
        except Exception as error:
            if checkpoint is None or not _awaits_report(run):
                raise
            with contextlib.suppress(OSError):
                save()
                kept = f"step {run.loop.step} is kept in {checkpoint}: --resume goes on from there"
                if isinstance(error, (UserError, Failure)):
                    raise type(error)(f"{error}; {kept}") from error
                print(f"note: {kept}", file=sys.stderr)
            raise
        if report is None:
            return
        progress.report(report)
        save()


def _awaits_report(run: TrialRun) -> bool:
    """Return whether a run has come to a report, between two steps, that it has not given yet."""
    reported = 0 if run.last_report is None else run.last_report.step
    return run.loop.step > reported and run.loop.step in report_steps(run.config.training)
