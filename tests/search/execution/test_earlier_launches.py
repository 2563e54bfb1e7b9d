"""What a launch finds of earlier ones: nothing in use is touched, nothing abandoned stays."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from search.execution.checkpoints import newest_checkpoint
from search.execution.earlier_launches import clear_dead_launches, tune_statuses
from search.execution.ray_scratch import Scratch, remove_abandoned
from search.record.study_folder import StudyFiles, study_files
from tests.search.execution.checkpoint_files import checkpoint


@pytest.fixture
def files(tmp_path: Path) -> StudyFiles:
    return study_files(str(tmp_path), "s")


def state(launch: Path, *statuses: str, cut: bool = False) -> Path:
    """Tune's record of trials, as `TuneController.save_to_dir` writes it (ray 2.60)."""
    trials = [
        [json.dumps({"status": s, "config": {"name": f"s-{n:05d}"}}), "{}"]
        for n, s in enumerate(statuses)
    ]
    launch.mkdir(parents=True, exist_ok=True)
    path = launch / "experiment_state-2026-01-01_00-00-00.json"
    text = json.dumps({"trial_data": trials})
    path.write_text(text[: len(text) // 2] if cut else text)
    (launch / "tuner.pkl").write_bytes(b"a pickle")
    return path


@pytest.mark.parametrize(
    ("statuses", "cut", "kept"),
    [
        (("TERMINATED", "ERROR"), False, True),
        (("TERMINATED", "RUNNING"), False, False),
        (("PENDING",), False, False),
        (("PAUSED", "TERMINATED"), False, False),
        (("TERMINATED",), True, False),
        ((), False, False),
    ],
)
def test_what_tune_left_of_a_launch_that_did_not_end(
    files: StudyFiles, statuses: tuple[str, ...], cut: bool, kept: bool
) -> None:
    clear_dead_launches(files)  # of a study that has not begun
    path = state(files.launches / "launch-000", *statuses, cut=cut)
    whole = checkpoint(files, 0, 3, 10)
    clear_dead_launches(files)
    assert path.exists() is kept
    assert (path.parent / "tuner.pkl").exists() is kept
    assert newest_checkpoint(files, "s-00000") == whole
    if kept:
        assert list(tune_statuses(path).values()) == list(statuses)


def test_folders_of_killed_drivers_go_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = (
        "import os, signal, time; from search.execution.ray_scratch import Scratch; "
        "scratch = Scratch.make(200); print(scratch.path, flush=True); time.sleep(600)"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert killed.stdout is not None
    theirs = Path(killed.stdout.readline().strip())
    mine = Scratch.make(200)
    assert mine is not None
    (tmp_path / "disparse-other").mkdir()
    (tmp_path / "disparse-other" / "file").write_text("no folder of ours, which have locks")
    empty = tmp_path / "disparse-empty"
    empty.mkdir()
    remove_abandoned()
    assert all(path.is_dir() for path in (theirs, mine.path, empty))
    killed.kill()
    killed.communicate()
    hour_ago = time.time() - 3600
    os.utime(empty, (hour_ago, hour_ago))
    remove_abandoned()
    assert {p.name for p in tmp_path.iterdir()} == {"disparse-other", mine.path.name}
    mine.remove()
    assert not mine.path.exists()
    assert Scratch.make(len(str(tmp_path)) + 5) is None
    assert [p.name for p in tmp_path.iterdir()] == ["disparse-other"]
