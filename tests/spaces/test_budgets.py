"""Equal budgets: pre-training and training proper share a given number of steps."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.budgets import PRETRAINED_METHODS, REWINDING_METHODS
from spaces.catalogue import build_space
from spaces.presets import trial_config, without_effect
from trainables.cost.cost_model import training_flops_fraction
from trainables.errors import UserError
from trainables.registry.method_description import MethodDescription
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.schedule import num_levels, prune_steps, rewind_step


@given(
    method=st.sampled_from(sorted(METHODS)),
    total=st.integers(40, 3000),
    sparsity=st.sampled_from([0.3, 0.5, 0.7, 0.9, 0.99]),
    level_fraction=st.sampled_from([0.1, 0.2, 0.5]),
    rewind=st.sampled_from([0.0, 0.05, 0.2]),
)
@settings(deadline=None, max_examples=150)
def test_both_phases_add_up_to_the_budget(
    method: str, total: int, sparsity: float, level_fraction: float, rewind: float
) -> None:
    config = trial_config(
        method,
        "scenes",
        "tiny",
        sparsity=sparsity,
        total_steps=total,
        overrides={"sparsity.level_fraction": level_fraction, "sparsity.rewind_fraction": rewind},
    )
    steps, pretrain = config.training.steps, config.training.pretrain_steps
    if method not in PRETRAINED_METHODS:
        assert steps == total
        return
    assert steps + pretrain == total
    if method not in REWINDING_METHODS:
        assert pretrain == total // 2
        return
    # No level asks for more of the dense run than there is after step k, and nothing is wasted:
    # one step of pre-training fewer, and one of training more, would not fit.
    starts = (*prune_steps(config.sparsity, steps), steps)
    longest = max(b - a for a, b in itertools.pairwise(starts))
    assert longest <= pretrain - rewind_step(rewind, pretrain)
    levels = 1 if method == "lth-one-shot" else num_levels(config.sparsity.target, level_fraction)
    next_level = -(-(steps + 1) // levels)
    assert pretrain - 1 - rewind_step(rewind, pretrain - 1) < next_level


def test_training_is_counted_against_the_budget() -> None:
    # 200 dense steps and 200 of a tenth are 220 of the 400 that a dense trial would take.
    assert trial_config("imp", "scenes", "tiny", total_steps=400).training.reference_steps == 400
    assert training_flops_fraction(
        average_step_flops=0.1, train_steps=200, pretrain_steps=200, reference_steps=400
    ) == pytest.approx(0.55)
    # Without a budget, pre-training comes on top of as many steps as dense has.
    assert trial_config("imp", "scenes", "tiny", steps=400).training.reference_steps == 400


def test_by_hand() -> None:
    # 90 % in fifths: 0.8^10 = 0.107, 0.8^11 = 0.086, so 11 levels. 34 steps a level are 374 in
    # all, and a dense run of 36 has 34 after its step round(0.05 · 36) = 2; 410 = 374 + 36.
    config = trial_config("lth", "scenes", "tiny", sparsity=0.9, total_steps=410)
    assert (config.training.steps, config.training.pretrain_steps) == (374, 36)
    # 30 %: 0.8 and 0.7, two levels.
    config = trial_config("imp", "scenes", "tiny", sparsity=0.3, total_steps=400)
    assert (config.training.steps, config.training.pretrain_steps) == (200, 200)
    assert prune_steps(config.sparsity, 200) == (0, 100)


def test_pretraining_may_take_another_share() -> None:
    config = trial_config(
        "imp", "scenes", "tiny", total_steps=400, overrides={"training.pretrain_steps": 300}
    )
    assert (config.training.steps, config.training.pretrain_steps) == (100, 300)


@pytest.mark.parametrize(
    ("method", "dead", "alive"),
    [
        ("snip", ["regrowth.fraction", "sparsity.arbiter"], ["sparsity.saliency_weights"]),
        ("set", ["training.pretrain_steps", "model.unit_rate"], ["regrowth.fraction"]),
        ("lth", ["sparsity.interval_steps"], ["sparsity.level_fraction", "training.steps"]),
        ("imp", ["sparsity.rewind_fraction"], ["sparsity.level_fraction"]),
        ("gmp", ["sparsity.level_fraction"], ["sparsity.end_fraction", "model.width"]),
        ("den", ["sparsity.score", "model.unit_rate"], ["optimiser.learning_rate"]),
        ("cross-stitch", ["sparsity.target"], ["model.unit_rate", "training.pretrain_steps"]),
        ("disparse-static", ["regrowth.budget"], ["sparsity.arbiter"]),
    ],
)
def test_settings_without_effect(method: str, dead: list[str], alive: list[str]) -> None:
    config = trial_config(method, "scenes", "tiny")
    assert without_effect(config, [*dead, *alive]) == tuple(dead)


def test_the_weight_of_a_task_that_is_not_trained() -> None:
    weights = {"training.loss_weights.depth": 3.0, "training.loss_weights.edges": 0.5}
    config = trial_config("snip", "scenes", "tiny", tasks=("depth",), overrides=weights)
    assert config.training.loss_weights["depth"] == 3.0
    assert without_effect(config, weights) == ("training.loss_weights.edges",)


@pytest.mark.parametrize("task", ["deth", "", "Depth", "normal"])
def test_the_weight_of_a_task_that_there_is_not(task: str) -> None:
    name = f"training.loss_weights.{task}"
    with pytest.raises(UserError, match=f"unknown setting '{name}'. Did .*loss_weights.depth"):
        trial_config("snip", "scenes", "tiny", tasks=("depth",), overrides={name: 1.0})


READING = MethodDescription(
    name="reading",
    summary="a rule of a user's own that does not regrow",
    implementation="trainables.sparsity.methods.magnitude:MagnitudePruning",
    reads=("regrowth.fraction",),
)


def test_what_a_users_own_method_reads_has_an_effect() -> None:
    """The space draws it, whatever the other facts of the method imply."""
    own = f"{__name__}:READING"
    config = trial_config(own, "scenes", "tiny")
    drawn = {parameter.name for parameter in build_space("full", config, (own,)).parameters}
    names = ("regrowth.fraction", "regrowth.annealing")
    assert drawn.intersection(names) == {"regrowth.fraction"}
    assert without_effect(config, names) == ("regrowth.annealing",)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("imp", {"total_steps": 1}, "must leave steps to both"),
        ("imp", {"total_steps": 10, "overrides": {"training.pretrain_steps": 10}}, "must leave"),
        ("snip", {"total_steps": 0}, "must be at least 1"),
        ("snip", {"total_steps": 9, "steps": 9}, "give one of them"),
        ("lth", {"overrides": {"training.pretrain_steps": 20}}, "each of the 11 levels"),
        ("lth", {"overrides": {"sparsity.schedule": "cubic"}}, "needs `sparsity.schedule` = lev"),
        ("lth-one-shot", {"overrides": {"sparsity.schedule": "levels"}}, "= one-shot"),
        ("lth-one-shot", {"overrides": {"sparsity.start_fraction": 0.1}}, "from the start"),
        ("den", {"overrides": {"sparsity.target": 0.5}}, "`den` keeps every weight"),
        ("imp", {"overrides": {"sparsity.rewind_fraction": 0.3}}, "must be one of"),
        ("imp", {"overrides": {"sparsity.level_fraction": 1}}, "must be in"),
        ("lth", {"overrides": {"sparsity.level_fraction": 1e-9}}, "must be in"),
        ("lth", {"overrides": {"sparsity.rewind_fraction": 1}}, "must be one of"),
        ("lth", {"overrides": {"sparsity.rewind_fraction": "nan"}}, "must be one of"),
        ("snip", {"overrides": {"sparsity.rewind_fraction": "abc"}}, "rewind_fraction"),
        ("snip", {"overrides": {"sparsity.rewind_fraction": None}}, "rewind_fraction"),
        ("snip", {"total_steps": "abc"}, "total_steps"),
    ],
)
def test_budgets_that_cannot_be(method: str, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trial_config(method, "scenes", "tiny", **arguments)
