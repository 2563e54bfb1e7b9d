"""MLflow for real, on a file: one point per step, no run left open, mistakes found in seconds."""

import math
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from search.tracking import StudyFacts, Tracker, connect, probe
from trainables.errors import UserError

FACTS = StudyFacts(study="s", params={"recipe": "demo", "tasks": "a,b"})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


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
    other = StudyFacts(study="t", params={})
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


@pytest.mark.parametrize(
    "wrong",
    ["http://127.0.0.1:9", "postgresql://127.0.0.1:9/x", "file:///tmp/x", "nonsense"],
)
def test_a_tracking_uri_that_is_down_is_found_in_seconds(wrong: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="`--tracking-uri` must be") as caught:
        probe(wrong)
    assert wrong in str(caught.value)
    assert time.monotonic() - began < 15
