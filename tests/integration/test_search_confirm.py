"""`search confirm` with real Ray, Optuna and MLflow: killed in mid-way, nothing is doubled."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from analysis.statistics.uncertainty.confirmed import confirmations
from analysis.studies.trials import load_study
from analysis.tables import plain_words
from analysis.tables.plain_choices import choices
from search.record.front import is_confirmation
from search.record.study_status import study_status
from tests.integration.records import (
    REPOSITORY,
    check_everything,
    environment,
    front_of,
    mlflow_runs,
    optuna_study,
    recorded_trials,
)
from tests.integration.test_search_command import SMALL, search

PROGRAM = Path(__file__).with_name("programs") / "cheap_confirm.py"
STEPS = (10, 20, 30, 40)
TRIALS, SEEDS = 7, 3

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def start(folder: Path, seconds: float, num_seeds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), str(TRIALS), str(seconds), str(num_seeds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
    )


def end_of(driver: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, errors
    return dict(json.loads(output.strip().splitlines()[-1]))


def repeats_of(folder: Path) -> list[Any]:
    return [t for t in recorded_trials(folder, "cheap") if is_confirmation(t)]


def ended(folder: Path) -> int:
    return sum(t.state == TrialState.COMPLETE for t in repeats_of(folder))


def kill_when(driver: subprocess.Popen[str], condition: Any) -> None:
    deadline = time.monotonic() + 400
    try:
        while not condition():
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.communicate()


def test_a_kill_in_mid_way_doubles_nothing(tmp_path: Path) -> None:
    assert end_of(start(tmp_path, 0, 0))["finished"] == TRIALS
    front = front_of(mlflow_runs(tmp_path, "cheap")[2])
    driver = start(tmp_path, 0.4, SEEDS)
    kill_when(driver, lambda: ended(tmp_path) >= 3)
    interrupted = repeats_of(tmp_path)
    running = [t.number for t in interrupted if t.state == TrialState.RUNNING]
    assert running, "the driver was killed too late to interrupt a training"
    end = end_of(start(tmp_path, 0, SEEDS))
    assert (end["finished"], end["front"]) == (TRIALS, len(front))

    repeats = repeats_of(tmp_path)
    check_everything(tmp_path, "cheap", TRIALS + len(repeats), STEPS)
    pairs = Counter((t.user_attrs["confirms"], t.user_attrs["seed"]) for t in repeats)
    assert set(pairs.values()) == {1}
    seeds = {seed for _, seed in pairs}
    numbers = {number for number, _ in pairs}
    assert len(seeds) == SEEDS
    assert set(pairs) == {(n, s) for n in numbers for s in seeds}  # the same seeds for all
    own = recorded_trials(tmp_path, "cheap")[:TRIALS]
    assert seeds.isdisjoint(t.user_attrs["seed"] for t in own)
    assert {f"cheap-{n:05d}" for n in numbers} >= front
    assert len(numbers) <= 2 * len(front) + 1  # neighbours, and the dense reference
    for trial in repeats:
        given, repeated = trial.user_attrs, own[trial.user_attrs["confirms"]].user_attrs
        assert given["config"] == {**repeated["config"], "seed": given["seed"]}
    # What was interrupted went on under its number, and what had ended was not touched.
    for before in interrupted:
        after = repeats[before.number - TRIALS]
        assert after.user_attrs["config"] == before.user_attrs["config"]
        assert before.values in (None, after.values)

    # On no front, neither ours nor Optuna's, and in no count of the budget.
    _, _, children = mlflow_runs(tmp_path, "cheap")
    assert front_of(children) == front
    tags = {r.data.tags["disparse.trial"]: r.data.tags.get("disparse.confirms") for r in children}
    assert {name: said for name, said in tags.items() if said} == {
        f"cheap-{t.number:05d}": f"cheap-{t.user_attrs['confirms']:05d}" for t in repeats
    }
    assert {f"cheap-{t.number:05d}" for t in optuna_study(tmp_path, "cheap").best_trials} == front
    status = study_status(str(tmp_path), "cheap")
    assert (status["finished"], status["used"]) == (TRIALS, TRIALS)
    assert status["confirmations"] == {"complete": len(repeats)}
    found = confirmations(load_study("cheap", tmp_path))
    assert {len(one.runs) for one in found.values()} == {SEEDS}

    # More seeds add to those there are.
    end_of(start(tmp_path, 0, SEEDS + 1))
    pairs = Counter((t.user_attrs["confirms"], t.user_attrs["seed"]) for t in repeats_of(tmp_path))
    assert set(pairs.values()) == {1}
    assert {s for _, s in pairs} > seeds


def test_a_small_real_study_is_confirmed(tmp_path: Path) -> None:
    early = search("confirm", "demo", folder=tmp_path)
    assert early.returncode == 2
    assert "there is no study 'demo'" in early.stderr
    done = search("run", "demo", *SMALL, folder=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "runs" / "demo" / "report.html"
    assert "python -m search confirm demo</code>" in page.read_text()
    one = search("confirm", "demo", "--seeds", "1", folder=tmp_path)
    assert one.returncode == 2
    assert "`--seeds` must be at least 2, got 1" in one.stderr
    done = search("confirm", "demo", "--seeds", "2", folder=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "confirms the front at 2 fresh seeds" in done.stdout
    study = load_study("demo", tmp_path / "runs")
    found = confirmations(study)
    assert "demo-00000" in found
    # Every line of progress counts the confirmations, and says what is repeated.
    count = len(study.confirmations)
    shown = re.findall(r"^\[ *(\d+)/(\d+)\] demo-\d{5} repeats (\d+): ", done.stdout, re.M)
    assert [int(place) for place, _, _ in shown] == list(range(1, count + 1))
    assert shown[-1][1] == str(count)
    repeated = Counter(f"demo-{int(number):05d}" for _, _, number in shown)
    assert repeated == {name: 2 for name in found}
    # The end says what to take now, and whether that has changed.
    taken = re.findall(r"^take     (.+)", done.stdout, re.M)
    assert taken == plain_words.summary(choices(study))
    assert any(fresh in " ".join(taken) for fresh in ("efore fresh seeds", "at selection decide"))
    assert "be sure" not in done.stdout  # the whole front has two fresh seeds
    assert all("multitask/delta_percent" in "".join(r.metrics) for r in study.confirmations)
    text = page.read_text()
    assert "single seed" not in text
    assert "2 fresh seeds" in text
    for task in ("segmentation", "normals", "depth"):
        assert (tmp_path / "runs" / "demo" / "fronts" / f"{task}-attainment.csv").is_file()
