"""MLflow for real, on a file: one point per step, no run left open, mistakes found in seconds."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from search.connection import _experiment, connect
from search.tracking import StudyFacts, Tracker, _is_passing

REPOSITORY = Path(__file__).resolve().parents[2]

FACTS = StudyFacts(study="s", study_id="1f", params={"recipe": "demo", "tasks": "a,b"})


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow takes seconds for its tables."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    path = shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{path}"


def open_tracker(uri: str, tmp_path: Path) -> Tracker:
    return connect(uri, FACTS, tmp_path / "artifacts")


def children(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("disparse")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {r.data.tags.get("disparse.trial", "parent"): r for r in runs}


def points(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, key)
    return sorted((p.step, p.value) for p in history)


def metrics(fraction: float) -> dict[str, float]:
    return {"training/fraction": fraction, "val/depth/absolute_error": 1 - fraction}


def test_a_study_and_its_trials(uri: str, tmp_path: Path) -> None:
    tracker = open_tracker(uri, tmp_path)
    tracker.trial_started(
        "s-00000", method="snip", params={"sparsity.target": 0.9, "long": "x" * 7000}, started=5.0
    )
    for step in (10, 20):
        tracker.report("s-00000", step=step, metrics=metrics(step / 20), at=6.0)
    tracker.report("s-00000", step=20, metrics={"training/fraction": 0.0}, at=7.0)  # again
    tracker.trial_ended("s-00000", status="complete", reason="", at=8.0)
    tracker.trial_started("s-00001", method="rigl", params={}, started=5.0)
    tracker.report("s-00001", step=10, metrics={"training/fraction": 1.0, "x": math.nan}, at=6.0)
    tracker.trial_ended("s-00001", status="failed", reason="loss is nan", at=8.0)
    tracker.tag_front({"s-00000": True, "s-00001": False})
    assert tracker.close(finished=True) == ""
    runs = children(uri)
    assert set(runs) == {"parent", "s-00000", "s-00001"}
    parent, good, bad = runs["parent"], runs["s-00000"], runs["s-00001"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params == dict(FACTS.params)
    assert parent.data.tags["disparse.study"] == "s"
    assert parent.info.artifact_uri.startswith((tmp_path / "artifacts").as_uri())
    assert good.info.status == "FINISHED"
    assert good.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert good.data.tags["disparse.method"] == "snip"
    assert good.data.tags["disparse.status"] == "complete"
    assert good.data.tags["disparse.front"] == "true"
    assert good.data.params["sparsity.target"] == "0.9"
    assert len(good.data.params["long"]) == 6000
    assert points(uri, good, "training/fraction") == [(10, 0.5), (20, 1.0)]
    assert (good.info.start_time, good.info.end_time) == (5000, 8000)
    assert bad.info.status == "FAILED"
    assert bad.data.tags["disparse.reason"] == "loss is nan"
    assert bad.data.tags["disparse.front"] == "false"
    assert "x" not in bad.data.metrics


def test_reopening_adds_no_run_and_no_point(uri: str, tmp_path: Path) -> None:
    first = open_tracker(uri, tmp_path)
    first.trial_started("s-00000", method="snip", params={"a": 1}, started=1.0)
    first.report("s-00000", step=10, metrics=metrics(0.5), at=2.0)
    assert first.close(finished=False) == ""
    assert children(uri)["s-00000"].info.status == "KILLED"
    assert children(uri)["parent"].info.status == "KILLED"
    second = open_tracker(uri, tmp_path)
    assert second.parent_run_id == first.parent_run_id
    assert second.ended == set()
    assert children(uri)["parent"].info.status == "RUNNING"
    second.trial_started("s-00000", method="snip", params={"a": 1}, started=9.0)
    for step in (10, 20):
        second.report("s-00000", step=step, metrics=metrics(step / 20), at=3.0)
    second.trial_ended("s-00000", status="complete", reason="", at=4.0)
    assert second.close(finished=True) == ""
    runs = children(uri)
    assert len(runs) == 2
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    assert points(uri, runs["s-00000"], "training/fraction") == [(10, 0.5), (20, 1.0)]
    assert open_tracker(uri, tmp_path).ended == {"s-00000"}


def test_two_studies_share_a_database(uri: str, tmp_path: Path) -> None:
    other = StudyFacts(study="t", study_id="2f", params={})
    one, two = open_tracker(uri, tmp_path), connect(uri, other, tmp_path / "artifacts")
    assert one.parent_run_id != two.parent_run_id
    two.trial_started("t-00000", method="snip", params={}, started=1.0)
    assert one.close(finished=True) == two.close(finished=False) == ""
    assert children(uri)["t-00000"].info.status == "KILLED"


def test_a_server_that_is_away_for_a_while_loses_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.tracking._RETRY_SECONDS", (0.05,))
    tracker = open_tracker(uri, tmp_path)
    real, failures = MlflowClient.log_batch, 3

    def flaky(self: MlflowClient, *args: object, **kwargs: object) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise MlflowException("connection refused")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    tracker.trial_started("s-00000", method="snip", params={}, started=1.0)
    for step in (1, 2, 3):
        tracker.report("s-00000", step=step, metrics=metrics(step / 3), at=2.0)
    tracker.trial_ended("s-00000", status="complete", reason="", at=4.0)
    assert tracker.close(finished=True) == ""
    assert failures == 0
    run = children(uri)["s-00000"]
    assert [step for step, _ in points(uri, run, "training/fraction")] == [1, 2, 3]


def test_what_could_not_be_written_is_said(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.tracking._RETRY_SECONDS", (0.05,))
    tracker = open_tracker(uri, tmp_path)

    def away(self: MlflowClient, *args: object, **kwargs: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(MlflowClient, "log_batch", away)
    monkeypatch.setattr(MlflowClient, "set_terminated", away)
    tracker.trial_started("s-00000", method="snip", params={}, started=1.0)
    tracker.report("s-00000", step=1, metrics=metrics(1.0), at=2.0)
    tracker.trial_ended("s-00000", status="complete", reason="", at=4.0)
    said = tracker.close(finished=True, timeout_seconds=0.5)
    assert "connection refused" in said


def test_a_new_study_of_a_used_name_takes_no_run_of_the_old_one(uri: str, tmp_path: Path) -> None:
    old = open_tracker(uri, tmp_path)
    old.trial_started("s-00000", method="snip", params={"a": 1}, started=1.0)
    old.report("s-00000", step=10, metrics=metrics(0.5), at=2.0)
    assert old.close(finished=True) == ""
    facts = StudyFacts(study="s", study_id="another", params={})
    new = connect(uri, facts, tmp_path / "artifacts")
    assert new.parent_run_id != old.parent_run_id
    new.trial_started("s-00000", method="rigl", params={"a": 2}, started=1.0)
    new.report("s-00000", step=10, metrics=metrics(1.0), at=2.0)
    assert new.close(finished=True) == ""
    client = MlflowClient(uri)
    for tracker, study_id, value in ((old, "1f", 0.5), (new, "another", 1.0)):
        where = f"tags.`mlflow.parentRunId` = '{tracker.parent_run_id}'"
        (child,) = client.search_runs(["1"], where)
        assert child.data.tags["disparse.study_id"] == study_id
        assert points(uri, child, "training/fraction") == [(10, value)]


def test_a_point_that_was_refused_is_written_by_the_next_launch(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker(uri, tmp_path)
    real = MlflowClient.log_batch

    def refuse_step_two(self: MlflowClient, run_id: str, metrics: Any = (), **rest: Any) -> None:
        if any(point.step == 2 for point in metrics):
            raise MlflowException("no such value", error_code=3000)  # RESOURCE_ALREADY_EXISTS
        real(self, run_id, metrics=metrics, **rest)

    def write(tracker: Tracker) -> str:
        tracker.trial_started("s-00000", method="snip", params={"root": "a"}, started=1.0)
        for step in (1, 2, 3):
            tracker.report("s-00000", step=step, metrics=metrics(step / 3), at=2.0)
        tracker.trial_ended("s-00000", status="complete", reason="", at=4.0)
        return tracker.close(finished=True)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", refuse_step_two)
        patch.setattr("search.tracking._is_passing", lambda error: False)
        assert "1 writes to MLflow were not made (no such value)" in write(tracker)
    run = children(uri)["s-00000"]
    assert run.info.status == "FINISHED"  # nothing is left open meanwhile
    assert [step for step, _ in points(uri, run, "training/fraction")] == [1, 3]
    again = open_tracker(uri, tmp_path)
    assert "s-00000" not in again.ended
    assert write(again) == ""
    run = children(uri)["s-00000"]
    assert [step for step, _ in points(uri, run, "training/fraction")] == [1, 2, 3]
    assert open_tracker(uri, tmp_path).ended == {"s-00000"}


def test_a_locked_database_is_worth_waiting_for() -> None:
    assert _is_passing(OperationalError("INSERT", {}, Exception("database is locked")))
    assert not _is_passing(MlflowException("no", error_code=INVALID_PARAMETER_VALUE))
    assert not _is_passing(ZeroDivisionError())


def test_databases_keep_artifacts_beside_the_studies_and_servers_do_not(tmp_path: Path) -> None:
    created = []

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str, artifact_location: str | None) -> str:
            created.append(artifact_location)
            return "1"

    for address in ("sqlite:///x.db", "postgresql://h/x", "http://h:5000"):
        _experiment(Client(), address, tmp_path)  # type: ignore[arg-type]
    assert created == [tmp_path.as_uri(), tmp_path.as_uri(), None]


def test_two_processes_create_one_database(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from search.connection import connect; "
        "from search.tracking import StudyFacts; folder, study = sys.argv[1:]; "
        "tracker = connect(f'sqlite:///{folder}/mlflow.db', "
        "StudyFacts(study=study, study_id=study, params={}), Path(folder)); "
        "sys.exit(bool(tracker.close(finished=True)))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), study], cwd=REPOSITORY)
        for study in ("one", "two")
    ]
    assert [process.wait(50) for process in processes] == [0, 0]
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert {run.info.run_name for run in runs} == {"one", "two"}
