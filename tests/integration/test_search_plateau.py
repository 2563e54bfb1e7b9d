"""`--until plateau` through real Ray: it ends, stays ended, and can be extended."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.messages import status_lines
from search.record.study_status import study_status
from tests.integration.programs.plateau_study import TRIALS
from tests.integration.records import REPOSITORY, check_everything, environment

PROGRAM = Path(__file__).with_name("programs") / "plateau_study.py"


def run(folder: Path, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_study_that_ended_by_plateau_is_finished_and_can_be_extended(tmp_path: Path) -> None:
    first = run(tmp_path)
    ended = first["finished"]
    assert first["left"] == 0
    assert TRIALS / 4 <= ended < TRIALS / 2  # a quarter, and what was at work then
    assert first["plateau"].startswith(f"at a plateau: with {ended} used, the rest of the budget")
    known = json.loads((tmp_path / "cheap" / "study.json").read_text())
    assert known["finished"]
    assert known["plateau"]["gain"] < 0.9
    assert known["prior"] == {"values": {"optimiser.learning_rate": 0.003}, "studies": []}
    assert run(tmp_path) == first
    lines = list(status_lines(study_status(str(tmp_path), "cheap"), str(tmp_path)))
    assert f"ended {first['plateau']}" in lines
    assert "prior: optimiser.learning_rate=0.003; less of it with every trial that ends" in lines
    assert not any(line.startswith("to continue") for line in lines)
    more = run(tmp_path, 2)
    assert (more["finished"], more["left"], more["plateau"]) == (ended + 2, 0, "")
    assert json.loads((tmp_path / "cheap" / "study.json").read_text())["plateau"] is None
    assert run(tmp_path) == more  # the command that began it
    check_everything(tmp_path, "cheap", ended + 2, (10, 20, 30, 40))
