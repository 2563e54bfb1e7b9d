"""Checkpoints of the trial `s-00000`, as launches leave them."""

from pathlib import Path

from search.record.files.study_folder import StudyFiles
from trainables.training.checkpoints.manifest import write_manifest


def checkpoint(files: StudyFiles, launch: int, index: int, step: int | None) -> Path:
    """step: None for one that was cut short."""
    path = files.launches / f"launch-{launch:03d}" / "s-00000" / f"checkpoint_{index:06d}"
    path.mkdir(parents=True)
    (path / "state").write_text("weights")
    if step is not None:
        write_manifest(path, step=step)
    return path
