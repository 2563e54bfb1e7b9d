"""One system runs N such trials, in this process, and says how long it took."""

import contextlib
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class RayClock:
    """Seconds that went into starting and stopping Ray, which no system is charged for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return action(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - began

        return call


@contextlib.contextmanager
def ray_clock() -> Iterator[RayClock]:
    """Times `ray.init` and `ray.shutdown`, whoever calls them."""
    import ray

    clock = RayClock()
    real = ray.init, ray.shutdown
    ray.init, ray.shutdown = (clock.timed(action) for action in real)
    try:
        yield clock
    finally:
        ray.init, ray.shutdown = real


def run_raw(
    folder: Path, trials: int, concurrent: int, *, function: bool, reuse: bool, mlflow: bool
) -> None:
    """Ray Tune first in, first out, in the environment and on the cluster that ours has."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    from benchmarks.orchestration.trainables import NoOp, no_op
    from search.cluster import RayCluster

    callbacks = []
    if mlflow:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        callbacks.append(MLflowLoggerCallback(tracking_uri=uri, experiment_name="raw"))
    with RayCluster("local") as cluster:
        concurrency, resources = cluster.shares(concurrent)
        tuner = tune.Tuner(
            tune.with_resources(no_op if function else NoOp, resources),
            param_space={"density": tune.uniform(0.01, 1.0)},
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=concurrency, reuse_actors=reuse
            ),
            run_config=tune.RunConfig(
                name="raw", storage_path=str(folder), callbacks=callbacks, verbose=0
            ),
        )
        results = tuner.fit()
    if results.num_errors or len(results) != trials:
        raise RuntimeError(f"raw Ray ran {len(results)} trials, {results.num_errors} with errors")


def run_ours(folder: Path, trials: int, concurrent: int, *, sampler: str) -> None:
    """A study: Optuna, MLflow and what a crash needs, all on."""
    from benchmarks.orchestration.trainables import NoOp
    from search.plan import make_plan
    from search.recipes import RECIPES
    from search.study import Launch, run_study

    plan = make_plan(RECIPES["demo"], study="noop", trials=trials, sampler=sampler)
    launch = Launch(
        storage=str(folder),
        trainable=NoOp,
        check_data=False,
        report=False,
        quiet=True,
        concurrency=concurrent,
    )
    end = run_study(plan, launch)
    if (end.finished, end.complete, end.unwritten) != (trials, trials, ""):
        raise RuntimeError(f"the study did not end well: {end}")


SYSTEMS: dict[str, Callable[[Path, int, int], None]] = {
    "raw-class-reuse": lambda *a: run_raw(*a, function=False, reuse=True, mlflow=False),
    "raw-class": lambda *a: run_raw(*a, function=False, reuse=False, mlflow=False),
    "raw-function-reuse": lambda *a: run_raw(*a, function=True, reuse=True, mlflow=False),
    "raw-function": lambda *a: run_raw(*a, function=True, reuse=False, mlflow=False),
    "raw-mlflow": lambda *a: run_raw(*a, function=False, reuse=True, mlflow=True),
    "ours-random": lambda *a: run_ours(*a, sampler="random"),
    "ours-tpe": lambda *a: run_ours(*a, sampler="tpe"),
}


def measure(name: str, folder: Path, trials: int, concurrent: int) -> dict[str, Any]:
    """Seconds from the first call to the last record written and closed, Ray's own start and
    end left out; and the processor time of this process."""
    from search.cluster import set_ray_environment

    set_ray_environment()
    with ray_clock() as clock:
        began, cpu = time.perf_counter(), time.process_time()
        SYSTEMS[name](folder, trials, concurrent)
        seconds = time.perf_counter() - began - clock.seconds
        cpu = time.process_time() - cpu
    return {
        "system": name,
        "trials": trials,
        "concurrent": concurrent,
        "seconds": seconds,
        "driver_cpu_seconds": cpu,
        "ray_seconds": clock.seconds,
        "peak_driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
