"""Read the copy of a record that MLflow keeps, and log files to the study's run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.studies import tracking
from analysis.studies.trials import load_study
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


@pytest.fixture
def store(database: Path, tmp_path: Path) -> Path:
    """A copy of the shared store, to write to."""
    copy = tmp_path / "mlflow.db"
    shutil.copy(database, copy)
    return copy


def test_mlflow_gives_what_the_folder_gives(database: Path) -> None:
    folder = database.parent / "runs"
    recorded = load_study("tracked", folder)
    fetched = load_study("tracked", folder / "elsewhere", f"sqlite:///{database}")
    assert (recorded.source, fetched.source) == ("parquet", "mlflow")
    assert fetched.trials == recorded.trials
    assert len(fetched.trials) == 14
    assert fetched.objectives == recorded.objectives
    assert fetched.table == recorded.table
    assert fetched.parent_run_id is not None
    assert fetched.notes == ()


@pytest.mark.parametrize("place", ["environment", "storage"])
def test_mlflow_is_found_without_an_option(
    place: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    else:
        shutil.copy(database, tmp_path / "mlflow.db")
    assert len(load_study("tracked", tmp_path).trials) == 14


def test_the_newest_study_of_a_name_is_read_and_the_note_says_so(
    store: Path, tmp_path: Path
) -> None:
    rows = [simple_row(0, "rigl", 0.1, 0.4, 20.0)]
    newer = log_to_mlflow(write_record(tmp_path / "other", "tracked", rows, tasks=TASKS), store)
    study = load_study("tracked", tmp_path, f"sqlite:///{store}")
    assert study.parent_run_id == newer
    assert [trial.method for trial in study.trials] == ["rigl"]
    assert len(study.notes) == 1
    assert f"holds 2 studies called 'tracked': read the newest (run {newer}" in study.notes[0]


def test_studies_of_other_names_stay_apart(store: Path, tmp_path: Path) -> None:
    rows = realistic_rows(3, TASKS)
    log_to_mlflow(write_record(tmp_path / "other", "second", rows, tasks=TASKS), store)
    uri = f"sqlite:///{store}"
    assert tracking.study_names(uri) == ("second", "tracked")
    assert len(load_study("second", tmp_path, uri).trials) == 3
    with pytest.raises(UserError, match="unknown study 'third'; valid: second, tracked"):
        load_study("third", tmp_path, uri)


def test_a_run_without_the_record_is_refused_with_the_remedy(store: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    tags = {"disparse.study": "bare", "disparse.kind": "study"}
    run = MlflowClient(tracking_uri=f"sqlite:///{store}").create_run("1", tags=tags).info.run_id
    with pytest.raises(UserError, match=rf"run {run} .* lacks record.* search sync bare"):
        load_study("bare", tmp_path, f"sqlite:///{store}")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////nowhere/at/all.db"])
def test_without_a_folder_a_server_that_is_away_is_said(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown study 'demo'.*MLflow does not answer") as caught:
        load_study("demo", tmp_path, uri)
    assert uri in str(caught.value)
    assert not Path("/nowhere").exists()


def test_a_file_that_is_no_database_counts_as_away(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"not a database, and long enough to be one" * 50)
    with pytest.raises(UserError, match="MLflow does not answer"):
        load_study("demo", tmp_path, f"sqlite:///{tmp_path / 'bad.db'}")


def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        load_study("unknown", tmp_path)
    assert "http://user:***@127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


def artifacts(store: Path, run_id: str) -> set[str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    return {entry.path for entry in client.list_artifacts(run_id)}


def test_files_are_logged_with_the_run_of_the_record(store: Path, tmp_path: Path) -> None:
    """Two studies of one name: the record's run id decides, else its study id, else the newest."""
    built = write_record(tmp_path / "runs", "tracked", [], tasks=TASKS)
    one = log_to_mlflow(built, store, **{"disparse.study_id": "one"})
    two = log_to_mlflow(built, store, **{"disparse.study_id": "two"})
    uri = f"sqlite:///{store}"

    def logged(name: str, **known: str) -> list[str]:
        (tmp_path / name).write_text("a page")
        assert tracking.log_artifacts(uri, "tracked", {tmp_path / name: Path()}, **known)
        return [run for run in (one, two) if name in artifacts(store, run)]

    assert logged("a.html", parent_run_id=one) == [one]
    assert logged("b.html", study_id="one") == [one]
    assert logged("c.html") == [two]
    assert logged("d.html", parent_run_id="0" * 32, study_id="two") == [two]  # of another server


def test_nothing_is_logged_with_the_run_of_another_study(store: Path, tmp_path: Path) -> None:
    built = write_record(tmp_path / "runs", "twice", [], tasks=TASKS)
    other = log_to_mlflow(built, store, **{"disparse.study_id": "one"})
    page = tmp_path / "page.html"
    page.write_text("a page")
    uri = f"sqlite:///{store}"
    assert not tracking.log_artifacts(uri, "twice", {page: Path()}, study_id="two")
    assert not tracking.log_artifacts(uri, "unknown", {page: Path()}, parent_run_id=other)
    assert "page.html" not in artifacts(store, other)


def test_the_record_in_mlflow_may_name_no_address(store: Path, tmp_path: Path) -> None:
    """The address at which the record was found is the study's, whatever its study.json says."""
    built = write_record(tmp_path / "runs", "moved", [], tasks=TASKS, tracking_uri="http://gone")
    run = log_to_mlflow(built, store)
    study = load_study("moved", tmp_path, f"sqlite:///{store}")
    assert json.loads((built.directory / "study.json").read_text())["tracking_uri"] == "http://gone"
    assert (study.tracking_uri, study.parent_run_id) == (f"sqlite:///{store}", run)
