"""Late gains and settings at the edge of their ranges, worked by hand."""

from typing import Any

import numpy as np
import pytest

from analysis.statistics.health.reach import at_edges, late_gain
from analysis.studies.trials import Trial

RATE = "optimiser.learning_rate"
LOG = {RATE: {"low": 1e-4, "high": 1e-2, "log": True, "whole": False}}


def members(name: str, *values: Any) -> list[Trial]:
    return [
        Trial(
            trial=f"s-{number}",
            number=number,
            method="snip",
            seed=0,
            status="complete",
            params={name: value},
        )
        for number, value in enumerate(values)
    ]


def edges(values: list[Any], known: dict[str, Any], name: str = RATE) -> list[tuple[str, int, int]]:
    found = at_edges(members(name, *values), {name: known})
    return [(one.end, one.count, one.num_members) for one in found]


def test_the_last_quarter_of_the_trials() -> None:
    """Of 8 trials the last two: from 0.4 to 0.5 is a fifth of the whole."""
    gain = late_gain(np.asarray([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.45, 0.5]))
    assert gain is not None
    assert (gain.num_trials, gain.total) == (2, 8)
    assert gain.share == pytest.approx(0.2)
    flat = late_gain(np.full(9, 0.5))
    assert flat is not None
    assert (flat.num_trials, flat.share) == (3, 0.0)
    assert late_gain(np.full(7, 0.5)) is None
    assert late_gain(np.zeros(12)) is None


def test_the_edge_is_on_the_scale_that_is_drawn() -> None:
    """Of two decades the upper 5 % begin at 10^-2.1, and the lower end at 10^-3.9."""
    log, plain = LOG[RATE], LOG[RATE] | {"log": False}
    assert edges([10**-2.09, 10**-2.05, 1e-3], log) == [("upper", 2, 3)]
    assert edges([10**-2.11, 10**-2.12, 1e-3], log) == []
    assert edges([10**-3.91, 1e-4, 1e-3], log) == [("lower", 2, 3)]
    # Without the logarithm these lie in the lower 5 %, and 0.0079 is inside.
    assert edges([10**-3.5, 10**-3.6, 0.0079], plain) == [("lower", 2, 3)]


def test_what_draws_from_the_whole_range_would_put_there_is_no_finding() -> None:
    """One of one is there by chance with p = 0.05, one of 20 more often; two of 3 with 0.007."""
    assert edges([1e-2], LOG[RATE]) == []
    assert edges([1e-2] + [1e-3] * 19, LOG[RATE]) == []
    assert edges([1e-2] * 2 + [1e-3], LOG[RATE]) == [("upper", 2, 3)]


def test_whole_numbers_have_wider_edges() -> None:
    """Of 1 … 4, a quarter of all draws is 4: two of two are there with p = 1/16."""
    known = {"low": 1, "high": 4, "log": False, "whole": True}
    assert edges([4, 4], known) == []
    assert edges([4, 4, 4], known) == [("upper", 3, 3)]
    assert edges([3, 3, 3], {**known, "high": 3}) == []  # three numbers have no inside


@pytest.mark.parametrize("value", [None, True, "adam", 5.0, float("nan")])
def test_what_was_not_drawn_from_the_range_does_not_count(value: Any) -> None:
    assert edges([value, 1e-2, 1e-2], LOG[RATE]) == [("upper", 2, 2)]
    assert edges([value] * 5, LOG[RATE]) == []
    assert edges([1e-3] * 5, {**LOG[RATE], "high": 1e-4}) == []  # a range of one value
