"""`TrialConfig`: one validation, at construction; dicts and strings only at the boundary."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.budgets import PRETRAINED_METHODS
from spaces.presets import DATASET_DEFAULTS, PRESETS, trial_config
from trainables.config import TrialConfig
from trainables.errors import UserError


@pytest.mark.parametrize("dataset", DATASET_DEFAULTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_the_round_trip_through_plain_values(dataset, preset):
    config = trial_config("disparse-dynamic", dataset, preset)
    assert TrialConfig.from_dict(config.to_dict()) == config
    assert (
        config.replace({k: str(v) if v is None else v for k, v in config.flat().items()}) == config
    )


@given(st.floats(min_value=0, max_value=1, exclude_max=True, allow_subnormal=False))
def test_sparsity_accepts_the_half_open_unit_interval(sparsity):
    config = trial_config("random", "scenes", "tiny", sparsity=sparsity)
    assert config.sparsity.target == sparsity


@pytest.mark.parametrize("sparsity", [1.0, -0.1, math.nan, math.inf, 1.2])
def test_sparsity_outside_is_refused_with_rule_value_and_remedy(sparsity):
    with pytest.raises(UserError) as error:
        trial_config("random", "scenes", "tiny", sparsity=sparsity)
    message = str(error.value)
    assert "[0, 1)" in message
    assert repr(sparsity) in message
    assert "0.9" in message


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("sparsity.allocatoin", "erk", "Did you mean 'sparsity.allocation'"),
        ("sparsity.allocation", "erx", "Valid: er, erk, global, uniform"),
        ("sparsity", "0.9", "unknown setting"),
        ("training.steps", "many", "must be a whole number"),
        ("training.steps", "0", "at least 1"),
        ("training.accumulation", "3", "must divide"),
        ("training.num_reports", "5000", "must not exceed"),
        ("optimiser.learning_rate", "0", "must be > 0"),
        ("optimiser.learning_rate", "nan", "must be > 0"),
        ("optimiser.clip_norm", "-1", "must be > 0"),
        ("data.tasks", "depth,depth", "must not repeat"),
        ("data.size", "64", "must have 2 items"),
        ("data.size", "8x64", "at least 16"),
        ("data.mirror", "perhaps", "must be of type bool"),
        ("regrowth.fraction", "1.5", "[0, 1]"),
        ("model.blocks", "1,1", "one entry per stage"),
        ("model.strides", "0,0,0,0", "every entry of `model.strides` must be at least 1"),
        ("model.blocks", "1,0,1,1", "every entry of `model.blocks` must be at least 1"),
        ("model.dilations", "1,1,-2,4", "every entry of `model.dilations` must be at least 1"),
        ("model.head_dilations", "1,0", "every entry of `model.head_dilations` must be"),
        # The remedy shows the right spelling.
        ("training.steps", "many", "e.g. training.steps=100"),
        ("data.size", "120", "e.g. data.size=120x160"),
        ("data.scale_range", "1", "e.g. data.scale_range=0.5,1.5"),
        ("data.mirror", "perhaps", "e.g. data.mirror=true"),
        ("optimiser.learning_rate", "slow", "e.g. optimiser.learning_rate=0.5"),
        ("training.batch_size", "2.5", "must be a whole number, got '2.5'; e.g. "),
        ("model.strides", 2, "e.g. model.strides=1,2,1,1"),
    ],
)
def test_a_wrong_setting_is_named(name, value, part):
    with pytest.raises(UserError) as error:
        trial_config("rigl", "scenes", "tiny", overrides={name: value})
    assert part in str(error.value)


def test_strings_take_the_type_of_the_field():
    config = trial_config(
        "rigl",
        "scenes",
        "tiny",
        overrides={
            "data.tasks": "depth,edges",
            "data.crop": "32x48",
            "optimiser.clip_norm": "none",
            "data.mirror": "false",
            "training.batch_size": "4",
            "training.loss_weights.depth": "2.5",
            "regrowth.fraction": "0.25",
        },
    )
    assert config.data.tasks == ("depth", "edges")
    assert config.data.crop == (32, 48)
    assert config.optimiser.clip_norm is None
    assert config.data.mirror is False
    assert config.training.batch_size == 4
    assert config.training.loss_weights["depth"] == 2.5
    assert config.regrowth.fraction == 0.25


def test_a_replacement_changes_its_setting_alone():
    config = trial_config("rigl", "scenes", "tiny")
    changed = config.replace({"data.mirror": False, "seed": 3, "data.num_test": "7"})
    expected = config.to_dict()
    expected["data"] |= {"mirror": False, "num_test": 7}
    expected["seed"] = 3
    assert changed.to_dict() == expected
    assert type(config).from_dict(expected) == changed
    assert config == trial_config("rigl", "scenes", "tiny")


@pytest.mark.parametrize("value", ["foo", {"mirror": False}, None])
def test_a_whole_section_is_no_setting(value):
    config = trial_config("rigl", "scenes", "tiny")
    for overrides in ({"data": value}, {"data.mirror": True, "data": value}):
        with pytest.raises(UserError, match="'data'"):
            config.replace(overrides)
    with pytest.raises(UserError, match="'data'"):
        config.replace({"data": config.data})


def test_a_task_without_a_loss_weight_is_refused():
    config = trial_config("rigl", "scenes", "tiny", tasks=["depth"])
    with pytest.raises(UserError, match="must weigh every task"):
        config.replace({"data.tasks": "depth,edges"})


def test_intervals_follow_the_number_of_steps():
    assert trial_config("rigl", "scenes", "paper").regrowth.interval_steps == 50
    shorter = trial_config("rigl", "scenes", "paper", steps=2000)
    assert shorter.regrowth.interval_steps == 5
    by_setting = trial_config("rigl", "scenes", "paper", overrides={"training.steps": "2000"})
    assert by_setting == shorter


@pytest.mark.parametrize("steps", [100, "100", "1e2", 100.0])
def test_steps_are_a_whole_number_however_it_is_spelled(steps):
    plain = trial_config("rigl", "scenes", "tiny", steps=100)
    assert plain.training.steps == 100
    assert trial_config("rigl", "scenes", "tiny", overrides={"training.steps": steps}) == plain
    same = trial_config("rigl", "scenes", "tiny", steps=100, overrides={"training.steps": steps})
    assert same == plain


def test_two_different_numbers_of_steps_are_refused():
    with pytest.raises(UserError, match="one setting, got 6 and 1e2; give one"):
        trial_config("rigl", "scenes", "tiny", steps=6, overrides={"training.steps": "1e2"})


def test_large_whole_numbers_are_not_rounded():
    assert trial_config("rigl", "scenes", "tiny", overrides={"seed": str(2**60 + 1)}).seed == (
        2**60 + 1
    )


def test_dense_ignores_the_sparsity_of_a_grid_and_refuses_one_of_its_own():
    assert trial_config("dense", "scenes", "tiny", sparsity=0.5).sparsity.target == 0.0
    with pytest.raises(UserError, match=r"must be in \[0, 1\), got 1\.0"):
        trial_config("dense", "scenes", "tiny", sparsity=1.0)
    with pytest.raises(UserError, match=r"`dense` keeps every weight.*got 0\.9"):
        trial_config("dense", "scenes", "tiny", overrides={"sparsity.target": "0.9"})


def test_a_method_that_prunes_a_trained_model_must_train_it():
    for method in PRETRAINED_METHODS:
        with pytest.raises(UserError, match=r"`training\.pretrain_steps` must be at least 1"):
            trial_config(method, "scenes", "tiny", overrides={"training.pretrain_steps": "0"})
    untrained = trial_config("snip", "scenes", "tiny", overrides={"training.pretrain_steps": "0"})
    assert untrained.training.pretrain_steps == 0


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ({"sparsity": 3}, "`sparsity` must be a mapping of settings, got 3; give"),
        ({"sparsity": {}}, "settings missing: sparsity.allocation, .*; start from a preset"),
    ],
)
def test_plain_values_that_are_no_trial(damage, part):
    values = trial_config("rigl", "scenes", "tiny").to_dict()
    with pytest.raises(UserError, match=part):
        TrialConfig.from_dict(values | damage)
    values["training"]["loss_weights"] = 3
    with pytest.raises(UserError, match=r"loss_weights` must be a mapping, got 3; set "):
        TrialConfig.from_dict(values)
