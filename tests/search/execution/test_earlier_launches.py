"""What a launch finds of earlier ones: Tune's state goes, what a trial goes on from stays."""

from pathlib import Path

from search.execution.callbacks.checkpoints import clear_tune_states, newest_checkpoint, next_launch
from search.record.files.study_folder import study_files
from tests.search.execution.checkpoint_files import checkpoint


def test_what_tune_left_goes_and_checkpoints_stay(tmp_path: Path) -> None:
    files = study_files(str(tmp_path), "s")
    clear_tune_states(files)  # of a study that has not begun
    assert next_launch(files) == "launch-000"
    whole = checkpoint(files, 0, 3, 10)
    launch = files.launches / "launch-000"
    for name in ("experiment_state-2026-01-01_00-00-00.json", "tuner.pkl"):
        (launch / name).write_text("{}")
    clear_tune_states(files)
    assert [path for path in launch.iterdir() if path.is_file()] == []
    assert newest_checkpoint(files, "s-00000") == whole
    assert next_launch(files) == "launch-001"
