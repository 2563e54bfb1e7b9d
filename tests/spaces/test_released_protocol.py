"""Preset `paper` is the released protocol of each data set: `config_*.py` of the DiSparse code."""

import pytest

from spaces.presets import trial_config, without_effect
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.sparsity.schedule import regrow_due
from trainables.training.loop.optimisation import learning_rate_at

# MAX_ITERS, DECAY_LR_FREQ, DECAY_LR_RATE, INIT_LR, INT, END, RETRAIN_EPOCH and RETRAIN_LR.
RELEASED = {
    "nyu-v2": (20_000, 4_000, 0.5, 1e-3, 50, 15_000, 1_000, 1e-5),
    "cityscapes": (20_000, 4_000, 0.5, 1e-4, 50, 15_000, 1_000, 1e-5),
    "taskonomy": (100_000, 12_000, 0.3, 1e-4, 250, 75_000, 4_000, 1e-6),
}
# Those of `_TRAINING` and the data, which all three share.
CROPS = {"nyu-v2": (321, 321), "cityscapes": (224, 224), "taskonomy": (224, 224)}
RETRAINED = ("disparse-pretrained", "random-pretrained", "imp", "channel-l1")


def paper(method: str, dataset: str, **arguments: object) -> TrialConfig:
    return trial_config(method, dataset, "paper", **arguments)


@pytest.mark.parametrize("dataset", RELEASED)
def test_from_scratch(dataset: str) -> None:
    steps, every, factor, rate, interval, end, _, _ = RELEASED[dataset]
    config = paper("disparse-dynamic", dataset)
    assert config.training.steps == config.training.reference_steps == steps
    assert (config.training.batch_size, config.optimiser.weight_decay) == (16, 5e-4)
    assert config.data.crop == CROPS[dataset]
    assert config.optimiser.name == "adam"
    assert config.optimiser.clip_norm is None
    assert config.optimiser.retraining_rate is None
    for decays in range(-(-steps // every)):
        expected = pytest.approx(rate * factor**decays, rel=1e-12)
        first = decays * every
        last = min(first + every, steps) - 1
        assert learning_rate_at(config.optimiser, first, steps) == expected
        assert learning_rate_at(config.optimiser, last, steps) == expected
    assert config.regrowth.interval_steps == interval
    assert config.regrowth.end_fraction * steps == end
    assert config.regrowth.fraction == 0.5


@pytest.mark.parametrize("dataset", RELEASED)
def test_three_hundred_updates(dataset: str) -> None:
    steps, _, _, _, interval, end, _, _ = RELEASED[dataset]
    regrowth = paper("disparse-dynamic", dataset).regrowth
    due = [s for s in range(steps) if regrow_due(regrowth, s, steps, released=True)]
    assert due == [*range(0, end, interval), end]  # the last one drops what is too much
    assert len(due) - 1 == 300
    ours = [s for s in range(steps) if regrow_due(regrowth, s, steps)]
    assert ours == due[1:-1]


@pytest.mark.parametrize("method", RETRAINED)
@pytest.mark.parametrize("dataset", RELEASED)
def test_a_trained_model_is_retrained_briefly_at_a_constant_rate(dataset: str, method: str) -> None:
    steps, _, _, rate, _, _, retraining, low = RELEASED[dataset]
    config = paper(method, dataset)
    assert (config.training.pretrain_steps, config.training.steps) == (steps, retraining)
    assert config.training.reference_steps == steps
    optimiser = config.optimiser
    assert learning_rate_at(optimiser, 0, steps) == rate  # of pre-training
    rates = {learning_rate_at(optimiser, s, retraining, retraining=True) for s in range(retraining)}
    assert rates == {low}


def test_other_lengths_keep_the_proportion() -> None:
    config = paper("disparse-pretrained", "taskonomy", steps=8)
    assert (config.training.pretrain_steps, config.training.steps) == (200, 8)
    config = paper("disparse-pretrained", "nyu-v2", total_steps=20_000)
    assert (config.training.pretrain_steps, config.training.steps) == (19_047, 953)
    assert config.training.reference_steps == 20_000
    for none in (None, "none"):
        same = paper("imp", "nyu-v2", overrides={"optimiser.retraining_rate": none})
        assert (same.training.pretrain_steps, same.training.steps) == (20_000, 20_000)
        assert same.optimiser.retraining_rate is None
    given = paper("imp", "nyu-v2", overrides={"training.pretrain_steps": 300})
    assert (given.training.pretrain_steps, given.training.steps) == (300, 1_000)


@pytest.mark.parametrize("method", ["lth", "cross-stitch"])
def test_what_repeats_or_joins_a_dense_run_is_not_retraining(method: str) -> None:
    config = paper(method, "nyu-v2")
    assert config.training.steps == 20_000
    assert config.optimiser.retraining_rate is None


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("dataset", RELEASED)
def test_smaller_presets_are_as_before(dataset: str, preset: str) -> None:
    config = trial_config("disparse-pretrained", dataset, preset)
    assert config.training.pretrain_steps == config.training.steps
    assert config.optimiser.retraining_rate is None
    assert (config.optimiser.halve_every_fraction, config.optimiser.decay_factor) == (0.2, 0.5)


def test_records_from_before_the_settings_mean_what_they_meant() -> None:
    """A trial recorded without the newer settings is one with what was then the only way."""
    config = trial_config("disparse-dynamic", "scenes", "tiny")
    values = config.to_dict()
    for part, name in (
        ("regrowth", "gradient_at"),
        ("model", "pool_rounding"),
        ("optimiser", "decay_factor"),
        ("optimiser", "retraining_rate"),
        ("training", "loss_resolution"),
    ):
        del values[part][name]
    assert TrialConfig.from_dict(values) == config


def test_published_metrics_take_the_published_grid() -> None:
    assert paper("dense", "nyu-v2").model.pool_rounding == "down"
    assert paper("dense", "nyu-v2", metrics="published").model.pool_rounding == "up"
    by_setting = paper("dense", "nyu-v2", overrides={"metrics": "published"})
    assert by_setting.model.pool_rounding == "up"
    kept = {"metrics": "published", "model.pool_rounding": "down"}
    assert paper("dense", "nyu-v2", overrides=kept).model.pool_rounding == "down"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("regrowth.gradient_at", "dens", r"unknown `regrowth\.gradient_at` 'dens'.*mean 'dense'"),
        ("model.pool_rounding", "ceil", r"unknown `model\.pool_rounding` 'ceil'; valid: down, up"),
        ("training.loss_resolution", "logit", r"`training\.loss_resolution`.*mean 'logits'"),
        ("optimiser.decay_factor", 0, r"`optimiser\.decay_factor` must be in \(0, 1\], got 0"),
        ("optimiser.decay_factor", float("nan"), r"must be in \(0, 1\], got nan"),
        ("optimiser.retraining_rate", -1, r"`optimiser\.retraining_rate` must be > 0"),
    ],
)
def test_values_that_make_no_sense(name: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        paper("disparse-dynamic", "nyu-v2", overrides={name: value})


def test_settings_without_effect() -> None:
    names = ("regrowth.gradient_at", "optimiser.retraining_rate", "model.pool_rounding")
    assert without_effect(paper("set", "nyu-v2"), names) == names[:2]
    assert without_effect(paper("rigl", "nyu-v2"), names) == names[1:2]
    assert without_effect(paper("imp", "nyu-v2"), names) == names[:1]
