"""A sweep survives SIGKILL; `python -m tests.trainables.sweep.kills` does it ten times."""

from pathlib import Path

import pytest

from tests.trainables.sweep.kills import kill_sweep


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_sweep_goes_on_with_nothing_lost_or_doubled(tmp_path: Path) -> None:
    found = kill_sweep(tmp_path, kills=3)
    assert found["violations"] == []
    assert found["with_trials_at_work"] == 3
