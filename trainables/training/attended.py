"""Trains a run to its end, showing its progress and saving it from time to time."""

import time
from pathlib import Path

from trainables.training.progress import TrialProgress
from trainables.training.trial import TrialRun

_CHECKPOINT_SECONDS = 60.0  # between two saves, besides those at reports


def train_to_end(run: TrialRun, progress: TrialProgress, checkpoint: Path | None) -> None:
    """Train until the final report. checkpoint: the folder to save into; None saves nothing."""
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
    while (report := run.next_report()) is not None:
        progress.report(report)
        save()
