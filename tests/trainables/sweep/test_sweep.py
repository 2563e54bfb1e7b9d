"""A sweep of real, tiny trials: its results are those of `train`, and nothing is done twice."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.trainables.sweep.grids import read, rows, write
from tests.trainables.training.runs import finish
from trainables.errors import UserError
from trainables.integrity.checksums import read_sealed
from trainables.sweep.folder import SweepFolder
from trainables.sweep.run import SweepOptions
from trainables.sweep.sweep import run_sweep
from trainables.sweep.worker import Worker
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.export import load_model
from trainables.training.trial import TrialRun

OPTIONS = SweepOptions(device="cpu", quiet=True)
# Stands in for a GPU host where nothing of the search is installed.
BLOCK = """
import importlib.machinery
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    absent = {"ray", "optuna", "mlflow", "pandas", "scipy", "psutil"}
    return None if name.partition(".")[0] in absent else real(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""


def command(grid: Path, out: Path, *arguments: str) -> list[str]:
    line = [sys.executable, "-m", "trainables", "sweep", str(grid), "--out", str(out)]
    return [*line, "--device", "cpu", *arguments]


def start(grid: Path, out: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(grid, out, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def result_of(out: Path, number: int) -> dict[str, Any]:
    return read_sealed(SweepFolder(out).trial(number).result_file)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A grid of four, the last of which diverges, trained two at once where no Ray is installed."""
    folder = tmp_path_factory.mktemp("swept")
    blocked = folder / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(BLOCK)
    trials = rows(folder)
    wild = {**trials[1]["settings"], "optimiser.learning_rate": 1e12}
    grid = write(folder, [*trials, {**trials[1], "settings": wild}])
    paths = os.pathsep.join((str(blocked), str(REPOSITORY)))
    process = start(grid, folder / "out", "--at-once", "2", "--json", "-", PYTHONPATH=paths)
    said, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    return grid, folder / "out", {**json.loads(said), "lines": errors.splitlines()}


@pytest.mark.timeout(180)
def test_results_are_those_of_train_to_the_bit(
    swept: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, out, answer = swept
    assert answer["counts"] == {"complete": 3, "failed": 1}
    cache = DenseCache(tmp_path / "dense", "cpu")
    grid = read(path)
    for number in range(3):
        trial = grid.trials[number]
        dense = None if trial.baseline is None else grid.trials[trial.baseline].config
        run = TrialRun(trial.config, device="cpu", dense_cache=cache, baseline_config=dense)
        reports = finish(run)
        found = result_of(out, number)["result"]
        assert {n: found[n] for n in reports[-1].metrics} == dict(reports[-1].metrics)
        assert (found["status"], found["training/fraction"]) == ("complete", 1.0)
        assert ("val/multitask/delta_percent" in found) == (dense is not None)
        kept = SweepFolder(out).trial(number)
        assert [row["step"] for row in kept.reports()] == [report.step for report in reports]
        state = load_model(kept / "model.pt").model.state_dict()
        assert all(v.equal(state[n]) for n, v in run.model.state_dict().items())
        assert not kept.checkpoint.exists()
        summary = json.loads((kept / "summary.json").read_text())
        assert (summary["trial"], summary["status"]) == (f"micro-{number:05d}", "complete")


def test_a_trial_that_fails_is_recorded_with_its_reason_and_the_others_go_on(
    swept: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, out, answer = swept
    found = result_of(out, 3)["result"]
    assert found["status"] == "failed"
    assert "lower optimiser.learning_rate" in found["reason"]
    assert [t["status"] for t in answer["trials"]] == ["complete"] * 3 + ["failed"]
    assert answer["trials"][3]["reason"] == found["reason"]
    lines = [line for line in answer["lines"] if line.startswith("[")]
    assert len(lines) == 4
    assert sum(" complete " in line for line in lines) == 3
    (failed,) = [line for line in lines if " failed " in line]
    assert found["reason"] in failed


def test_once_more_nothing_is_done(
    swept: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, answer = swept
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "lock"}
    # Not even the data are opened, which may be on another machine.
    monkeypatch.setattr("trainables.data.catalogue.open_dataset", None)
    end = run_sweep(read(path), out, OPTIONS)
    assert end.counts == answer["counts"]
    assert end.trials == answer["trials"]
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_another_grid_is_refused_with_the_difference(
    swept: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, out, _ = swept
    values = json.loads(path.read_text())
    values["trials"][1]["sparsity"] = 0.75
    other = write(tmp_path, values["trials"])
    with pytest.raises(UserError, match=r"trial 1: sparsity\.target was 0\.5, is now 0\.75; train"):
        run_sweep(read(other), out, OPTIONS)
    shorter = write(tmp_path, json.loads(path.read_text())["trials"][:2])
    with pytest.raises(UserError, match="the trials were 4, are now 2"):
        run_sweep(read(shorter), out, OPTIONS)
    unlike = write(tmp_path, json.loads(path.read_text())["trials"], objectives=["cost/density"])
    with pytest.raises(UserError, match="the objectives were"):
        run_sweep(read(unlike), out, OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SweepOptions(at_once=0), "`--at-once` must be at least 1, got 0"),
        (SweepOptions(time_limit=0.0), "`--trial-time-limit` must be above 0"),
        (SweepOptions(device="tpu"), "unknown device 'tpu'"),
        (SweepOptions(device="cpu", data_root="/absent/store"), "/absent/store"),
    ],
)
def test_a_mistake_in_the_options_leaves_no_sweep(
    tmp_path: Path, options: SweepOptions, message: str
) -> None:
    trial = {"method": "dense", "dataset": "nyu-v2", "preset": "small"}
    with pytest.raises(UserError, match=message):
        run_sweep(read(write(tmp_path, [trial])), tmp_path / "out", options)
    assert not (tmp_path / "out" / "sweep.json").exists()


@pytest.mark.timeout(180)
def test_a_damaged_result_is_named_and_left_and_the_others_go_on(
    swept: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    grid, known, answer = swept
    out = tmp_path / "out"
    shutil.copytree(known, out)
    first, second, last = (SweepFolder(out).trial(n).result_file for n in (0, 1, 3))
    text, ended = first.read_text(), last.stat().st_mtime_ns
    damaged = text.replace('"complete"', '"complgte"')
    first.write_text(damaged)
    shutil.rmtree(second.parent)
    process = start(grid, out, "--retry-failed", "--at-once", "2")  # as many threads as before
    said, errors = process.communicate(timeout=150)
    assert process.returncode == 1
    assert f"{str(first)!r} must hold one JSON object as it was written" in errors
    assert "delete it to have the trial trained again" in errors
    assert first.read_text() == damaged
    assert "2 complete, 1 failed" in said
    assert last.stat().st_mtime_ns > ended  # what had failed was asked for again
    # Whole again, nothing is left to do, and the trial that was lost has the same result.
    first.write_text(text)
    assert run_sweep(read(grid), out, OPTIONS).trials == answer["trials"]


def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(tmp_path: Path) -> None:
    config = read(write(tmp_path, rows(tmp_path, steps=6)[:1])).trials[0].config
    listening, _ = os.pipe()  # nobody ends its input
    told = io.StringIO()
    worker = Worker(told, os.fdopen(listening))
    folders = [SweepFolder(tmp_path / name).trial(0) for name in ("whole", "damaged")]
    folders[1].checkpoint.mkdir(parents=True)
    for name in ("state.pt", "config.json"):
        (folders[1].checkpoint / name).write_text("{}")
    for folder in folders:
        trial = {"number": 0, "name": "t-00000", "config": json.dumps(config.to_dict())}
        more = {"directory": str(folder.directory), "command": [], "device": "cpu"}
        worker.train_trial({**trial, **more, "cpus": 1, "gpus": 0.0})
    whole, again = (read_sealed(folder.result_file)["result"] for folder in folders)
    assert whole == again
    assert whole["status"] == "complete"
    events = [json.loads(line) for line in told.getvalue().splitlines()]
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert "t-00000 starts again: the checkpoint" in note
    assert "is damaged" in note


def long_rows(folder: Path) -> list[dict[str, Any]]:
    """Two trials of a minute, which report all the time."""
    _, snip, _ = rows(folder, steps=20_000, **{"training.num_reports": 1000})
    del snip["baseline"]
    return [snip, {**snip, "seed": 4}]


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[str]"]]:
    """The commands of a test; none outlives it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def until(condition: Any, process: "subprocess.Popen[str]", seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trained(out: Path) -> bool:
    """Whether a trial is at work and has saved itself."""
    return any(out.glob("trials/*/checkpoint"))


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            found += [child] if "trainables.sweep.worker" in child.cmdline() else []
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "Interrupted. Run the same command again to go on."),
        (signal.SIGTERM, 143, "Ended by SIGTERM. Run the same command again to go on."),
    ],
)
def test_ctrl_c_and_sigterm_end_cleanly_and_lose_no_step(
    tmp_path: Path,
    sent: signal.Signals,
    code: int,
    said: str,
    started: list["subprocess.Popen[str]"],
) -> None:
    grid = write(tmp_path, long_rows(tmp_path))
    out = tmp_path / "out"
    process = start(grid, out, "--at-once", "2")
    started.append(process)
    until(lambda: trained(out), process)
    left = workers(process)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()[-1]) == (code, said)
    assert "Traceback" not in errors
    assert not psutil.wait_procs(left, timeout=5)[1]
    assert len(list(out.glob("trials/*/checkpoint"))) >= 1
    assert not list(out.glob("trials/*/result.json"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_dies_is_tried_again_once(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    grid = write(tmp_path, long_rows(tmp_path)[:1])
    out = tmp_path / "out"
    process = start(grid, out)
    started.append(process)
    killed: set[int] = set()
    for _ in range(2):
        until(lambda: any(p.pid not in killed for p in workers(process)) and trained(out), process)
        time.sleep(3)  # so that the second one is at work, too
        for worker in workers(process):
            killed.add(worker.pid)
            worker.kill()
        until(lambda: all(p.pid not in killed for p in workers(process)), process)
        if len(killed) == 1:
            assert not list(out.glob("trials/*/result.json"))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "died (killed by signal 9); it is tried again" in errors
    found = result_of(out, 0)
    assert found["result"]["status"] == "failed"
    assert found["crash"] == found["result"]["reason"]
    assert "the trial's process died, killed (out of memory, perhaps)" in found["crash"]
    assert found["result"]["training/step"] > 0  # what it had reported stays


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_commands_do_not_share_a_folder(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    grid = write(tmp_path, long_rows(tmp_path)[:1])
    out = tmp_path / "out"
    process = start(grid, out)
    started.append(process)
    until(lambda: (out / "sweep.json").exists(), process)
    with pytest.raises(UserError, match="one command at a time, and another one is at work"):
        run_sweep(read(grid), out, OPTIONS)
