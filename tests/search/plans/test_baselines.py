"""A grid of systems x sparsities x seeds: its trials, its budget, and what is refused."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plans.baselines import (
    ignored,
    make_baselines_plan,
    parse_list,
    parse_sparsities,
    read_settings,
)
from search.plans.description import check_same_study, describe_study, plan_of
from search.plans.grid import Grid, System
from search.plans.plan import Plan, make_plan
from search.plans.recipe import RECIPES
from search.record.ledger import Ledger, load_trials, open_optuna
from search.record.outcomes import Outcome
from search.record.study_folder import study_files
from search.record.systems_table import systems_table
from search.record.trials_table import write_trials
from spaces.budgets import PRETRAINED_METHODS
from spaces.presets import DENSE_METHODS
from trainables.errors import UserError
from trainables.sparsity.catalogue import METHODS

DEMO = RECIPES["demo"]
RATE = "optimiser.learning_rate"
SYSTEMS = ("dense", "snip", "disparse-pretrained")
REFUSED = {"sparsity.schedule": "one-shot"}  # by lth, which has a schedule of its own

UPSIDE_DOWN = {"sparsity.start_fraction": 0.4, "sparsity.end_fraction": 0.3}


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def small(**arguments: Any) -> Plan:
    few = {"methods": SYSTEMS, "sparsities": (0.5, 0.9), "seeds": 2}
    return make_baselines_plan(DEMO, **{**few, **arguments})


def cells_of(plan: Plan) -> list[tuple[Any, ...]]:
    assert plan.grid is not None
    cells = plan.grid.cells()
    return [(c.seed, c.params["method"], c.params.get("sparsity.target")) for c in cells]


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
    assert len({(c.seed, *c.params.items()) for c in cells}) == len(cells)
    fewer = dataclasses.replace(grid, seeds=grid.seeds[:-1])
    assert cells[: len(fewer.cells())] == fewer.cells()
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


@pytest.mark.parametrize("total", [400, 37])
def test_every_system_gets_the_same_steps_in_all(total: int) -> None:
    plan = make_baselines_plan(
        RECIPES["scenes-tiny"],
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
    assert seen == set(METHODS)


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
    assert lengths == {"snip": (0, 300), "imp": (50, 250), "disparse-pretrained": (100, 200)}


def test_two_tasks_of_nyu_v2() -> None:
    plan = make_baselines_plan(
        RECIPES["nyu-v2-small"], seeds=1, overrides={"data.tasks": "segmentation,depth"}
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
    assert set(METHODS) - set(plan.grid.methods) == {"cross-stitch", "sluice", "den"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("snip", "snp")}, "unknown method 'snp'; valid: .*Did you mean 'snip'"),
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
        ({"settings": {"snip": [{"sparsity.target": 0.5}]}}, "use --sparsities"),
        ({"settings": {"snip": [{"training.steps": 10}]}}, "the budget of every system"),
        ({"settings": {"snip": [{"training.batch_size": 10}]}}, "all systems share it"),
        ({"settings": {"snip": [{"data.mirror": False}]}}, "all systems share it"),
        ({"settings": {"snip": [{"training.pretrain_steps": 9}]}}, "it has no pre-training"),
        (
            {"settings": {"disparse-pretrained": [{"training.pretrain_steps": 300}]}},
            "must leave some of the 300 steps for training, got 300",
        ),
        ({"overrides": {"training.pretrain_steps": "300"}}, "must leave some of the 300 steps"),
        ({"overrides": {"method": "snip"}}, "use --methods"),
        ({"overrides": {"sparsity.target": "0.5"}}, "use --sparsities"),
        ({"overrides": {"sparsity.targte": "0.5"}}, "unknown override"),
        ({"overrides": {"training.steps": "0"}}, "must be at least 1"),
        # Right for itself, but no trial can be made of it.
        ({"methods": ("lth",), "settings": {"lth": [REFUSED]}}, "`lth` needs"),
        ({"settings": {"dense": [UPSIDE_DOWN]}}, "dense trial .* must be a valid one, .*0.4, 0.3"),
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
    assert first.training.steps == 300
    without = small(methods=("snip",))
    assert without.baseline_config(without.config({"method": "snip"}, 0)) is None
    # Of a study that samples: its reference, where it has one.
    run = make_plan(DEMO)
    assert run.baseline_config(run.config({"method": "snip"}, 5)) == run.config(
        {"method": "dense"}, 5
    )
    pinned = make_plan(DEMO, overrides={"method": "snip"})
    assert pinned.baseline_config(pinned.config({}, 0)) is None


def test_a_recorded_grid_whose_dense_trial_is_refused_has_no_baseline() -> None:
    """Of a study that an earlier version, which did not look, wrote down."""
    plan = small(methods=("dense", "snip"))
    assert plan.grid is not None
    refused = dataclasses.replace(plan.grid.systems[0], settings=UPSIDE_DOWN)
    grid = dataclasses.replace(plan.grid, systems=(refused, *plan.grid.systems[1:]))
    old = dataclasses.replace(plan, grid=grid)
    assert old.baseline_config(old.config({"method": "snip"}, 0)) is None


def described(plan: Plan, folder: Path) -> dict[str, Any]:
    files = study_files(str(folder), plan.study)
    files.directory.mkdir()
    known = json.loads(json.dumps(describe_study(plan, {})))
    files.description.write_text(json.dumps(known))
    return known


def test_a_study_is_rebuilt_from_its_description(tmp_path: Path) -> None:
    plan = small(
        seed=3,
        settings={"snip": [{"optimiser.clip_norm": None}, {"model.blocks": [1, 1, 1, 2]}]},
        overrides={"training.steps": "200", "data.size": "48x64"},
    )
    described(plan, tmp_path)
    rebuilt, _ = plan_of(str(tmp_path), plan.study)
    assert [plan.config(s.pins, s.seed or 0) for s in plan.starts()] == [
        rebuilt.config(s.pins, s.seed or 0) for s in rebuilt.starts()
    ]
    assert dataclasses.replace(rebuilt, pins=plan.pins) == plan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ("dense", "snip")}, "methods=dense,snip,disparse-pretrained, got dense,snip;"),
        ({"sparsities": (0.9,)}, "sparsities=0.5,0.9, got 0.9;"),
        ({"seeds": 3}, "seeds=0,1, got 0,1,2;"),
        ({"seed": 1}, "seeds=0,1, got 1,2;"),
        (
            {"settings": {"snip": [{RATE: 0.5}]}},
            "method_settings=, got snip optimiser.learning_rate=0.5;",
        ),
        ({"overrides": {"training.steps": "200"}}, "settings={'training.steps': 300"),
    ],
)
def test_another_grid_under_the_name_is_refused(
    tmp_path: Path, changed: dict, message: str
) -> None:
    plan = small()
    known, files = described(plan, tmp_path), study_files(str(tmp_path), plan.study)
    check_same_study(small(), known, files, None)
    with pytest.raises(UserError) as caught:
        check_same_study(small(**changed), known, files, None)
    assert f"exists with {message}" in str(caught.value)
    remedy = "--name (and --seed, for further seeds)" if "seeds=" in message else "--name"
    assert str(caught.value).endswith(f"`, or give the new study another {remedy}")


def test_a_grid_and_a_search_are_not_one_study(tmp_path: Path) -> None:
    grid, run = small(study="one"), make_plan(DEMO, study="one")
    files = study_files(str(tmp_path), "one")
    for first, second in ((grid, run), (run, grid)):
        with pytest.raises(UserError, match=r"exists with grid=(none|dense,snip)"):
            check_same_study(second, describe_study(first, {}), files, None)
    old = {k: v for k, v in describe_study(run, {}).items() if k != "grid"}
    check_same_study(run, old, files, None)


def finish_all(ledger: Ledger, seen: list[tuple[int, str, int]]) -> None:
    while (assignment := ledger.next()) is not None:
        config = assignment.config
        seen.append((assignment.number, config.method, config.seed))
        metrics = {name: 1.0 for name in ledger.plan.objectives}
        metrics["test/segmentation/miou"] = float(assignment.number)
        ledger.finish(
            assignment.number,
            Outcome(status="complete", reason="", metrics=metrics, fraction=1.0),
        )


def test_a_ledger_hands_out_the_grid_whatever_it_is_told_in_between(tmp_path: Path) -> None:
    """A refused combination is a failed trial with its reason; a restart changes nothing."""
    plan = small(
        methods=("dense", "lth", "snip"),
        sparsities=(0.9,),
        settings={"lth": [{}, REFUSED]},
        seed=4,
    )
    study = open_optuna(plan, "sqlite://")
    ledger = Ledger(plan, study)
    for _ in range(2):
        assert ledger.next() is not None  # handed out, then the driver dies
    seen: list[tuple[int, str, int]] = []
    finish_all(Ledger(plan, study), seen)
    expected = cells_of(plan)
    assert len(expected) == plan.budget.trials == 8
    refused = [n for n, s in enumerate(plan.starts()) if "sparsity.schedule" in s.pins]
    assert sorted(seen) == [
        (n, method, seed) for n, (seed, method, _) in enumerate(expected) if n not in refused
    ]
    path = tmp_path / "trials.parquet"
    write_trials(path, plan.study, load_trials(study))
    rows = pq.read_table(path).to_pylist()
    assert [(r["seed"], r["method"], r["params/sparsity.target"]) for r in rows] == expected
    assert Counter(r["status"] for r in rows) == {"complete": 6, "failed": 2}
    assert all("`lth` needs `sparsity.schedule`" in rows[n]["reason"] for n in refused)
    for row in rows:
        if row["status"] == "complete":
            assert row["params/training.steps"] + row["params/training.pretrain_steps"] == 300
    # Means over the two seeds of the trials' numbers n and n + 4; nothing of a refused one.
    lines = [line.split("  ") for line in systems_table(path, plan.grid, plan.tasks)]  # type: ignore[arg-type]
    table = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert table[0][:5] == ["system", "sparsity", "seeds", "steps", "segmentation/miou"]
    assert table[1] == ["dense", "-", "2/2", "0+300", "2", "-", "-"]
    assert table[3] == ["lth sparsity.schedule=one-shot", "0.9", "0/2", "-", "-", "-", "-"]
    assert table[4] == ["snip", "0.9", "2/2", "0+300", "5", "-", "-"]


def test_settings_without_effect_are_named() -> None:
    settings = {
        "snip": [{"regrowth.fraction": 0.3, RATE: 0.001}, {}],
        "rigl": [{"regrowth.fraction": 0.3}],
    }
    plan = small(methods=("dense", "snip"), settings=settings)
    assert ignored(plan, settings) == [
        "rigl is not among the systems",
        "snip does not read regrowth.fraction",
    ]
    assert ignored(small(methods=("dense", "snip")), {}) == []
