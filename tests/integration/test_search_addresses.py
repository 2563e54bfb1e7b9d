"""Where a study's record and MLflow are: by option, by the record, by the environment; for every
command alike."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from search.__main__ import app
from search.execution.study import run_study
from search.execution.study_end import StudyEnd
from search.plans.limits.budget import Budget
from search.record.files.study_folder import read_json, study_files
from search.record.study_status import study_status
from search.tracking.delete import delete_study
from search.tracking.sync import sync_study
from tests.integration.programs import serial_study
from tests.integration.programs.serial_study import launch_in, plan_of

VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.fixture
def places(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, quick_projector: None
) -> tuple[Path, str, str]:
    """A storage folder, and two MLflow databases elsewhere."""
    monkeypatch.setattr("search.execution.launch.run_trials", serial_study.run_trials)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("DISPARSE_STUDY_STORAGE", raising=False)
    ours, others = (
        f"sqlite:///{shutil.copyfile(empty_database, tmp_path / name)}" for name in ("a.db", "b.db")
    )
    return tmp_path / "runs", ours, others


def run(storage: Path, trials: int = 2, **launch: object) -> StudyEnd:
    return run_study(plan_of("s", trials), launch_in(storage, **launch))


def num_runs(uri: str) -> int:
    """Of all experiments; deleted ones do not count."""
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return len(client.search_runs(experiments))


def test_the_environment_is_where_a_new_study_goes_and_stays(
    places: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, ours, others = places
    monkeypatch.setenv(VARIABLE, ours)
    assert run(storage).tracking_uri == ours
    assert num_runs(ours) == 3
    assert not (storage / "mlflow.db").exists()
    assert read_json(study_files(str(storage), "s").description)["tracking_uri"] == ours
    # From then on the record says so, to every command, whatever the environment says.
    for value in (ours, others, ""):
        monkeypatch.setenv(VARIABLE, value)
        assert study_status(str(storage), "s")["tracking_uri"] == ours
        end = sync_study(str(storage), "s")
        assert (end.tracking_uri, end.changes) == (ours, 0)
        assert run(storage).tracking_uri == ours
    assert run(storage, more=Budget(trials=1)).finished == 3
    assert (num_runs(ours), num_runs(others)) == (4, 0)
    delete_study(str(storage), "s")
    assert (num_runs(ours), num_runs(others)) == (0, 0)


def test_an_option_goes_over_the_environment_and_the_record(
    places: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, ours, others = places
    monkeypatch.setenv(VARIABLE, others)
    assert run(storage, tracking_uri=ours).tracking_uri == ours
    assert (num_runs(ours), num_runs(others)) == (3, 0)
    end = sync_study(str(storage), "s", tracking_uri=others)
    assert end.tracking_uri == others
    assert (num_runs(ours), num_runs(others)) == (3, 3)
    assert study_status(str(storage), "s")["tracking_uri"] == others  # from then on
    assert sync_study(str(storage), "s").changes == 0
    delete_study(str(storage), "s", tracking_uri=ours)
    assert (num_runs(ours), num_runs(others)) == (0, 3)


def test_without_either_it_is_a_file_of_the_storage(places: tuple[Path, str, str]) -> None:
    storage, *_ = places
    end = run(storage)
    assert end.tracking_uri == f"sqlite:///{storage / 'mlflow.db'}"
    assert sync_study(str(storage), "s").changes == 0
    # A storage that was moved takes both along.
    moved = storage.rename(storage.with_name("moved"))
    assert study_status(str(moved), "s")["tracking_uri"] == f"sqlite:///{moved / 'mlflow.db'}"
    assert run(moved).finished == 2
    assert num_runs(f"sqlite:///{moved / 'mlflow.db'}") == 3


def test_the_study_storage_of_the_environment_is_that_of_every_command(
    places: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, ours, _ = places
    address = f"sqlite:///{tmp_path / 'optuna.db'}"
    monkeypatch.setenv(VARIABLE, ours)
    monkeypatch.setenv("DISPARSE_STUDY_STORAGE", address)
    assert run(storage).finished == 2
    assert not (storage / "s" / "optuna.journal").exists()
    monkeypatch.delenv("DISPARSE_STUDY_STORAGE")
    status = study_status(str(storage), "s")
    assert (status["study_storage"], status["finished"]) == (address, 2)
    assert sync_study(str(storage), "s").trials == 2
    assert run(storage).finished == 2


def test_commands_as_they_are_typed(
    places: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, ours, _ = places
    monkeypatch.setenv(VARIABLE, ours)
    monkeypatch.setattr("search.execution.preparation.check_first_trial", lambda *_: None)

    def search(*arguments: str) -> str:
        place = ["--storage", str(storage)]
        done = CliRunner().invoke(app, [*arguments, *place], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return str(done.output)

    said = search("run", "demo", "--trials", "2", "--no-report")
    assert f"mlflow ui --backend-store-uri {ours}" in said
    assert f"MLflow {ours}" in search("status", "demo")
    assert f"study demo: 2 trials, nothing to change at {ours}" in search("sync", "demo")
    assert "3 runs in MLflow" in search("delete", "demo", "--yes")
    assert num_runs(ours) == 0
