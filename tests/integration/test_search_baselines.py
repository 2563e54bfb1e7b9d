"""`search baselines` with real Ray and a killed driver, and as a user types it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from search.__main__ import app
from search.record.study_status import study_status
from tests.integration.programs import serial_study
from tests.integration.records import REPOSITORY, check_everything, environment, optuna_study
from trainables.errors import UserError

PROGRAM = Path(__file__).with_name("programs") / "cheap_baselines.py"


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
    )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_killed_grid_goes_on_and_runs_every_cell_once(tmp_path: Path) -> None:
    driver = start(tmp_path, 2, 0.3)
    table = tmp_path / "cheap" / "trials.parquet"
    deadline = time.monotonic() + 200
    try:
        while not table.is_file():  # the first trials have ended, others are at work
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
    before = optuna_study(tmp_path, "cheap").get_trials()
    assert any(t.state in (TrialState.RUNNING, TrialState.WAITING) for t in before)
    done = start(tmp_path, 2, 0)
    said, errors = done.communicate(timeout=600)
    assert done.returncode == 0, errors
    assert json.loads(said.strip().splitlines()[-1]) == {"finished": 10, "failed": 4, "left": 0}
    rows = check_everything(tmp_path, "cheap", 10, (10, 20, 30, 40))
    cells = [
        (seed, *rest)
        for seed in (0, 1)
        for rest in (
            ("dense", None, "complete"),
            ("snip", 0.5, "complete"), ("lth", 0.5, "failed"),
            ("snip", 0.9, "complete"), ("lth", 0.9, "failed"),
        )
    ]  # fmt: skip
    assert [
        (r["seed"], r["method"], r["params/sparsity.target"], r["status"]) for r in rows
    ] == cells
    assert {r["reason"].split(" from ")[0] for r in rows if r["method"] == "lth"} == {
        "`lth` needs `sparsity.schedule` = levels"
    }
    # What had ended before the kill is as it was.
    after = optuna_study(tmp_path, "cheap").get_trials()
    for then, now in zip(before, after, strict=False):  # others were handed out since
        if then.state == TrialState.COMPLETE:
            assert (now.values, now.user_attrs) == (then.values, then.user_attrs)
    # Another grid is another study.
    other = start(tmp_path, 3, 0)
    _, errors = other.communicate(timeout=600)
    assert other.returncode == 2
    assert "exists and is another one: seeds was 0,1, is now 0,1,2" in errors


@pytest.fixture
def _with_test_metrics(monkeypatch: pytest.MonkeyPatch, quick_projector: None) -> None:
    """Trials one after another, without Ray; their last result holds what test says."""
    real = serial_study.result_of

    def result_of(density: float, step: int) -> dict[str, Any]:
        on_test = {
            "test/segmentation/miou": density / 2,
            "test/normals/mean_error_deg": 60.0 - 20.0 * density,
            "test/depth/absolute_error": 2.0 - density,
        }
        return real(density, step) | (on_test if step == serial_study.STEPS[-1] else {})

    monkeypatch.setattr(serial_study, "result_of", result_of)
    monkeypatch.setattr("search.execution.launch.run_trials", serial_study.run_trials)
    monkeypatch.setattr("search.execution.preparation.check_first_trial", lambda *_: None)


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


@pytest.mark.usefixtures("_with_test_metrics")
def test_the_command_starts_reports_and_resumes(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"rigl": [{}, {"regrowth.fraction": 0.5}]}')
    command = [
        "baselines", "demo", "--methods", "snip,dense,rigl", "--sparsities", "0.75",
        "--seeds", "2", "--seed", "3", "--settings", str(settings), "--set", "training.steps=100",
        "--storage", str(tmp_path / "runs"), "--no-report",
    ]  # fmt: skip
    said = invoke(*command)
    lines = said.splitlines()
    heading = lines.index("Primary metrics on test, mean ± sample deviation over seeds")
    table = [re.split(r" {2,}", line.strip()) for line in lines[heading + 1 :][:5]]
    assert table[0][:3] == ["system", "sparsity", "seeds"]
    assert [row[:6] for row in table[1:]] == [
        ["Dense", "0 %", "2", "0.5000 ± 0.0000", "40.00 ± 0.00", "1.00 ± 0.00"],
        *(
            [name, "75 %", "2", "0.1250 ± 0.0000", "55.00 ± 0.00", "1.75 ± 0.00"]
            for name in ("SNIP", "RigL", "RigL (regrowth.fraction=0.5)")
        ),
    ]
    assert sum(line.startswith("[") for line in said.splitlines()) == 8
    rows = check_everything(tmp_path / "runs", "demo-baselines", 8, serial_study.STEPS)
    assert [row["seed"] for row in rows] == [3] * 4 + [4] * 4
    # Once more, it reports; the study can be gone on with by its name alone; --quiet is quiet.
    again = invoke(*command)
    _, idle, rest = again.split("\n", 2)  # behind the line on setting up
    assert idle == "study demo-baselines: nothing to do: every trial has ended"
    assert said.endswith(rest)
    place = ["--storage", str(tmp_path / "runs")]
    assert invoke("resume", "demo-baselines", "--no-report", *place) == again
    assert invoke(*command, "--quiet") == ""
    assert "used 8 of 8 trials" in invoke("status", "demo-baselines", *place)
    state = study_status(str(tmp_path / "runs"), "demo-baselines")
    assert (state["finished"], state["trials"], state["counts"]["complete"]) == (8, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dmeo"], r"unknown recipe .* 'dmeo'\. Did you mean 'demo'\? Valid: cityscapes"),
        (["demo", "--methods", "snip,snp"], "unknown method 'snp'"),
        (["demo", "--sparsities", "0.3,1"], r"`--sparsities` must be in \[0, 1\)"),
        (["demo", "--seeds", "0"], "`--seeds` must be at least 1"),
        (["demo", "--settings", "absent.json"], "`--settings` must be a file to read"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        invoke("baselines", *arguments, "--storage", str(tmp_path / "runs"))
    assert not list(tmp_path.iterdir())


def test_help_has_examples() -> None:
    said = invoke("baselines", "--help")
    assert "python -m search baselines scenes-tiny" in said
    assert "--sparsities" in said
