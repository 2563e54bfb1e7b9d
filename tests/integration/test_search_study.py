"""Real Ray, Optuna and MLflow, with trials that cost nothing: nothing lost, doubled or stuck."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from search.execution.callbacks.checkpoints import newest_checkpoint
from search.record.files.study_folder import StudyFiles, study_files
from tests.integration.programs.cheap_study import TIME_LIMIT_SECONDS
from tests.integration.records import (
    REPOSITORY,
    check_everything,
    environment,
    mlflow_runs,
    optuna_study,
)
from trainables.terminal.as_typed import python
from trainables.training.checkpoints.manifest import valid_checkpoint

PROGRAM = Path(__file__).with_name("programs") / "cheap_study.py"
STEPS = (10, 20, 30, 40)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]


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
        timeout=600,
    )


def end_of(output: str) -> dict[str, Any]:
    return dict(json.loads(output.strip().splitlines()[-1]))


def wait_for(process: subprocess.Popen[str], condition: Any) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_misbehaving_trials_are_recorded_and_a_second_driver_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, 10, 0.2, "misbehave")
    holder = tmp_path / "cheap" / "driver.json"
    wait_for(first, lambda: holder.is_file() and holder.read_text())
    second = run(tmp_path, 10, 0, "misbehave")
    assert second.returncode == 2
    assert "one driver at a time" in second.stderr
    try:
        output, _ = first.communicate(timeout=600)
    finally:
        for group in Path("/sys/fs/cgroup").glob("**/disparse-test-*"):
            group.rmdir()
    assert first.returncode == 0
    end = end_of(output)
    assert end == {"finished": 10, "failed": 7, "left": 0}
    rows = check_everything(tmp_path, "cheap", 10, STEPS)
    assert [row["status"] for row in rows] == ["complete", *["failed"] * 7, "complete", "complete"]
    reasons = [row["reason"] for row in rows]
    assert reasons[1] == "the trial raised RuntimeError: this trial raises"
    assert "cost/density=nan" in reasons[2]
    assert "val/depth/absolute_error=missing" in reasons[3]
    for reason in (reasons[4], reasons[7]):
        assert reason.startswith("the trial's process died, killed (out of memory, perhaps)")
    assert reasons[5] == "out of memory: pretended"
    # Where it hung can be read, though it never let go of the interpreter.
    limit = f"{TIME_LIMIT_SECONDS:g}"
    assert re.match(
        rf"no report within {limit} s \(in match, .* line \d+\); see silence", reasons[6]
    )
    traces = study_files(str(tmp_path), "cheap").trial(6) / "silence.txt"
    assert "in misbehave" in traces.read_text()
    assert reasons[0] == reasons[8] == reasons[9] == ""
    attempts = [num_attempts(tmp_path, number) for number in range(10)]
    # One more try for whoever died or raised; none for whoever hung. A trial that died once
    # and then got on is like any other.
    assert attempts == [1, 2, 1, 1, 2, 1, 1, 2, 2, 1]
    # A finished study is reported, not run again; another study of the name is refused.
    launches = sorted((tmp_path / "cheap" / "ray").iterdir())
    again = run(tmp_path, 10, 0, "misbehave")
    assert end_of(again.stdout) == end
    assert sorted((tmp_path / "cheap" / "ray").iterdir()) == launches
    other = run(tmp_path, 11, 0, "misbehave")
    assert other.returncode == 2
    assert "exists with a budget of 10 trials, got 11 trials" in other.stderr
    check_everything(tmp_path, "cheap", 10, STEPS)


@pytest.mark.slow
def test_a_machine_that_runs_low_on_memory_costs_trials_and_not_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray's own monitor, which finds that a hundredth of the memory is too much.
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "250")
    done = run(tmp_path, 2, 5)
    assert done.returncode == 0, done.stderr
    assert end_of(done.stdout) == {"finished": 2, "failed": 2, "left": 0}
    for row in check_everything(tmp_path, "cheap", 2, STEPS):
        assert row["reason"].startswith("out of memory: the trial's process was killed")
        assert "running low on memory" in row["reason"]


def num_attempts(folder: Path, number: int) -> int:
    """How often a trial has begun its second report."""
    return (
        (study_files(str(folder), "cheap").trial(number) / "attempts.log").read_text().count("\n")
    )


def test_a_killed_driver_loses_and_doubles_nothing(tmp_path: Path) -> None:
    trials = 6
    files = study_files(str(tmp_path), "cheap")
    driver = start(tmp_path, trials, 0.8)

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
        wait_for(driver, lambda: files.trials.is_file() and bool(checkpointed()))
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
        last = int(4 * after[number].user_attrs["outcome"]["fraction"])
        assert sorted(set(log)) == list(range(1, last + 1))
        assert (last == 4) == (after[number].state == TrialState.COMPLETE)
        reached = resumable.get(number, 0)
        assert all(log.count(step) == 1 for step in range(1, reached + 1)), (number, reached, log)


def test_sigterm_ends_with_one_line_and_nothing_running(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        command(tmp_path, 4, 0.3),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        start_new_session=True,
    )
    files = study_files(str(tmp_path), "cheap")
    try:
        wait_for(driver, lambda: num_reports(files) >= 2)
    finally:
        os.killpg(driver.pid, signal.SIGTERM)  # the local Ray as well
        _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 128 + signal.SIGTERM
    assert (
        errors == f"Ended by SIGTERM. Resume by: {python()} -m search resume cheap "
        f"--concurrency 2 --storage {tmp_path}\n"
    )
    # The projector, a session of its own, has seen its driver go.
    _, parents, children = mlflow_runs(tmp_path, "cheap")
    deadline = time.monotonic() + 60
    while any(run.info.status == "RUNNING" for run in (*parents, *children)):
        assert time.monotonic() < deadline
        _, parents, children = mlflow_runs(tmp_path, "cheap")
    done = run(tmp_path, 4, 0)
    assert end_of(done.stdout) == {"finished": 4, "failed": 0, "left": 0}
    check_everything(tmp_path, "cheap", 4, STEPS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with little space."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system that fills up can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_launch_and_loses_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"Fix the cause, then resume by: {python()} -m search resume cheap"
    # First a checkpoint finds no space: two trials want more than there is.
    monkeypatch.setenv("CHEAP_CHECKPOINT_BYTES", str(9 << 20))
    first = run(small_disk, 6, 0.1)
    assert first.returncode == 1
    assert "No space left on device" in first.stderr
    assert command in first.stderr
    assert "Traceback" not in first.stderr
    states = {t.state for t in optuna_study(small_disk, "cheap").get_trials()}
    assert TrialState.FAIL not in states
    # Then somebody else takes it all, and reports, tables and databases find none.
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    second = start(small_disk, 6, 0.5)
    files = study_files(str(small_disk), "cheap")
    reported = num_reports(files)
    wait_for(second, lambda: num_reports(files) >= reported + 2)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))
    assert second.wait(240) == 1
    kept = {t.number: t.user_attrs for t in optuna_study(small_disk, "cheap").get_trials()}
    (small_disk / "filler").unlink()
    last = run(small_disk, 6, 0)
    assert last.returncode == 0, last.stderr
    assert end_of(last.stdout) == {"finished": 6, "failed": 0, "left": 0}
    check_everything(small_disk, "cheap", 6, STEPS)
    after = {t.number: t.user_attrs for t in optuna_study(small_disk, "cheap").get_trials()}
    for number, attributes in kept.items():
        assert "outcome" not in attributes or after[number]["outcome"] == attributes["outcome"]


def num_reports(files: StudyFiles) -> int:
    return sum(len(p.read_text().splitlines()) for p in files.directory.glob("trials/*/rep*.jsonl"))


@pytest.mark.slow
def test_lost_nodes_cost_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    arguments = {"object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "_system_config": quick, **arguments},
    )
    monkeypatch.setenv("CHEAP_RAY_ADDRESS", cluster.address)
    files = study_files(str(tmp_path), "cheap")
    try:
        node = cluster.add_node(num_cpus=2, **arguments)
        driver = start(tmp_path, 24, 0.5, "reach the end")
        # More often than a trial is tried again for its own faults.
        for _ in range(3):
            reported = num_reports(files)
            wait_for(driver, lambda known=reported: num_reports(files) >= known + 2)
            cluster.remove_node(node, allow_graceful=False)
            node = cluster.add_node(num_cpus=2, **arguments)
        assert driver.wait(240) == 0
    finally:
        cluster.shutdown()
    rows = check_everything(tmp_path, "cheap", 24, STEPS)
    assert [row["status"] for row in rows] == ["complete"] * 24
