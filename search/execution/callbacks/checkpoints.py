"""What launches leave in their folders: when a checkpoint is due, which are kept, which goes on."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import DONE, SHOULD_CHECKPOINT

from search.record.files.study_folder import StudyFiles
from trainables.training.checkpoints.manifest import valid_checkpoint

NUM_CHECKPOINTS = 2  # of a trial at work: the newest, and one more in case that is damaged
MIN_SECONDS = 0.5  # between two; what a crash may cost a trial that is saved in no time
MAX_SHARE = 0.05  # of a trial's time that goes into saving it


@dataclass(slots=True)
class _Saving:
    """since: when the trial began or was saved last; asked: when the save under way was."""

    since: float
    asked: float | None = None
    seconds: float = 0.0  # that the last one took


class Checkpoints(Callback):
    """Asks for a checkpoint where losing work would cost more than saving it; deletes old ones.

    A trainable may ask for more by `should_checkpoint` in its result. Tune deletes too
    (`num_to_keep`), but then writes its state of all trials anew after every other checkpoint.
    """

    def __init__(self, files: StudyFiles) -> None:
        self._files = files
        self._trials: dict[str, _Saving] = {}  # at work, by Ray's id

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Start a trial's clock."""
        self._trials[trial.trial_id] = _Saving(since=time.monotonic())

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Ask for a checkpoint where one is due, in the result, which Tune reads after this."""
        saving = self._trials.get(trial.trial_id)
        if saving is None or result.get(DONE):
            return
        now = time.monotonic()
        if now - saving.since >= max(MIN_SECONDS, saving.seconds / MAX_SHARE):
            result[SHOULD_CHECKPOINT] = True
        if result.get(SHOULD_CHECKPOINT):
            saving.asked = now

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **_: Any
    ) -> None:
        """Delete older ones: the new one is whole, on the storage that the driver sees."""
        saving = self._trials.get(trial.trial_id)
        if saving is not None:
            saving.since = time.monotonic()
            if saving.asked is not None:
                saving.seconds = saving.since - saving.asked
        for directory in checkpoints_of(self._files, str(trial.config["name"]))[:-NUM_CHECKPOINTS]:
            shutil.rmtree(directory, ignore_errors=True)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Forget a trial."""
        self._trials.pop(trial.trial_id, None)

    on_trial_error = on_trial_complete

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Callback, ())


def newest_checkpoint(files: StudyFiles, name: str) -> Path | None:
    """Return the furthest intact checkpoint that any launch left of a trial, or None."""
    steps = {path: valid_checkpoint(path) for path in reversed(checkpoints_of(files, name))}
    whole = {path: step for path, step in steps.items() if step is not None}
    return max(whole, key=lambda path: whole[path], default=None)


def checkpoints_of(files: StudyFiles, name: str) -> list[Path]:
    """Return those of one trial, of every launch, oldest first, whole or not."""
    found = files.launches.glob(f"launch-[0-9]*/{name}/checkpoint_*")
    return sorted(found, key=lambda path: (_launch_number(path.parents[1]), path.name))


def next_launch(files: StudyFiles) -> str:
    """Return the name of a launch's own folder: nothing of an earlier one is overwritten."""
    numbers = map(_launch_number, files.launches.glob("launch-[0-9]*"))
    return f"launch-{max(numbers, default=-1) + 1:03d}"


def clear_tune_states(files: StudyFiles) -> None:
    """Remove Tune's own state of earlier launches; checkpoints stay.

    That of a killed driver would name trials as running for ever, and it serves `Tuner.restore`
    alone, which is not used. Only while no driver is at work.
    """
    for path in files.launches.glob("launch-[0-9]*/*"):
        if path.is_file():  # folders are trials
            path.unlink(missing_ok=True)


def _launch_number(launch: Path) -> int:
    return int(launch.name.removeprefix("launch-"))
