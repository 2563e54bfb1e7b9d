"""YAHPO's tasks: what a configuration is encoded as, and what becomes of the task files."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.statistics.indicators import hypervolume
from analysis.statistics.pareto import non_dominated
from benchmarks.search.runs import Job, get_workload, load, obtain, plan, run, yahpo_names
from benchmarks.search.workloads.mutation import mutated
from benchmarks.search.workloads.starts import starts_of
from benchmarks.search.workloads.yahpo import get_task, tasks
from benchmarks.search.workloads.yahpo_models import COLUMNS, data_folder, get_model
from tests.benchmarks.search.yahpo_data import needs_yahpo
from trainables.errors import UserError

XGBOOST = "rbv2_xgboost-12-trainsize"
LINEAR = {
    "booster": "gblinear",
    "alpha": 2.0,
    "lambda": 0.5,
    "nrounds": 10,
    "subsample": 0.75,
    "num.impute.selected.cpo": "impute.mean",
}


def draws(name: str, number: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [mutated(get_task(name).space, {}, 1.0, generator) for _ in range(number)]


@pytest.mark.skipif(
    importlib.util.find_spec("yahpo_gym") is None
    or importlib.util.find_spec("ConfigSpace") is None,
    reason="yahpo-gym is not installed: the orders of columns are not compared with it",
)
def test_the_orders_of_columns_are_those_of_yahpo_gym() -> None:
    from yahpo_gym.configuration import config_dict

    for name, columns in COLUMNS.items():
        given = config_dict.configs[name]
        assert list(columns.continuous) == given["cont_names"]
        assert list(columns.categorical) == given["cat_names"]
        assert list(columns.targets) == given["y_names"]
        maximised = {
            target
            for target, least in zip(given["y_names"], given["y_minimize"], strict=True)
            if not least
        }
        # Of rbv2 it would have F1 minimised; no task asks for it.
        assert set(columns.maximised) - {"f1"} == maximised - {"f1"}


@needs_yahpo
def test_columns_are_as_many_as_the_models_have_and_categories_are_known() -> None:
    for name, columns in COLUMNS.items():
        model = get_model(name)
        shapes = {i.name: i.shape[1] for i in model._session.get_inputs()}
        assert shapes == {"x_cat": len(columns.categorical), "x_cont": len(columns.continuous)}
        assert model._session.get_outputs()[0].shape[1] == len(columns.targets)
        codes = json.loads((data_folder() / name / "encoding.json").read_text())
        assert set(columns.categorical) == set(codes)


@needs_yahpo
def test_what_a_configuration_does_not_read_is_missing() -> None:
    """Worked by hand: codes of encoding.json, zeros for numbers of trees, repetitions at most."""
    task = get_task(XGBOOST)
    asked = {**task.fixed, **LINEAR, "trainsize": 0.5}
    categories, numbers = get_model("rbv2_xgboost").encode([asked])
    codes = json.loads((data_folder() / "rbv2_xgboost" / "encoding.json").read_text())
    expected = [codes["task_id"]["12"], codes["booster"]["gblinear"]]
    expected.append(codes["num.impute.selected.cpo"]["impute.mean"])
    assert categories.tolist() == [expected]
    assert (categories.dtype, numbers.dtype) == (np.int32, np.float32)
    # nrounds, eta, gamma, lambda, alpha, subsample, six of trees and dropout, trainsize, repl
    assert numbers.tolist() == [[10, 0, 0, 0.5, 2.0, 0.75, 0, 0, 0, 0, 0, 0, 0.5, 10]]
    without = {n: v for n, v in asked.items() if n != "booster"}
    (first, *_), _ = get_model("rbv2_xgboost").encode([without])
    assert first[1] == codes["booster"]["#na#"] == 0


@needs_yahpo
def test_the_named_targets_come_in_their_order_and_maximised_ones_are_negated() -> None:
    task = get_task("lcbench-167185-epoch")
    asked = [{**task.fixed, **params, "epoch": 52} for params in draws(task.name, 50)]
    everything = get_model("lcbench").predict(asked, COLUMNS["lcbench"].targets)
    chosen = get_model("lcbench").predict(asked, ("val_cross_entropy", "val_accuracy"))
    np.testing.assert_array_equal(chosen, everything[:, [2, 1]])
    assert (chosen[:, 1] >= -100).all()
    assert (chosen[:, 1] < 0).all()
    assert (everything[:, [0, 2]] > 0).all()  # seconds and cross-entropies


@needs_yahpo
def test_the_tasks_are_read_as_they_are_given() -> None:
    found = tasks()
    lengths = {name: (task.num_epochs, task.evaluations) for name, task in found.items()}
    assert lengths["lcbench-167185-epoch"] == (52, 126)
    assert lengths["rbv2_xgboost-12-repl"] == (10, 170)
    assert lengths["iaml_glmnet-1489-trainsize"] == (27, 77)
    assert get_task("lcbench-167185-epoch").fixed == {"OpenML_task_id": "167185"}
    assert get_task("rbv2_xgboost-12-repl").fixed["trainsize"] == 1.0
    assert get_task(XGBOOST).fixed == {"task_id": "12", "repl": 10, "trainsize": 1.0}
    assert get_task(XGBOOST).objectives == ("acc", "memory")
    for task in found.values():
        assert task.fidelity_T[-1] == task.num_epochs if task.fidelity != "trainsize" else 1.0
        assert task.space.defaults()
        assert starts_of(task.space) == []


@needs_yahpo
def test_conditions_hold_for_everything_that_is_drawn() -> None:
    names = {frozenset(p) for p in draws(XGBOOST, 300)}
    always = {*LINEAR}
    trees = {"eta", "gamma", "max_depth", "min_child_weight"}
    trees |= {"colsample_bytree", "colsample_bylevel"}
    assert names == {
        frozenset(always),
        frozenset(always | trees),
        frozenset(always | trees | {"rate_drop", "skip_drop"}),
    }


@needs_yahpo
@pytest.mark.parametrize("name", ["lcbench-167185-epoch", "rbv2_xgboost-12-repl", XGBOOST])
def test_a_trial_reports_what_the_model_says_at_each_fidelity(name: str) -> None:
    task = get_task(name)
    (params,) = draws(name, 1)
    trial = task.start(params, seed=3)
    reports = [trial.next_report() for _ in range(task.num_epochs)]
    assert [r.epoch for r in reports] == list(range(1, task.num_epochs + 1))
    assert reports[-1].fraction == 1.0
    middle = task.num_epochs // 2
    full = 1.0 if task.fidelity == "trainsize" else task.num_epochs
    (alone,) = task.values([params], [full * (middle + 1) / task.num_epochs])
    assert reports[middle].values == pytest.approx(alone, rel=1e-5)
    assert reports[-1].worth == pytest.approx(task.final([params])[0], rel=1e-5)


@needs_yahpo
def test_the_scale_is_that_of_the_best_and_of_most_random_configurations() -> None:
    task = get_task("iaml_glmnet-1489-trainsize")
    front = task.front()
    assert non_dominated(front).all()
    np.testing.assert_allclose(task.normalisation.ideal, front.min(axis=0))
    values = task.final(draws(task.name, 2000))  # other ones than the scale is made of
    beyond = (values > task.normalisation.nadir).mean(axis=0)
    assert (beyond <= 0.06).all()
    best = hypervolume(front, task.normalisation)
    assert hypervolume(values, task.normalisation) <= best + 1e-3
    better = [v for v in values if (front >= v + 0.01).all(axis=1).any()]
    assert better == []


@needs_yahpo
def test_jobs_and_results_are_those_of_other_workloads(tmp_path: Path) -> None:
    name = "rbv2_rpart-1476-trainsize"
    assert name in yahpo_names()
    assert Job.of(name, "random", 100).full_lengths == 40
    long = Job.of(name, "random", 100, long=True)
    assert long.full_lengths == 110
    assert long.path(tmp_path) != Job.of(name, "random", 100).path(tmp_path)
    wanted = Job(workload=name, system="random", seed=1, full_lengths=5)
    trace = obtain(wanted, tmp_path)
    assert load(wanted, tmp_path) == trace == run(wanted)
    assert len(trace.thinking_seconds) == trace.num_trials
    systems = {job.system for job in plan({name: 1})}
    assert {"ours", "nsga-ii", "qlognehvi", "moasha"} <= systems
    assert "optuna-search-bare" not in systems


def test_without_the_data_the_mistake_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPARSE_YAHPO", raising=False)
    assert yahpo_names() == ()
    with pytest.raises(UserError, match="DISPARSE_YAHPO is not set"):
        get_task(XGBOOST)
    with pytest.raises(UserError, match="crossing"):
        get_workload(XGBOOST)
    monkeypatch.setenv("DISPARSE_YAHPO", "/no/such/folder")
    with pytest.raises(UserError, match="no/such/folder holds no tasks"):
        tasks()


@needs_yahpo
def test_a_task_that_no_space_can_express_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = json.loads((data_folder() / "tasks.json").read_text())[0]
    monkeypatch.setenv("DISPARSE_YAHPO", str(tmp_path))
    (tmp_path / "tasks.json").write_text(json.dumps([{**described, "forbidden": ["any"]}]))
    with pytest.raises(UserError, match="forbids combinations"):
        tasks()
    circle = [{"type": "EQ", "child": "momentum", "parent": "momentum", "value": 1}]
    (tmp_path / "tasks.json").write_text(json.dumps([{**described, "conditions": circle}]))
    with pytest.raises(UserError, match="circle"):
        tasks()
