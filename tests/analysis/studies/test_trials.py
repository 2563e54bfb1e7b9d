"""Loading a study: the record and MLflow give the same trials, and each stands in for the other."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.studies import tracking
from analysis.studies.trials import Trial, load_study
from analysis.tables.trials_table import front_table, to_table
from tests.analysis.built_studies import (
    BuiltStudy,
    log_to_mlflow,
    realistic_rows,
    simple_row,
    write_record,
)
from trainables.errors import UserError

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]


def test_the_record_comes_back_whole(record: Record) -> None:
    rows = realistic_rows(20, TASKS)
    built = record("alone", rows, tasks=TASKS)
    study = load_study("alone", built.storage)
    assert study.source == "parquet"
    assert any("No tracking server" in note for note in study.notes)
    assert study.objectives == (
        "val/segmentation/miou",
        "val/normals/mean_error_deg",
        "cost/density",
    )
    assert [t.trial for t in study.trials] == [built.trial(r.number) for r in rows]
    for trial, row in zip(study.trials, rows, strict=True):
        assert (trial.method, trial.status, trial.seed) == (row.method, row.status, row.seed)
        assert dict(trial.params) == row.params
        assert dict(trial.metrics) == row.metrics
        assert trial.reason == row.reason


def test_mlflow_gives_the_same_trials_as_the_record(database: Path, tmp_path: Path) -> None:
    rows = realistic_rows(14, TASKS, seed=3)
    write_record(tmp_path, "tracked", rows, tasks=TASKS)
    recorded = load_study("tracked", tmp_path)
    tracked = load_study("tracked", tmp_path / "elsewhere", f"sqlite:///{database}")
    assert tracked.source == "mlflow"
    assert tracked.objectives == recorded.objectives
    assert tracked.facts["dataset"] == "scenes"
    for ours, theirs in zip(tracked.trials, recorded.trials, strict=True):
        assert (ours.trial, ours.number, ours.method) == (
            theirs.trial,
            theirs.number,
            theirs.method,
        )
        assert (ours.seed, ours.status) == (theirs.seed, theirs.status)
        assert ours.fraction == theirs.fraction
        # Metrics are the last report's, not the best nor the first.
        assert dict(ours.metrics) == pytest.approx(dict(theirs.metrics))
        assert {k: v for k, v in ours.params.items() if k != "seed"} == {
            k: v for k, v in theirs.params.items() if k != "seed"
        }
        assert ours.started is not None
        assert ours.ended is not None


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////nowhere/at/all.db"])
def test_a_server_that_is_away_is_said_and_replaced(record: Record, uri: str) -> None:
    built = record("away", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    study = load_study("away", built.storage, uri)
    assert study.source == "parquet"
    assert study.tracking_uri is None
    assert len(study.notes) == 1
    assert "away" in study.notes[0]
    assert uri in study.notes[0]
    assert not Path("/nowhere").exists()


def test_a_file_that_is_no_database_counts_as_away(record: Record, tmp_path: Path) -> None:
    built = record("broken", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    (tmp_path / "bad.db").write_bytes(b"not a database, and long enough to be one" * 50)
    study = load_study("broken", built.storage, f"sqlite:///{tmp_path / 'bad.db'}")
    assert "away" in study.notes[0]


def test_the_record_completes_an_mlflow_that_lags_behind(database: Path, tmp_path: Path) -> None:
    rows = realistic_rows(16, TASKS, seed=3)  # MLflow has the first 14
    write_record(tmp_path, "tracked", rows, tasks=TASKS)
    study = load_study("tracked", tmp_path, f"sqlite:///{database}")
    assert len(study.trials) == 16
    assert any(
        "2 trials" in note and f"search resume tracked --storage {tmp_path}" in note
        for note in study.notes
    )
    assert sum(t.run_id is not None for t in study.trials) == 14


def test_unknown_study_lists_those_known(record: Record, database: Path) -> None:
    built = record("known", [], tasks=TASKS)
    with pytest.raises(UserError, match=r"unknown study 'knwon'.*Did you mean 'known'"):
        load_study("knwon", built.storage)
    with pytest.raises(UserError, match="valid: known, tracked"):
        load_study("other", built.storage, f"sqlite:///{database}")


def test_no_study_at_all_names_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="search run"):
        load_study("demo", tmp_path / "runs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ["val/segmentation/miou"]}, "exactly one cost"),
        ({"objectives": ["cost/density"]}, "at least one quality"),
        ({"objectives": ["test/segmentation/miou", "cost/density"]}, "must not be on test"),
        ({"objectives": ["val/segmentation/mious", "cost/density"]}, "unknown metric"),
        ({"objectives": None, "tasks": None}, "`objectives` or its `tasks`"),
    ],
)
def test_objectives_are_checked(record: Record, change: dict, message: str) -> None:
    built = record("odd", [], tasks=TASKS)
    path = built.directory / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_study("odd", built.storage)


def test_objectives_follow_from_tasks(record: Record) -> None:
    built = record("implied", [], tasks=("depth",))
    path = built.directory / "study.json"
    facts = json.loads(path.read_text())
    del facts["objectives"]
    path.write_text(json.dumps(facts))
    assert load_study("implied", built.storage).objectives == (
        "val/depth/absolute_error",
        "cost/density",
    )


def test_damaged_files_are_named(record: Record) -> None:
    built = record("hurt", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    table = built.directory / "trials.parquet"
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(UserError, match=r"trials\.parquet"):
        load_study("hurt", built.storage)
    (built.directory / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json"):
        load_study("hurt", built.storage)


def test_table_has_the_columns_of_the_contract(record: Record) -> None:
    rows = realistic_rows(12, TASKS)
    built = record("table", rows, tasks=TASKS)
    ours = to_table(load_study("table", built.storage).trials)
    theirs = pq.read_table(built.directory / "trials.parquet")
    assert ours.column_names == theirs.column_names
    for name in theirs.column_names:
        if name not in ("params", "metrics"):
            assert ours[name].to_pylist() == theirs[name].to_pylist(), name
    assert json.loads(ours["metrics"][0].as_py()) == rows[0].metrics


def test_front_table_has_the_columns_of_the_record(record: Record) -> None:
    built = record("rows", realistic_rows(12, TASKS), tasks=TASKS)
    study = load_study("rows", built.storage)
    chosen = [study.trials[5], study.trials[2]]
    with_record = front_table(study, chosen)
    shutil.move(built.directory / "trials.parquet", built.directory / "gone")
    without = front_table(study, chosen)
    assert with_record["number"].to_pylist() == without["number"].to_pylist() == [2, 5]
    assert with_record.schema == without.schema == pq.read_schema(built.directory / "gone")


def test_a_front_ahead_of_the_record_has_its_columns(database: Path, tmp_path: Path) -> None:
    """MLflow has 14 trials with every setting, the record the first 10 with fewer columns."""
    rows = realistic_rows(10, TASKS, seed=3)
    for row in rows:
        row.params.pop("optimiser.name", None)
    built = write_record(tmp_path, "tracked", rows, tasks=TASKS)
    study = load_study("tracked", tmp_path, f"sqlite:///{database}")
    table = front_table(study, [study.trials[12], study.trials[3]])
    assert table.schema == pq.read_schema(built.directory / "trials.parquet")
    assert table["number"].to_pylist() == [3, 12]
    last = study.trials[12]
    assert table["val/segmentation/miou"][1].as_py() == last.metrics["val/segmentation/miou"]
    rate = "optimiser.learning_rate"
    assert table[f"params/{rate}"][1].as_py() == last.params[rate]


def test_the_table_of_the_search_and_ours_are_one(tmp_path: Path) -> None:
    """Against `search.record` itself: every kind of parameter, and trials without metrics."""
    optuna = pytest.importorskip("optuna")
    from search.record.trials_table import trials_table

    kinds = [
        {"method": "snip", "a": 1, "b": True, "c": [1, 2], "d": "x", "e": None, "f": 1},
        {"method": "rigl", "a": 2.5, "b": False, "c": [], "d": "y", "e": None, "f": "z"},
        {"method": "dense"},
    ]
    metrics = [{"cost/density": 0.1, "val/segmentation/miou": 0.4}, {"cost/density": 1.0}, {}]
    frozen = []
    for number, (params, values) in enumerate(zip(kinds, metrics, strict=True)):
        attributes = {"params": params, "metrics": values, "seed": 0, "status": "complete"}
        trial = optuna.trial.create_trial(values=[0.0], user_attrs=attributes)
        trial.number = number
        frozen.append(trial)
    theirs = trials_table("one", frozen)
    folder = tmp_path / "one"
    folder.mkdir()
    pq.write_table(theirs, folder / "trials.parquet")
    (folder / "study.json").write_text('{"tasks": ["segmentation"]}')
    ours = to_table(load_study("one", tmp_path).trials)
    assert ours.schema == theirs.schema
    for name in theirs.column_names:
        assert ours[name].to_pylist() == theirs[name].to_pylist(), name


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, None], [1, 2, None]),
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([True, False, None], [True, False, None]),
        ([1, "a", None], ["1", "a", None]),
        ([[1, 2], None, None], ["[1, 2]", None, None]),
    ],
)
def test_a_parameter_column_has_one_type(values: list, expected: list) -> None:
    trials = [
        Trial(trial=f"t-{i}", number=i, method="snip", seed=0, status="complete", params={"x": v})
        for i, v in enumerate(values)
    ]
    assert to_table(trials)["params/x"].to_pylist() == expected


def test_no_trials_make_a_table_without_rows() -> None:
    assert to_table([]).num_rows == 0


def test_a_missing_fraction_is_nan(record: Record) -> None:
    built = record("f", [simple_row(0, "snip", 0.1, 0.4, 20.0, fraction=None)], tasks=TASKS)
    assert math.isnan(load_study("f", built.storage).trials[0].fraction)


def test_front_tags_are_set_once(tmp_path: Path, database: Path) -> None:
    """On a copy of the shared store: the tags of every child, true on members alone."""
    copy = tmp_path / "mlflow.db"
    shutil.copy(database, copy)
    uri = f"sqlite:///{copy}"
    study = load_study("tracked", tmp_path, uri)
    member = study.trials[1].run_id
    parent = study.parent_run_id
    assert tracking.tag_front(uri, "tracked", parent, {member}) == 14
    assert tracking.tag_front(uri, "tracked", parent, {member}) == 0
    runs = tracking.read_study(uri, "tracked").runs
    assert [r.run_id for r in runs if r.tags["disparse.front"] == "true"] == [member]
    assert sum(r.tags["disparse.front"] == "false" for r in runs) == 13


def test_two_studies_in_one_store_stay_apart(tmp_path: Path, database: Path) -> None:
    copy = tmp_path / "mlflow.db"
    shutil.copy(database, copy)
    rows = [simple_row(0, "rigl", 0.1, 0.4, 20.0)]
    log_to_mlflow(BuiltStudy(name="second", storage=tmp_path, rows=rows), copy, TASKS)
    uri = f"sqlite:///{copy}"
    assert tracking.study_names(uri) == ("second", "tracked")
    assert [t.trial for t in load_study("second", tmp_path, uri).trials] == ["second-00000"]


def test_studies_of_one_name_are_told_apart(tmp_path: Path, database: Path) -> None:
    """Two of one name on one server: the record's run is read and tagged, else the newest."""
    copy = tmp_path / "mlflow.db"
    shutil.copy(database, copy)
    uri = f"sqlite:///{copy}"
    first = tracking.read_study(uri, "tracked")
    assert first is not None
    rows = [simple_row(0, "rigl", 0.1, 0.4, 20.0)]
    second = log_to_mlflow(BuiltStudy(name="tracked", storage=tmp_path, rows=rows), copy, TASKS)

    newest = load_study("tracked", tmp_path, uri)
    assert newest.parent_run_id == second.parent_run_id
    assert [t.run_id for t in newest.trials] == [second.run_ids[0]]
    assert any("2 studies called 'tracked'" in note for note in newest.notes)

    (tmp_path / "tracked").mkdir()
    record = tmp_path / "tracked" / "study.json"
    record.write_text(json.dumps({"parent_run_id": first.parent_run_id}))
    older = load_study("tracked", tmp_path, uri)
    assert (older.parent_run_id, len(older.trials)) == (first.parent_run_id, 14)
    assert older.notes == ()
    assert tracking.tag_front(uri, "tracked", older.parent_run_id, set()) == 14
    untouched = tracking.read_study(uri, "tracked", parent_run_id=second.parent_run_id)
    assert untouched is not None
    assert "disparse.front" not in untouched.runs[0].tags

    # A run that this server does not have (the record is of another one): by name again.
    record.write_text(json.dumps({"parent_run_id": "0" * 32}))
    assert load_study("tracked", tmp_path, uri).parent_run_id == second.parent_run_id


def test_a_study_id_decides_among_parents(tmp_path: Path, database: Path) -> None:
    from mlflow.tracking import MlflowClient

    copy = tmp_path / "mlflow.db"
    shutil.copy(database, copy)
    uri = f"sqlite:///{copy}"
    first = tracking.read_study(uri, "tracked")
    rows = [simple_row(0, "rigl", 0.1, 0.4, 20.0)]
    second = log_to_mlflow(BuiltStudy(name="tracked", storage=tmp_path, rows=rows), copy, TASKS)
    client = MlflowClient(tracking_uri=uri)
    client.set_tag(first.parent_run_id, "disparse.study_id", "one")
    client.set_tag(second.parent_run_id, "disparse.study_id", "two")
    assert tracking.read_study(uri, "tracked", study_id="one").parent_run_id == first.parent_run_id
    assert tracking.read_study(uri, "tracked", study_id="two").runs[0].run_id == second.run_ids[0]
    assert tracking.read_study(uri, "tracked", study_id="three") is None


def test_the_record_decides_where_mlflow_differs(database: Path, tmp_path: Path) -> None:
    """The search judges by its ledger: a point MLflow lost must not change the front."""
    rows = realistic_rows(14, TASKS, seed=3)
    rows[2].metrics["val/segmentation/miou"] += 0.25
    write_record(tmp_path, "tracked", rows, tasks=TASKS)
    study = load_study("tracked", tmp_path, f"sqlite:///{database}")
    assert (
        study.trials[2].metrics["val/segmentation/miou"] == rows[2].metrics["val/segmentation/miou"]
    )
    assert study.trials[2].run_id is not None
    assert any("for 1 trial;" in note for note in study.notes)


def test_a_password_is_taken_from_the_environment_and_never_shown(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = record("hidden", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    full = "http://user:secret@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", full)
    for kept in ("http://user:***@127.0.0.1:9", "http://user@127.0.0.1:9"):
        assert tracking.resolve_uri(None, kept, built.storage) == full
    other = "http://user@127.0.0.2:9"
    assert tracking.resolve_uri(None, other, built.storage) == other
    assert tracking.resolve_uri("sqlite:///x.db", full, built.storage) == "sqlite:///x.db"
    study = load_study("hidden", built.storage)
    assert "http://user:***@127.0.0.1:9" in study.notes[0]
    assert "secret" not in study.notes[0]
    with pytest.raises(UserError) as caught:
        load_study("unknown", built.storage)
    assert "secret" not in str(caught.value)
