"""Checkpoints: when one is due, which ones are kept, and the one to go on from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.execution.callbacks import checkpoints
from search.execution.callbacks.checkpoints import (
    MAX_SHARE,
    MIN_SECONDS,
    NUM_CHECKPOINTS,
    Checkpoints,
    newest_checkpoint,
    next_launch,
)
from search.record.files.study_folder import StudyFiles, study_files
from tests.search.execution.checkpoint_files import checkpoint

TRIAL: Any = SimpleNamespace(trial_id="a", config={"name": "s-00000"})


@pytest.fixture
def files(tmp_path: Path) -> StudyFiles:
    return study_files(str(tmp_path), "s")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_the_furthest_whole_checkpoint_of_all_launches(files: StudyFiles) -> None:
    assert newest_checkpoint(files, "s-00000") is None
    checkpoint(files, 0, 0, 10)
    far = checkpoint(files, 0, 1, 20)
    checkpoint(files, 0, 2, None)
    assert newest_checkpoint(files, "s-00000") == far
    checkpoint(files, 1, 0, 15)  # the later launch began again, and has not come as far
    assert newest_checkpoint(files, "s-00000") == far
    # Launch 1000 comes after launch 999, whatever letters say.
    checkpoint(files, 999, 0, 30)
    last = checkpoint(files, 1000, 0, 30)
    assert newest_checkpoint(files, "s-00000") == last
    assert next_launch(files) == "launch-1001"


def test_only_the_newest_checkpoints_of_a_trial_are_kept(files: StudyFiles) -> None:
    paths = [checkpoint(files, 9, i, 10 * i) for i in (0, 1)]
    paths += [checkpoint(files, 10, i, 20 + 10 * i) for i in (0, 1)]
    other = files.launches / "launch-009" / "s-00001" / "checkpoint_000000"
    other.mkdir(parents=True)
    Checkpoints(files).on_checkpoint(0, [], TRIAL, None)
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert len(paths) - 2 == NUM_CHECKPOINTS
    assert other.exists()


class Driven:
    """A trial whose reports and saves come when told."""

    def __init__(self, files: StudyFiles, clock: Any) -> None:
        self.clock = clock
        self.callback = Checkpoints(files)
        self.callback.on_trial_start(0, [], TRIAL)

    def report(self, after: float, **result: Any) -> bool:
        """Whether a checkpoint is asked for."""
        self.clock.now += after
        self.callback.on_trial_result(0, [], TRIAL, result)
        return bool(result.get("should_checkpoint", False))

    def saved(self, after: float) -> None:
        self.clock.now += after
        self.callback.on_checkpoint(0, [], TRIAL, None)


def test_a_checkpoint_is_due_when_losing_the_work_would_cost_more(
    files: StudyFiles, clock: Any
) -> None:
    trial = Driven(files, clock)
    assert not trial.report(MIN_SECONDS / 2)
    assert trial.report(MIN_SECONDS / 2)
    trial.saved(2.0)
    # Two seconds were spent on saving: for so long none is written that they are a small share.
    assert not trial.report(2.0 / MAX_SHARE - 1.0)
    assert trial.report(1.0)
    trial.saved(0.001)
    assert not trial.report(MIN_SECONDS / 2)
    assert trial.report(MIN_SECONDS / 2)


def test_the_end_needs_no_checkpoint(files: StudyFiles, clock: Any) -> None:
    assert not Driven(files, clock).report(60.0, done=True)


def test_a_trainable_may_ask_for_more(files: StudyFiles, clock: Any) -> None:
    trial = Driven(files, clock)
    assert trial.report(0.0, should_checkpoint=True)
    trial.saved(0.0)
    assert not trial.report(0.0)


def test_a_trial_that_has_ended_is_forgotten(files: StudyFiles, clock: Any) -> None:
    trial = Driven(files, clock)
    trial.callback.on_trial_complete(0, [], TRIAL)
    assert not trial.report(60.0)
    trial.callback.on_trial_start(1, [], TRIAL)
    assert not trial.report(MIN_SECONDS / 2)
