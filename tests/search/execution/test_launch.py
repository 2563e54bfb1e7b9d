"""One launch of Tune: what ends it that is no trial's failure, and no bug of ours."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError
from ray.tune import Trainable

from search.execution import launch as with_ray
from search.execution.callbacks.monitor import Monitor
from search.execution.launch_options import Launch
from search.record.files.study_folder import StudyFiles
from tests.search.studies import ledger_of, plan_of
from trainables.errors import Failure
from trainables.sweep.display import Progress


class NoTrainable(Trainable):
    """Is never run."""


class EndedByMemory:
    """Stands in for a run of Tune whose trial's process Ray kills between two of its answers."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def fit(self) -> None:
        killed = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory")
        raise RuntimeError(f"Caught unexpected exception: {killed}") from killed


class EndedByABug(EndedByMemory):
    """Another error of the same type."""

    def fit(self) -> None:
        raise RuntimeError("a bug") from ValueError("of somebody")


@contextlib.contextmanager
def no_cluster(*_: Any) -> Iterator[None]:
    yield None


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuner: type) -> None:
    monkeypatch.setattr(with_ray, "ray_cluster", no_cluster)
    monkeypatch.setattr(with_ray, "shares", lambda *_: (1, {"cpu": 1}))
    monkeypatch.setattr(with_ray.tune, "Tuner", tuner)
    plan = plan_of(trials=2)
    ledger = ledger_of(plan)
    files = StudyFiles(storage=tmp_path, study=plan.study)
    progress = Progress(trials=2, finished=0, objectives=(), quiet=True)
    launch = Launch(storage=str(tmp_path), trainable=NoTrainable, concurrency=1)
    monitor = Monitor(files, ledger, progress)
    with_ray.run_trials(plan, launch, files, ledger, monitor, [], lambda: None)


def test_a_kill_for_memory_that_ends_tune_is_said_with_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Failure, match=r"out of memory: Ray killed .* `.*search resume s .*`"):
        start(tmp_path, monkeypatch, EndedByMemory)


def test_another_error_of_tune_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        start(tmp_path, monkeypatch, EndedByABug)
