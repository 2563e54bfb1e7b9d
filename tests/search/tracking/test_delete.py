"""`search delete`: nothing of a study is left, and nothing of others is touched."""

import shutil
from pathlib import Path

import optuna
import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from search.__main__ import app
from search.execution.study import run_study
from search.record.files.driver_lock import StudyLock
from search.record.files.study_folder import read_json, study_files, write_json
from search.record.storage import open_storage
from search.tracking.delete import delete_study
from tests.integration.programs import serial_study
from tests.integration.programs.serial_study import launch_in, plan_of
from tests.search.tracking.mlflow_files import runs_of
from trainables.errors import UserError


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.execution.launch.run_trials", serial_study.run_trials)


@pytest.fixture
def storage(tmp_path: Path, empty_database: Path) -> Path:
    """Two finished studies that share MLflow."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copyfile(empty_database, folder / "mlflow.db")
    for name in ("gone", "kept"):
        assert run_study(plan_of(name, 2), launch_in(folder)).finished == 2
    return folder


def uri_of(storage: Path) -> str:
    return f"sqlite:///{storage / 'mlflow.db'}"


def active(storage: Path) -> set[str]:
    """Names of all runs that are not deleted."""
    runs = MlflowClient(uri_of(storage)).search_runs(["1"])
    return {run.info.run_name for run in runs}


def test_everything_of_one_study_goes(storage: Path) -> None:
    kept = {"kept", "kept-00000", "kept-00001"}

    def asked(what: str) -> None:
        assert str(storage / "gone") in what
        assert uri_of(storage) in what
        assert active(storage) == kept | {"gone", "gone-00000", "gone-00001"}  # nothing yet

    done = delete_study(str(storage), "gone", ask=asked)
    assert done == f"deleted {storage / 'gone'} and 3 runs in MLflow"
    assert not (storage / "gone").exists()
    assert (storage / "kept" / "optuna.journal").is_file()
    assert active(storage) == kept
    # As MLflow's own interface does it: marked, and there until `mlflow gc`.
    marked = MlflowClient(uri_of(storage)).search_runs(["1"], run_view_type=ViewType.DELETED_ONLY)
    assert {run.info.run_name for run in marked} == {"gone", "gone-00000", "gone-00001"}
    with pytest.raises(UserError, match=r"there is no study 'gone' .*it holds kept"):
        delete_study(str(storage), "gone")
    # The name is free: a new study takes nothing of the old one.
    assert run_study(plan_of("gone", 3), launch_in(storage)).finished == 3
    study_id = read_json(study_files(str(storage), "gone").description)["study_id"]
    assert len(runs_of(uri_of(storage), study_id)) == 4


def test_a_study_in_a_storage_of_its_own_goes_there_too(storage: Path, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'optuna.db'}"
    for name in ("elsewhere", "neighbour"):
        run_study(plan_of(name, 1), launch_in(storage, study_storage=address))
    delete_study(str(storage), "elsewhere")
    names = optuna.get_all_study_names(storage=open_storage(address))
    assert names == ["neighbour"]
    assert not (storage / "elsewhere").exists()


def test_a_study_that_is_driven_stays(storage: Path) -> None:
    with (
        StudyLock(study_files(str(storage), "gone").directory, "gone"),
        pytest.raises(UserError, match="one driver at a time, and 'gone' is driven by"),
    ):
        delete_study(str(storage), "gone")
    assert "gone" in active(storage)
    assert (storage / "gone" / "study.json").is_file()


def test_where_mlflow_is_away_everything_stays(storage: Path) -> None:
    description = study_files(str(storage), "gone").description
    write_json(description, read_json(description) | {"tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(UserError, match="`--tracking-uri` must be an MLflow server"):
        delete_study(str(storage), "gone")
    assert (storage / "gone" / "optuna.journal").is_file()
    # It can be named where it is now.
    done = delete_study(str(storage), "gone", tracking_uri=uri_of(storage))
    assert done.endswith("and 3 runs in MLflow")
    assert not (storage / "gone").exists()


def test_the_command_asks_first(storage: Path) -> None:
    typed = ["delete", "gone", "--storage", str(storage)]
    refused = CliRunner().invoke(app, typed, input="n\n")
    assert refused.exit_code == 1
    assert f"Delete {storage / 'gone'}, its record, and its runs at sqlite" in refused.output
    assert (storage / "gone").is_dir()
    assert "gone" in active(storage)
    done = CliRunner().invoke(app, typed, input="y\n", catch_exceptions=False)
    assert done.exit_code == 0
    assert "3 runs in MLflow" in done.output
    quick = CliRunner().invoke(
        app, ["delete", "kept", "--storage", str(storage), "--yes"], catch_exceptions=False
    )
    assert quick.exit_code == 0
    assert "Delete" not in quick.output
    assert active(storage) == set()
    with pytest.raises(UserError, match="there is no study 'gone'"):
        CliRunner().invoke(app, typed, catch_exceptions=False)


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_prints_nothing(storage: Path, quiet: bool) -> None:
    command = ["delete", "gone", "--yes", "--storage", str(storage), *(["-q"] if quiet else [])]
    done = CliRunner().invoke(app, command)
    said = "" if quiet else f"deleted {storage / 'gone'} and 3 runs in MLflow\n"
    assert (done.exit_code, done.output) == (0, said)
    assert not (storage / "gone").exists()
