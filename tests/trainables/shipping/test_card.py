"""The card gives the figures of ship.json, and intervals where there are seeds."""

import pytest

from trainables.shipping.card import interval


def test_the_interval_is_students() -> None:
    # Mean 2, deviation 1, three values: 4.303 / sqrt(3).
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(2.4843, abs=1e-3))


def test_beyond_the_table_it_is_wider_than_needed() -> None:
    values = [float(i % 2) for i in range(30)]
    _, half = interval(values)
    assert half > 2.045 * 0.5085 / 30**0.5
