"""`make soak` in short: a driver killed five times."""

from pathlib import Path

import pytest

from tests.integration.soak import soak


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_study_whose_drivers_are_killed_is_as_if_they_were_not(tmp_path: Path) -> None:
    found = soak(tmp_path, kills=5, trials=8, seed=1, real=False)
    assert found["violations"] == []
    assert (found["kills"], found["records"], sum(found["trials"].values())) == (5, 8, 8)
    # Meant are one at each kind of moment, the last one when all trials have ended; a driver may be
    # through a short moment before it is killed, and that kill then tells nothing.
    assert set(found["by_moment"]) <= {
        "start-up", "before the first ask", "reports", "checkpoint", "closing"
    }  # fmt: skip
    assert len(found["by_moment"]) >= 3
    assert sum(found["by_moment"].values()) >= 4
