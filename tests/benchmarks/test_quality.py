"""The paired comparison in closed form."""

import pytest

from benchmarks.quality import paired_difference


def test_a_paired_interval_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t(2) at 97.5 % is 4.3027."""
    row = paired_difference("snip", "segmentation", [2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert row.mean == 2.0
    assert row.low == pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-4)
    assert row.high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-4)
    assert not row.excludes_zero


def test_lower_is_better_for_errors() -> None:
    row = paired_difference("snip", "depth", [0.5, 0.4, 0.45], [0.6, 0.51, 0.54])
    assert row.mean == pytest.approx(0.1)
    assert row.excludes_zero
