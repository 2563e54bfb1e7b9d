"""A study from start to end: locked, resumable, recorded. The same call starts or resumes it."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster import RayCluster, set_ray_environment
from search.description import check_same_study, describe_study
from search.files import StudyFiles, make_writable, read_json, study_files, write_json
from search.ledger import Assignment, Ledger, make_sampler, open_optuna
from search.lock import StudyLock
from search.plan import Plan
from search.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How one driver runs a study; nothing here changes what the study is.

    trainable: the Tune trainable; None is `trainables.tune.DiSparseTrainable`.
    scheduler: makes Tune's scheduler; None is first in, first out.
    """

    storage: str = "runs"
    tracking_uri: str | None = None
    study_storage: str | None = None
    ray_address: str = "local"
    concurrency: int | None = None
    quiet: bool = False
    report: bool = True
    trainable: type | None = None
    scheduler: Callable[[Plan], Any] | None = None
    check_data: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyEnd:
    """What a launch left: `remaining` is 0 when the study is finished."""

    directory: Path
    tracking_uri: str
    finished: int
    failed: int
    remaining: int
    front: int
    unwritten: str
    report_problem: str


def run_study(plan: Plan, launch: Launch) -> StudyEnd:
    """Start, resume or just report the study that `plan` describes.

    Raises `UserError` for what the user can mend (another study of that name, a driver at
    work, no data, no tracking server) and `Failure` where Ray cannot be started.
    """
    files = study_files(launch.storage, plan.study)
    make_sampler(plan.sampler, 0, plan.recipe.num_startup_trials)
    make_writable(files)
    with StudyLock(files.directory, plan.study):
        return _run_locked(plan, launch, files)


def _run_locked(plan: Plan, launch: Launch, files: StudyFiles) -> StudyEnd:
    known = read_json(files.description) if files.exists() else {}
    check_same_study(plan, known)
    tracking_uri = launch.tracking_uri or known.get("tracking_uri") or files.default_tracking_uri
    storage = launch.study_storage or known.get("study_storage") or files.default_study_storage
    # Imported late: `--help` and a user's mistakes should not wait for these.
    from search.monitor import Monitor
    from search.tracking import StudyFacts, connect, probe

    probe(tracking_uri)
    if launch.check_data:
        _check_data(plan)
    facts = StudyFacts(study=plan.study, params=_parent_params(plan))
    tracker = connect(tracking_uri, facts, files.artifacts)
    described = describe_study(plan, known) | {
        "tracking_uri": tracking_uri,
        "study_storage": storage,
        "parent_run_id": tracker.parent_run_id,
    }
    write_json(files.description, described)
    ledger = Ledger(plan, open_optuna(plan, storage))
    finished = ledger.num_finished
    progress = Progress(
        trials=plan.trials, finished=finished, objectives=plan.objectives, quiet=launch.quiet
    )
    monitor = Monitor(files, ledger, tracker, progress)
    try:
        monitor.replay()
        if ledger.num_remaining:
            progress.say(_opening(plan, files, finished))
            with progress:
                _run_trials(plan, launch, files, ledger, monitor)
    finally:
        monitor.close()
        remaining = ledger.num_remaining
        unwritten = tracker.close(finished=remaining == 0)
    problem = ""
    if launch.report and not remaining:
        problem = _make_report(files, tracking_uri)
    return StudyEnd(
        directory=files.directory,
        tracking_uri=tracking_uri,
        finished=ledger.num_finished,
        failed=sum(t.user_attrs.get("status") == "failed" for t in ledger.finished()),
        remaining=remaining,
        front=len(ledger.front()),
        unwritten=unwritten,
        report_problem=problem,
    )


def newest_checkpoint(files: StudyFiles, name: str) -> Path | None:
    """The furthest intact checkpoint that any launch left of a trial."""
    from trainables.tune import valid_checkpoint

    best: tuple[int, Path] | None = None
    for directory in sorted(files.launches.glob(f"launch-*/{name}/checkpoint_*")):
        step = valid_checkpoint(directory)
        if step is not None and (best is None or step >= best[0]):
            best = (step, directory)
    return best[1] if best else None


def _run_trials(
    plan: Plan, launch: Launch, files: StudyFiles, ledger: Ledger, monitor: Any
) -> None:
    set_ray_environment()
    from ray import tune

    from search.monitor import TuneEvents
    from search.sampler import LedgerSearcher

    trainable = launch.trainable
    if trainable is None:
        from trainables.tune import DiSparseTrainable

        trainable = DiSparseTrainable
    events = TuneEvents(monitor)

    def to_config(assignment: Assignment) -> dict[str, Any]:
        checkpoint = newest_checkpoint(files, assignment.name) if assignment.resumed else None
        return {
            "name": assignment.name,
            "number": assignment.number,
            "config": assignment.config.to_dict(),
            "objectives": list(plan.objectives),
            "directory": str(files.trial(assignment.number)),
            "restore_from": str(checkpoint) if checkpoint else None,
        }

    searcher = LedgerSearcher(
        ledger,
        to_config,
        on_assigned=lambda _, assignment: monitor.assigned(assignment),
        error_of=events.error_of,
    )
    with RayCluster(launch.ray_address) as cluster:
        concurrency, resources = cluster.shares(launch.concurrency or plan.recipe.concurrency)
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=launch.scheduler(plan) if launch.scheduler else None,
                num_samples=ledger.num_remaining,
                max_concurrent_trials=min(concurrency, ledger.num_remaining),
                reuse_actors=True,
                trial_name_creator=_ray_trial_name,
                trial_dirname_creator=_ray_trial_name,
            ),
            run_config=tune.RunConfig(
                name=_next_launch(files),
                storage_path=str(files.launches),
                callbacks=[events],
                verbose=0,
                # A process that died (a lost node, the out-of-memory killer) gets one more try
                # from its last checkpoint; errors inside a trial are results and never retried.
                failure_config=tune.FailureConfig(max_failures=1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
            ),
        )
        tuner.fit()


def _ray_trial_name(trial: Any) -> str:
    return str(trial.config["name"])


def _next_launch(files: StudyFiles) -> str:
    """Every launch has a folder of its own: nothing of an earlier one is overwritten."""
    numbers = [int(p.name.removeprefix("launch-")) for p in files.launches.glob("launch-[0-9]*")]
    return f"launch-{max(numbers, default=-1) + 1:03d}"


def _check_data(plan: Plan) -> None:
    """Open the data once, here: a missing root is the user's mistake, not every trial's."""
    from trainables.data.catalogue import open_dataset

    open_dataset(plan.config({"method": plan.recipe.methods[0]}, plan.seed).data)


def _parent_params(plan: Plan) -> dict[str, str]:
    return {
        "recipe": plan.recipe.name,
        "dataset": plan.recipe.dataset,
        "preset": plan.recipe.preset,
        "tasks": ",".join(plan.tasks),
        "objectives": ",".join(plan.objectives),
        "trials": str(plan.trials),
        "seed": str(plan.seed),
        "sampler": plan.sampler,
        "space": plan.space.name,
    }


def _opening(plan: Plan, files: StudyFiles, finished: int) -> str:
    verb = f"resumes with {finished} of {plan.trials}" if finished else f"starts: {plan.trials}"
    return f"study {plan.study} {verb} trials; objectives {', '.join(plan.objectives)}"


def _make_report(files: StudyFiles, tracking_uri: str) -> str:
    """Run `analysis report` as its own process; returns what went wrong, or ''."""
    command = [sys.executable, "-m", "analysis", "report", files.study]
    command += ["--storage", str(files.storage), "--tracking-uri", tracking_uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return f"{' '.join(command[1:])} exited {done.returncode}: {lines[-1] if lines else ''}"
