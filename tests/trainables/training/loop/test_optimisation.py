"""Learning-rate schedules against their closed forms."""

import pytest
import torch

from spaces.presets import trial_config
from trainables.training.loop.optimisation import build_optimiser, learning_rate_at


def _config(**overrides):
    settings = {f"optimiser.{name}": value for name, value in overrides.items()}
    return trial_config("dense", "nyu-v2", "paper", overrides=settings).optimiser


def test_the_published_schedule_halves_every_4000_of_20000_steps():
    config = _config()
    rates = [learning_rate_at(config, step, 20_000) for step in range(0, 20_000, 4_000)]
    assert rates == [1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5]
    assert learning_rate_at(config, 3_999, 20_000) == 1e-3
    assert learning_rate_at(config, 4_000, 20_000) == 5e-4


def test_cosine_starts_at_the_rate_and_is_half_way_in_the_middle():
    config = _config(rate_schedule="cosine", learning_rate=1.0)
    assert learning_rate_at(config, 0, 100) == 1.0
    assert learning_rate_at(config, 50, 100) == pytest.approx(0.505)
    assert learning_rate_at(config, 100, 100) == pytest.approx(0.01)


def test_constant_is_constant():
    config = _config(rate_schedule="constant", learning_rate=0.3)
    assert {learning_rate_at(config, step, 10) for step in range(10)} == {0.3}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimiser_takes_its_settings(name):
    config = _config(name=name, learning_rate=0.5, weight_decay=0.25)
    optimiser = build_optimiser(config, torch.nn.Linear(2, 1, bias=False))
    assert type(optimiser).__name__.lower() == name
    assert optimiser.param_groups[0]["lr"] == 0.5
    assert optimiser.param_groups[0]["weight_decay"] == 0.25
