"""The search budget is the same for all, and the choice is made on validation."""

import math
from typing import Any

import pytest

from analysis.studies.trials import Trial
from benchmarks.claims.protocol import SETTINGS, SYSTEMS
from benchmarks.claims.tuning import (
    Budget,
    Variant,
    choose,
    default_settings,
    judge,
    make_budget,
    relative_error,
)
from spaces.presets import trial_config
from trainables.errors import UserError

RATE = "optimiser.learning_rate"
BUDGET = Budget(
    defaults={RATE: 0.002, "regrowth.fraction": 0.3},
    variants=(
        Variant(label="default", settings={}),
        Variant(label="half", settings={RATE: 0.001}),
        Variant(label="twice", settings={RATE: 0.004}),
        Variant(label="own", settings={"regrowth.fraction": 0.5}),
    ),
)


def trial(params: dict[str, Any], miou: float, angle: float, **changes: Any) -> Trial:
    metrics = {"val/segmentation/miou": miou, "val/normals/mean_error_deg": angle}
    metrics |= {"test/segmentation/miou": 1 - miou, "test/normals/mean_error_deg": -angle}
    values = {"trial": "t", "number": 0, "method": "rigl", "seed": 1000, "status": "complete"}
    return Trial(**{**values, "params": params, "metrics": metrics, **changes})


def test_a_choice_by_hand() -> None:
    """Errors relative to the default's 0.8 and 30 deg: 1, (0.9/0.8 + 24/30)/2 = 0.9625,
    (0.72/0.8 + 33/30)/2 = 1, (0.76/0.8 + 28.5/30)/2 = 0.95."""
    trials = [
        trial({"regrowth.fraction": 0.5}, 0.24, 28.5),
        trial({RATE: 0.004}, 0.28, 33.0),
        trial({}, 0.2, 30.0),
        trial({RATE: 0.001}, 0.1, 24.0),
    ]
    results = judge("rigl", ("segmentation", "normals"), trials, BUDGET)
    assert [r.score for r in results] == pytest.approx([1.0, 0.9625, 1.0, 0.95])
    best = choose(results)
    assert best is not None
    assert best.variant.label == "own"


def test_the_default_stays_where_nothing_is_better() -> None:
    trials = [trial({}, 0.2, 30.0), trial({RATE: 0.001}, 0.2, 30.0)]
    best = choose(judge("rigl", ("segmentation", "normals"), trials, BUDGET))
    assert best is not None
    assert best.variant.label == "default"


def test_what_failed_is_out_of_the_choice() -> None:
    trials = [trial({}, 0.2, 30.0), trial({RATE: 0.001}, 0.9, 1.0, status="failed")]
    results = judge("rigl", ("segmentation", "normals"), trials, BUDGET)
    assert [r.status for r in results] == ["complete", "failed", "not run", "not run"]
    assert choose(results) is results[0]


def test_where_the_default_failed_the_others_are_compared_with_each_other() -> None:
    """Relative to half the rate: (0.8/0.9 + 30/40)/2 = 0.8194 of twice it."""
    trials = [trial({RATE: 0.004}, 0.2, 30.0), trial({RATE: 0.001}, 0.1, 40.0)]
    trials.append(trial({}, 0.9, 1.0, status="failed"))
    results = judge("rigl", ("segmentation", "normals"), trials, BUDGET)
    best = choose(results)
    assert best is not None
    assert best.variant.label == "twice"
    assert {r.relative_to for r in results} == {"half"}
    assert [r.score for r in results[1:3]] == pytest.approx([1.0, 0.8 / 1.8 + 30 / 80])
    assert [math.isnan(r.score) for r in results] == [True, False, False, True]


def test_nothing_is_chosen_where_all_failed() -> None:
    assert choose(judge("rigl", ("normals",), [], BUDGET)) is None


@pytest.mark.parametrize(
    ("params", "index"),
    [
        ({"method": "rigl"}, 0),
        ({RATE: 0.002, "regrowth.fraction": 0.3, "seed": 1000}, 0),  # a whole configuration
        ({RATE: 0.001}, 1),
        ({RATE: "0.004"}, 2),  # as MLflow keeps it
        ({RATE: 0.002, "regrowth.fraction": 0.5}, 3),
        ({RATE: 0.001, "regrowth.fraction": 0.5}, None),
        ({RATE: 0.003}, None),
    ],
)
def test_a_trials_variant_is_found(params: dict[str, Any], index: int | None) -> None:
    assert BUDGET.find(params) == index


def test_a_budget_survives_json() -> None:
    assert Budget.from_json(BUDGET.to_json()) == BUDGET


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_four_variants_that_differ_and_are_accepted(setting: Any, system: str) -> None:
    budget = make_budget(system, default_settings(system, setting, setting.steps, {}))
    configs = [
        trial_config(
            system, setting.dataset, setting.preset, tasks=setting.tasks, sparsity=sparsity,
            total_steps=setting.steps, overrides=variant.settings,
        )
        for variant in budget.variants
        for sparsity in (0.3, 0.9)
    ]  # fmt: skip
    assert len(budget.variants) == 4
    assert len({str(config) for config in configs[1::2]}) == 4
    rates = [config.optimiser.learning_rate for config in configs[1::2]]
    assert rates == pytest.approx([rates[0], rates[0] / 2, rates[0] * 2, rates[0]])


def test_a_setting_that_makes_two_variants_one_is_refused() -> None:
    overrides = {"regrowth.fraction": "0.5"}
    defaults = default_settings("rigl", SETTINGS["scenes"], 100, overrides)
    with pytest.raises(UserError, match=r"regrowth\.fraction=0\.5"):
        make_budget("rigl", defaults)


def test_an_error_of_zero_cannot_be_a_measure() -> None:
    assert math.isnan(relative_error({"depth": 1.0}, {"depth": 0.0}, ("depth",)))
