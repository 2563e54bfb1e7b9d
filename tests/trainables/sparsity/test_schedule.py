"""Closed forms at the ends and in the middle, and the same story from all functions."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.sparsity.toys import toy_config
from trainables.config import ANNEALINGS, SPARSITY_SCHEDULES, RegrowthConfig, SparsityConfig
from trainables.sparsity.schedule import (
    density_at,
    drop_fraction_at,
    prune_due,
    prune_steps,
    regrow_due,
)

SPARSITY = toy_config().sparsity
REGROWTH = toy_config().regrowth
FRACTIONS = st.floats(0, 1, allow_subnormal=False)  # tests run with denormals flushed


def sparsity(**changes: object) -> SparsityConfig:
    return dataclasses.replace(SPARSITY, **changes)  # type: ignore[arg-type]


def regrowth(**changes: object) -> RegrowthConfig:
    return dataclasses.replace(REGROWTH, **changes)  # type: ignore[arg-type]


@given(
    schedule=st.sampled_from(SPARSITY_SCHEDULES),
    window=st.tuples(FRACTIONS, FRACTIONS).map(sorted),
    interval=st.integers(1, 30),
    target=st.floats(0, 0.999, allow_subnormal=False),
    total=st.integers(1, 120),
)
@settings(max_examples=200, deadline=None)
def test_every_schedule_descends_in_steps_to_exactly_the_target(
    schedule: str, window: list[float], interval: int, target: float, total: int
) -> None:
    config = sparsity(
        schedule=schedule,
        start_fraction=window[0],
        end_fraction=window[1],
        interval_steps=interval,
        target=target,
    )
    densities = [density_at(config, step, total) for step in range(total)]
    steps = prune_steps(config, total)
    assert densities[-1] == 1 - target  # reached within training, to the last bit
    assert all(a >= b for a, b in itertools.pairwise(densities))
    assert [s for s in range(total) if prune_due(config, s, total)] == list(steps)
    # A change of density is always a pruning.
    before = [1.0, *densities]
    assert all(s in steps for s in range(total) if before[s] != densities[s])


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [
        ("linear", 0.4),
        ("cubic", 0.8 * (1 - 0.5**3)),
        ("cosine", 0.4),
        ("exponential", 1 - math.sqrt(0.2)),
    ],
)
def test_halfway(schedule: str, middle: float) -> None:
    config = sparsity(
        schedule=schedule, target=0.8, start_fraction=0.2, end_fraction=0.6, interval_steps=10
    )
    assert density_at(config, 29, 100) == 1.0
    assert 1 - density_at(config, 40, 100) == pytest.approx(middle, abs=1e-12)
    assert density_at(config, 49, 100) == density_at(config, 40, 100)
    assert density_at(config, 60, 100) == 1 - 0.8
    assert prune_steps(config, 100) == (30, 40, 50, 60)


def test_an_interval_that_does_not_divide_still_ends_at_the_end() -> None:
    config = sparsity(
        schedule="linear", start_fraction=0.0, end_fraction=1.0, interval_steps=4, target=0.5
    )
    assert prune_steps(config, 10) == (4, 8, 9)


def test_one_shot_is_once_at_the_start() -> None:
    config = sparsity(schedule="one-shot", start_fraction=0.25)
    assert prune_steps(config, 100) == (25,)
    assert density_at(config, 24, 100) == 1.0
    assert density_at(config, 25, 100) == 1 - config.target


def test_regrowth_is_due_every_interval_before_its_end() -> None:
    config = regrowth(interval_steps=20, end_fraction=0.75)
    assert [s for s in range(100) if regrow_due(config, s, 100)] == [20, 40, 60]


@pytest.mark.parametrize(
    ("annealing", "middle"),
    [("constant", 0.4), ("linear", 0.2), ("cosine", 0.2), ("inverse-power", 0.05)],
)
def test_annealing_by_hand(annealing: str, middle: float) -> None:
    config = regrowth(annealing=annealing, fraction=0.4, end_fraction=0.8)
    assert drop_fraction_at(config, 0, 100) == 0.4
    assert drop_fraction_at(config, 40, 100) == pytest.approx(middle)
    assert drop_fraction_at(config, 80, 100) == 0.0


@pytest.mark.parametrize("annealing", ANNEALINGS)
def test_annealing_never_rises(annealing: str) -> None:
    config = regrowth(annealing=annealing, end_fraction=1.0)
    values = [drop_fraction_at(config, step, 50) for step in range(50)]
    assert all(a >= b >= 0 for a, b in itertools.pairwise(values))
