"""Recipes: the built-in ones, and files of a user's own."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from search.plans.recipe import Recipe, get_recipe, recipe_names, recipe_text
from search.plans.resolve import make_plan
from trainables.errors import UserError

SMALL = """
summary = "two methods"
dataset = "scenes"
preset = "tiny"
tasks = ["segmentation", "depth"]
methods = ["snip", "rigl"]
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_makes_a_plan_and_survives_json(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert recipe.summary
    plan = make_plan(recipe)
    assert plan.study == name
    assert plan.starts()
    assert set(tomllib.loads(recipe_text(name))) <= set(recipe.to_json())
    assert Recipe.from_mapping(recipe.to_json(), "'again'") == recipe


def test_a_file_that_says_the_least_has_the_defaults(tmp_path: Path) -> None:
    recipe = get_recipe(written(tmp_path, SMALL))
    assert recipe.name == "mine"
    assert recipe.methods == ("snip", "rigl")
    assert (recipe.references, recipe.space, recipe.cost) == (("dense",), "compact", "cost/density")
    assert (recipe.sampler, recipe.scheduler) == ("curves", "pareto-asha")
    plan = make_plan(recipe)
    assert plan.study == "mine"
    assert plan.objectives == ("val/segmentation/miou", "val/depth/absolute_error", "cost/density")
    named = get_recipe(written(tmp_path, SMALL + 'name = "other"'))
    assert (named.name, make_plan(named).study) == ("other", "other")


def test_a_file_of_windows_editors_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert get_recipe(str(path)).methods == ("snip", "rigl")


def test_everything_that_a_file_can_say_reaches_the_plan(tmp_path: Path) -> None:
    text = (
        SMALL
        + """
space = "full"
trials = 7
concurrency = 3
references = []
cost = "cost/flops_fraction"
sampler = "tpe"
scheduler = "pareto-asha"
flagship = "rigl"
num_startup_trials = 5

[settings.training]
steps = 90
num_reports = 3

[settings]
"data.size" = [48, 64]

[constraints]
"segmentation/miou" = ">=0.3"

[scheduling]
grace = 0.2
reduction_factor = 2
"""
    )
    plan = make_plan(get_recipe(written(tmp_path, text)))
    assert plan.budget.trials == 7
    assert plan.recipe.concurrency == 3
    assert plan.objectives[-1] == "cost/flops_fraction"
    assert plan.sampler == "tpe"
    assert plan.rungs is not None
    assert (plan.rungs.grace, plan.rungs.reduction_factor) == (0.2, 2)
    assert plan.constraints.to_json() == {"segmentation/miou": ">=0.3"}
    assert plan.space.name == "full"
    starts = [plan.config({**s.pins, **s.params}, 0) for s in plan.starts()]
    assert [c.method for c in starts] == ["snip", "rigl", "rigl", "rigl"]
    assert {(c.training.steps, c.training.num_reports, c.data.size) for c in starts} == {
        (90, 3, (48, 64))
    }


def test_nested_and_dotted_settings_are_the_same(tmp_path: Path) -> None:
    forms = [
        "[settings.training]\nsteps = 90\n[settings.optimiser]\nlearning_rate = 0.01",
        '[settings]\n"training.steps" = 90\n"optimiser.learning_rate" = 0.01',
        "[settings]\ntraining.steps = 90\noptimiser.learning_rate = 0.01",
        "[settings]\ntraining = {steps = 90}\noptimiser = {learning_rate = 0.01}",
    ]
    found = [get_recipe(written(tmp_path, f"{SMALL}\n{form}")) for form in forms]
    assert [recipe.settings for recipe in found] == [
        {"training.steps": 90, "optimiser.learning_rate": 0.01}
    ] * 4
    assert all(recipe == found[0] for recipe in found)
    config = make_plan(found[0]).config({"method": "snip"}, 0)
    assert (config.training.steps, config.optimiser.learning_rate) == (90, 0.01)


def test_the_command_line_goes_over_the_file(tmp_path: Path) -> None:
    text = f"{SMALL}\ntrials = 7\nsampler = 'tpe'\n[settings.training]\nsteps = 90"
    plan = make_plan(
        get_recipe(written(tmp_path, text)),
        study="s",
        epochs=3.0,
        sampler="random",
        scheduler="none",
        overrides={"training.steps": "60", "data.tasks": "depth"},
    )
    assert (plan.study, plan.budget.epochs, plan.sampler, plan.rungs) == ("s", 3.0, "random", None)
    assert plan.tasks == ("depth",)
    assert plan.config({"method": "snip"}, 0).training.steps == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"methds": '["snip"]'},
            r"unknown key of the recipe '.*mine.toml' 'methds'.*mean 'methods'",
        ),
        (
            {"methods": None},
            r"must have .*, got no methods; `.*python -m search recipe demo`",
        ),
        ({"dataset": None, "tasks": None}, "got no dataset, tasks;"),
        (
            {"methods": '"snip"'},
            r"`methods` of the recipe '.*' must be a list of names, got 'snip'",
        ),
        ({"methods": "[1, 2]"}, r"must be a list of names, got \[1, 2\]"),
        ({"methods": "[]"}, "`methods` of the recipe '.*' must name at least one, got none"),
        ({"tasks": "[]"}, "`tasks` of the recipe '.*' must name at least one"),
        ({"trials": '"many"'}, "`trials` of the recipe '.*' must be a whole number, got 'many'"),
        ({"trials": "2.5"}, "must be a whole number, got 2.5"),
        ({"trials": "true"}, "must be a whole number, got True"),
        ({"concurrency": '"all"'}, "`concurrency` of the recipe '.*' must be a whole number"),
        ({"preset": "3"}, "`preset` of the recipe '.*' must be a text, got 3"),
        ({"settings": "3"}, "`settings` of the recipe '.*' must be a table, got 3"),
        ({"constraints": '">=0.3"'}, "`constraints` of the recipe '.*' must be a table"),
        # What a key means is asked when the plan is made.
        ({"preset": '"huge"'}, "unknown preset 'huge'"),
        ({"dataset": '"kitti"'}, "unknown data ?set 'kitti'"),
        ({"methods": '["snp"]'}, "unknown method 'snp'"),
        ({"space": '"wide"'}, "unknown space 'wide'"),
        ({"sampler": '"tpee"'}, "unknown sampler 'tpee'"),
        ({"scheduler": '"asha"'}, "unknown scheduler 'asha'"),
        ({"cost": '"cost/price"'}, "unknown metric 'cost/price'"),
        ({"settings": "{training = {step = 3}}"}, "unknown override 'training.step'"),
        ({"settings": "{training = {steps = 0}}"}, "`training.steps` must be at least 1"),
        ({"scheduling": "{grace = 2.0}"}, "must hold for rungs"),
        ({"constraints": '{"segmentation/mio" = ">=0.3"}'}, "unknown metric for a constraint"),
        ({"trials": "0"}, "`--trials` must be at least 1, got 0"),
    ],
)
def test_mistakes_name_the_file_the_key_and_the_remedy(
    tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    lines = dict(line.split(" = ", 1) for line in SMALL.strip().splitlines())
    lines |= change  # type: ignore[arg-type]
    text = "\n".join(f"{key} = {value}" for key, value in lines.items() if value is not None)
    with pytest.raises(UserError, match=message):
        make_plan(get_recipe(written(tmp_path, text)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb 2\n", "must be valid TOML, got: .*line 2"),
        (b"a = 1\na = 2\n", "must be valid TOML, got: "),
        (b"\xff\xfe", "must be a TOML file that can be read, got: it is no text; the built-in"),
        (None, "must be a TOML file that can be read, got: No such file or directory; .*demo,"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"the recipe '{path}' {message}"):
        get_recipe(str(path))


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a TOML file that can be read, got: Is a dir"):
        get_recipe(f"{tmp_path}/")


def test_an_unknown_name_may_have_been_a_path() -> None:
    with pytest.raises(UserError, match=r"unknown recipe \(or path of a .toml file\) 'mine'"):
        get_recipe("mine")
    with pytest.raises(UserError, match=r"unknown recipe .*mean 'demo'"):
        recipe_text("dmeo")


def test_a_file_is_found_from_home_and_says_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, SMALL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found: list[Any] = [get_recipe(p) for p in ("~/mine.toml", "mine.toml", "./mine.toml")]
    assert found[0] == found[1] == found[2] == get_recipe(str(tmp_path / "mine.toml"))


def test_what_the_command_prints_is_a_recipe_again(tmp_path: Path) -> None:
    again = get_recipe(written(tmp_path, recipe_text("scenes-tiny"), "scenes-tiny.toml"))
    kept = {k: v for k, v in again.to_json().items() if k != "folder"}
    assert kept == {k: v for k, v in get_recipe("scenes-tiny").to_json().items() if k != "folder"}
