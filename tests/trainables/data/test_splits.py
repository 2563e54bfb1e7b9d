"""Scenes from frame numbers, and validation that shares none with train."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.splits import carve_validation, scenes_of_runs, spread
from trainables.errors import UserError


def test_runs_worked_by_hand():
    assert scenes_of_runs([2, 3, 4, 7, 9, 10]) == (
        "run-0002",
        "run-0002",
        "run-0002",
        "run-0007",
        "run-0009",
        "run-0009",
    )
    assert scenes_of_runs([]) == ()


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=20),
    percent=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_carving_divides_by_scene(lengths, percent, seed):
    scenes = [f"s{i}" for i, length in enumerate(lengths) for _ in range(length)]
    train, val = carve_validation(scenes, percent / 100, seed)
    assert sorted([*train, *val]) == list(range(len(scenes)))
    assert {scenes[i] for i in train}.isdisjoint(scenes[i] for i in val)
    assert len(train) > 0
    assert len(val) > 0
    budget = max(1, round(percent / 100 * len(scenes)))
    # One scene more than the budget only where no scene fits in it.
    assert len(val) <= max(budget, min(lengths))
    again = carve_validation(scenes, percent / 100, seed)
    np.testing.assert_array_equal(again[1], val)


def test_the_seed_decides():
    scenes = [f"s{i // 3}" for i in range(90)]
    carved = {tuple(carve_validation(scenes, 0.1, seed)[1]) for seed in range(5)}
    assert len(carved) == 5
    assert {len(val) for val in carved} == {9}


def test_one_scene_is_not_enough():
    with pytest.raises(UserError, match="at least 2 scenes, got 1 in 4 frames"):
        carve_validation(["a"] * 4, 0.25, 0)


def test_spread_is_even():
    assert spread(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(10, 4).tolist() == [0, 2, 5, 7]
    for wanted in (None, 3, 7):
        assert spread(3, wanted).tolist() == [0, 1, 2]
