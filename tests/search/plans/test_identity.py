"""What makes two descriptions those of one study, and what a study keeps when defaults change."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from search.plans.description import describe_study, differences, plan_from_description
from search.plans.plan import Plan
from search.plans.recipe import Recipe, get_recipe
from search.plans.resolve import make_plan
from search.record.files.study_file import check_same_study, plan_of
from search.record.files.study_folder import StudyFiles, study_files
from spaces import presets
from tests.search import studies
from tests.search.plans.small_grid import RATE, small
from tests.search.studies import DEMO
from trainables.config import TrialConfig
from trainables.errors import UserError


def described(plan: Plan) -> dict[str, Any]:
    """As it is read from `study.json`."""
    return dict(json.loads(json.dumps(describe_study(plan, {}))))


def written(plan: Plan, folder: Path) -> tuple[StudyFiles, dict[str, Any]]:
    """A study's folder with its `study.json`."""
    files = study_files(str(folder), plan.study)
    files.directory.mkdir()
    known = described(plan)
    files.description.write_text(json.dumps(known))
    return files, known


def test_a_grid_is_rebuilt_from_its_description(tmp_path: Path) -> None:
    plan = small(
        seed=3,
        settings={"snip": [{"optimiser.clip_norm": None}, {"model.blocks": [1, 1, 1, 2]}]},
        overrides={"training.steps": "100", "data.size": "48x64"},
    )
    written(plan, tmp_path)
    rebuilt = plan_of(str(tmp_path), plan.study)
    assert [plan.config(s.pins, s.seed or 0) for s in plan.starts()] == [
        rebuilt.config(s.pins, s.seed or 0) for s in rebuilt.starts()
    ]
    assert dataclasses.replace(rebuilt, pins=plan.pins) == plan


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"trials": 5, "seed": 3, "sampler": "tpe", "scheduler": "none"},
        {"epochs": 12.5, "overrides": {"method": "snip", "data.size": "48x64"}},
        {
            "gpu_hours": 2.0,
            "overrides": {
                "objective.cost": "cost/flops_fraction",
                "constraint.segmentation/miou": ">=0.3",
                "scheduler.grace": "0.2",
                "data.tasks": "depth,edges,segmentation",
            },
        },
        {"data_root": "/data", "warm_start": ("old", "older")},
        {"plateau": 0.01, "prior": ("optimiser.learning_rate=0.003", "method=rigl", "old")},
    ],
)
def test_a_search_is_rebuilt_from_its_description(arguments: dict[str, Any]) -> None:
    plan = studies.plan_of(**arguments)
    rebuilt = plan_from_description(described(plan))
    assert dataclasses.replace(rebuilt, pins=plan.pins, recipe=plan.recipe) == plan
    assert rebuilt.recipe.to_json() == plan.recipe.to_json()
    assert (
        describe_study(rebuilt, described(plan)).items()
        >= {
            "defaults": plan.defaults(),
            "resolved_recipe": plan.recipe.to_json(),
        }.items()
    )
    assert differences(rebuilt, described(plan)) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"methods": ("dense", "snip")},
            "methods was dense,snip,disparse-pretrained, is now dense,snip;",
        ),
        ({"sparsities": (0.9,)}, "sparsities was 0.5,0.9, is now 0.9;"),
        ({"seeds": 3}, "seeds was 0,1, is now 0,1,2;"),
        ({"seed": 1}, "seeds was 0,1, is now 1,2;"),
        (
            {"settings": {"snip": [{RATE: 0.5}]}},
            "method_settings was , is now snip optimiser.learning_rate=0.5;",
        ),
        (
            {"overrides": {"training.steps": "100"}},
            "settings.training.steps was 200, is now 100;",
        ),
    ],
)
def test_another_grid_under_the_name_is_refused(
    tmp_path: Path, changed: dict, message: str
) -> None:
    plan = small()
    files, known = written(plan, tmp_path)
    check_same_study(small(), known, files, None)
    with pytest.raises(UserError) as caught:
        check_same_study(small(**changed), known, files, None)
    assert f"exists and is another one: {message}" in str(caught.value)
    assert f"python -m search resume {plan.study} " in str(caught.value)
    assert str(caught.value).endswith("`, or give the new study another --name")


def test_a_grid_and_a_search_are_not_one_study(tmp_path: Path) -> None:
    grid, run = small(study="one"), make_plan(DEMO, study="one")
    files = study_files(str(tmp_path), "one")
    for first, second in ((grid, run), (run, grid)):
        with pytest.raises(UserError, match=r"another one: (grid was none|methods was dense,snip)"):
            check_same_study(second, described(first), files, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"sampler": "tpe"}, "sampler was curves, is now tpe"),
        ({"overrides": {"scheduler.grace": "0.2"}}, "scheduler.grace was 0.333333333333"),
        ({"overrides": {"training.steps": "100"}}, "settings.training.steps was 200, is now 100"),
        ({"overrides": {"optimiser.momentum": "0.8"}}, "settings.optimiser.momentum was None"),
        (
            {"overrides": {"data.tasks": "depth"}},
            r"tasks was \['segmentation', 'normals'",
        ),
        (
            {"overrides": {"constraint.cost/density": "<=0.2"}},
            "constraints.cost/density was None, is now <=0.2",
        ),
        ({"warm_start": ("old",)}, r"warm_start was \[\], is now \['old'\]"),
    ],
)
def test_another_search_under_the_name_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    files = study_files(str(tmp_path), "s")
    with pytest.raises(UserError, match=message):
        check_same_study(studies.plan_of(**changed), described(studies.plan_of()), files, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ("snip", "rigl")}, "resolved_recipe.methods was .*is now .*snip.*, .*rigl"),
        ({"references": ()}, "resolved_recipe.references was .*dense.*, is now "),
        ({"space": "full"}, "resolved_recipe.space was compact, is now full"),
        ({"flagship": "rigl"}, "resolved_recipe.flagship was disparse-static, is now rigl"),
        ({"num_startup_trials": 9}, "resolved_recipe.num_startup_trials was 10, is now 9"),
        ({"preset": "small"}, "preset was tiny, is now small"),
        ({"name": "other"}, "recipe was demo, is now other"),
    ],
)
def test_a_recipe_that_has_changed_is_refused_and_says_in_what(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    recipe = dataclasses.replace(DEMO, **changed)
    files = study_files(str(tmp_path), "s")
    with pytest.raises(UserError, match=message):
        check_same_study(make_plan(recipe, study="s"), described(studies.plan_of()), files, None)


def test_words_and_defaults_of_the_command_line_are_not_part_of_a_study(tmp_path: Path) -> None:
    recipe = dataclasses.replace(DEMO, summary="in other words", concurrency=7, trials=99)
    plan = make_plan(recipe, study="s", trials=DEMO.trials)
    known = described(studies.plan_of())
    check_same_study(plan, known, study_files(str(tmp_path), "s"), None)
    assert differences(make_plan(recipe, study="s", data_root="/elsewhere"), known) == []


def test_a_study_keeps_its_own_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe's file may be changed or gone: the study does not read it again."""
    recipe = Recipe.from_mapping(
        {**DEMO.to_json(), "methods": ["snip", "rigl"], "settings": {"training": {"steps": 70}}},
        "'mine.toml'",
    )
    plan = make_plan(recipe, study="s")
    known = described(plan)
    monkeypatch.setattr("search.plans.recipe.recipe_text", lambda name: 1 / 0)
    rebuilt = plan_from_description(known)
    assert rebuilt.recipe.methods == ("snip", "rigl")
    assert rebuilt.pins == {"training.steps": 70}
    assert [s.params for s in rebuilt.starts()] == [s.params for s in plan.starts()]


# ---------------------------------------------------------------------------- changed presets


def change_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release has another batch size and other channels."""
    monkeypatch.setitem(presets._TRAINING["tiny"], "batch_size", 16)
    monkeypatch.setitem(presets._MODELS["tiny"], "width", 10)


def test_a_preset_that_has_changed_is_refused_and_says_in_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = described(studies.plan_of(overrides={"method": "snip"}))
    change_presets(monkeypatch)
    files = study_files(str(tmp_path), "s")
    with pytest.raises(UserError) as caught:
        check_same_study(studies.plan_of(overrides={"method": "snip"}), known, files, None)
    said = str(caught.value)
    assert "defaults.snip.training.batch_size was 8, is now 16" in said
    assert "defaults.snip.model.width was 8, is now 10" in said
    assert "python -m search resume s" in said


def test_what_follows_from_a_setting_does_not_hide_it(tmp_path: Path) -> None:
    """Of another number of steps follow other intervals, in the defaults of every method."""
    files = study_files(str(tmp_path), "s")
    with pytest.raises(UserError) as caught:
        check_same_study(
            studies.plan_of(overrides={"training.steps": "900"}),
            described(studies.plan_of()),
            files,
            None,
        )
    assert "another one: settings.training.steps was 200, is now 900; continue" in str(caught.value)


@pytest.mark.parametrize("grid", [False, True])
def test_new_trials_have_the_defaults_that_the_study_began_with(
    monkeypatch: pytest.MonkeyPatch, grid: bool
) -> None:
    plan = small() if grid else studies.plan_of()
    before = [plan.config({**s.pins, **s.params}, 5) for s in plan.starts()]
    known = described(plan)
    change_presets(monkeypatch)
    changed = [plan.config({**s.pins, **s.params}, 5) for s in plan.starts()]
    assert all(c.training.batch_size == 16 for c in changed)
    rebuilt = plan_from_description(known)
    assert [rebuilt.config({**s.pins, **s.params}, 5) for s in rebuilt.starts()] == before
    assert rebuilt.sample_config().model.width == 8
    dense = rebuilt.baseline_config(before[-1])
    assert dense is not None
    assert (dense.training.batch_size, dense.model.width) == (8, 8)
    # What `search resume` and `search extend` write down again is what was written before.
    again = describe_study(rebuilt, known)
    assert json.loads(json.dumps(again["defaults"])) == known["defaults"]
    assert differences(rebuilt, known) == []


def test_a_study_draws_from_the_ranges_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges follow the presets: of learning rates, and of intervals in steps."""
    plan = make_plan(dataclasses.replace(DEMO, space="full"), study="s")
    known, starts = described(plan), plan.starts()
    scenes = presets.DATASET_DEFAULTS["scenes"]
    changed = dataclasses.replace(
        scenes, learning_rate={n: 10 * rate for n, rate in scenes.learning_rate.items()}
    )
    monkeypatch.setitem(presets.DATASET_DEFAULTS, "scenes", changed)
    rebuilt = plan_from_description(known)
    assert rebuilt.space == plan.space
    assert rebuilt.starts() == starts


def from_before(known: dict[str, Any]) -> dict[str, Any]:
    """The description as a release without the younger settings wrote it."""
    younger = set(TrialConfig.younger_settings()) - {"data.num_train", "data.num_test"}
    assert {"regrowth.gradient_at", "optimiser.retraining_rate"} <= younger
    defaults = {
        method: {name: value for name, value in own.items() if name not in younger}
        for method, own in known["defaults"].items()
    }
    return known | {"defaults": defaults}


def test_settings_that_are_younger_than_a_study_are_not_a_difference() -> None:
    plan = studies.plan_of()
    known = from_before(described(plan))
    assert "regrowth.gradient_at" not in known["defaults"]["rigl"]
    assert differences(plan, known) == []
    again = plan_from_description(known)
    for method in plan.methods:
        assert again.config({"method": method}, 1) == plan.config({"method": method}, 1)


def test_an_older_study_of_the_paper_preset_keeps_its_protocol() -> None:
    """It had 20,000 steps for all, halved, and retraining as long and at the same rate."""
    plan = make_plan(get_recipe("taskonomy-paper"))
    known = from_before(described(plan))
    for own in known["defaults"].values():
        own |= {"training.steps": 20_000, "optimiser.halve_every_fraction": 0.2}
        own["regrowth.interval_steps"] = 100
    assert any("training.steps was 20000" in line for line in differences(plan, known))
    config = plan_from_description(known).config({"method": "disparse-pretrained"}, 0)
    assert (config.training.pretrain_steps, config.training.steps) == (20_000, 20_000)
    assert config.optimiser.retraining_rate is None
    assert (config.optimiser.halve_every_fraction, config.optimiser.decay_factor) == (0.2, 0.5)
    assert config.regrowth.interval_steps == 100


def test_a_description_of_another_version_is_refused(tmp_path: Path) -> None:
    plan = studies.plan_of()
    for version in (None, 4, 6):
        files, known = written(plan, tmp_path)
        files.description.write_text(json.dumps(known | {"version": version}))
        message = f"of 's' must be of version 5, got {version}; continue it with the release"
        with pytest.raises(UserError, match=message):
            plan_of(str(tmp_path), "s")
        with pytest.raises(UserError, match=message):
            check_same_study(plan, known | {"version": version}, files, None)
        files.description.unlink()
        files.directory.rmdir()


def test_another_plateau_is_another_budget(tmp_path: Path) -> None:
    files = study_files(str(tmp_path), "s")
    known = described(studies.plan_of(trials=30, plateau=0.02))
    check_same_study(studies.plan_of(trials=30, plateau=0.02), known, files, None)
    with pytest.raises(UserError) as caught:
        check_same_study(studies.plan_of(trials=30), known, files, None)
    said = str(caught.value)
    assert "with a budget of 30 trials or a plateau (2 %), got 30 trials; raise it by" in said
    assert "extend s --storage" in said
    assert "--until plateau=SHARE`, or give the new study another --name" in said


@pytest.mark.parametrize("left", [{}, {"name": "s"}, {"version": 4}])
def test_a_description_that_describes_nothing_is_refused(
    tmp_path: Path, left: dict[str, object]
) -> None:
    files, _ = written(studies.plan_of(), tmp_path)
    files.description.write_text(json.dumps(left))
    with pytest.raises(UserError, match=r"study\.json must describe a study, .* restore it from"):
        plan_of(str(tmp_path), "s")
