"""A study from start to end: locked, resumable, recorded. The same call starts or resumes it."""

import contextlib
import dataclasses
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.execution.progress_display import Progress
from search.execution.ray_cluster import set_ray_environment
from search.plans.budget import Budget, no_gpu_for
from search.plans.description import check_same_study, describe_study, with_recorded_rungs
from search.plans.plan import Plan
from search.record.addresses import (
    STUDY_SCHEMES,
    TRACKING_SCHEMES,
    absolute,
    check_answers,
    check_ray_answers,
    choose,
    first_line,
    local_file,
    scrubbed,
    without_password,
)
from search.record.driver_lock import StudyLock
from search.record.study_folder import (
    StudyFiles,
    again,
    make_writable,
    read_json,
    study_files,
    write_json,
)
from trainables.command_line import masked
from trainables.errors import Failure, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How one driver runs a study; nothing here changes what the study is.

    trainable: the Tune trainable; None is `trainables.tune.DiSparseTrainable`.
    trial_time_limit: seconds within which a trial has to report, for the first time after it
      (or this launch) began and again after every report; None for no limit.
    warm_start: as `Plan.warm_start`, but with passwords.
    """

    storage: str = "runs"
    tracking_uri: str | None = None
    study_storage: str | None = None
    ray_address: str = "local"
    concurrency: int | None = None
    trial_time_limit: float | None = None
    quiet: bool = False
    report: bool = True
    trainable: type | None = None
    warm_start: Sequence[str] = ()
    check_data: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyEnd:
    """What a launch left: `remaining` is 0 when the study is finished.

    idle: why a budget of epochs or hours was left unused, or ''.
    reason: the most frequent one among trials that are not complete.
    tracking_uri: without a password.
    """

    directory: Path
    tracking_uri: str
    finished: int
    complete: int
    failed: int
    remaining: int
    front: int
    idle: str
    reason: str
    unwritten: str
    report_problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where a study writes; may hold passwords."""

    tracking_uri: str
    study_storage: str

    def recorded(self, files: StudyFiles) -> dict[str, str | None]:
        """For `study.json`; null for a database in the study's own folder, wherever that is."""
        own = self.study_storage == files.default_study_storage
        return {
            "tracking_uri": without_password(self.tracking_uri),
            "study_storage": None if own else without_password(self.study_storage),
        }


def run_study(plan: Plan, launch: Launch) -> StudyEnd:
    """Start, resume or just report the study that `plan` describes.

    Raises `UserError` for what the user can mend (another study of that name, a driver at
    work, no data, no tracking server) and `Failure` where Ray cannot be started or the study
    storage goes away. A study that could not be started leaves nothing behind.
    """
    files = study_files(launch.storage, plan.study)
    if files.exists():
        plan = with_recorded_rungs(plan, read_json(files.description))
    if launch.concurrency is not None and launch.concurrency < 1:
        raise UserError(f"`--concurrency` must be at least 1, got {launch.concurrency}; raise it")
    if launch.trial_time_limit is not None and not 0 < launch.trial_time_limit < math.inf:
        raise UserError(
            f"`--trial-time-limit` must be above 0, got {launch.trial_time_limit:g}; it is in "
            "seconds, and 600 gives a trial ten minutes for every report"
        )
    if plan.budget.gpu_hours is not None and launch.ray_address == "local":
        import torch

        if not torch.cuda.is_available():
            raise UserError(no_gpu_for(plan.budget))
    check_ray_answers(launch.ray_address)
    addresses = find_addresses(plan, launch, files)  # before anything is written or slow
    new_storage, new_folder = not files.storage.exists(), not files.directory.exists()
    make_writable(files)
    with StudyLock(files.directory, plan.study, say=_warn):
        try:
            return _run_locked(plan, launch, files, addresses)
        except BaseException:
            if new_folder and not files.exists():
                shutil.rmtree(files.directory, ignore_errors=True)
                with contextlib.suppress(OSError):
                    if new_storage:
                        files.storage.rmdir()
            raise


def find_addresses(plan: Plan, launch: Launch, files: StudyFiles) -> Addresses:
    """Where to write, with passwords. Raises `UserError` where nobody answers."""
    known = read_json(files.description) if files.exists() else {}
    named = launch.study_storage and absolute(launch.study_storage)
    check_same_study(plan, known, files, named)
    addresses = Addresses(
        tracking_uri=choose(
            launch.tracking_uri,
            "MLFLOW_TRACKING_URI",
            known.get("tracking_uri"),
            files.default_tracking_uri,
        ),
        study_storage=choose(
            named,
            "DISPARSE_STUDY_STORAGE",
            known.get("study_storage"),
            files.default_study_storage,
        ),
    )
    check_answers("--tracking-uri", addresses.tracking_uri, TRACKING_SCHEMES)
    check_answers("--study-storage", addresses.study_storage, STUDY_SCHEMES)
    return addresses


def _run_locked(plan: Plan, launch: Launch, files: StudyFiles, addresses: Addresses) -> StudyEnd:
    known = read_json(files.description) if files.exists() else {}
    check_same_study(plan, known, files, None)  # again: another driver may have been first
    if known:  # the command that began it also goes on with what was extended since
        plan = dataclasses.replace(plan, budget=Budget.from_json(known["budget"]))
    if launch.check_data:
        _check_first_trial(plan)
    set_ray_environment()
    # Imported late: `--help` and a user's mistakes should not wait for these.
    from search.execution.earlier_launches import clear_dead_launches
    from search.execution.monitor import Monitor
    from search.record.ledger import Ledger, open_optuna
    from search.record.reports import recall_reports
    from search.tracking.tracker import StudyFacts, Tracker

    study = open_optuna(plan, addresses.study_storage)
    check_record(files, known, study.get_trials(deepcopy=False), addresses)
    warm = _warm_trials(plan, launch, files, addresses, begun=bool(known))
    described = describe_study(plan, known) | addresses.recorded(files)
    # The study's id is on disk before MLflow hears of it: a driver killed in between finds its
    # runs again.
    described["parent_run_id"] = known.get("parent_run_id")
    write_json(files.description, described)
    facts = StudyFacts(study=plan.study, study_id=described["study_id"], params=parent_params(plan))
    with _failures_of_storage(plan, files, addresses):
        tracker = Tracker(addresses.tracking_uri, facts, files)

    def open_runs() -> None:
        tracker.wait_open()
        write_json(files.description, described | {"parent_run_id": tracker.parent_run_id})

    remaining, unwritten = -1, ""
    try:
        with _failures_of_storage(plan, files, addresses):
            if known:
                open_runs()  # else MLflow is loaded while Ray starts
            ledger = Ledger(plan, study, warm=warm)
            recall_reports(files, ledger)
            finished = ledger.num_finished
            progress = Progress(
                trials=plan.budget.trials,
                finished=finished,
                objectives=plan.objectives,
                quiet=launch.quiet,
            )
            monitor = Monitor(files, ledger, tracker, progress)
            try:
                clear_dead_launches(files)
                monitor.replay()
                if ledger.num_remaining:
                    from search.execution.launch import run_trials

                    progress.say(_opening(plan, finished, begun=ledger.num_asked > 0))
                    with progress:
                        run_trials(plan, launch, files, ledger, monitor, open_runs)
            finally:
                monitor.close()
            remaining = ledger.num_remaining
            trials, front = ledger.finished(), ledger.front()
    finally:
        unwritten = tracker.close(finished=remaining == 0)
        if not tracker.parent_run_id:
            _take_back(files, known)
    statuses = Counter(str(t.user_attrs.get("status", "failed")) for t in trials)
    reasons = Counter(str(t.user_attrs.get("reason", "")) for t in trials)
    report = launch.report and not remaining and statuses["complete"] > 0
    return StudyEnd(
        directory=files.directory,
        tracking_uri=masked(addresses.tracking_uri),
        finished=len(trials),
        complete=statuses["complete"],
        failed=statuses["failed"],
        remaining=remaining,
        front=len(front),
        idle=ledger.idle,
        reason=next((reason for reason, _ in reasons.most_common() if reason), ""),
        unwritten=scrubbed(unwritten, addresses.tracking_uri),
        report_problem=_make_report(files, addresses.tracking_uri) if report else "",
    )


def _take_back(files: StudyFiles, known: Mapping[str, Any]) -> None:
    """Of a launch whose runs were never opened, and which so has begun no trial."""
    if known:
        write_json(files.description, known)
        return
    own = local_file(files.default_study_storage)
    assert own is not None
    for path in (files.description, files.trials, own):
        path.unlink(missing_ok=True)


def _warm_trials(
    plan: Plan, launch: Launch, files: StudyFiles, addresses: Addresses, *, begun: bool
) -> tuple[Any, ...]:
    """What the sampler knows beforehand: read once, when the study begins."""
    from search.record.warm_start import read_snapshot, read_warm_trials, write_snapshot

    if not plan.warm_start:
        return ()
    if not (begun and files.warm_start.exists()):
        trials = read_warm_trials(
            launch.warm_start or plan.warm_start,
            storage=files.storage,
            tracking_uri=addresses.tracking_uri,
            space=plan.space,
            objectives=plan.objectives,
        )
        write_snapshot(files, trials)
    return read_snapshot(files)


def _check_first_trial(plan: Plan) -> None:
    """Open the data and build the model once, here: what is wrong with them would be wrong in
    every trial, and is the user's mistake."""
    from trainables.data.catalogue import open_dataset
    from trainables.models.catalogue import build_model

    config = plan.sample_config()
    dataset = open_dataset(config.data)
    num_channels = {task: dataset.num_channels(task) for task in config.data.tasks}
    build_model(config.model, num_channels, config.seed)


def check_record(
    files: StudyFiles, known: Mapping[str, Any], trials: Sequence[Any], addresses: Addresses
) -> None:
    """Raises `UserError` where the study storage is not the one this folder was written from."""
    from search.record.trials_table import num_recorded

    where = without_password(addresses.study_storage)
    if not known and trials:
        raise UserError(
            f"a new study needs a name of its own, but {where!r} holds {len(trials)} trials of "
            f"{files.study!r} that {str(files.description)!r} does not describe; give it another "
            "--name, or restore that file"
        )
    # A trial whose end was lost with its host's power runs once more; a trial is not invented.
    recorded = num_recorded(files.trials)
    if len(trials) < recorded:
        raise UserError(
            f"the study storage must hold what {str(files.trials)!r} records, {recorded} trials, "
            f"but {where!r} holds {len(trials)}; restore it, or start anew under another --name"
        )


@contextlib.contextmanager
def _failures_of_storage(plan: Plan, files: StudyFiles, addresses: Addresses) -> Iterator[None]:
    """Turns what the storage, the disk and Tune raise in mid-study into one `Failure`."""
    from ray.tune.error import TuneError

    command = again("resume", plan.study, files.storage)
    try:
        yield
    except OSError as error:
        raise Failure(
            f"the study's files cannot be read or written ({error}); when they can, the same "
            f"command goes on, or: {command}"
        ) from error
    except TuneError as error:
        said = scrubbed(_raised(error), addresses.study_storage)
        raise Failure(
            f"Ray Tune ended the study ({said}); the same command goes on, or: {command}"
        ) from error
    except Exception as error:
        if not _is_of_storage(error):
            raise
        said = scrubbed(first_line(error), addresses.study_storage)
        raise Failure(
            f"the study storage {masked(addresses.study_storage)!r} went away ({said}); when it "
            f"is back, the same command goes on, or: {command}"
        ) from error


def _is_of_storage(error: Exception) -> bool:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError  # loaded late: a journal needs none of it

    return isinstance(error, (StorageInternalError, SQLAlchemyError))


def parent_params(plan: Plan) -> dict[str, str]:
    return {
        "recipe": plan.recipe.name,
        "dataset": plan.recipe.dataset,
        "preset": plan.recipe.preset,
        "tasks": ",".join(plan.tasks),
        "objectives": ",".join(plan.objectives),
        "budget": plan.budget.text,
        "seed": str(plan.seed),
        "sampler": plan.sampler,
        "scheduler": "none" if plan.rungs is None else "pareto-asha",
        "constraints": ", ".join(f"{n}{t}" for n, t in plan.constraints.to_json().items()),
        "space": plan.space.name,
        **({} if plan.grid is None else {k: v for k, v in plan.grid.facts().items() if v}),
    }


def _opening(plan: Plan, finished: int, *, begun: bool) -> str:
    verb = f"resumes with {finished} trials finished of" if begun else "starts:"
    objectives = ", ".join(plan.objectives)
    return f"study {plan.study} {verb} {plan.budget.text}; objectives {objectives}"


def _make_report(files: StudyFiles, tracking_uri: str) -> str:
    """Run `analysis report` as its own process; returns what went wrong, or ''."""
    command = [sys.executable, "-m", "analysis", "report", files.study]
    command += ["--storage", str(files.storage)]
    # By environment: a command line, with its passwords, is everybody's to read.
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    said = scrubbed(lines[-1] if lines else "", tracking_uri)
    return f"{' '.join(command[1:])} exited {done.returncode}: {said}"


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _raised(error: BaseException) -> str:
    """Of an error whose text may be a traceback: what was raised in the end."""
    found = re.findall(r"^[\w.]*(?:Error|Exception|Failure)\b.*", str(error), re.MULTILINE)
    return found[-1] if found else first_line(error)
