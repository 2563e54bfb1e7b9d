"""A grid of systems x sparsities x seeds: its trials, its budget, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plans.baselines import (
    make_baselines_plan,
    parse_list,
    parse_sparsities,
    read_settings,
)
from search.plans.grid import Grid, System
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from spaces.budgets import PRETRAINED_METHODS
from spaces.presets import DENSE_METHODS
from tests.search.plans.small_grid import RATE, REFUSED, UPSIDE_DOWN, cells_of, small
from tests.search.studies import DEMO
from trainables.errors import UserError
from trainables.sparsity.catalogue import METHODS

# The methods that a grid of single weights has by default.
IN_WEIGHTS = {
    name
    for name, method in METHODS.items()
    if not method.description.has_target or "weight" in method.description.structures
}


def test_a_grid_by_hand() -> None:
    """Seed by seed; dense first and once, wherever it was named; then sparsity by sparsity."""
    plan = small(methods=("snip", "den", "dense", "rigl"))
    assert cells_of(plan) == [
        (seed, *rest)
        for seed in (0, 1)
        for rest in (
            ("dense", None), ("den", None),
            ("snip", 0.5), ("rigl", 0.5), ("snip", 0.9), ("rigl", 0.9),
        )
    ]  # fmt: skip
    assert plan.budget.trials == 12
    assert plan.study == "demo-baselines"
    starts = plan.starts()
    assert [(s.seed, s.pins["method"]) for s in starts] == [c[:2] for c in cells_of(plan)]


def test_a_variant_is_a_system_of_its_own_and_of_its_method_alone() -> None:
    rates = [{RATE: 0.001}, {RATE: "0.01"}]
    plan = small(sparsities=(0.9,), seeds=1, settings={"snip": rates, "rigl": [{}]})
    configs = [plan.config(s.pins, s.seed or 0) for s in plan.starts()]
    default = 3e-3
    assert [(c.method, c.optimiser.learning_rate) for c in configs] == [
        ("dense", default),
        ("snip", 0.001),
        ("snip", 0.01),
        ("disparse-pretrained", default),
    ]
    # A number is a number however it is spelled: these two make one study.
    same = small(sparsities=(0.9,), seeds=1, settings={"snip": [{**rates[0]}, {RATE: 1e-2}]})
    assert same == plan


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=5, unique=True),
    st.lists(st.sampled_from((0.0, 0.3, 0.5, 0.99)), min_size=1, unique=True),
    st.integers(1, 4),
)
def test_every_cell_once_and_fewer_seeds_are_a_prefix(
    named: list[tuple[int, bool]], sparsities: list[float], num_seeds: int
) -> None:
    systems = tuple(System(method=f"m{n}-{sparse}", sparse=sparse) for n, sparse in named)
    grid = Grid(systems=systems, sparsities=tuple(sparsities), seeds=tuple(range(num_seeds)))
    cells = grid.cells()
    num_sparse = sum(s.sparse for s in systems)
    per_seed = len(systems) - num_sparse + num_sparse * len(sparsities)
    assert len(cells) == per_seed * num_seeds
    assert len({(seed, *params.items()) for params, seed in cells}) == len(cells)
    fewer = dataclasses.replace(grid, seeds=grid.seeds[:-1])
    assert cells[: len(fewer.cells())] == fewer.cells()
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


@pytest.mark.parametrize("total", [400, 37])
def test_every_system_gets_the_same_steps_in_all(total: int) -> None:
    plan = make_baselines_plan(
        get_recipe("scenes-tiny"),
        sparsities=(0.3, 0.99),
        seeds=1,
        overrides={"training.steps": str(total)},
    )
    seen = set()
    for start in plan.starts():
        training = plan.config(start.pins, 0).training
        assert training.steps + training.pretrain_steps == total
        method = start.pins["method"]
        assert (training.pretrain_steps > 0) == METHODS[method].needs_pretraining
        seen.add(method)
    assert seen == IN_WEIGHTS


def test_a_grid_of_channels_holds_what_can_be_compared_with_them() -> None:
    plan = make_baselines_plan(get_recipe("ship-scenes"), seeds=1)
    assert plan.grid is not None
    lacking = {"rigl", "set", "disparse-dynamic"}
    assert set(plan.grid.methods) == set(METHODS) - lacking
    assert ("small-dense", 0.3) in {
        (start.pins["method"], start.pins.get("sparsity.target")) for start in plan.starts()
    }


def test_the_presets_know_what_the_methods_are() -> None:
    assert set(PRETRAINED_METHODS) == {n for n, m in METHODS.items() if m.needs_pretraining}
    assert set(DENSE_METHODS) == {n for n, m in METHODS.items() if not m.sparse}


def test_pretraining_can_be_moved_for_all_and_for_one() -> None:
    plan = small(
        methods=("snip", "imp", "disparse-pretrained"),
        seeds=1,
        settings={"imp": [{"training.pretrain_steps": 50}]},
        overrides={"training.pretrain_steps": "100"},
    )
    lengths = {
        s.pins["method"]: (c.training.pretrain_steps, c.training.steps)
        for s in plan.starts()
        for c in [plan.config(s.pins, 0)]
    }
    assert lengths == {"snip": (0, 200), "imp": (50, 150), "disparse-pretrained": (100, 100)}


def test_two_tasks_of_nyu_v2() -> None:
    plan = make_baselines_plan(
        get_recipe("nyu-v2-small"), seeds=1, overrides={"data.tasks": "segmentation,depth"}
    )
    assert plan.objectives == (
        "val/segmentation/miou", "val/depth/absolute_error", "cost/density",
    )  # fmt: skip
    for start in plan.starts():
        assert plan.config(start.pins, 0).data.tasks == ("segmentation", "depth")


def test_another_network_leaves_out_the_methods_that_bring_their_own() -> None:
    model = {"model.name": "my_model:TwoLayers"}
    plan = make_baselines_plan(DEMO, seeds=1, overrides=model)
    assert plan.grid is not None
    assert IN_WEIGHTS - set(plan.grid.methods) == {"cross-stitch", "sluice", "den"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("snip", "snp")}, "unknown method 'snp'. Did you mean 'snip'"),
        ({"methods": ("snip", "snip")}, "`--methods` must not repeat, got snip"),
        ({"sparsities": ()}, "`--sparsities` must name at least one"),
        ({"sparsities": (0.5, 1.0)}, r"`--sparsities` must be in \[0, 1\), got 1;"),
        ({"sparsities": (float("nan"),)}, r"`--sparsities` must be in \[0, 1\), got nan"),
        ({"sparsities": (0.5, 0.5)}, "`--sparsities` must not repeat, got 0.5"),
        ({"seeds": 0}, "`--seeds` must be at least 1, got 0"),
        ({"seed": -1}, "`--seed` must be at least 0"),
        ({"study": "a/b"}, "a study's name"),
        ({"settings": {"magic": [{}]}}, "unknown method 'magic'"),
        ({"settings": {"snip": [{"optimiser.rate": 1}]}}, "unknown setting 'optimiser.rate'"),
        ({"settings": {"snip": [{"optimiser.momentum": 1.5}]}}, r"momentum` must be in \[0, 1\)"),
        ({"settings": {"snip": [{"optimiser.name": 3}]}}, "must be of type str"),
        ({"settings": {"snip": [{}, {}]}}, "variants of snip .* must differ"),
        ({"settings": {"snip": [{"sparsity.target": 0.5}]}}, "an option such as --sparsities"),
        ({"settings": {"snip": [{"training.steps": 10}]}}, "which all systems share"),
        ({"settings": {"snip": [{"training.batch_size": 10}]}}, "which all systems share"),
        ({"settings": {"snip": [{"data.mirror": False}]}}, "which all systems share"),
        ({"settings": {"snip": [{"training.pretrain_steps": 9}]}}, "which all systems share"),
        (
            {"settings": {"disparse-pretrained": [{"training.pretrain_steps": 200}]}},
            "must leave steps to both pre-training and training .*got 200",
        ),
        ({"overrides": {"training.pretrain_steps": "300"}}, "must leave steps to both"),
        ({"overrides": {"method": "snip"}}, "use --methods"),
        ({"overrides": {"sparsity.target": "0.5"}}, "use --sparsities"),
        ({"overrides": {"sparsity.targte": "0.5"}}, "unknown override"),
        ({"overrides": {"training.steps": "0"}}, "must be at least 1"),
        # Right for itself, but no trial can be made of it.
        ({"methods": ("lth",), "settings": {"lth": [REFUSED]}}, "`lth` needs"),
        ({"settings": {"dense": [UPSIDE_DOWN]}}, "0.4, 0.3"),
    ],
)
def test_a_mistake_is_refused_before_anything_starts(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**arguments)


@pytest.mark.parametrize(
    "text",
    ["[", "[]", '{"snip": 3}', '{"snip": []}', '{"snip": [3]}'],
)
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(UserError, match="`--settings` must hold"):
        read_settings(path)


def test_settings_and_lists_as_they_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"snip": {"a": 1}, "rigl": [{"b": 2}, {}]}')
    assert read_settings(path) == {"snip": [{"a": 1}], "rigl": [{"b": 2}, {}]}
    path.write_text("\ufeff" + path.read_text())  # as Windows' editors save it
    assert read_settings(path) == {"snip": [{"a": 1}], "rigl": [{"b": 2}, {}]}
    with pytest.raises(UserError, match="must be a file to read"):
        read_settings(tmp_path / "absent.json")
    assert parse_list(" a, b,", "--methods") == ["a", "b"]
    with pytest.raises(UserError, match="`--methods` must name at least one"):
        parse_list(",", "--methods")
    assert parse_sparsities("0.3,.9") == [0.3, 0.9]
    with pytest.raises(UserError, match=r"must be numbers, got '0\.3,x'"):
        parse_sparsities("0.3,x")


def test_the_dense_trial_that_a_trial_is_compared_with() -> None:
    own = {"dense": [{RATE: 0.01}, {RATE: 0.02}]}
    plan = small(settings=own, seed=7)
    first = plan.config(plan.starts()[0].pins, 8)
    for start in plan.starts():
        config = plan.config(start.pins, 8)
        assert plan.baseline_config(config) == first
    assert (first.method, first.seed, first.optimiser.learning_rate) == ("dense", 8, 0.01)
    assert first.training.steps == 200
    without = small(methods=("snip",))
    assert without.baseline_config(without.config({"method": "snip"}, 0)) is None
    # Of a study that samples: its reference, where it has one.
    run = make_plan(DEMO)
    assert run.baseline_config(run.config({"method": "snip"}, 5)) == run.config(
        {"method": "dense"}, 5
    )
    pinned = make_plan(DEMO, overrides={"method": "snip"})
    assert pinned.baseline_config(pinned.config({}, 0)) is None


def test_methods_that_cannot_run_there_are_left_out_unless_they_are_named() -> None:
    one_shot = {"overrides": {f"{name}": value for name, value in REFUSED.items()}}
    plan = small(methods=None, seeds=1, **one_shot)
    assert plan.grid is not None
    assert "lth" not in plan.grid.methods
    assert {"dense", "snip"} < set(plan.grid.methods)
    with pytest.raises(UserError, match="`lth` needs"):
        small(methods=("lth",), **one_shot)
