"""`make soak` in short: a driver killed five times."""

from pathlib import Path

import pytest

from tests.integration.soak import soak


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(580)
def test_a_study_whose_drivers_are_killed_is_as_if_they_were_not(tmp_path: Path) -> None:
    found = soak(tmp_path, kills=5, trials=8, seed=1, real=False)
    assert found["violations"] == []
    assert (found["kills"], found["records"], sum(found["trials"].values())) == (5, 8, 8)
    # One at each kind of moment, the last one when all trials had ended.
    assert found["by_moment"] == dict.fromkeys(
        ("start-up", "before the first ask", "reports", "checkpoint", "closing"), 1
    )
