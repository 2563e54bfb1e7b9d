"""One launch: Tune runs what the ledger hands out, from the checkpoints of earlier launches."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.error import TuneError

from search.execution.callbacks.checkpoints import Checkpoints, newest_checkpoint, next_launch
from search.execution.callbacks.crashes import MAX_FAILURES, Crashes
from search.execution.callbacks.monitor import Monitor
from search.execution.cluster.gpu_parts import measured_part, shares
from search.execution.cluster.ray_cluster import ray_cluster
from search.execution.launch_options import Launch
from search.execution.searcher import LedgerSearcher
from search.plans.limits.budget import no_gpu_for
from search.plans.objective_values import final_density
from search.plans.plan import Plan
from search.record.files.study_folder import StudyFiles
from search.record.ledger import Assignment, Ledger
from search.schedulers.study_scheduler import make_scheduler, replay
from trainables.errors import Failure, UserError


def run_trials(
    plan: Plan,
    launch: Launch,
    files: StudyFiles,
    ledger: Ledger,
    monitor: Monitor,
    reports: Sequence[tuple[FrozenTrial, Mapping[str, float]]],
    ready: Callable[[], None],
    more: Callable[[], bool] = lambda: False,
) -> None:
    """Run what is left of the study; where trials were lost with their nodes, those once more.

    reports: all so far. ready: called when Ray is there. more: called when all have ended; whether
    the ledger has got others to run. Raises as `ray_cluster` does.
    """
    trainable = launch.trainable
    if trainable is None:
        from trainables.tune import DiSparseTrainable as trainable  # loads torch

    baselines: dict[int, str | None] = {}  # by seed, all that they depend on

    def to_config(assignment: Assignment) -> dict[str, Any]:
        """Return what the trainable is given; JSON-plain."""
        config = assignment.config.to_dict()
        seed = assignment.config.seed
        if seed not in baselines:
            dense = ledger.baseline(assignment.config)
            baselines[seed] = json.dumps(dense.to_dict()) if dense else None
        checkpoint = newest_checkpoint(files, assignment.name) if assignment.resumed else None
        return {
            "name": assignment.name,
            "number": assignment.number,
            "reference": assignment.reference,
            "final_density": final_density(config),
            "config": json.dumps(config),
            "objectives": list(plan.objectives),
            "directory": str(files.trial(assignment.number)),
            "restore_from": str(checkpoint) if checkpoint else None,
            "dense_cache": str(files.dense_cache),
            "baseline": baselines[seed],
            "time_limit_seconds": launch.trial_time_limit,
            "import_folder": plan.recipe.folder,
        }

    scheduler = make_scheduler(plan, ledger.worth_finishing)
    stopped = {} if scheduler is None else replay(scheduler, plan.study, reports)
    wanted, part = launch.concurrency, launch.gpus_per_trial
    if wanted is None and part is None:
        wanted = plan.recipe.concurrency
    if part is None and wanted is None and launch.trainable is None:
        part = measured_part(plan, launch)  # before Ray and its trials use the GPU
    with ray_cluster(launch.ray_address, launch.resume(plan.study)) as nodes:
        concurrency, resources = shares(nodes, wanted, part)
        if plan.budget.gpu_hours is not None and not resources.get("gpu"):
            raise UserError(no_gpu_for(plan.budget))
        ready()
        while True:
            crashes = Crashes()
            searcher = LedgerSearcher(
                ledger,
                to_config,
                on_assigned=monitor.assigned,
                error_of=crashes.error_of,
                stopped=stopped,
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, resources),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=-1 if plan.budget.trials is None else ledger.num_remaining,
                    max_concurrent_trials=concurrency,
                    reuse_actors=True,
                    trial_name_creator=_ray_trial_name,
                    trial_dirname_creator=_ray_trial_name,
                ),
                run_config=tune.RunConfig(
                    name=next_launch(files),
                    storage_path=str(files.launches),
                    callbacks=[monitor, Checkpoints(files), crashes],
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            try:
                with handlers_kept():
                    tuner.fit()
            except TuneError:
                if searcher.failure is None:
                    raise
            except RuntimeError as error:
                if not isinstance(error.__cause__, OutOfMemoryError):
                    raise
                raise Failure(
                    "out of memory: Ray killed a trial's process for the machine's sake, and Tune "
                    "ended with it. Nothing that was reported is lost: free memory or lower "
                    f"--concurrency, then `{launch.resume(plan.study)}`"
                ) from error
            if searcher.failure is not None:
                raise searcher.failure
            if not ledger.num_remaining and more():
                continue
            if not searcher.lost or ledger.num_remaining != len(searcher.lost):
                break  # all have ended, or somebody interrupted the study
            for number in searcher.lost:
                ledger.give_back(number)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put back the handlers of SIGINT and SIGUSR1, which Tune leaves replaced when it has ended.

    The next Ctrl-C would not interrupt anything: Tune's handler only notes that its run is to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Tune replaces none there
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ray_trial_name(trial: Any) -> str:
    return str(trial.config["name"])
