"""Files that are complete or absent, the lock, and the table of trials."""

import datetime
import fcntl
import json
import os
import platform
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState, create_trial

from search.record.driver_lock import StudyLock, is_driven
from search.record.study_folder import (
    again,
    append_json_line,
    make_writable,
    read_json,
    read_json_lines,
    study_files,
    write_json,
)
from search.record.trials_table import num_recorded, trials_table, write_trials
from trainables.errors import UserError


def test_storage_must_be_a_folder_that_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a folder, got 's3://b'"):
        study_files("s3://b", "s")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="must be writable"):
        make_writable(study_files(str(blocked), "s"))
    make_writable(study_files(str(tmp_path / "new"), "s"))


@pytest.mark.parametrize(
    "name", ["mlflow.db", "mlflow.db-wal", "mlartifacts", "data", ".dense", "../x", ""]
)
def test_a_study_is_a_folder_of_its_own_in_the_storage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="a study's name must"):
        study_files(str(tmp_path), name)


def test_the_recommended_command_names_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert again("resume", "s", "runs") == "python -m search resume s"
    assert again("resume", "s", tmp_path / "my") == "python -m search resume s --storage my"
    assert again("resume", "s", "/mnt") == "python -m search resume s --storage /mnt"


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2]})
    assert read_json(path) == {"a": [1, 2]}
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("{")
    with pytest.raises(UserError, match="must hold one JSON object"):
        read_json(path)
    with pytest.raises(UserError, match="there is no"):
        read_json(tmp_path / "y.json")


def test_a_report_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "reports.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "met')  # killed here
    append_json_line(path, {"step": 3})
    assert read_json_lines(path) == [{"step": 1}, {"step": 3}]


def test_the_lock_is_exclusive_and_opens_when_released(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    with StudyLock(tmp_path, "s"):
        assert is_driven(path)
        with (
            pytest.raises(UserError, match=f"driven by process {os.getpid()} on"),
            StudyLock(tmp_path, "s"),
        ):
            pass
    assert not is_driven(path)
    with StudyLock(tmp_path, "s"):
        pass


def heartbeat(path: Path, host: str, age_seconds: float) -> None:
    holder = {"pid": 1, "host": host, "heartbeat": time.time() - age_seconds}
    path.write_text(json.dumps(holder))


@pytest.mark.parametrize(
    ("host", "age_seconds", "driven"),
    [
        ("elsewhere", 0.2, True),  # a host that has just been replaced
        ("elsewhere", 3600.0, False),  # another host, long silent
        (platform.node(), 0.2, False),  # this host: the kernel says the driver is dead
    ],
)
def test_a_dead_drivers_lock_opens_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, age_seconds: float, driven: bool
) -> None:
    monkeypatch.setattr("search.record.driver_lock.STALE_SECONDS", 1.0)
    monkeypatch.setattr("search.record.driver_lock._POLL_SECONDS", 0.05)
    path = tmp_path / "driver.lock"
    heartbeat(path, host, age_seconds)
    assert is_driven(path) == driven
    said: list[str] = []
    with StudyLock(tmp_path, "s", say=said.append):
        assert is_driven(path)
    assert bool(said) == driven  # who has to wait is told why


def test_a_live_driver_on_another_host_is_recognised_by_its_next_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.record.driver_lock._POLL_SECONDS", 0.05)
    path = tmp_path / "driver.lock"
    heartbeat(path, "elsewhere", 1.0)
    beat = threading.Timer(0.3, heartbeat, (path, "elsewhere", 0.0))
    beat.start()
    with pytest.raises(UserError, match="driven by process 1 on elsewhere"):
        StudyLock(tmp_path, "s").__enter__()
    beat.join()


def test_a_held_kernel_lock_wins_over_a_stale_heartbeat(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "heartbeat": 0.0}))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="one driver at a time"):
            StudyLock(tmp_path, "s").__enter__()


def frozen(number: int, status: str, params: dict, metrics: dict) -> object:
    trial = create_trial(
        state=TrialState.COMPLETE if status == "complete" else TrialState.FAIL,
        value=1.0 if status == "complete" else None,
        user_attrs={
            "status": status,
            "reason": "" if status == "complete" else "why",
            "params": params,
            "metrics": metrics,
            "seed": 7,
            "fraction": 1.0,
            "config": {"method": params["method"]},
        },
    )
    trial.number = number
    trial.datetime_start = datetime.datetime(2026, 1, 2, 3, 4, 5)
    return trial


def test_the_table_has_a_row_per_trial_and_a_column_per_name(tmp_path: Path) -> None:
    trials = [
        frozen(1, "failed", {"method": "rigl", "regrowth.fraction": 0.25}, {}),
        frozen(0, "complete", {"method": "snip"}, {"cost/density": 0.1}),
    ]
    path = tmp_path / "trials.parquet"
    write_trials(path, "s", trials)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [path]
    rows = pq.read_table(path).to_pylist()
    assert [row["trial"] for row in rows] == ["s-00000", "s-00001"]
    assert [row["status"] for row in rows] == ["complete", "failed"]
    assert [row["method"] for row in rows] == ["snip", "rigl"]
    assert [row["params/regrowth.fraction"] for row in rows] == [None, 0.25]
    assert [row["params/method"] for row in rows] == ["snip", "rigl"]
    assert [row["cost/density"] for row in rows] == [0.1, None]
    assert json.loads(rows[0]["metrics"]) == {"cost/density": 0.1}
    assert json.loads(rows[1]["params"]) == {"method": "rigl", "regrowth.fraction": 0.25}
    local = datetime.datetime(2026, 1, 2, 3, 4, 5).astimezone()
    assert rows[0]["started"] == local
    assert num_recorded(path) == 2
    assert num_recorded(tmp_path / "absent") == 0


def test_columns_have_the_one_type_that_holds_their_values() -> None:
    params = [
        {"method": "snip", "i": 1, "f": 1, "b": True, "m": 1},
        {"method": "rigl", "i": 2, "f": 0.5, "m": "x"},
    ]
    trials = [frozen(n, "complete", p, {"val/x/y": n}) for n, p in enumerate(params)]
    table = trials_table("s", trials)  # type: ignore[arg-type]
    types = {name: str(table.schema.field(name).type) for name in table.column_names[11:]}
    assert types == {
        "params/b": "bool",
        "params/f": "double",
        "params/i": "int64",
        "params/m": "string",
        "params/method": "string",
        "val/x/y": "double",
    }
    assert list(types) == table.column_names[11:]  # sorted, parameters first
    assert table["params/b"].to_pylist() == [True, None]
    assert table["params/m"].to_pylist() == ["1", "x"]
    assert trials_table("s", trials[::-1]).equals(table)  # type: ignore[arg-type]


def test_an_empty_study_has_an_empty_table() -> None:
    table = trials_table("s", [])
    assert table.num_rows == 0
    assert {"trial", "number", "status", "params", "metrics"} <= set(table.column_names)
