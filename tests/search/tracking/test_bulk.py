"""Many runs in one transaction: the same rows as MLflow's own calls write, one by one."""

import copy
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from search.tracking import bulk
from search.tracking.bulk import RunTables
from search.tracking.events import Ended, Point, Started, TrialWrites
from search.tracking.projector import StudyRuns
from tests.search.tracking.mlflow_files import FACTS, runs_of
from tests.search.tracking.test_projector import Calls, empty_database, open_runs, uri, whole_trial

__all__ = ["empty_database", "uri"]  # fixtures

NAMES = [f"s-{number:05d}" for number in range(3)]
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
floats = st.floats(allow_subnormal=False)
values = st.one_of(st.integers(), floats, texts, st.booleans(), st.none(), st.just("x" * 6500))
keys = st.sampled_from(["method", "sparsity.target", "a/b", "a b", "k" * 250])
finite = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
measures = st.dictionaries(st.sampled_from(["val/m", "cost/density", "training/fraction"]), finite)
moments = st.integers(1, 2**31).map(float)
ends = st.builds(
    Ended,
    status=st.sampled_from(["complete", "infeasible", "stopped", "failed"]),
    reason=st.one_of(st.just(""), texts, st.just("r" * 5000)),
    at=moments,
)
some_points = st.lists(st.builds(Point, step=st.integers(0, 5), metrics=measures, at=moments))
begun = st.builds(
    TrialWrites,
    started=st.builds(
        Started,
        method=st.sampled_from(["", "snip"]),
        params=st.dictionaries(keys, values),
        at=moments,
    ),
    points=some_points,
    ended=st.none() | ends,
    front=st.sampled_from([None, False, True]),
)
later = st.builds(
    TrialWrites, points=some_points, ended=st.none() | ends, front=st.sampled_from([None, True])
)
rounds = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), begun),
    st.dictionaries(st.sampled_from(NAMES), later),
    st.dictionaries(st.sampled_from(NAMES), st.builds(TrialWrites, front=st.booleans())),
)


def rows(path: Path) -> Mapping[str, list[Any]]:
    """All tables that say something of runs; runs by their names, as their identities differ."""
    with sqlite3.connect(path) as database:
        names = dict(database.execute("SELECT run_uuid, name FROM runs"))
        found = {}
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            cursor = database.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            known = [dict(zip(columns, row, strict=True)) for row in cursor]
            found[table] = sorted(repr(_by_name(row, names, str(path.parent))) for row in known)
    return found


def _by_name(row: dict[str, Any], names: Mapping[str, str], folder: str) -> dict[str, Any]:
    def named(value: Any) -> Any:
        for identity, name in names.items():
            if isinstance(value, str):
                value = value.replace(identity, name)
        return value.replace(folder, "") if isinstance(value, str) else value

    return {key: named(value) for key, value in row.items() if key not in _OF_THE_CLOCK}


_OF_THE_CLOCK = ("creation_time", "last_update_time")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rounds=rounds)
def test_rows_are_those_of_mlflows_own_calls(
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    rounds: tuple[dict[str, TrialWrites], ...],
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    clock = "mlflow.tracking._tracking_service.client.get_current_time_millis"
    monkeypatch.setattr(clock, lambda: 7)
    written = []
    for name in ("calls", "bulk"):
        (folder / name).mkdir()
        path = shutil.copyfile(empty_database, folder / name / "mlflow.db")
        runs = open_runs(f"sqlite:///{path}")
        if name == "calls":
            runs._tables = None
        for trials in copy.deepcopy(rounds):
            runs.write_all(trials)
        assert runs.calls.num_refused == 0
        runs.end_all(finished=True)
        written.append(rows(path))
    assert written[0] == written[1]


def test_one_transaction_and_no_call(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = open_runs(uri)
    calls = Calls(monkeypatch)
    runs.write_all({name: whole_trial(a=1) for name in NAMES})
    runs.write_all({name: TrialWrites(front=True) for name in NAMES[:2]})
    runs.write_all({name: TrialWrites(front=name == NAMES[0]) for name in NAMES})
    assert calls.names == []
    fronts = {name: runs_of(uri)[name].data.tags["disparse.front"] for name in NAMES}
    assert fronts == {NAMES[0]: "true", NAMES[1]: "false", NAMES[2]: "false"}
    again = open_runs(uri)
    assert again.ended == set(NAMES)


def test_a_refused_run_costs_the_others_nothing(uri: str) -> None:
    runs = open_runs(uri)
    trials = {name: whole_trial(a=1) for name in NAMES}
    trials[NAMES[1]] = whole_trial(**{"no\nname": 1})
    runs.write_all(trials)
    found = runs_of(uri)
    assert {found[name].info.status for name in NAMES} == {"FINISHED"}
    assert found[NAMES[1]].data.tags["disparse.incomplete"] == "true"
    assert "disparse.incomplete" not in found[NAMES[0]].data.tags
    assert runs.calls.num_refused == 1


@pytest.mark.parametrize("carried_out", [False, True])
def test_an_answer_that_was_lost(
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    carried_out: bool,
) -> None:
    runs = open_runs(uri)
    real, failures = RunTables.insert, [True]

    def insert(self: RunTables, runs: Any, *, again: bool = False) -> None:
        if carried_out or not failures:
            real(self, runs, again=again)
        if failures:
            failures.pop()
            raise MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(RunTables, "insert", insert)
    runs.write_all({name: whole_trial(a=1) for name in NAMES})
    assert not failures
    assert set(runs_of(uri)) == {"parent", *NAMES}
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        (children,) = database.execute("SELECT count(*) FROM runs WHERE name != 's'").fetchone()
    assert children == len(NAMES)


def test_a_refusal_after_an_answer_that_was_lost(
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by a database that still committed the first try when the second one looked."""
    runs = open_runs(uri)
    real = RunTables.insert
    errors = [
        MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE),
        MlflowException("twice", error_code=BAD_REQUEST),
    ]

    def insert(self: RunTables, runs: Any, *, again: bool = False) -> None:
        if not again:
            real(self, runs)
        raise errors.pop(0)

    monkeypatch.setattr(RunTables, "insert", insert)
    runs.write_all({name: whole_trial(a=1) for name in NAMES})
    assert not errors
    assert set(runs_of(uri)) == {"parent", *NAMES}  # fails where a trial has two


def test_a_front_whose_tag_or_run_was_deleted(uri: str) -> None:
    runs = open_runs(uri)
    runs.write_all({name: whole_trial() for name in NAMES})
    found = runs_of(uri)
    runs.client.delete_tag(found[NAMES[0]].info.run_id, "disparse.front")
    runs.client.delete_run(found[NAMES[1]].info.run_id)
    runs.write_all({name: TrialWrites(front=True) for name in NAMES})
    found = runs_of(uri)
    assert found[NAMES[0]].data.tags["disparse.front"] == "true"
    assert found[NAMES[2]].data.tags["disparse.front"] == "true"
    assert runs.calls.refused == {NAMES[1]}


def test_tables_that_are_not_known_are_left_to_mlflow(
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "_COLUMNS", ((bulk.SqlRun.__table__, {"run_uuid"}),))
    runs = open_runs(uri)
    calls = Calls(monkeypatch)
    runs.write_all({NAMES[0]: whole_trial()})
    assert calls.names == ["create_run", "log_batch", "set_terminated"]


def test_a_server_before_the_database_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        class _tracking_client:
            store = object()

    assert RunTables.of(Client(), "1") is None  # type: ignore[arg-type]


def test_an_experiment_that_was_deleted_takes_no_run(uri: str) -> None:
    runs: StudyRuns = open_runs(uri, FACTS)
    runs.client.delete_experiment(runs._experiment_id)
    runs.write_all({NAMES[0]: whole_trial()})
    assert runs.calls.num_refused == 1
    assert "experiment" in runs.calls.problem
