"""Late gains and settings at the edge of their ranges, worked by hand."""

from typing import Any

import numpy as np
import optuna
import pytest

from analysis.statistics.health.reach import at_edges, edge_chance, late_gain
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


def test_every_end_of_every_range_is_a_test() -> None:
    """Two of 3 at an end (p = 0.00725) count among the 6 ends of 3 ranges, not among 8 of 4."""
    drawn = members(RATE, 1e-2, 1e-2, 1e-3)
    known = dict(LOG)
    for number, expected in ((1, 1), (2, 1), (3, 0)):
        known[f"other.{number}"] = {"low": 0.0, "high": 1.0, "log": False, "whole": False}
        for trial in drawn:
            assert isinstance(trial.params, dict)
            trial.params[f"other.{number}"] = 0.5
        assert len(at_edges(drawn, known)) == expected
    known["never.drawn"] = {"low": 0.0, "high": 1.0, "log": False, "whole": False}
    assert len(at_edges(members(RATE, 1e-2, 1e-2, 1e-3), known)) == 1  # none of them was tested


def test_whole_numbers_have_wider_edges() -> None:
    """Of 1 … 4, a quarter of all draws is 4: three of three are there with p = 1/64, of 2 tests."""
    known = {"low": 1, "high": 4, "log": False, "whole": True}
    assert edges([4, 4], known) == []
    assert edges([4, 4, 4], known) == [("upper", 3, 3)]
    assert edges([3, 3, 3], {**known, "high": 3}) == []  # three numbers have no inside


@pytest.mark.parametrize(("low", "high", "log"), [(2, 15, True), (1, 4, False), (1, 300, True)])
def test_the_chance_of_an_edge_is_that_of_optunas_draws(low: int, high: int, log: bool) -> None:
    distribution = optuna.distributions.IntDistribution(low, high, log=log)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    scale = np.log if log else np.asarray
    draws = [study.ask({"x": distribution}).params["x"] for _ in range(4000)]
    places = (scale(draws) - scale(low)) / (scale(high) - scale(low))
    for end, near in (("lower", places <= 0.05), ("upper", places >= 0.95)):
        chance = edge_chance(low, high, end, log=log)
        assert np.mean(near) == pytest.approx(chance, abs=0.02)
    if (low, high) == (2, 15):
        assert edge_chance(low, high, "lower", log=log) == pytest.approx(0.2187, abs=1e-4)
        few = {"low": 2, "high": 15, "log": True, "whole": True}
        assert edges([2, 2, 2, 5, 7, 9, 12], few) == []  # 22 % each: p = 0.19


def test_uniform_draws_are_seldom_called_at_an_edge() -> None:
    """Of studies with 7 members and 10 ranges, a twentieth is accused at most."""
    rng = np.random.default_rng(3)
    plain: dict[str, Any] = {"low": 0.0, "high": 1.0, "log": False, "whole": False}
    whole = {"low": 2, "high": 15, "log": True, "whole": True}
    known = {f"p{n}": whole if n < 3 else plain for n in range(10)}
    accused = 0
    for _ in range(1000):
        uniform = rng.uniform(size=(10, 7))
        for place in range(3):
            uniform[place] = np.round(1.5 * (15.5 / 1.5) ** uniform[place])
        drawn = [
            Trial(
                trial=f"s-{number}",
                number=number,
                method="snip",
                seed=0,
                status="complete",
                params=dict(zip(known, map(float, column), strict=True)),
            )
            for number, column in enumerate(uniform.T)
        ]
        accused += bool(at_edges(drawn, known))
    assert 0 < accused / 1000 <= 0.05


@pytest.mark.parametrize("value", [None, True, "adam", 5.0, float("nan")])
def test_what_was_not_drawn_from_the_range_does_not_count(value: Any) -> None:
    assert edges([value, 1e-2, 1e-2], LOG[RATE]) == [("upper", 2, 2)]
    assert edges([value] * 5, LOG[RATE]) == []
    assert edges([1e-3] * 5, {**LOG[RATE], "high": 1e-4}) == []  # a range of one value
