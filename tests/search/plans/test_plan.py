"""What a recipe becomes once the user's wishes are applied."""

import pytest

from search.plans.recipe import get_recipe, recipe_names
from search.plans.resolve import make_plan, parse_overrides
from trainables.errors import UserError

DEMO = get_recipe("demo")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_makes_valid_trials(name: str) -> None:
    recipe = get_recipe(name)
    plan = make_plan(recipe)
    starts = plan.starts()
    methods = [{**s.pins, **s.params}["method"] for s in starts]
    known = [*recipe.references, *recipe.methods]
    assert methods == [*known, recipe.flagship, recipe.flagship]
    assert [s.reference for s in starts] == [m in recipe.references for m in methods]
    targets = []
    for start in starts:
        config = plan.config({**start.pins, **start.params}, plan.seed)
        assert config.data.tasks == plan.tasks
        targets.append(config.sparsity.target)
    # Every method's known settings, from the densest to the sparsest; then the extremes.
    num_methods = len(recipe.methods)
    low, high = (0.2, 0.9) if name == "ship-scenes" else (0.5, 0.99)
    spread = [low + (high - low) * (index + 0.5) / num_methods for index in range(num_methods)]
    assert targets == pytest.approx([0.0, *spread, high, low])


def test_demo_is_what_was_promised() -> None:
    assert DEMO.trials >= 16
    assert len(DEMO.tasks) >= 3
    assert {"random", "snip", "rigl", "disparse-static", "disparse-dynamic"} <= set(DEMO.methods)
    assert make_plan(DEMO).objectives == (
        "val/segmentation/miou",
        "val/normals/mean_error_deg",
        "val/depth/absolute_error",
        "cost/density",
    )


def test_overrides_fix_values_and_leave_the_space() -> None:
    plan = make_plan(
        DEMO,
        overrides={"sparsity.target": "0.8", "objective.cost": "cost/flops_fraction"},
    )
    assert plan.objectives[-1] == "cost/flops_fraction"
    assert plan.space.fixed == {"sparsity.target": 0.8}
    for start in plan.starts():
        assert "sparsity.target" not in start.params
        config = plan.config({**start.pins, **start.params}, 0)
        assert config.sparsity.target == (0.0 if config.method == "dense" else 0.8)


def test_a_fixed_method_is_the_only_one() -> None:
    plan = make_plan(DEMO, overrides={"method": "snip"})
    assert [dict(s.params) for s in plan.starts()] == [
        {"sparsity.target": sparsity, "optimiser.learning_rate": 3e-3}
        for sparsity in (0.745, 0.99, 0.5)
    ]
    assert plan.config(plan.starts()[0].params, 0).method == "snip"


def test_tasks_can_be_overridden() -> None:
    plan = make_plan(DEMO, overrides={"data.tasks": "depth,edges"})
    assert plan.objectives == ("val/depth/absolute_error", "val/edges/error", "cost/density")
    assert plan.config({"method": "random"}, 0).data.tasks == ("depth", "edges")


def test_steps_move_the_ranges_counted_in_steps() -> None:
    plan = make_plan(DEMO, overrides={"training.steps": "4000"})
    assert plan.config({"method": "rigl"}, 0).regrowth.interval_steps == 160


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sparsity.targt": "0.9"}, r"unknown override .*Did you mean 'sparsity.target'"),
        ({"objective.costs": "x"}, "objective.cost"),
        ({"objective.cost": "val/depth/error"}, "unknown metric"),
        ({"objective.cost": "depth/absolute_error"}, "unknown cost metric"),
        ({"sparsity.target": "1.0"}, r"must be in \[0, 1\)"),
        ({"sparsity.target": "nan"}, r"must be in \[0, 1\)"),
        ({"sparsity.target": "much"}, "must be of type float"),
        ({"method": "magic"}, "unknown method"),
        ({"data.tasks": "smell"}, "unknown task"),
        ({"seed": "3"}, "use --seed"),
        ({"data.root": "x"}, "use --data-root"),
    ],
)
def test_mistakes_in_overrides_name_the_remedy(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_plan(DEMO, overrides=overrides)


@pytest.mark.parametrize("trials", [0, -3])
def test_fewer_than_one_trial_is_refused(trials: int) -> None:
    with pytest.raises(UserError, match="`--trials` must be at least 1"):
        make_plan(DEMO, trials=trials)


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 64])
def test_a_name_must_be_a_folder_name(name: str) -> None:
    if name:
        with pytest.raises(UserError, match="a study's name"):
            make_plan(DEMO, study=name)


def test_unknown_recipe_lists_the_valid_ones() -> None:
    with pytest.raises(
        UserError,
        match=r"'dmeo'.*mean 'demo'\? Valid: cityscapes-metric-paper, .*, demo, nyu-v2-paper",
    ):
        get_recipe("dmeo")


def test_parse_overrides() -> None:
    assert parse_overrides(["a=1", "b = x=y "]) == {"a": "1", "b": "x=y"}
    with pytest.raises(UserError, match="name=value"):
        parse_overrides(["a"])
