"""What a launch finds of those before it; and what killed drivers could not clear away."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

from search.record.study_folder import StudyFiles

_TUNE_STATE = "experiment_state-*.json"
_ENDED = {Trial.TERMINATED, Trial.ERROR}


def next_launch(files: StudyFiles) -> str:
    """Every launch has a folder of its own: nothing of an earlier one is overwritten."""
    numbers = [launch_number(p) for p in files.launches.glob("launch-[0-9]*")]
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


def launch_number(launch: Path) -> int:
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
