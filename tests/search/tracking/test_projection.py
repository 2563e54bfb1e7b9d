"""What is written to MLflow, and how often: for real, on a file."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    PendingRollbackError,
)

from search.tracking.connection import _experiment, open_client
from search.tracking.events import (
    Ended,
    Point,
    Started,
    StudyFacts,
    TrialWrites,
    close_line,
    gather,
    to_line,
)
from search.tracking.projector import StudyRuns
from search.tracking.retries import GaveUp, is_passing
from tests.search.tracking.mlflow_files import FACTS, metrics, points, runs_of

STEPS = (1, 2, 3)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: MLflow takes seconds for its tables."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    return f"sqlite:///{shutil.copyfile(empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tracking.retries.RETRY_SECONDS", (0.05,))


def open_runs(uri: str, facts: StudyFacts = FACTS, **options: Any) -> StudyRuns:
    client, experiment = open_client(uri, Path(uri.removeprefix("sqlite:///")).parent)
    runs = StudyRuns(client, experiment, facts, **options)
    runs.begin()
    return runs


def started(method: str = "snip", at: float = 1.0, **params: Any) -> Started:
    return Started(method=method, params=params, at=at)


def whole_trial(status: str = "complete", reason: str = "", **params: Any) -> TrialWrites:
    return TrialWrites(
        started=started(**params),
        points=[Point(step=s, metrics=metrics(s / 3), at=2.0) for s in STEPS],
        ended=Ended(status=status, reason=reason, at=4.0),
    )


class Calls:
    """Counts a client's calls, and lets some of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.failures: dict[str, list[tuple[bool, Exception]]] = {}
        for name in ("create_run", "log_batch", "set_terminated", "update_run", "set_tag"):
            monkeypatch.setattr(MlflowClient, name, self._spy(name, getattr(MlflowClient, name)))

    def fail(self, name: str, error: Exception, *, carried_out: bool = False) -> None:
        self.failures.setdefault(name, []).append((carried_out, error))

    def _spy(self, name: str, real: Any) -> Any:
        def call(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
            self.names.append(name)
            carried_out, error = (self.failures.get(name) or [(True, None)]).pop(0)
            result = real(client, *arguments, **named) if carried_out else None
            if error is not None:
                raise error
            return result

        return call


def test_events_survive_the_spool() -> None:
    writes = whole_trial(a=1, b="é")
    assert writes.started is not None
    assert writes.ended is not None
    events = [writes.started, *writes.points, writes.ended, True]
    lines = [to_line("s-00000", event) for event in events]
    lines.insert(2, to_line("s-00001", started()))
    trials, finished = gather(lines)
    writes.front = True
    assert trials == {"s-00000": writes, "s-00001": TrialWrites(started=started())}
    assert finished is None
    assert gather([close_line(False)]) == ({}, False)
    assert Point.of({"step": 1, "at": 2.0, "metrics": {"x": float("nan"), "y": 1.0}}) == Point(
        step=1, metrics={"y": 1.0}, at=2.0
    )


def test_a_whole_trial_takes_three_calls(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = open_runs(uri)
    calls = Calls(monkeypatch)
    runs.write("s-00000", whole_trial(a=1))
    assert calls.names == ["create_run", "log_batch", "set_terminated"]
    runs.write("s-00000", TrialWrites(front=False))  # as it was made
    assert len(calls.names) == 3
    runs.write("s-00000", TrialWrites(front=True))
    assert calls.names[3:] == ["log_batch"]
    run = runs_of(uri)["s-00000"]
    assert run.data.tags["disparse.front"] == "true"
    assert run.data.tags["disparse.status"] == "complete"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1000, 4000)
    assert points(uri, run) == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]


def test_a_study_that_was_deleted_is_restored_and_not_made_twice(uri: str) -> None:
    runs = open_runs(uri)
    runs.write_all({"s-00000": whole_trial()})
    runs.client.delete_run(runs.parent_run_id)
    again = open_runs(uri)
    assert again.parent_run_id == runs.parent_run_id
    assert again.ended == {"s-00000"}
    assert set(runs_of(uri)) == {"parent", "s-00000"}
    again.discard()  # not its own, and not empty
    assert set(runs_of(uri)) == {"parent", "s-00000"}


def test_a_study_without_trials_can_be_taken_back(uri: str) -> None:
    open_runs(uri).discard()
    assert runs_of(uri) == {}


def test_a_report_is_one_batch(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = open_runs(uri)
    runs.write("s-00000", TrialWrites(started=started()))
    calls = Calls(monkeypatch)
    for step in STEPS:
        runs.write("s-00000", TrialWrites(points=[Point(step=step, metrics=metrics(0), at=2.0)]))
    assert calls.names == ["log_batch"] * 3


@pytest.mark.parametrize(
    ("status", "in_mlflow"),
    [
        ("complete", "FINISHED"),
        ("infeasible", "FINISHED"),
        ("stopped", "KILLED"),
        ("failed", "FAILED"),
    ],
)
def test_a_run_ends_with_what_happened(uri: str, status: str, in_mlflow: str) -> None:
    runs = open_runs(uri)
    runs.write("s-00000", whole_trial(status, reason="x" * 5000))
    run = runs_of(uri)["s-00000"]
    assert run.info.status == in_mlflow
    assert run.data.tags["disparse.status"] == status
    assert run.data.tags["disparse.reason"] == "x" * 4000


def test_more_than_a_batch_holds(uri: str) -> None:
    runs = open_runs(uri)
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 7000}
    many = {f"m{i}": float(i) for i in range(1200)} | {"training/fraction": 1.0}
    runs.write(
        "s-00000",
        TrialWrites(
            started=started(**params),
            points=[Point(step=s, metrics=many, at=2.0) for s in (1, 2)],
            ended=Ended(status="complete", reason="", at=3.0),
        ),
    )
    run = runs_of(uri)["s-00000"]
    assert len(run.data.params) == 251
    assert len(run.data.params["long"]) == 6000
    assert len(run.data.metrics) == 1201
    assert points(uri, run, "m1199") == [(1, 1199.0), (2, 1199.0)]
    assert "disparse.incomplete" not in run.data.tags


def test_reopening_adds_no_run_and_no_point(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_runs(uri)
    first.write("s-00000", TrialWrites(started=started(a=1)))
    first.write("s-00000", TrialWrites(points=[Point(step=1, metrics=metrics(0.5), at=2.0)]))
    first.end_all(finished=False)
    assert {r.info.status for r in runs_of(uri).values()} == {"KILLED"}
    second = open_runs(uri)
    assert second.parent_run_id == first.parent_run_id
    assert second.ended == set()
    assert runs_of(uri)["parent"].info.status == "RUNNING"
    # Taken again after a restart, a step has another time; a parameter may have another value.
    points_again = [Point(step=s, metrics=metrics(s / 2), at=9.0) for s in (1, 2)]
    second.write("s-00000", TrialWrites(started=started(a=2, b=3), points=points_again))
    assert runs_of(uri)["s-00000"].info.status == "RUNNING"
    second.write("s-00000", TrialWrites(ended=Ended(status="complete", reason="", at=9.5)))
    second.end_all(finished=True)
    runs = runs_of(uri)
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    assert points(uri, runs["s-00000"]) == [(1, 0.5), (2, 1.0)]
    assert runs["s-00000"].data.params == {"a": "1", "b": "3"}
    third = open_runs(uri)
    assert third.ended == {"s-00000"}
    calls = Calls(monkeypatch)
    third.write("s-00000", TrialWrites(points=points_again, front=False))
    assert calls.names == []


def test_a_new_study_of_a_used_name_takes_no_run_of_the_old_one(uri: str) -> None:
    old = open_runs(uri)
    old.write("s-00000", whole_trial())
    new = open_runs(uri, StudyFacts(study="s", study_id="another", params={}))
    assert new.parent_run_id != old.parent_run_id
    new.write("s-00000", TrialWrites(started=started("rigl")))
    client = MlflowClient(uri)
    for runs, study_id, method in ((old, "1f", "snip"), (new, "another", "rigl")):
        where = f"tags.`mlflow.parentRunId` = '{runs.parent_run_id}'"
        (child,) = client.search_runs(["1"], where)
        assert child.data.tags["disparse.study_id"] == study_id
        assert child.data.tags["disparse.method"] == method
    new.end_all(finished=True)
    assert (
        client.search_runs(["1"], "attributes.status = 'RUNNING'")[0].data.tags["disparse.study_id"]
        == "1f"
    )  # the old study's parent, which nobody ended


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("name", ["create_run", "log_batch", "set_terminated"])
def test_a_call_without_an_answer_is_repeated_and_leaves_one(
    uri: str, monkeypatch: pytest.MonkeyPatch, name: str, carried_out: bool
) -> None:
    said: list[str] = []
    runs = open_runs(uri, on_trouble=said.append)
    calls = Calls(monkeypatch)
    for _ in range(2):
        calls.fail(name, MlflowException("read timed out"), carried_out=carried_out)
    runs.write("s-00000", whole_trial(a=1))
    assert said == ["read timed out; will try again"]
    assert runs.calls.num_refused == 0
    run = runs_of(uri)["s-00000"]  # one
    assert points(uri, run) == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]
    assert run.info.status == "FINISHED"


def test_a_run_that_a_slow_server_made_twice_is_deleted(uri: str) -> None:
    runs = open_runs(uri)
    runs.write("s-00000", whole_trial())
    kept = runs_of(uri)["s-00000"]
    runs.client.create_run("1", tags=kept.data.tags, run_name="s-00000")
    again = open_runs(uri)
    assert again.ended == {"s-00000"}
    assert runs_of(uri)["s-00000"].info.run_id == kept.info.run_id


def test_waiting_can_be_called_off(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    give_up = threading.Event()
    runs = open_runs(uri, give_up=give_up)
    calls = Calls(monkeypatch)
    give_up.set()
    calls.fail("log_batch", MlflowException("connection refused"))
    with pytest.raises(GaveUp, match="connection refused"):
        runs.write("s-00000", whole_trial())


def test_of_a_refused_batch_the_rest_is_written_and_the_next_launch_completes_it(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.log_batch

    def refuse_step_two(self: MlflowClient, run_id: str, metrics: Any = (), **rest: Any) -> None:
        if any(point.step == 2 for point in metrics):
            raise MlflowException("no such value", error_code=INVALID_PARAMETER_VALUE)
        real(self, run_id, metrics=metrics, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", refuse_step_two)
        runs = open_runs(uri)
        runs.write("s-00000", whole_trial(a=1))
        assert (runs.calls.num_refused, runs.calls.problem) == (1, "no such value")
    run = runs_of(uri)["s-00000"]
    assert run.info.status == "FINISHED"  # nothing is left open meanwhile
    assert run.data.params == {"a": "1"}
    assert run.data.tags["disparse.incomplete"] == "true"
    assert [step for step, _ in points(uri, run)] == [1, 3]
    again = open_runs(uri)
    assert again.ended == set()
    again.write("s-00000", whole_trial(a=1))
    run = runs_of(uri)["s-00000"]
    assert [step for step, _ in points(uri, run)] == [1, 2, 3]
    assert run.data.tags["disparse.incomplete"] == "false"
    assert open_runs(uri).ended == {"s-00000"}


def test_a_trial_that_was_being_written_is_not_taken_for_written(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer dies between a run and its points, and all runs are ended before the replay."""
    runs = open_runs(uri)
    calls = Calls(monkeypatch)
    calls.fail("log_batch", KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        runs.write("s-00000", whole_trial())
    open_runs(uri).end_all(finished=False)
    last = open_runs(uri)
    assert last.ended == set()
    last.write("s-00000", whole_trial())
    assert len(points(uri, runs_of(uri)["s-00000"])) == 3


def test_what_is_worth_waiting_for() -> None:
    assert is_passing(OperationalError("INSERT", {}, Exception("database is locked")))
    assert is_passing(MlflowException("x", error_code=TEMPORARILY_UNAVAILABLE))
    assert is_passing(MlflowException("the connection is closed", error_code=BAD_REQUEST))
    assert not is_passing(MlflowException("no", error_code=INVALID_PARAMETER_VALUE))
    assert not is_passing(ZeroDivisionError())
    # What a database refuses is refused for good, whatever words are among the values.
    for cause, passing in (
        (DataError("INSERT", {"reason": "the connection broke"}, Exception("a NUL")), False),
        (IntegrityError("INSERT", {}, Exception("a connection, twice")), False),
        (PendingRollbackError("Can't reconnect until invalid transaction is rolled back."), True),
        (DBAPIError("INSERT", {}, Exception("gone"), connection_invalidated=True), True),
    ):
        error = MlflowException(str(cause), error_code=BAD_REQUEST)
        error.__cause__ = cause
        assert is_passing(error) == passing
    values = "(psycopg.DataError) a NUL\n[SQL: INSERT]\n[parameters: ('a connection error')]"
    assert not is_passing(MlflowException(values, error_code=BAD_REQUEST))


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
