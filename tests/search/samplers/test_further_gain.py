"""Estimates of what further trials would add: closed forms, brute force, and a real search."""

import itertools
import math

import numpy as np
import pytest

from search.samplers.further_gain import batch_gain, reach_in_directions, trend_gain
from search.samplers.trial_sampler import TrialSampler
from tests.search.samplers.test_learning_curves import SPACE, draws, vector

FRONT = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])


def area(points: np.ndarray) -> float:
    """The exact hypervolume of two objectives on [0, 1], reference 1.1."""
    total, edge = 0.0, 1.1
    for x, y in sorted(map(tuple, points)):
        if y < edge and x < 1.1:
            total += (1.1 - x) * (edge - y)
            edge = y
    return total


def gain_of(candidates: np.ndarray, num: int, holds: np.ndarray | None = None) -> float:
    ends = np.tile(candidates, (600, 1, 1))
    held = np.ones(ends.shape[:2], dtype=bool) if holds is None else np.tile(holds, (600, 1))
    return batch_gain(ends, held, FRONT, num, np.random.default_rng(0))


def test_a_reach_s_mean_is_the_hypervolume_up_to_a_constant() -> None:
    reach = reach_in_directions(FRONT, 4000, np.random.default_rng(0))
    ratios = []
    for points in (FRONT, FRONT[1:2], np.array([[0.1, 0.2]]), np.array([[0.9, 0.9], [0.2, 1.0]])):
        along = reach(np.broadcast_to(points, (4000, *points.shape)))
        ratios.append(along.max(axis=1).mean() / area(points))
    # In the quarter plane of directions, r dr dφ: the mean of r² is 4 / π of the area.
    assert ratios == pytest.approx([4 / math.pi] * 4, rel=0.01)


def test_what_certain_candidates_add_is_the_exact_area() -> None:
    candidates = np.array([[0.2, 0.5], [0.1, 0.9], [0.7, 0.2], [0.9, 0.9]])
    for num in (1, 2, 3, 4, 9):
        best = max(
            area(np.vstack([FRONT, candidates[list(chosen)]])) / area(FRONT) - 1
            for chosen in itertools.combinations(range(4), min(num, 4))
        )
        assert gain_of(candidates, num) == pytest.approx(best, abs=0.01)


def test_what_is_dominated_or_misses_a_constraint_adds_nothing() -> None:
    assert gain_of(np.array([[0.5, 0.5], [1.0, 1.0]]), 2) == 0.0
    better = np.array([[0.1, 0.1], [0.5, 0.5]])
    assert gain_of(better, 2, np.array([False, True])) == 0.0
    assert gain_of(better, 2, np.array([True, False])) > 0.3


def test_more_trials_never_add_less() -> None:
    candidates = np.random.default_rng(1).uniform(0, 1, (30, 2))
    gains = [gain_of(candidates, num) for num in range(1, 12)]
    assert gains == sorted(gains)
    assert gain_of(candidates, 0) == 0.0


def test_the_trend_of_a_search_that_gains_by_the_logarithm_is_continued() -> None:
    """One objective, whose best falls so that what it reaches is 1 + log n: closed form."""
    num = 30
    values = np.array([[1.1 - (1 + 0.1 * math.log(n))] for n in range(1, num + 1)])
    values -= values.min()  # the front is at 0, and reaches the reference 1.1
    now = 1.1
    expected = 0.1 * math.log(60 / 30) / now
    assert trend_gain(values, 30, np.random.default_rng(0)) == pytest.approx(expected, rel=1e-9)


def test_a_search_that_found_nothing_lately_will_find_nothing_and_few_trials_say_nothing() -> None:
    values = np.random.default_rng(0).uniform(0.5, 1.0, (9, 2))
    values[0] = 0.0
    generator = np.random.default_rng(0)
    assert trend_gain(values, 10, generator) == 0.0
    assert trend_gain(values[:5], 10, generator) is None
    assert trend_gain(np.empty((0,)), 10, generator) is None


@pytest.mark.parametrize("sampler", ["curves", "random"])
def test_it_depends_on_what_ended_alone_and_falls(sampler: str) -> None:
    def model_of() -> TrialSampler:
        return TrialSampler(num_objectives=2, sampler=sampler, seed=3)

    model, drawn, gains = model_of(), [], []
    assert model.further_gain(SPACE, 10) is None
    for number, params in enumerate(draws(40)):
        _, draw = model.ask(number, SPACE, params)
        drawn.append(draw)
        model.tell(number, "complete", vector(params))
        if number in (11, 39):
            gains.append(model.further_gain(SPACE, 30))
    assert gains[0] is not None
    assert gains[1] is not None
    assert 0 <= gains[1] < gains[0]
    model.ask(40, SPACE, draws(41)[40])  # at work
    assert model.further_gain(SPACE, 30) == gains[1]
    again = model_of()
    for number, params in enumerate(draws(40)):
        again.learn(number, drawn[number], "complete", vector(params))
    assert again.further_gain(SPACE, 30) == gains[1]
