"""What a launch finds of those before it; and what killed drivers could not clear away."""

from pathlib import Path

from search.record.study_folder import StudyFiles


def next_launch(files: StudyFiles) -> str:
    """Return the name of a launch's own folder: nothing of an earlier one is overwritten."""
    numbers = [launch_number(p) for p in files.launches.glob("launch-[0-9]*")]
    return f"launch-{max(numbers, default=-1) + 1:03d}"


def launch_number(launch: Path) -> int:
    """Return which launch a folder is of."""
    return int(launch.name.removeprefix("launch-"))


def clear_tune_states(files: StudyFiles) -> None:
    """Remove Tune's own state of earlier launches; checkpoints stay.

    That of a killed driver would name trials as running for ever, and it serves `Tuner.restore`
    alone, which is not used. Only while no driver is at work.
    """
    for path in files.launches.glob("launch-[0-9]*/*"):
        if path.is_file():  # folders are trials
            path.unlink(missing_ok=True)
