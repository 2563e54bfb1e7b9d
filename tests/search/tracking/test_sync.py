"""MLflow rebuilt from the record: on an empty server, on a damaged one, and twice."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState, create_trial

from search.execution.study import run_study
from search.record.files.driver_lock import StudyLock
from search.record.files.study_folder import StudyFiles, read_json, study_files
from search.record.ledger import Ledger
from search.record.storage import GIVEN, StudyRecord
from search.tracking.sync import sync_study
from tests.integration.programs import serial_study
from tests.integration.programs.serial_study import STEPS, launch_in, plan_of
from tests.integration.records import REPOSITORY, environment
from tests.search.tracking.mlflow_files import content, runs_of
from trainables.errors import UserError
from trainables.integrity.checksums import read_table, write_table

STUDY = "synced"
TRIALS = 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with one finished study in it. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.execution.launch.run_trials", serial_study.run_trials)
        end = run_study(plan_of(STUDY, TRIALS), launch_in(folder))
    assert (end.finished, end.unwritten) == (TRIALS, "")
    return folder


@pytest.fixture
def storage(finished: Path, tmp_path: Path) -> Path:
    """A copy, with which MLflow is level; its runs are those of the copy's place."""
    folder = tmp_path / "runs"
    shutil.copytree(finished, folder)
    assert sync_study(str(folder), STUDY).changes > 0
    return folder


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def sync(storage: Path, uri: str | None = None) -> int:
    """How many changes it took; the server is the copy's own."""
    end = sync_study(str(storage), STUDY, tracking_uri=uri or database(storage))
    assert (end.trials, end.refused) == (TRIALS, 0)
    return end.changes


def near(seconds_off: float, one: Any, other: Any) -> bool:
    """Whether the times of runs agree: the driver's clock and the record's differ a little."""
    return all(
        abs(a - b) < 1000 * seconds_off
        for name in one
        if name != "parent"
        for a, b in zip(one[name]["times"], other[name]["times"], strict=True)
    )


def without_times(told: dict[str, Any]) -> dict[str, Any]:
    """Nor the digest of the record, which says where the study's MLflow is."""
    kept = {name: {k: v for k, v in run.items() if k != "times"} for name, run in told.items()}
    kept["parent"]["tags"] = {
        name: value for name, value in kept["parent"]["tags"].items() if name != "disparse.record"
    }
    return kept


def test_a_finished_study_needs_nothing(storage: Path) -> None:
    before = content(database(storage))
    assert sync(storage) == 0
    assert content(database(storage)) == before


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_lost_table_is_written_again(storage: Path, damage: str) -> None:
    path = study_files(str(storage), STUDY).trials
    before = read_table(path)
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-30])
    assert sync_study(str(storage), STUDY).wrote_table
    # The driver's clock and the record's differ a little.
    times = ["started", "ended"]
    assert read_table(path).drop_columns(times) == before.drop_columns(times)
    end = sync_study(str(storage), STUDY)
    assert (end.wrote_table, end.changes) == (False, 0)


def test_a_table_is_written_when_the_record_is_on_the_disk(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that loses its power would else leave a table that knows of more than the record."""
    path = study_files(str(storage), STUDY).trials
    path.unlink()
    there: list[bool] = []
    monkeypatch.setattr(StudyRecord, "flush", lambda _: there.append(path.exists()))
    assert sync_study(str(storage), STUDY).wrote_table
    assert there == [False]


def test_a_table_that_knows_of_more_ends_than_the_record_stays(storage: Path) -> None:
    """The end of a trial was lost with its host's power, and its table was not."""
    files = study_files(str(storage), STUDY)
    study_id = read_json(files.description)["study_id"]
    record = StudyRecord.load(files.default_study_storage, STUDY, study_id)
    given = {"params": {"method": "snip"}, "seed": 0, "reference": False}
    given |= {"config": {"method": "snip"}, "number": TRIALS}
    record.add(create_trial(state=TrialState.RUNNING, user_attrs={GIVEN: given}))
    rows = read_table(files.trials).replace_schema_metadata(None)
    write_table(files.trials, pa.concat_tables([rows, rows.slice(0, 1)]))
    assert not sync_study(str(storage), STUDY).wrote_table
    assert read_table(files.trials).num_rows == TRIALS + 1


def test_an_empty_server_gets_everything(storage: Path, empty_database: Path) -> None:
    before = content(database(storage))
    old = read_json(study_files(str(storage), STUDY).description)
    uri = f"sqlite:///{shutil.copyfile(empty_database, storage / 'new.db')}"
    # The parent and its parameters; of every trial the run, all that it said, its tags and its
    # end; what the parent says, and its end; the record's two files and their digest.
    front = sum(run["tags"].get("disparse.front") == "true" for run in before.values())
    assert sync(storage, uri) == 2 + 4 * TRIALS + 2 + 3
    after = content(uri)
    assert without_times(after) == without_times(before)
    assert near(5.0, before, after)
    assert front >= 1
    described = read_json(study_files(str(storage), STUDY).description)
    parent = runs_of(uri)["parent"]
    assert described["parent_run_id"] == parent.info.run_id != old["parent_run_id"]
    assert described["tracking_uri"] == uri
    client = MlflowClient(uri)
    kept = sorted(item.path for item in client.list_artifacts(parent.info.run_id))
    assert kept == ["record"]
    assert sync_study(str(storage), STUDY).changes == 0  # where it is from now on
    assert content(uri) == after


DAMAGES: dict[str, str] = {
    "a run is gone": "UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'synced-00001'",
    "a run is open": "UPDATE runs SET status = 'RUNNING', end_time = NULL "
    "WHERE name = 'synced-00002'",
    "the parent is open": "UPDATE runs SET status = 'RUNNING' WHERE name = 'synced'",
    "a report is gone": f"DELETE FROM metrics WHERE step = {STEPS[0]} AND run_uuid IN "
    "(SELECT run_uuid FROM runs WHERE name = 'synced-00003')",
    "all points are gone": "DELETE FROM metrics; DELETE FROM latest_metrics",
    "parameters are gone": "DELETE FROM params WHERE key LIKE 'optimiser.%'",
    "a status is wrong": "UPDATE tags SET value = 'failed' WHERE key = 'disparse.status'",
    "the front is wrong": "UPDATE tags SET value = 'false' WHERE key = 'disparse.front'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_server_is_mended(storage: Path, damage: str) -> None:
    sync(storage)
    before = content(database(storage))
    connection = sqlite3.connect(storage / "mlflow.db")
    with contextlib.closing(connection), connection:
        connection.executescript(DAMAGES[damage])
    assert content(database(storage)) != before
    assert sync(storage) > 0
    after = content(database(storage))
    assert without_times(after) == without_times(before)
    assert near(5.0, before, after)
    assert sync(storage) == 0


def test_an_interrupted_study_has_no_run_open(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver is interrupted in its second trial."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    stopping: Callable[..., None] = Ledger.finish

    def stop(ledger: Ledger, number: int, outcome: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        stopping(ledger, number, outcome)

    monkeypatch.setattr("search.execution.launch.run_trials", serial_study.run_trials)
    monkeypatch.setattr(Ledger, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(plan_of("cut", 3), launch_in(tmp_path))
    uri = f"sqlite:///{shutil.copyfile(empty_database, tmp_path / 'new.db')}"
    assert sync_study(str(tmp_path), "cut", tracking_uri=uri).changes > 0
    runs = runs_of(uri)
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {"parent": "KILLED", "cut-00000": "FINISHED", "cut-00001": "KILLED"}
    assert "disparse.status" not in runs["cut-00001"].data.tags
    assert sync_study(str(tmp_path), "cut").changes == 0
    # The study goes on there.
    monkeypatch.setattr(Ledger, "finish", stopping)
    end = run_study(plan_of("cut", 3), launch_in(tmp_path))
    assert (end.finished, end.unwritten) == (3, "")
    assert {run.info.status for run in runs_of(uri).values()} == {"FINISHED"}
    assert sync_study(str(tmp_path), "cut").changes == 0


def test_mistakes_are_said(storage: Path) -> None:
    files = StudyFiles(storage=storage, study=STUDY)
    with (
        StudyLock(files.directory, STUDY),
        pytest.raises(UserError, match=r"one driver at a time, and 'synced' is driven by"),
    ):
        sync_study(str(storage), STUDY)
    with pytest.raises(UserError, match="there is no study 'other'"):
        sync_study(str(storage), "other")
    with pytest.raises(UserError, match="`--tracking-uri` must be"):
        sync_study(str(storage), STUDY, tracking_uri="http://127.0.0.1:9")
    (files.directory / "optuna.journal").unlink()
    with pytest.raises(UserError, match=r"`--study-storage` must be .* \(.*no such file"):
        sync_study(str(storage), STUDY)


def test_as_a_user_types_it(storage: Path, empty_database: Path) -> None:
    def search(*arguments: str) -> str:
        command = [sys.executable, "-m", "search", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**environment(), "COLUMNS": "200"},
            cwd=REPOSITORY,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shutil.copyfile(empty_database, storage / "mlflow.db")
    typed = ("sync", STUDY, "--storage", str(storage), "--tracking-uri", database(storage))
    assert f"study {STUDY}: {TRIALS} trials, 23 changes at sqlite:///" in search(*typed)
    assert f"study {STUDY}: {TRIALS} trials, nothing to change at" in search(*typed)
    assert "python -m search sync demo" in search("sync", "--help")
