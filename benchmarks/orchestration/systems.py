"""Run N trials that do nothing under one system, in this process, and measure what that took."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MINUTE_SECONDS = 60.0


class RayClock:
    """What is measured around `ray.init` and `ray.shutdown`, whoever calls them.

    seconds: of starting and stopping Ray, which no system is charged.
    cpu_seconds: processor time of all other processes in between: Ray's, the trials', MLflow's.
    resident_mib: of this process, after Ray's start and before its end.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.resident_mib: list[float] = []

    def timed(self, action: Callable[..., Any], *, ends: bool) -> Callable[..., Any]:
        """Return `action` with its time taken. ends: whether it stops Ray rather than starts it."""

        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            if ends:
                self._read(sign=1)
            try:
                return action(*arguments, **options)
            finally:
                if not ends:
                    self._read(sign=-1)
                self.seconds += time.perf_counter() - began

        return call

    def _read(self, *, sign: int) -> None:
        self.cpu_seconds += sign * _cpu_of_children()
        self.resident_mib.append(resident_mib())


def resident_mib() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_of_children() -> float:
    """Seconds of this process's children and theirs, those that live."""
    import psutil

    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def ray_clock() -> Iterator[RayClock]:
    """Measure around Ray's start and end."""
    import ray

    clock = RayClock()
    real = ray.init, ray.shutdown
    ray.init, ray.shutdown = clock.timed(real[0], ends=False), clock.timed(real[1], ends=True)
    try:
        yield clock
    finally:
        ray.init, ray.shutdown = real


def run_raw(
    folder: Path, trials: int, concurrent: int, *, mlflow: bool = False, tpe: bool = False
) -> None:
    """Run Ray Tune first in, first out, in the environment and on the cluster that ours has.

    mlflow: with Ray's own callback. tpe: drawn by its OptunaSearch from the space of ours, for the
      objectives of ours.
    """
    from ray import tune

    from benchmarks.orchestration.trainables import NoOp
    from search.execution.cluster.gpu_parts import shares
    from search.execution.cluster.ray_cluster import ray_cluster

    callbacks: list[Any] = []
    if mlflow:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        uri = f"sqlite:///{folder / 'mlflow.db'}"
        callbacks.append(MLflowLoggerCallback(tracking_uri=uri, experiment_name="raw"))
    with ray_cluster("local") as nodes:
        concurrency, resources = shares(nodes, concurrent)
        tuner = tune.Tuner(
            tune.with_resources(NoOp, resources),
            param_space={} if tpe else {"density": tune.uniform(0.01, 1.0)},
            tune_config=tune.TuneConfig(
                search_alg=_optuna_search() if tpe else None,
                num_samples=trials,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
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

    from search.plans.recipe import get_recipe
    from search.plans.resolve import make_plan
    from trainables.report import describe

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = make_plan(get_recipe("demo"), study="noop", trials=1, sampler="tpe")
    return OptunaSearch(
        space=plan.space.suggest,
        metric=list(plan.objectives),
        mode=[describe(name).direction.removesuffix("imize") for name in plan.objectives],
        seed=plan.seed,
    )


def run_ours(folder: Path, trials: int, concurrent: int, *, sampler: str, scheduler: str) -> None:
    """Run a study: Optuna's journal, MLflow and what a crash needs, all on."""
    from benchmarks.orchestration.trainables import NoOp
    from search.execution.launch_options import Launch
    from search.execution.study import run_study
    from search.plans.recipe import get_recipe
    from search.plans.resolve import make_plan

    plan = make_plan(
        get_recipe("demo"), study="noop", trials=trials, sampler=sampler, scheduler=scheduler
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


OURS: dict[str, Callable[[Path, int, int], None]] = {
    "random": lambda *a: run_ours(*a, sampler="random", scheduler="none"),
    "random-asha": lambda *a: run_ours(*a, sampler="random", scheduler="pareto-asha"),
    "tpe-asha": lambda *a: run_ours(*a, sampler="tpe", scheduler="pareto-asha"),
    "curves-asha": lambda *a: run_ours(*a, sampler="curves", scheduler="pareto-asha"),
}
RAW: dict[str, Callable[[Path, int, int], None]] = {
    "raw": run_raw,
    "raw-tpe": lambda *a: run_raw(*a, tpe=True),
    "raw-mlflow": lambda *a: run_raw(*a, mlflow=True),
}
SYSTEMS = {**OURS, **RAW}


def measure(
    name: str, folder: Path, trials: int, concurrent: int, database: Path | None = None
) -> dict[str, Any]:
    """Run a system, and return seconds from the first call to the last record written and closed,
    without Ray's own start and end.

    database: an MLflow file without runs. Its tables are made once for a storage folder and all
    its studies, in seconds that no system is charged.
    """
    from search.execution.cluster.ray_cluster import set_ray_environment

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
        "share_of_a_minute": share_of_a_minute(seconds, trials, concurrent),
        "ray_seconds": clock.seconds,
        "driver_cpu_ms_per_trial": 1000 * cpu / trials,
        "other_cpu_ms_per_trial": 1000 * clock.cpu_seconds / trials,
        "driver_start_mib": clock.resident_mib[0],
        "driver_end_mib": clock.resident_mib[-1],
    }


def share_of_a_minute(seconds: float, trials: int, concurrent: int) -> float:
    """Return the share of wall time that is not training, were each trial a minute of it.

    Computed: a trial that does nothing keeps one of `concurrent` places busy for
    `seconds · concurrent / trials`; one of a minute keeps it that much longer than a minute.
    """
    overhead = seconds * min(concurrent, trials) / trials
    return overhead / (MINUTE_SECONDS + overhead)
