"""Real Ray, Optuna and MLflow, with trials that cost nothing: nothing lost, doubled or stuck."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

PROGRAM = Path(__file__).with_name("cheap_study.py")
REPOSITORY = PROGRAM.parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def command(folder: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAM), str(folder), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def run_to_end(folder: Path, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        command(folder, *arguments),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def mlflow_runs(folder: Path) -> tuple[MlflowClient, list[Run], list[Run]]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("disparse")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [r for r in runs if r.data.tags.get("disparse.kind") == "study"]
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(parents) + len(children) == len(runs)
    return client, parents, children


def check_everything(folder: Path, trials: int) -> list[dict[str, Any]]:
    """Optuna, MLflow and the table agree on exactly `trials` trials, all ended."""
    study = optuna.load_study(
        study_name="cheap", storage=f"sqlite:///{folder / 'cheap' / 'optuna.db'}"
    )
    states = Counter(t.state for t in study.get_trials())
    assert sum(states.values()) == trials
    assert not states[TrialState.RUNNING] + states[TrialState.WAITING]
    names = [f"cheap-{n:05d}" for n in range(trials)]
    rows = pq.read_table(folder / "cheap" / "trials.parquet").to_pylist()
    assert [row["trial"] for row in rows] == names
    client, parents, children = mlflow_runs(folder)
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert sorted(r.data.tags["disparse.trial"] for r in children) == names
    statuses = {row["trial"]: row["status"] for row in rows}
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.tags["disparse.status"] == statuses[run.data.tags["disparse.trial"]]
        assert run.info.status == (
            "FINISHED" if run.data.tags["disparse.status"] == "complete" else "FAILED"
        )
        steps = [p.step for p in client.get_metric_history(run.info.run_id, "training/fraction")]
        assert len(steps) == len(set(steps)), (run.info.run_name, steps)
        if run.data.tags["disparse.status"] == "complete":
            assert sorted(steps) == [10, 20, 30, 40]
    front = {
        r.data.tags["disparse.trial"] for r in children if r.data.tags["disparse.front"] == "true"
    }
    assert front == {names[t.number] for t in study.best_trials}
    return rows


def test_misbehaving_trials_are_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    end = run_to_end(tmp_path, 7, 0, "misbehave")
    assert end == {"finished": 7, "failed": 5, "left": 0}
    rows = check_everything(tmp_path, 7)
    assert [row["status"] for row in rows] == ["complete", *["failed"] * 5, "complete"]
    reasons = [row["reason"] for row in rows]
    assert "this trial raises" in reasons[1]
    assert "cost/density=nan" in reasons[2]
    assert "val/depth/absolute_error=missing" in reasons[3]
    assert "died" in reasons[4] or "exit" in reasons[4]
    assert reasons[5] == "out of memory: pretended"
    assert reasons[0] == reasons[6] == ""
    # A finished study is reported, not run again.
    launches = sorted((tmp_path / "cheap" / "ray").iterdir())
    assert run_to_end(tmp_path, 7, 0, "misbehave") == end
    assert sorted((tmp_path / "cheap" / "ray").iterdir()) == launches
    check_everything(tmp_path, 7)


def test_a_killed_driver_loses_and_doubles_nothing(tmp_path: Path) -> None:
    trials = 8
    process = subprocess.Popen(
        command(tmp_path, trials, 0.4),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=REPOSITORY,
    )
    table = tmp_path / "cheap" / "trials.parquet"
    try:
        deadline = time.monotonic() + 120
        while not table.is_file():  # written when the first trial has ended
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1.0)  # into the next trials, past their first checkpoints
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    study = optuna.load_study(
        study_name="cheap", storage=f"sqlite:///{tmp_path / 'cheap' / 'optuna.db'}"
    )
    before = {t.number: t for t in study.get_trials()}
    running = [n for n, t in before.items() if t.state == TrialState.RUNNING]
    assert running, "the driver was killed too late to interrupt a trial"

    assert run_to_end(tmp_path, trials, 0) == {"finished": trials, "failed": 0, "left": 0}
    check_everything(tmp_path, trials)
    after = {t.number: t for t in study.get_trials()}
    for number, trial in before.items():
        if trial.state == TrialState.COMPLETE:
            assert after[number].values == trial.values
        if number in running:
            assert after[number].params == trial.params
    # Interrupted trials went on from a checkpoint: the steps before it were not taken again.
    logs = [
        (tmp_path / "cheap" / "trials" / f"{n:05d}" / "steps.log").read_text().split()
        for n in running
    ]
    assert all(sorted(set(log)) == ["1", "2", "3", "4"] for log in logs)
    assert any(len(log) < 8 and log.count("1") == 1 for log in logs), logs


def test_two_drivers_at_once_and_another_study_of_the_name(tmp_path: Path) -> None:
    first = subprocess.Popen(
        command(tmp_path, 4, 0.5),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=REPOSITORY,
    )
    lock = tmp_path / "cheap" / "driver.lock"
    deadline = time.monotonic() + 60
    while not (lock.is_file() and lock.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second = subprocess.run(
        command(tmp_path, 4, 0), capture_output=True, text=True, env=environment(), timeout=120
    )
    assert "one driver at a time" in second.stderr
    assert first.wait(120) == 0
    other = subprocess.run(
        command(tmp_path, 5, 0), capture_output=True, text=True, env=environment(), timeout=120
    )
    assert "exists with trials=4, got 5" in other.stderr
    check_everything(tmp_path, 4)
