"""What the benchmark of priors and plateaus measures, worked by hand."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.search.beliefs import TASKS, plateau_row, prior_row, run
from benchmarks.search.runs import FULL_LENGTHS, REAL, scaled_workload
from benchmarks.search.stated_priors import PRIORS, prior_of
from benchmarks.search.workloads import real, real_sample
from benchmarks.search.workloads.surrogate_points import METHODS, SPACE, Points
from benchmarks.search.workloads.surrogates import get_surrogate
from benchmarks.search.workloads.yahpo import Task
from tests.benchmarks.search.yahpo_data import needs_yahpo

BUDGET = 40 * 27


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("task", TASKS)
def test_a_good_prior_is_good_and_a_misleading_one_poor(task: str) -> None:
    surrogate = get_surrogate(task)
    for seed in range(20):
        errors = {}
        for kind in PRIORS:
            (point,) = prior_of(surrogate, kind, seed).points
            for parameter in SPACE.parameters:
                assert parameter.name not in point or parameter.contains(point[parameter.name])
            total = 0.0
            for method in METHODS:
                for sparsity in (0.5, 0.75, 0.99):
                    params = {**point, "method": method, "sparsity.target": sparsity}
                    total += float(surrogate.final(Points.of(params))[0, :-1].sum())
            errors[kind] = total
        assert errors["good"] < errors["misleading"] - 1.0
        assert errors["good"] <= errors["useless"] + 0.1


@needs_yahpo
@pytest.mark.parametrize("name", ["lcbench-167185-epoch", "rbv2_xgboost-12-repl"])
def test_priors_of_tasks_that_others_wrote_are_of_both_ends(name: str) -> None:
    task = scaled_workload(name)
    assert isinstance(task, Task)
    values = {k: task.final(prior_of(task, k, 3).points) for k in PRIORS}
    for objective in range(task.num_objectives):
        # A point for each objective, of the same thousand that the useless ones are from.
        good, wrong = values["good"][:, objective], values["misleading"][:, objective]
        useless = values["useless"][:, objective]
        assert good[objective] == good.min() <= useless.min()
        assert wrong[objective] == wrong.max() >= useless.max()
        assert good[objective] < wrong[objective]


@pytest.fixture
def _short_scenes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    short = {"training.steps": 3, "training.num_reports": 3, "data.num_train": 24}
    for name, value in short.items():
        monkeypatch.setitem(cast(dict[str, Any], real.SETTINGS), name, value)
    monkeypatch.setattr(real_sample, "_NUM_RANDOM", 6)
    monkeypatch.setitem(FULL_LENGTHS, REAL, 3)
    real_sample.sample.cache_clear()
    yield
    real_sample.sample.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("_short_scenes")
@pytest.mark.timeout(300)
def test_priors_of_scenes_are_configurations_that_were_trained() -> None:
    known, ends_NM = real_sample.sample()
    for kind, best in (("good", np.min), ("misleading", np.max)):
        points = prior_of(real.Scenes(), kind, 3).points
        places = [known.index(point) for point in points]
        assert len(points) == ends_NM.shape[1] == 3
        # Of half of them: at least as good, or poor, as the third in its objective's order.
        for objective, place in enumerate(places):
            reached = ends_NM[:, objective] if best is np.min else -ends_NM[:, objective]
            assert (reached < reached[place]).sum() <= 3
    scale = real_sample.normalisation()
    assert np.allclose(scale.apply(ends_NM).min(axis=0), 0.0)
    found = run(REAL, "good", 0)
    assert 1 <= len(found["epochs"]) <= 4
    assert list(found["volumes"]) == sorted(found["volumes"])
    assert found["plateau"] is None


def test_a_plateau_s_row() -> None:
    runs: list[dict[str, Any]] = [
        # 98 % is there at a half of the budget; one ends there, one a quarter later.
        {"epochs": [100, BUDGET // 2], "volumes": [0.5, 1.0], "plateau": BUDGET // 2},
        {"epochs": [100, BUDGET // 2], "volumes": [0.5, 1.0], "plateau": BUDGET * 3 // 4},
        # And one does not end before its budget does.
        {"epochs": [100, BUDGET], "volumes": [0.5, 1.0], "plateau": None},
        {"epochs": [100, BUDGET], "volumes": [0.5, 1.0], "plateau": BUDGET * 9 // 10},
    ]
    found = cells(plateau_row("crossing", runs))[1:]
    assert found == ["4", "0.82", "0.50", "1.00", "0.75", "+0.00", "75%", "75%", "87.5%"]


def test_a_prior_s_row() -> None:
    plain = [{"epochs": [540, BUDGET], "volumes": [0.4, level]} for level in (0.6, 0.8)]
    better = [{"epochs": [270, 540], "volumes": [0.5, level]} for level in (0.7, 0.8)]
    found = cells(prior_row("crossing", "good", better, plain))[1:]
    assert found[:4] == ["good", "2", "50%", "50%"]
    assert found[4].startswith("+0.0500 ±")
    worse = [{"epochs": [270], "volumes": [0.5]}] * 2
    assert cells(prior_row("crossing", "good", worse, plain))[3:5] == ["later", "later"]


def test_a_run_says_where_it_would_have_ended() -> None:
    found = run("crossing", "none", 0, sampler="random")
    assert BUDGET / 4 <= found["plateau"] <= BUDGET
    assert found["epochs"][-1] <= BUDGET
    assert list(found["volumes"]) == sorted(found["volumes"])
