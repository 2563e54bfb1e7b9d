"""What a launch finds of those before it; and what killed drivers could not clear away."""

import json
from pathlib import Path

from ray.tune.experiment import Trial

from search.record.study_folder import StudyFiles

_TUNE_STATE = "experiment_state-*.json"
_ENDED = {Trial.TERMINATED, Trial.ERROR}


def next_launch(files: StudyFiles) -> str:
    """Return the name of a launch's own folder: nothing of an earlier one is overwritten."""
    numbers = [launch_number(p) for p in files.launches.glob("launch-[0-9]*")]
    return f"launch-{max(numbers, default=-1) + 1:03d}"


def launch_number(launch: Path) -> int:
    """Return which launch a folder is of."""
    return int(launch.name.removeprefix("launch-"))


def clear_dead_launches(files: StudyFiles) -> None:
    """Remove Tune's own state of launches that did not come to their end.

    It would name trials as running for ever, and serves `Tuner.restore`, which is not used.
    Checkpoints stay. Only while no driver is at work.
    """
    for launch in files.launches.glob("launch-[0-9]*"):
        states = list(launch.glob(_TUNE_STATE))
        if not states or not all(map(_has_ended, states)):
            for path in launch.iterdir():
                if path.is_file():  # folders are trials
                    path.unlink(missing_ok=True)


def tune_statuses(path: Path) -> dict[str, str]:
    """Return Tune's status by the trial's name, of an `experiment_state-….json`.

    Raises what reading and parsing raise.
    """
    trials = [json.loads(text) for text, _ in json.loads(path.read_text())["trial_data"]]
    return {str(trial["config"]["name"]): str(trial["status"]) for trial in trials}


def _has_ended(path: Path) -> bool:
    try:
        statuses = set(tune_statuses(path).values())
    except (OSError, ValueError, KeyError, TypeError):  # cut short
        return False
    return bool(statuses) and statuses <= _ENDED
