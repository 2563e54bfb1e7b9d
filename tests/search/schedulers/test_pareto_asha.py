"""ParetoASHA as a class for any Ray user: its documentation, its files, and real Ray Tune."""

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import search.schedulers.pareto_asha
from search.execution.cluster.local_ray import local_environment
from search.execution.launch import handlers_kept
from search.schedulers.pareto_asha import ParetoASHA
from trainables.errors import UserError

STOP, CONTINUE = "STOP", "CONTINUE"


def scheduler_of(**changes: Any) -> ParetoASHA:
    arguments = {"grace_period": 1, "max_t": 9, "reduction_factor": 3, **changes}
    return ParetoASHA(("accuracy", "cost"), ("max", "min"), **arguments)


def trial_of(trial_id: str, **config: Any) -> Any:
    """What the scheduler reads of a trial of Ray."""
    return SimpleNamespace(trial_id=trial_id, config=config)


def report(scheduler: ParetoASHA, trial_id: str, **result: Any) -> str:
    return scheduler.on_trial_result(None, trial_of(trial_id), {"training_iteration": 1, **result})


Report = tuple[int, int, float, float]  # trial, iteration, accuracy, cost
reports = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.integers(1, 9),
        st.sampled_from([0.0, 0.5, 1.0, math.inf, math.nan]),
        st.sampled_from([-math.inf, 1.0, 2.0, 3.0]),
    ),
    max_size=40,
)


def decisions(scheduler: ParetoASHA, told: list[Report]) -> list[str]:
    made = []
    for number, iteration, accuracy, cost in told:
        scheduler.on_trial_add(None, trial_of(f"t{number}"))
        made.append(
            report(
                scheduler, f"t{number}", training_iteration=iteration, accuracy=accuracy, cost=cost
            )
        )
    return made


@settings(max_examples=40, deadline=None)
@given(reports)
def test_equal_reports_make_equal_decisions(told: list[Report]) -> None:
    first, second = scheduler_of(), scheduler_of()
    assert decisions(first, told) == decisions(second, told)


def test_directions_are_those_of_the_modes() -> None:
    scheduler = scheduler_of()
    for number in range(6):
        report(scheduler, f"t{number}", accuracy=0.5, cost=2.0)
    assert report(scheduler, "best", accuracy=0.6, cost=1.0) == CONTINUE
    assert report(scheduler, "worst", accuracy=0.4, cost=3.0) == STOP
    assert scheduler.debug_string() == "Using ParetoASHA: records by rung {1: 8, 3: 0}"


@pytest.mark.parametrize(
    "result",
    [
        {"accuracy": 0.5},
        {"accuracy": 0.5, "cost": None},
        {"accuracy": "much", "cost": 1.0},
        {"accuracy": [0.5], "cost": 1.0},
        {},
    ],
)
def test_a_result_without_its_metrics_decides_nothing(result: dict[str, Any]) -> None:
    scheduler = scheduler_of()
    for number in range(5):
        assert report(scheduler, f"bad{number}", **result) == CONTINUE
    assert set(scheduler.rungs.num_records().values()) == {0}
    assert report(scheduler, "good", accuracy=0.5, cost=1.0) == CONTINUE


def test_a_result_without_its_time_decides_nothing() -> None:
    scheduler = scheduler_of(time_attr="epoch")
    assert report(scheduler, "a", accuracy=0.5, cost=1.0) == CONTINUE
    assert set(scheduler.rungs.num_records().values()) == {0}


def test_trials_of_one_name_in_their_configurations_are_several() -> None:
    """`name` is a hyperparameter like others, of an optimiser, say."""
    scheduler = scheduler_of()
    for number in range(4):
        trial = trial_of(f"t{number}", name="adam", number=0)
        scheduler.on_trial_add(None, trial)
        scheduler.on_trial_result(
            None, trial, {"training_iteration": 1, "accuracy": 0.5, "cost": 1.0}
        )
    assert scheduler.rungs.num_records() == {1.0: 4, 3.0: 0}


def test_values_give_the_vector_and_what_is_violated() -> None:
    def values(config: Any, result: Any) -> tuple[list[float], float] | None:
        if config.get("reference"):
            return None
        return [-result["accuracy"], config["final_cost"]], max(0.0, config["final_cost"] - 5.0)

    scheduler = scheduler_of(values=values)

    def keeps(key: str, accuracy: float, **config: Any) -> bool:
        return scheduler.keeps(key, config, {"training_iteration": 1, "accuracy": accuracy})

    for number in range(6):
        assert keeps(f"t{number}", 0.5, final_cost=2.0)
    assert not keeps("too dear", 0.9, final_cost=6.0)
    assert keeps("cheaper", 0.5, final_cost=1.0)
    assert keeps("reference", 0.0, reference=True)
    assert scheduler.rungs.num_records()[1.0] == 8


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="`modes` must be min or max"):
        ParetoASHA(["a"], ["up"])
    for metrics, modes in ([], []), (["a"], []), (["a", "a"], ["min", "min"]):
        with pytest.raises(UserError, match="`metrics` must name distinct objectives"):
            ParetoASHA(metrics, modes)
    with pytest.raises(UserError, match="`0 < grace <= maximum` must hold"):
        ParetoASHA(["a"], ["min"], grace_period=0)


# ------------------------------------------------------------------ through real Ray Tune


def trainable(config: dict[str, Any]) -> None:
    """The smaller `x`, the better in all; `tilt` trades one objective for the other."""
    from ray import tune

    for _ in range(9):
        x, tilt = config["x"], config.get("tilt", 0.0)
        tune.report({"accuracy": 1.0 - x - tilt, "cost": 1.0 + x - tilt, "loss": x})


@pytest.fixture(scope="module")
def ray_tune(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import ray

    with local_environment():  # Ray reads a token once in a process: the one studies have as well
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[3])}},
        )
        yield tmp_path_factory.mktemp("ray")
        ray.shutdown()


def run(folder: Path, space: dict[str, Any], **tune_config: Any) -> Any:
    from ray import tune

    tuner = tune.Tuner(
        trainable,
        param_space=space,
        # One after the other, so that every decision can be worked by hand; in one process.
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True, **tune_config),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    before = signal.getsignal(signal.SIGINT)
    with handlers_kept():
        results = tuner.fit()
        assert signal.getsignal(signal.SIGINT) is not before  # it is Tune's
    assert signal.getsignal(signal.SIGINT) is before
    return results


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_with_the_searcher_of_a_grid_and_no_metric(ray_tune: Path) -> None:
    from ray import tune
    from ray.tune.search import BasicVariantGenerator

    scheduler = scheduler_of()
    results = run(
        ray_tune,
        {"x": tune.grid_search([0.5, 0.6, 0.1, 0.8]), "name": "same"},
        search_alg=BasicVariantGenerator(max_concurrent=1),
        scheduler=scheduler,
    )
    lengths = {r.config["x"]: r.metrics["training_iteration"] for r in results}
    assert results.errors == []
    assert lengths == {0.5: 9, 0.6: 1, 0.1: 9, 0.8: 1}
    assert scheduler.debug_string() == "Using ParetoASHA: records by rung {1: 4, 3: 2}"


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_with_a_searcher_of_one_metric_that_tune_is_told(ray_tune: Path) -> None:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    points = [{"x": x, "tilt": 0.0} for x in (0.5, 0.9, 0.1)]
    results = run(
        ray_tune,
        {"x": tune.uniform(0.0, 1.0), "tilt": tune.uniform(0.0, 0.1)},
        search_alg=OptunaSearch(
            sampler=optuna.samplers.RandomSampler(seed=0), points_to_evaluate=points
        ),
        scheduler=scheduler_of(),
        metric="loss",
        mode="min",
        num_samples=4,
    )
    lengths = {r.config["x"]: r.metrics["training_iteration"] for r in results}
    assert results.errors == []
    assert len(lengths) == 4  # three points, and one that the searcher drew
    assert {x: lengths[x] for x in (0.5, 0.9, 0.1)} == {0.5: 9, 0.9: 1, 0.1: 9}


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_the_example_of_the_documentation_runs(
    ray_tune: Path,
) -> None:
    from ray import tune

    documentation = search.schedulers.pareto_asha.__doc__ or ""
    lines = [line[4:] for line in documentation.splitlines() if line.startswith("    ")]
    code = "\n".join(lines)
    assert "ParetoASHA(" in code

    def trainable(config: dict[str, Any]) -> None:
        for epoch in range(3):
            tune.report({"val/accuracy": 0.1 * epoch, "megaflops": 10.0})

    # As it stands, but for how much is run and where it writes.
    for old, new in (("num_samples=100", "num_samples=2"), ("Tuner(", "Tuner(run_config=where, ")):
        assert code.count(old) == 1
        code = code.replace(old, new)
    code = code.replace("run_config=where, trainable,", "trainable, run_config=where,")
    where = tune.RunConfig(storage_path=str(ray_tune), verbose=0)
    names: dict[str, Any] = {"trainable": trainable, "where": where}
    with handlers_kept():
        exec(code, names)
    assert names["results"].errors == []
    assert len(names["results"]) == 2
    assert names["scheduler"].rungs.num_records()[3.0] == 2
