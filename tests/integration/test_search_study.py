"""Real Ray, Optuna and MLflow, with trials that cost nothing: nothing lost, doubled or stuck."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.files import study_files
from search.recovery import newest_checkpoint
from tests.integration.records import REPOSITORY, check_everything, environment, optuna_study
from trainables.training.manifest import valid_checkpoint

PROGRAM = Path(__file__).with_name("cheap_study.py")
STEPS = (10, 20, 30, 40)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def command(folder: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAM), str(folder), *map(str, arguments)]


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
    )


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        timeout=240,
    )


def end_of(output: str) -> dict[str, Any]:
    return dict(json.loads(output.strip().splitlines()[-1]))


def wait_for(process: subprocess.Popen[str], condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_misbehaving_trials_are_recorded_and_a_second_driver_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, 7, 0.2, "misbehave")
    lock = tmp_path / "cheap" / "driver.lock"
    wait_for(first, lambda: lock.is_file() and lock.read_text())
    second = run(tmp_path, 7, 0, "misbehave")
    assert second.returncode == 2
    assert "one driver at a time" in second.stderr
    output, _ = first.communicate(timeout=240)
    assert first.returncode == 0
    end = end_of(output)
    assert end == {"finished": 7, "failed": 5, "left": 0}
    rows = check_everything(tmp_path, "cheap", 7, STEPS)
    assert [row["status"] for row in rows] == ["complete", *["failed"] * 5, "complete"]
    reasons = [row["reason"] for row in rows]
    assert reasons[1] == "the trial raised RuntimeError: this trial raises"
    assert "cost/density=nan" in reasons[2]
    assert "val/depth/absolute_error=missing" in reasons[3]
    assert reasons[4].startswith("the trial's process died")
    assert reasons[5] == "out of memory: pretended"
    assert reasons[0] == reasons[6] == ""
    # A finished study is reported, not run again; another study of the name is refused.
    launches = sorted((tmp_path / "cheap" / "ray").iterdir())
    again = run(tmp_path, 7, 0, "misbehave")
    assert end_of(again.stdout) == end
    assert sorted((tmp_path / "cheap" / "ray").iterdir()) == launches
    other = run(tmp_path, 8, 0, "misbehave")
    assert other.returncode == 2
    assert "exists with trials=7, got 8" in other.stderr
    check_everything(tmp_path, "cheap", 7, STEPS)


def test_a_killed_driver_loses_and_doubles_nothing(tmp_path: Path) -> None:
    trials = 6
    files = study_files(str(tmp_path), "cheap")
    driver = start(tmp_path, trials, 0.4)

    def checkpointed() -> set[str]:
        """Unfinished trials with a checkpoint that is whole."""
        found = files.launches.glob("launch-*/*/checkpoint_*")
        names = {path.parent.name for path in found if valid_checkpoint(path) is not None}
        return {n for n in names if len(log_of(n)) < len(STEPS)}

    def log_of(name: str) -> list[int]:
        path = files.trial(int(name.rpartition("-")[2])) / "steps.log"
        return [int(line) for line in path.read_text().split()] if path.is_file() else []

    try:
        # Past the first trials' end, in the middle of others.
        wait_for(driver, lambda: files.trials.is_file() and len(checkpointed()) == 2)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    study = optuna_study(tmp_path, "cheap")
    before = {t.number: t for t in study.get_trials()}
    running = [n for n, t in before.items() if t.state == TrialState.RUNNING]
    resumable = {}
    for number in running:
        checkpoint = newest_checkpoint(files, f"cheap-{number:05d}")
        if checkpoint is not None:
            resumable[number] = (valid_checkpoint(checkpoint) or 0) // 10
    assert resumable, "the driver was killed too late to interrupt a trial"

    done = run(tmp_path, trials, 0)
    assert done.returncode == 0, done.stderr
    assert end_of(done.stdout) == {"finished": trials, "failed": 0, "left": 0}
    check_everything(tmp_path, "cheap", trials, STEPS)
    after = {t.number: t for t in study.get_trials()}
    for number, trial in before.items():
        if trial.state == TrialState.COMPLETE:
            assert after[number].values == trial.values
        if number in running:
            assert after[number].params == trial.params
    # Every interrupted trial went on from its checkpoint: no step before it was taken again.
    for number in running:
        log = log_of(f"cheap-{number:05d}")
        assert sorted(set(log)) == [1, 2, 3, 4]
        reached = resumable.get(number, 0)
        assert all(log.count(step) == 1 for step in range(1, reached + 1)), (number, reached, log)
