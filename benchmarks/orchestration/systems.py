"""One system runs N trials that do nothing, in this process, and says how long it took."""

import contextlib
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RAW = ("raw", "raw-class", "raw-tpe", "raw-mlflow")
# Ours, and the raw Ray that draws as it does.
OURS = {
    "ours-random": "raw",
    "ours-random-asha": "raw",
    "ours-tpe": "raw-tpe",
    "ours-asha": "raw-tpe",
}


class RayClock:
    """Seconds that went into starting and stopping Ray, of which no system is charged; and the
    processor time of Ray's processes in between."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def timed(self, action: Callable[..., Any], *, sign: int) -> Callable[..., Any]:
        """sign: of the processes' time, at the start -1 (after it), at the end +1 (before it)."""

        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            if sign > 0:
                self.cpu_seconds += _cpu_of_children()
            try:
                return action(*arguments, **options)
            finally:
                if sign < 0:
                    self.cpu_seconds -= _cpu_of_children()
                self.seconds += time.perf_counter() - began

        return call


def _cpu_of_children() -> float:
    """Of this process's children and theirs, those that live: Ray's own, trials, a writer."""
    import psutil

    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def ray_clock() -> Iterator[RayClock]:
    """Times `ray.init` and `ray.shutdown`, whoever calls them."""
    import ray

    clock = RayClock()
    real = ray.init, ray.shutdown
    ray.init, ray.shutdown = clock.timed(real[0], sign=-1), clock.timed(real[1], sign=1)
    try:
        yield clock
    finally:
        ray.init, ray.shutdown = real


def run_raw(
    folder: Path,
    trials: int,
    concurrent: int,
    *,
    reuse: bool = True,
    mlflow: bool = False,
    tpe: bool = False,
) -> None:
    """Ray Tune first in, first out, in the environment and on the cluster that ours has.

    tpe: drawn by its OptunaSearch from the space of ours, for the objectives of ours.
    """
    from ray import tune

    from benchmarks.orchestration.trainables import NoOp
    from search.execution.ray_cluster import RayCluster

    callbacks: list[Any] = []
    if mlflow:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        uri = f"sqlite:///{folder / 'mlflow.db'}"
        callbacks.append(MLflowLoggerCallback(tracking_uri=uri, experiment_name="raw"))
    with RayCluster("local") as cluster:
        concurrency, resources = cluster.shares(concurrent)
        tuner = tune.Tuner(
            tune.with_resources(NoOp, resources),
            param_space={} if tpe else {"density": tune.uniform(0.01, 1.0)},
            tune_config=tune.TuneConfig(
                search_alg=_optuna_search() if tpe else None,
                num_samples=trials,
                max_concurrent_trials=concurrency,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                name="raw", storage_path=str(folder), callbacks=callbacks, verbose=0
            ),
        )
        results = tuner.fit()
    if results.num_errors or len(results) != trials:
        raise RuntimeError(f"raw Ray ran {len(results)} trials, {results.num_errors} with errors")


def _optuna_search() -> Any:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    from search.plans.plan import make_plan
    from search.plans.recipe import RECIPES
    from trainables.report import describe

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = make_plan(RECIPES["demo"], study="noop", trials=1, sampler="tpe")
    return OptunaSearch(
        space=plan.space.suggest,
        metric=list(plan.objectives),
        mode=[describe(name).direction.removesuffix("imize") for name in plan.objectives],
        seed=plan.seed,
    )


def run_ours(folder: Path, trials: int, concurrent: int, *, sampler: str, scheduler: str) -> None:
    """A study: Optuna, MLflow and what a crash needs, all on."""
    from benchmarks.orchestration.trainables import NoOp
    from search.execution.study import Launch, run_study
    from search.plans.plan import make_plan
    from search.plans.recipe import RECIPES

    plan = make_plan(
        RECIPES["demo"], study="noop", trials=trials, sampler=sampler, scheduler=scheduler
    )
    launch = Launch(
        storage=str(folder),
        trainable=NoOp,
        check_data=False,
        report=False,
        quiet=True,
        concurrency=concurrent,
    )
    end = run_study(plan, launch)
    if (end.finished, end.failed, end.unwritten) != (trials, 0, ""):
        raise RuntimeError(f"the study did not end well: {end}")


SYSTEMS: dict[str, Callable[[Path, int, int], None]] = {
    "raw": run_raw,
    "raw-class": lambda *a: run_raw(*a, reuse=False),
    "raw-tpe": lambda *a: run_raw(*a, tpe=True),
    "raw-mlflow": lambda *a: run_raw(*a, mlflow=True),
    "ours-random": lambda *a: run_ours(*a, sampler="random", scheduler="none"),
    "ours-random-asha": lambda *a: run_ours(*a, sampler="random", scheduler="pareto-asha"),
    "ours-tpe": lambda *a: run_ours(*a, sampler="tpe", scheduler="none"),
    "ours-asha": lambda *a: run_ours(*a, sampler="tpe", scheduler="pareto-asha"),
}


def measure(
    name: str, folder: Path, trials: int, concurrent: int, database: Path | None = None
) -> dict[str, Any]:
    """Seconds from the first call to the last record written and closed, without Ray's own start
    and end.

    database: an MLflow file without runs. Its tables are made once for a storage folder and all
    its studies, in seconds that no system is charged.
    """
    from search.execution.ray_cluster import set_ray_environment

    set_ray_environment()
    if database is not None:
        shutil.copyfile(database, folder / "mlflow.db")
    import ray.tune  # noqa: F401 - all need it, and none is charged

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
        "trials_per_second": trials / seconds,
        "ray_seconds": clock.seconds,
        "driver_cpu_ms_per_trial": 1000 * cpu / trials,
        "other_cpu_ms_per_trial": 1000 * clock.cpu_seconds / trials,
        "peak_driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
