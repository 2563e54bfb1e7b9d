"""Laws of a space: what is drawn is active, within range, and has an effect."""

import json
import subprocess
import sys

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.catalogue import SPACES, SPARSE_METHODS, build_space
from spaces.dimensions import GRADUAL
from spaces.presets import trial_config
from spaces.space import Parameter, Space, When
from trainables.errors import UserError
from trainables.registry.methods import METHODS, MethodDescription

REGROWS = tuple(name for name, method in METHODS.items() if method.regrows)
REFERENCE = trial_config("disparse-static", "scenes", "tiny")
FULL = build_space("full", REFERENCE, ("dense", *SPARSE_METHODS))


def draw(space: Space, seed: int) -> dict:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space.suggest(study.ask())


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_parameter_refuses_an_empty_range() -> None:
    with pytest.raises(UserError, match=r"`low <= high` must hold .* got \(low=3, high=1\)"):
        Parameter(name="x", kind="int", doc="", default=2, low=3, high=1)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"kind": "float", "default": 1.0, "low": 0.0, "high": 2.0, "log": True}, "low > 0"),
        ({"kind": "float", "default": 3.0, "low": 0.0, "high": 2.0}, "default"),
        ({"kind": "float", "default": 1.0, "low": 0.0}, "finite range"),
        ({"kind": "float", "default": 1.0, "low": 0.0, "high": float("inf")}, "finite range"),
        ({"kind": "categorical", "default": "a", "choices": ("a", "a")}, "distinct"),
        ({"kind": "categorical", "default": "a", "choices": ()}, "distinct"),
        ({"kind": "int", "default": 1.5, "low": 0, "high": 2}, "default"),
    ],
)
def test_parameter_names_the_rule_it_breaks(arguments: dict, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        Parameter(name="x", doc="", **arguments)


def test_a_condition_must_look_back() -> None:
    late = Parameter(name="b", kind="categorical", doc="", default=1, choices=(1,))
    early = Parameter(
        name="a", kind="int", doc="", default=1, low=0, high=1, when=(When(name="b", values=(1,)),)
    )
    with pytest.raises(UserError, match="reorder"):
        Space(name="s", doc="", parameters=(early, late))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_only_what_has_an_effect_is_drawn(seed: int) -> None:
    values = draw(FULL, seed)
    method = values["method"]
    by_name = {p.name: p for p in FULL.parameters}
    assert all(by_name[name].contains(value) for name, value in values.items())
    assert ("sparsity.target" in values) == (method != "dense")
    follows = ("random", "rigl", "set", "gmp", "random-pretrained", "disparse-dynamic")
    assert ("sparsity.allocation" in values) == (method in follows)
    for name in ("fraction", "annealing", "interval_steps", "end_fraction"):
        assert (f"regrowth.{name}" in values) == (method in REGROWS)
    assert ("sparsity.arbiter" in values) == method.startswith("disparse")
    gradual = values.get("sparsity.schedule") in GRADUAL
    for name in ("start_fraction", "end_fraction", "interval_steps"):
        assert (f"sparsity.{name}" in values) == gradual
    halving = values["optimiser.rate_schedule"] == "halving"
    assert ("optimiser.halve_every_fraction" in values) == halving


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_every_draw_makes_a_valid_trial(seed: int) -> None:
    values = draw(FULL, seed)
    method = values.pop("method")
    config = trial_config(method, "scenes", "tiny", overrides=values)
    flat = config.flat()
    assert config.method == method
    assert {name: flat[name] for name in values} == values


def test_pinned_parameters_are_not_drawn_but_decide_conditions() -> None:
    space = FULL.pinned({"method": "rigl", "regrowth.fraction": 0.25, "training.steps": 9})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    values = space.suggest(trial)
    assert values["method"] == "rigl"
    assert values["regrowth.fraction"] == 0.25
    assert not {"method", "regrowth.fraction", "training.steps"} & set(trial.params)
    assert "regrowth.annealing" in trial.params
    assert "sparsity.arbiter" not in values


def test_defaults_are_active_and_within_range() -> None:
    for name in SPACES:
        space = build_space(name, REFERENCE, ("disparse-dynamic", "snip"))
        values = space.defaults()
        assert values["method"] == "disparse-dynamic"
        assert "regrowth.fraction" in values
        assert "sparsity.end_fraction" not in values  # one-shot by default


def test_known_points_keep_what_the_space_would_draw() -> None:
    flat = trial_config("snip", "scenes", "tiny").flat()
    assert FULL.known(flat) == {
        "method": "snip",
        "sparsity.target": 0.9,
        "optimiser.learning_rate": 3e-3,
        "sparsity.schedule": "one-shot",
        "sparsity.saliency_weights": "xavier",
        "optimiser.name": "adam",
        "optimiser.weight_decay": 5e-4,
        "optimiser.rate_schedule": "cosine",
    }
    # Out of range (a `global` allocation of rigl) is left to the sampler.
    flat = trial_config("rigl", "scenes", "tiny", overrides={"sparsity.allocation": "global"})
    assert "sparsity.allocation" not in FULL.known(flat.flat())


def test_step_ranges_follow_the_length_of_training() -> None:
    long = trial_config("rigl", "scenes", "tiny", steps=20_000)
    space = build_space("full", long)
    interval = next(p for p in space.parameters if p.name == "regrowth.interval_steps")
    assert (interval.low, interval.high) == (200, 2000)
    for steps in (1, 2, 9, 50):
        build_space("full", trial_config("rigl", "scenes", "tiny", steps=steps))


def test_one_method_leaves_no_dangling_conditions() -> None:
    space = build_space("full", REFERENCE, ("snip",))
    names = {p.name for p in space.parameters}
    assert not {"sparsity.allocation", "regrowth.fraction", "sparsity.arbiter"} & names


@pytest.mark.parametrize(("name", "methods"), [("nope", ("snip",)), ("full", ("nope",))])
def test_unknown_names_list_the_valid_ones(name: str, methods: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="valid: "):
        build_space(name, REFERENCE, methods)


OWN_METHOD = MethodDescription(
    name="own",
    summary="a rule of a user's own",
    implementation="trainables.sparsity.methods.rigl:RigL",
    regrows=True,
    votes=True,
    reads=("sparsity.score",),
    defaults={"regrowth.fraction": 0.2},
)


def test_a_method_of_a_users_own_draws_what_its_facts_say() -> None:
    own = f"{__name__}:OWN_METHOD"
    space = build_space("full", REFERENCE, ("snip", own))
    drawn = {p.name: [v for w in p.when for v in w.values] for p in space.parameters}
    for name in ("fraction", "annealing", "interval_steps", "end_fraction", "budget"):
        assert drawn[f"regrowth.{name}"] == [own]
    assert drawn["sparsity.arbiter"] == drawn["sparsity.score"] == [own]
    assert drawn["sparsity.target"] == drawn["sparsity.schedule"] == ["snip", own]
    assert drawn["sparsity.saliency_weights"] == ["snip"]
    assert not {"sparsity.allocation", "sparsity.level_fraction"} & set(drawn)
    config = trial_config(own, "scenes", "tiny")
    assert (config.method, config.regrowth.fraction) == (own, 0.2)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"rewinds": True}, "must need pre-training, got needs_pretraining=False"),
        ({"regrows_by_gradient": True}, "it must regrow, got regrows=False"),
        ({"prunes": "sometimes"}, "unknown `prunes` of method 'x': 'sometimes'; valid: levels"),
    ],
)
def test_facts_that_contradict_one_another_are_refused(facts: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MethodDescription(name="x", summary="", implementation="a:B", **facts)


def test_command_line() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "spaces", "show", "full", "--json"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    parameters = {p["name"]: p for p in json.loads(shown.stdout)["parameters"]}
    assert parameters["regrowth.fraction"]["when"] == {"method": list(REGROWS)}
    wrong = subprocess.run(
        [sys.executable, "-m", "spaces", "show", "nope"], capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert "valid: compact, full" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_presets_do_not_need_optuna() -> None:
    code = "import sys, spaces.presets, spaces.catalogue; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
