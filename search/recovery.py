"""What a launch finds of those before it: checkpoints to go on from, and what drivers that were
killed could not clear away."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.files import StudyFiles
from trainables.training.manifest import valid_checkpoint

NUM_CHECKPOINTS = 2  # of a trial at work: the newest, and one more in case that is damaged

_TUNE_STATE = "experiment_state-*.json"
_ENDED = {Trial.TERMINATED, Trial.ERROR}


def newest_checkpoint(files: StudyFiles, name: str) -> Path | None:
    """The furthest intact checkpoint that any launch left of a trial."""
    best: tuple[int, Path] | None = None
    for directory in _checkpoints(files, name):
        step = valid_checkpoint(directory)
        if step is not None and (best is None or step >= best[0]):
            best = (step, directory)
    return best[1] if best else None


def next_launch(files: StudyFiles) -> str:
    """Every launch has a folder of its own: nothing of an earlier one is overwritten."""
    numbers = [_launch_number(p) for p in files.launches.glob("launch-[0-9]*")]
    return f"launch-{max(numbers, default=-1) + 1:03d}"


def clear_dead_launches(files: StudyFiles) -> None:
    """Remove Tune's own state of launches that did not come to their end, which would name
    trials as running for ever. It serves `Tuner.restore`, which is not used: the record of
    trials is the ledger. Checkpoints stay. Only while no driver is at work."""
    for launch in files.launches.glob("launch-[0-9]*"):
        states = [_statuses(path) for path in launch.glob(_TUNE_STATE)]
        if all(found and found <= _ENDED for found in states) and states:
            continue
        for path in launch.iterdir():
            if path.is_file():  # folders are trials
                path.unlink(missing_ok=True)


class OldCheckpoints(Callback):
    """Deletes what resuming no longer needs. Tune can do so itself (`num_to_keep`), but then
    writes its state of all trials anew after every other checkpoint of any of them."""

    def __init__(self, files: StudyFiles) -> None:
        self._files = files

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        """The new one is whole, on the storage that the driver sees."""
        for directory in _checkpoints(self._files, str(trial.config["name"]))[:-NUM_CHECKPOINTS]:
            shutil.rmtree(directory, ignore_errors=True)

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Callback, ())


def _checkpoints(files: StudyFiles, name: str) -> list[Path]:
    """Of one trial, oldest first, whole or not."""
    found = files.launches.glob(f"launch-[0-9]*/{name}/checkpoint_*")
    return sorted(found, key=lambda path: (_launch_number(path.parents[1]), path.name))


def _launch_number(launch: Path) -> int:
    return int(launch.name.removeprefix("launch-"))


def _statuses(path: Path) -> set[str] | None:
    """Of all trials in Tune's state; None where it is cut short."""
    try:
        return set(tune_statuses(path).values())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def tune_statuses(path: Path) -> dict[str, str]:
    """Tune's status by the trial's name, of an `experiment_state-….json`. Raises what reading and
    parsing raise."""
    return dict(_trials_of(json.loads(path.read_text())))


def _trials_of(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for text, _ in state["trial_data"]:
        trial = json.loads(text)
        yield str(trial["config"]["name"]), str(trial["status"])
