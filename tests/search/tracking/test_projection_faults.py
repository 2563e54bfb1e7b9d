"""The projection where MLflow does not answer, answers too late, or refuses what it is given."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.tracking import MlflowClient

from search.tracking.connection import EXPERIMENT
from search.tracking.projection import Away, Projection
from tests.search.tracking.mlflow_files import Recorded, content, points, project, runs_of

WRITES = ("create_run", "log_batch", "set_terminated", "update_run", "set_tag", "log_artifact")
READS = ("search_runs", "get_metric_history")
REFUSAL = MlflowException("no such value", error_code=INVALID_PARAMETER_VALUE)


@pytest.fixture
def study(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def fill(study: Recorded) -> None:
    """Three trials that ended, one of them not on the front, and one at work."""
    study.whole("snip", params={"a": 1}, quality=0.5)
    study.whole("rigl", quality=0.4)
    study.whole("set", "failed", reason="loss is nan")
    study.report(study.begin("gmp"), [1])


class Line:
    """To MLflow; the calls at the places in `broken` are lost, or (`carried`) their answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.num_calls = 0
        self.broken: Callable[[int], bool] = lambda place: False
        self.carried = False
        self.error = error
        for name in (*WRITES, *READS):
            monkeypatch.setattr(MlflowClient, name, self._spy(getattr(MlflowClient, name)))

    def _spy(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            place, self.num_calls = self.num_calls, self.num_calls + 1
            broken = self.broken(place)
            if self.carried or not broken:
                result = real(*arguments, **named)
            if broken:
                raise self.error
            return result

        return call


LOST = MlflowException("read timed out", error_code=TEMPORARILY_UNAVAILABLE)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("carried", [False, True])
def test_a_call_without_an_answer_leaves_one_of_everything(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, carried: bool, dies: bool
) -> None:
    """Each call of a projection in its turn. dies: whether its process ends with it."""
    reference = Recorded(tmp_path / "reference", study_id="reference")
    fill(reference)
    line = Line(monkeypatch, LOST)
    project(reference, uri).close(finished=False)
    num_calls = line.num_calls
    assert num_calls > 12
    wanted = without_ids(uri, "reference")

    for place in range(num_calls):
        study = Recorded(tmp_path / str(place), study_id=f"study-{place}")
        fill(study)
        line.num_calls, line.carried = 0, carried
        line.broken = lambda at, place=place: at == place  # type: ignore[misc]
        projection = None
        with contextlib.suppress(Away):
            projection = project(study, uri)
            projection.close(finished=False)
        assert line.num_calls > place, "nothing broke"
        line.broken = lambda at: False
        if dies or projection is None:  # where it could not be opened, its driver ends
            projection = project(study, uri)
        projection.close(finished=False)
        assert without_ids(uri, study.study_id) == wanted, place
        again = project(study, uri)
        again.close(finished=False)
        assert again.num_changes == 0, place


def without_ids(uri: str, study_id: str) -> dict[str, Any]:
    """What the runs of a study say, but for ids and the clock."""
    told = {}
    for name, run in runs_of(uri, study_id).items():
        left_out = ("disparse.study_id", "disparse.record")
        tags = {k: v for k, v in run.data.tags.items() if k.startswith("disparse.")}
        told[name] = {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {k: v for k, v in tags.items() if k not in left_out},
            "points": points(uri, run),
        }
    return told


def test_a_parent_whose_making_had_no_answer_is_found(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(monkeypatch, LOST)
    line.carried, line.broken = True, lambda place: place == 1  # create_run
    with pytest.raises(Away, match="read timed out"):
        project(study, uri)
    project(study, uri).update()
    assert set(runs_of(uri)) == {"parent"}


def test_while_mlflow_is_away_nothing_is_lost_and_the_record_grows(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(study)
    line = Line(monkeypatch, ConnectionError("connection refused"))
    projection = project(study, uri)
    projection.update()
    line.broken = lambda place: True
    for _ in range(3):
        study.whole("lth")
        with pytest.raises(Away, match="connection refused"):
            projection.update()
    line.broken = lambda place: False
    projection.update()
    assert projection.num_refused == 0
    runs = runs_of(uri)
    assert len(runs) == 1 + 7
    assert all(len(points(uri, runs[f"s-{n:05d}"])) == 3 for n in (0, 1, 2, 4, 5, 6))


# ---------------------------------------------------------------------------- refusals


def refusing(monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., bool]) -> None:
    """Let `log_batch` refuse a batch in which `refuses(**named)`."""
    real = MlflowClient.log_batch

    def log_batch(client: MlflowClient, run_id: str, **named: Any) -> None:
        if refuses(**named):
            raise REFUSAL
        real(client, run_id, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)


def test_a_refused_report_costs_only_itself_and_is_written_later(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.whole(params={"a": 1})
    study.whole("rigl")

    def refuses(metrics: Any = (), **rest: Any) -> bool:
        return any(point.step == 2 for point in metrics)

    with monkeypatch.context() as patch:
        refusing(patch, refuses)
        projection = project(study, uri)
        projection.close(finished=True)
        assert (projection.num_refused, projection.problem) == (2, "no such value")
    runs = runs_of(uri)
    for name in ("s-00000", "s-00001"):
        run = runs[name]
        assert run.info.status == "FINISHED"  # nothing is left open meanwhile
        assert run.data.tags["disparse.status"] == "complete"
        assert [step for step, _ in points(uri, run)] == [1, 3]
    assert runs["s-00000"].data.params == {"method": "snip", "a": "1"}
    again = project(study, uri, thorough=True)
    again.close(finished=True)
    assert again.num_refused == 0
    runs = runs_of(uri)
    for name in ("s-00000", "s-00001"):
        assert [step for step, _ in points(uri, runs[name])] == [1, 2, 3]
    last = project(study, uri)
    last.close(finished=True)
    assert last.num_changes == 0


def test_a_report_that_was_refused_while_its_trial_was_at_work_is_written_later(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = study.begin()
    study.report(number, [1])
    projection = project(study, uri)
    with monkeypatch.context() as patch:
        refusing(patch, lambda metrics=(), **rest: any(p.step == 1 for p in metrics))
        projection.update()
        assert projection.num_refused == 1
        study.report(number, [2, 3])
        study.end(number)
        projection.close(finished=True)
    run = runs_of(uri)["s-00000"]
    assert [step for step, _ in points(uri, run)] == [2, 3]
    project(study, uri, thorough=True).close(finished=True)
    run = runs_of(uri)["s-00000"]
    assert len(points(uri, run)) == 3


def test_refused_parameters_cost_no_point(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.whole(params={"bad": "x"})
    with monkeypatch.context() as patch:
        refusing(patch, lambda params=(), **rest: any(p.key == "bad" for p in params))
        projection = project(study, uri)
        projection.update()
        assert projection.num_refused == 1
    run = runs_of(uri)["s-00000"]
    assert len(points(uri, run)) == 3
    project(study, uri).update()
    run = runs_of(uri)["s-00000"]
    assert run.data.params == {"method": "snip", "bad": "x"}


def test_a_refused_run_costs_no_other(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("snip", "rigl"):
        study.whole(method)
    real = MlflowClient.create_run

    def create_run(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        if named.get("run_name") == "s-00000":
            raise REFUSAL
        return real(client, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", create_run)
        projection = project(study, uri)
        projection.close(finished=True)
        assert projection.num_refused == 1
    assert set(runs_of(uri)) == {"parent", "s-00001"}
    project(study, uri).close(finished=True)
    assert len(points(uri, runs_of(uri)["s-00000"])) == 3


def test_a_refused_front_is_said_and_written_later(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.whole(quality=0.4)
    projection = project(study, uri)
    projection.update()
    study.whole(quality=0.5)  # the first falls from the front
    with monkeypatch.context() as patch:
        refusing(patch, lambda tags=(), **rest: any(t.value == "false" for t in tags))
        projection.update()
        assert projection.num_refused == 1
    assert content(uri)["s-00000"]["tags"]["disparse.front"] == "true"
    project(study, uri).close(finished=True)
    assert content(uri)["s-00000"]["tags"]["disparse.front"] == "false"


# ---------------------------------------------------------------------------- who is away


def test_files_that_cannot_be_sent_from_here_are_refused_and_the_runs_are_written(
    study: Recorded, uri: str
) -> None:
    """A server made the experiment, so its artifacts are the server's to keep."""
    MlflowClient(uri).create_experiment(EXPERIMENT, artifact_location="mlflow-artifacts:/1")
    study.whole()
    projection = project(study, uri)
    projection.close(finished=True)
    assert projection.num_refused == 1
    assert "mlflow-artifacts" in projection.problem
    runs = runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(points(uri, runs["s-00000"])) == 3


def test_a_server_that_is_not_there_is_away(
    study: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient("http://127.0.0.1:9")
    with pytest.raises(Away):
        Projection(client, "1", study.files, study.record)


def test_a_question_that_is_refused_is_no_absence(
    study: Recorded, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Line(monkeypatch, REFUSAL).broken = lambda place: True
    with pytest.raises(MlflowException, match="no such value"):
        project(study, uri)
