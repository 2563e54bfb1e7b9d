"""Mistakes and kills around a study's records: nothing is wiped, mixed, lost or left behind."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from search.execution.study import run_study
from search.execution.study_end import StudyEnd
from search.plans.limits.budget import Budget
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from search.record.files.study_file import plan_of as recorded_plan
from search.record.files.study_folder import read_json, write_json
from search.record.ledger import Ledger
from search.record.outcomes import Outcome
from search.record.study_status import study_status
from search.tracking.delete import delete_study
from search.tracking.sync import sync_study
from tests.integration.programs import serial_study
from tests.integration.programs.serial_study import STEPS, launch_in, plan_of
from tests.integration.records import REPOSITORY, check_everything, environment, mlflow_runs
from trainables.addresses import without_password
from trainables.errors import Failure, UserError


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch, quick_projector: None) -> None:
    monkeypatch.setattr("search.execution.launch.run_trials", serial_study.run_trials)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One storage for all studies here: MLflow takes seconds for the tables of a new one."""
    folder = tmp_path_factory.mktemp("runs")
    MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder


def run(folder: Path, study: str, trials: int = 3, plan: Any = None, **launch: Any) -> StudyEnd:
    return run_study(plan or plan_of(study, trials), launch_in(folder, **launch))


@pytest.mark.timeout(1200)
def test_a_driver_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    program = Path(serial_study.__file__)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["ends"] == dict.fromkeys(serial_study.MOMENTS, serial_study.KILLED)
    assert (said["finished"], said["left"], said["unwritten"]) == (7, 0, "")
    rows = check_everything(tmp_path, "killed", 7, STEPS)
    assert [row["status"] for row in rows] == ["complete"] * 7


def test_another_study_storage_does_not_wipe_the_record(folder: Path, tmp_path: Path) -> None:
    run(folder, "kept")
    before = (folder / "kept" / "study.json").read_text()
    with pytest.raises(UserError, match="exists with --study-storage"):
        run(folder, "kept", study_storage=f"sqlite:///{tmp_path / 'other.db'}")
    assert not (tmp_path / "other.db").exists()
    # The study's own database is gone: the record is then all there is.
    (folder / "kept" / "optuna.journal").rename(tmp_path / "optuna.journal")
    with pytest.raises(UserError, match=r"optuna.journal' \('no such file'\); restore it"):
        run(folder, "kept")
    assert (folder / "kept" / "study.json").read_text() == before
    assert pq.read_table(folder / "kept" / "trials.parquet").num_rows == 3
    (tmp_path / "optuna.journal").replace(folder / "kept" / "optuna.journal")
    assert run(folder, "kept").finished == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("study_storage", "sqlite:////proc/none/x.db"),
        ("study_storage", "postgresql://u:hunter2@127.0.0.1:9/x"),
        ("tracking_uri", "sqlite:////proc/none/x.db"),
        ("tracking_uri", "http://u:hunter2@127.0.0.1:9"),
        ("concurrency", 0),
        ("concurrency", -1),
    ],
)
def test_a_mistake_leaves_nothing_behind(tmp_path: Path, option: str, value: Any) -> None:
    named = f"--{option.replace('_', '-')}"
    with pytest.raises(UserError, match=f"`{named}` must be") as caught:
        run(tmp_path / "runs", "poisoned", **{option: value})
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_does_not_touch_a_study_that_exists(folder: Path) -> None:
    run(folder, "untouched")
    before = (folder / "untouched" / "study.json").read_text()
    with pytest.raises(UserError, match="`--tracking-uri` must be"):
        run(folder, "untouched", tracking_uri="sqlite:////proc/none/x.db")
    assert (folder / "untouched" / "study.json").read_text() == before
    check_everything(folder, "untouched", 3, STEPS)


def test_a_ray_that_cannot_be_started_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's process is loading by then; nobody waits for it, and it leaves no run open."""

    def fail(*_: Any) -> None:
        raise Failure("Ray could not be started: pretended")

    with monkeypatch.context() as patched:
        patched.setattr("search.execution.launch.run_trials", fail)
        with pytest.raises(Failure, match="pretended"):
            run(folder, "stillborn")
    assert not (folder / "stillborn").exists()
    assert run(folder, "stillborn").finished == 3
    _, parents, children = mlflow_runs(folder, "stillborn")
    assert "RUNNING" not in {r.info.status for r in (*parents, *children)}


def test_a_study_keeps_the_rungs_it_began_with(folder: Path) -> None:
    """Defaults are others by now: the command that began it says so, `resume` goes on."""
    run(folder, "older")
    description = folder / "older" / "study.json"
    known = read_json(description)
    known["scheduler"]["grace"] = 1.0 / 9.0
    write_json(description, known)
    with pytest.raises(
        UserError, match=r"scheduler.grace was 0.11\d*, is now 0.33\d*; continue it"
    ):
        run(folder, "older")
    plan = recorded_plan(str(folder), "older")
    assert run(folder, "older", plan=plan).finished == 3
    assert json.loads(description.read_text())["scheduler"]["grace"] == 1.0 / 9.0


def test_a_new_study_of_a_used_name_starts_afresh(folder: Path) -> None:
    run(folder, "reused")
    old = json.loads((folder / "reused" / "study.json").read_text())
    shutil.rmtree(folder / "reused")
    run(folder, "reused", 2)
    new = json.loads((folder / "reused" / "study.json").read_text())
    assert new["study_id"] != old["study_id"]
    assert new["parent_run_id"] != old["parent_run_id"]
    client, parents, children = mlflow_runs(folder, "reused")
    assert len(parents) == 2
    by_parent = {
        study["parent_run_id"]: [
            sorted(p.step for p in client.get_metric_history(r.info.run_id, "cost/density"))
            for r in children
            if r.data.tags["mlflow.parentRunId"] == study["parent_run_id"]
        ]
        for study in (old, new)
    }
    assert list(by_parent.values()) == [[list(STEPS)] * 3, [list(STEPS)] * 2]


def test_a_database_that_holds_a_study_of_the_name_is_not_adopted(
    folder: Path, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    run(folder, "adopted", study_storage=storage)
    shutil.rmtree(folder / "adopted")
    with pytest.raises(UserError, match="got another study of that name; give yours another"):
        run(folder, "adopted", study_storage=storage)
    assert not (folder / "adopted").exists()


def test_two_studies_of_a_name_in_one_storage_do_not_mix(folder: Path, tmp_path: Path) -> None:
    """Each with a folder of its own; they share a database by mistake."""
    address = f"sqlite:///{tmp_path / 'shared.db'}"
    run(folder, "twins", study_storage=address)
    other = tmp_path / "other"
    with pytest.raises(UserError, match="got another study of that name; give yours another"):
        run(other, "twins", study_storage=address)
    assert not (other / "twins").exists()
    assert run(folder, "twins").finished == 3


def test_a_copied_folder_does_not_act_on_the_originals_records(folder: Path) -> None:
    run(folder, "original")
    shutil.copytree(folder / "original", folder / "copy")
    with pytest.raises(UserError, match=r"must hold the study 'copy', got 'original'.*copied"):
        recorded_plan(str(folder), "copy")
    for act in (study_status, sync_study, delete_study):
        with pytest.raises(UserError, match="it was copied or renamed"):
            act(str(folder), "copy")
    shutil.rmtree(folder / "copy")
    check_everything(folder, "original", 3, STEPS)


def test_moved_data_is_the_same_study(folder: Path, tmp_path: Path) -> None:
    run(folder, "moved", plan=plan_of("moved", 2, data_root="/before"))
    plan = plan_of("moved", 2, data_root="/after")
    end = run(folder, "moved", plan=plan)
    assert (end.finished, end.unwritten) == (2, "")
    assert recorded_plan(str(folder), "moved").data_root == "/after"


def test_points_that_could_not_be_written_are_written_by_a_synchronisation(folder: Path) -> None:
    database = sqlite3.connect(folder / "mlflow.db")
    with contextlib.closing(database), database:  # the projector is a process of its own
        database.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON metrics WHEN NEW.step = {STEPS[0]} AND "
            "NEW.run_uuid IN (SELECT run_uuid FROM tags WHERE value = 'gappy-00001') "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    assert "MLflow refused 1 writes (" in run(folder, "gappy").unwritten
    with pytest.raises(AssertionError):
        check_everything(folder, "gappy", 3, STEPS)
    database = sqlite3.connect(folder / "mlflow.db")
    with contextlib.closing(database), database:
        database.execute("DROP TRIGGER refuse")
    assert sync_study(str(folder), "gappy").refused == 0
    check_everything(folder, "gappy", 3, STEPS)


def test_a_storage_that_goes_away_is_a_failure_that_leaves_nothing_running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = OperationalError("UPDATE", {}, Exception("server closed the connection"))

    def gone(*_: Any, **__: Any) -> None:
        raise away

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_close", gone)
        with pytest.raises(
            Failure,
            match=r"the study storage .* went away .*resume by: .*python -m search resume cut",
        ):
            run(folder, "cut")
    _, parents, children = mlflow_runs(folder, "cut")
    assert [r.info.status for r in (*parents, *children)] == ["KILLED", "KILLED"]
    assert run(folder, "cut").remaining == 0
    check_everything(folder, "cut", 3, STEPS)


def test_a_study_without_a_complete_trial_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = iter(["no memory", "loss is nan", "no memory"])

    def fail(result: Any, objectives: Any) -> Outcome:
        return Outcome(status="failed", reason=next(reasons), metrics={}, fraction=0.0)

    monkeypatch.setattr(serial_study, "judge", fail)
    end = run(folder, "hopeless")
    assert (end.finished, end.complete, end.failed, end.reason) == (3, 0, 3, "no memory")


def test_no_password_is_recorded(folder: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}?password=hunter2"
    run(folder, "secret", 1, study_storage=storage)
    text = (folder / "secret" / "study.json").read_text()
    assert "hunter2" not in text
    assert json.loads(text)["study_storage"] == without_password(storage)


def test_extended_studies_go_on_by_either_command(folder: Path) -> None:
    """The command that began a study does not take back what it was extended by since."""
    run(folder, "longer", 3)
    end = run(folder, "longer", 3, more=Budget(trials=2))
    assert (end.finished, end.remaining) == (5, 0)
    again = run(folder, "longer", 3)
    assert (again.finished, again.remaining) == (5, 0)
    assert json.loads((folder / "longer" / "study.json").read_text())["budget"] == {"trials": 5}
    check_everything(folder, "longer", 5, STEPS)
    with pytest.raises(UserError, match="can be extended in its own unit"):
        run(folder, "longer", more=Budget(epochs=2.0))
    with pytest.raises(UserError, match="exists with a budget of 5 trials, got 4 trials"):
        run(folder, "longer", 4)


def test_gpu_hours_without_a_gpu_are_a_mistake_that_leaves_nothing(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    plan = make_plan(get_recipe("demo"), study="hours", gpu_hours=1.0)
    with pytest.raises(UserError, match="`--gpu-hours` needs a GPU"):
        run(tmp_path / "runs", "hours", plan=plan)
    assert list(tmp_path.iterdir()) == []
