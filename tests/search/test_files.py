"""Files that are complete or absent, the lock, and the table of trials."""

import datetime
import fcntl
import json
import os
import platform
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState, create_trial

from search.files import (
    append_json_line,
    make_writable,
    read_json,
    read_json_lines,
    study_files,
    write_json,
)
from search.lock import StudyLock, is_driven
from search.record import trials_table, write_trials
from trainables.errors import UserError


def test_storage_must_be_a_folder_that_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a folder, got 's3://b'"):
        study_files("s3://b", "s")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="must be writable"):
        make_writable(study_files(str(blocked), "s"))
    make_writable(study_files(str(tmp_path / "new"), "s"))


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


@pytest.mark.parametrize(
    ("host", "age_seconds", "held"),
    [
        ("elsewhere", 1.0, True),  # another host, alive
        ("elsewhere", 3600.0, False),  # another host, long silent
        (platform.node(), 1.0, False),  # this host: the kernel says the driver is dead
    ],
)
def test_a_dead_drivers_lock_opens_by_itself(
    tmp_path: Path, host: str, age_seconds: float, held: bool
) -> None:
    path = tmp_path / "driver.lock"
    holder = {"pid": 1, "host": host, "heartbeat": time.time() - age_seconds}
    path.write_text(json.dumps(holder))
    assert is_driven(path) == held
    if held:
        with pytest.raises(UserError, match="one driver at a time"):
            StudyLock(tmp_path, "s").__enter__()
    else:
        with StudyLock(tmp_path, "s"):
            assert is_driven(path)


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


def test_an_empty_study_has_an_empty_table() -> None:
    table = trials_table("s", [])
    assert table.num_rows == 0
    assert {"trial", "number", "status", "params", "metrics"} <= set(table.column_names)
