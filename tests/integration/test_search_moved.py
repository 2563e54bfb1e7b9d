"""A study's folder under any name, moved, copied, or touched by others: every command finds its
own place, and no other one."""

import os
import shutil
from pathlib import Path

import optuna
import pytest
from mlflow.tracking import MlflowClient

from analysis.studies.trials import load_study
from search.execution.study import run_study
from search.execution.study_end import StudyEnd
from search.plans.limits.budget import Budget
from search.record.files.study_folder import study_files
from search.record.storage import open_storage
from search.record.study_status import study_status
from search.tracking.delete import delete_study
from search.tracking.sync import sync_study
from tests.integration.programs import serial_study
from tests.integration.programs.serial_study import launch_in, plan_of
from trainables.addresses import file_address
from trainables.errors import UserError


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch, quick_projector: None) -> None:
    monkeypatch.setattr("search.execution.launch.run_trials", serial_study.run_trials)
    for name in ("MLFLOW_TRACKING_URI", "DISPARSE_STUDY_STORAGE"):
        monkeypatch.delenv(name, raising=False)


def prepared(storage: Path, empty_database: Path) -> Path:
    storage.mkdir(parents=True)
    shutil.copyfile(empty_database, storage / "mlflow.db")
    return storage


def run(storage: Path, **launch: object) -> StudyEnd:
    return run_study(plan_of("s", 2), launch_in(storage, **launch))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sent(storage: Path) -> list[str]:
    """Paths of the record's files among the artifacts of the newest run of the study."""
    client = MlflowClient(file_address("sqlite", storage / "mlflow.db"))
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`disparse.kind` = 'study'")
    newest = max(runs, key=lambda each: each.info.start_time)
    return [each.path for each in client.list_artifacts(newest.info.run_id, "record")]


@pytest.mark.parametrize("name", ["100%25 ö#'", '-what?&token=x:"q"@h'])
def test_a_storage_of_any_name(tmp_path: Path, empty_database: Path, name: str) -> None:
    storage = prepared(tmp_path / "in" / name, empty_database)
    before = (storage / "mlflow.db").read_bytes()
    assert run(storage).finished == 2
    assert (storage / "mlflow.db").read_bytes() != before
    assert run(storage, more=Budget(trials=1)).finished == 3
    assert study_status(str(storage), "s")["finished"] == 3
    assert sync_study(str(storage), "s").changes == 0
    assert len(load_study("s", storage).trials) == 3
    assert sent(storage) == ["record/study.json", "record/trials.parquet"]
    assert "3 runs" not in delete_study(str(storage), "s")
    assert os.listdir(tmp_path / "in") == [name]


def test_a_moved_study_goes_on_where_it_is(tmp_path: Path, empty_database: Path) -> None:
    old, new = prepared(tmp_path / "old", empty_database), tmp_path / "deep" / "new"
    assert run(old).finished == 2
    new.parent.mkdir()
    shutil.move(old, new)
    assert study_status(str(new), "s")["finished"] == 2
    assert sync_study(str(new), "s").changes > 0
    assert run(new, more=Budget(trials=1)).finished == 3
    assert sync_study(str(new), "s").changes == 0
    assert sent(new) == ["record/study.json", "record/trials.parquet"]
    assert load_study("s", new).notes == ()
    assert delete_study(str(new), "s").endswith("and 4 runs in MLflow")  # none is there twice
    assert not old.exists()


def test_a_copy_leaves_the_original_alone(tmp_path: Path, empty_database: Path) -> None:
    original, copy = prepared(tmp_path / "original", empty_database), tmp_path / "copy"
    assert run(original).finished == 2
    shutil.copytree(original, copy)
    before = contents(original)
    assert run(copy, more=Budget(trials=2)).finished == 4
    assert sync_study(str(copy), "s").changes == 0
    delete_study(str(copy), "s")
    assert contents(original) == before
    assert sync_study(str(original), "s").changes == 0


def test_a_link_to_the_storage_is_no_move(tmp_path: Path, empty_database: Path) -> None:
    storage = prepared(tmp_path / "real", empty_database)
    (tmp_path / "link").symlink_to(storage, target_is_directory=True)
    assert run(storage).finished == 2
    assert sync_study(str(tmp_path / "link"), "s").changes == 0
    assert run(tmp_path / "link", more=Budget(trials=1)).finished == 3
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    assert [e.name for e in client.search_experiments()] == ["disparse", "Default"]


@pytest.mark.parametrize("for_good", [False, True])
def test_a_deleted_experiment_comes_back(
    tmp_path: Path, empty_database: Path, for_good: bool
) -> None:
    storage = prepared(tmp_path / "runs", empty_database)
    assert run(storage).finished == 2
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    found = client.get_experiment_by_name("disparse")
    assert found is not None
    if for_good:  # as `mlflow gc` leaves it: nobody knows the name
        client.rename_experiment(found.experiment_id, "gone")
    client.delete_experiment(found.experiment_id)
    assert (sync_study(str(storage), "s").changes > 0) == for_good
    assert run(storage, more=Budget(trials=1)).finished == 3
    assert sync_study(str(storage), "s").changes == 0
    assert sent(storage) == ["record/study.json", "record/trials.parquet"]


def test_an_enqueued_trial_blocks_nothing(tmp_path: Path, empty_database: Path) -> None:
    storage = prepared(tmp_path / "runs", empty_database)
    assert run(storage).finished == 2
    record = open_storage(study_files(str(storage), "s").default_study_storage)
    optuna.load_study(study_name="s", storage=record).enqueue_trial({"method": "dense"})
    assert sync_study(str(storage), "s").changes == 0
    assert study_status(str(storage), "s")["counts"]["running"] == 0
    assert run(storage, more=Budget(trials=1)).finished == 3
    assert [t.number for t in load_study("s", storage).trials] == [0, 1, 3]


def test_a_study_whose_record_is_gone_is_not_begun_anew(
    tmp_path: Path, empty_database: Path
) -> None:
    storage = prepared(tmp_path / "runs", empty_database)
    address = f"sqlite:///{tmp_path / 'o.db'}"
    assert run(storage, study_storage=address).finished == 2
    record = open_storage(address)
    optuna.delete_study(study_name="s", storage=record)
    for look in (
        lambda: run(storage),
        lambda: study_status(str(storage), "s"),
        lambda: sync_study(str(storage), "s"),
    ):
        with pytest.raises(UserError, match="it was deleted or renamed there"):
            look()
    assert optuna.get_all_study_names(record) == []
    # One of the name that somebody else made is not taken for it, and not for an empty one.
    optuna.create_study(study_name="s", storage=record, directions=["minimize"] * 4)
    with pytest.raises(UserError, match=r"must hold what .* records, 2 trials"):
        study_status(str(storage), "s")
    delete_study(str(storage), "s")


def test_mlflow_and_optuna_do_not_share_a_file(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'both.db'}"
    with pytest.raises(UserError, match="must be another database than `--tracking-uri`"):
        run(tmp_path / "runs", study_storage=address, tracking_uri=address)
    assert list(tmp_path.iterdir()) == []
