"""A study from start to end: locked, resumable, recorded. The same call starts or resumes it."""

import contextlib
import dataclasses
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.execution.cluster.ray_cluster import set_ray_environment
from search.execution.launch_options import Launch, check_options
from search.plans.description import describe_study
from search.plans.limits.plateau import plateau_text
from search.plans.plan import Plan
from search.record.files.driver_lock import StudyLock
from search.record.files.study_file import (
    Addresses,
    check_same_study,
    find_addresses,
    raised_budget,
)
from search.record.files.study_folder import (
    StudyFiles,
    again,
    past_reports,
    read_json,
    study_files,
    write_json,
)
from trainables.addresses import check_ray_answers, first_line, local_file, scrubbed
from trainables.errors import Failure, UserError
from trainables.registry.lookup import METHOD
from trainables.sweep.display import Progress, preparation
from trainables.terminal.command_line import masked, require_writable
from trainables.user_code import running


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyEnd:
    """What a launch left; texts are empty where there is nothing to say.

    tracking_uri: without a password. idle: why a budget was left unused.
    reason: the most frequent one among trials that are not complete. unwritten: what MLflow lacks.
    report_problem: why there is no report or table. table: of a grid's systems.
    plateau: where the study ended before its budget did, why.
    confirmed: how many confirmations ended, in words. confirming: whether they are what remains.
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
    table: str = ""
    plateau: str = ""
    confirmed: str = ""
    confirming: bool = False


def run_study(plan: Plan, launch: Launch) -> StudyEnd:
    """Start, resume or just report the study that `plan` describes.

    Raises `UserError` for what the user can change and `Failure` where Ray cannot be started or
    the study storage goes away. A study that could not be started leaves nothing behind.
    """
    files = study_files(launch.storage, plan.study)
    check_options(plan, launch)
    check_ray_answers(launch.ray_address)
    is_new = not files.directory.exists()
    if files.exists():  # of another study, it matters little who drives it
        check_same_study(plan, read_json(files.description), files, launch.study_storage)
    require_writable(files.directory, "--storage")
    with StudyLock(files.directory, plan.study):
        known = read_json(files.description) if files.exists() else {}
        try:
            return _run_locked(plan, launch, files, known)
        except BaseException:
            if not known and not (files.exists() and read_json(files.description)["parent_run_id"]):
                _leave_nothing(files, is_new=is_new)  # no trial has begun
            raise


def _leave_nothing(files: StudyFiles, *, is_new: bool) -> None:
    if is_new:
        shutil.rmtree(files.directory, ignore_errors=True)
        with contextlib.suppress(OSError):  # of other studies
            files.storage.rmdir()
        return
    for path in (files.description, files.trials, local_file(files.default_study_storage)):
        with contextlib.suppress(OSError):  # what cannot be removed does not hide why
            if path is not None:
                path.unlink(missing_ok=True)


def _run_locked(
    plan: Plan, launch: Launch, files: StudyFiles, known: Mapping[str, Any]
) -> StudyEnd:
    check_same_study(plan, known, files, launch.study_storage)
    addresses = find_addresses(
        files, known, tracking_uri=launch.tracking_uri, study_storage=launch.study_storage
    )
    # The command that began it also continues what was extended since.
    plan = raised_budget(plan, known, launch.more, launch.until)
    if plan.data_root is None and known:
        plan = dataclasses.replace(plan, data_root=known["data_root"])
    # An interrupted confirmation is resumed like anything else.
    num_seeds = launch.confirm or (None if launch.extends else known.get("confirm"))
    trains = launch.extends or num_seeds is not None or not known.get("finished")
    from search.record.warm_start import prior_of, warm_trials

    # Before data are prepared, which may take an hour.
    warm = warm_trials(plan, files, begun=bool(known))
    prior = prior_of(plan, files, begun=bool(known))
    data = (
        _check_first_trial(plan, launch.quiet) if launch.check_data and trains else launch.data
    ) or known.get("data")
    _check_same_data(plan, known, data)
    set_ray_environment(launch.ray_address)
    # Imported late: `--help` and a user's mistakes should not wait for these.
    from search.execution.checkpoints import clear_tune_states
    from search.execution.monitor import Monitor
    from search.record.front import is_confirmation
    from search.record.ledger import Ledger
    from search.record.storage import StudyRecord
    from search.record.study_status import check_record
    from search.samplers.trial_sampler import sampler_of
    from search.tracking.projector import Projector
    from trainables.report import describe

    described = describe_study(plan, known) | addresses.recorded(files)
    described |= {"parent_run_id": None, "finished": False, "data": data}
    described["plateau"] = None if launch.extends else known.get("plateau")
    directions = {name: describe(name).direction for name in plan.objectives}
    study_id = str(described["study_id"])
    where = (addresses.study_storage, plan.study)
    if known.get("parent_run_id"):  # its trials may have begun: it is not made anew
        record = StudyRecord.load(*where, study_id)
    else:
        record = StudyRecord.create(*where, directions, study_id)
    check_record(files, known, record.num_trials(), addresses.study_storage)
    if not known:
        # With the study's id, by which the next driver finds its runs should this one be killed.
        write_json(files.description, described)
    projector = Projector(addresses.tracking_uri, addresses.study_storage, files)

    def note(**values: Any) -> None:
        described.update(values)
        write_json(files.description, described)

    def open_runs() -> None:
        projector.wait_open()
        note(parent_run_id=projector.parent_run_id)

    finished = False
    table = problem = ""
    try:
        with _failures_of_storage(plan, files, addresses):
            if known:
                open_runs()  # otherwise MLflow is loaded while Ray starts
            ledger = Ledger(
                plan,
                record,
                sampler_of(plan, prior),
                warm=warm,
                plateau=described["plateau"],
                # At once: a driver that is killed afterwards leaves a study at its plateau.
                on_plateau=lambda found: note(plateau=dict(found)),
            )
            said = ""
            if num_seeds is not None:
                said = ledger.confirm(num_seeds)
                note(confirm=num_seeds)
            reports = past_reports(files, ledger.trials())
            for trial, metrics in reports:
                ledger.reported(trial.number, metrics)
            ended = len(ledger.finished())
            progress = Progress(
                trials=None if plan.budget.trials is None else ended + ledger.num_remaining,
                finished=ended,
                objectives=plan.objectives,
                quiet=launch.quiet,
            )
            monitor = Monitor(files, ledger, progress)

            def more() -> bool:
                said = "" if num_seeds is None else ledger.confirm(num_seeds)
                if said:  # of what the noise of the front now tells
                    progress.more(ledger.num_remaining)
                    progress.say(said)
                return bool(said)

            try:
                clear_tune_states(files)
                if ledger.num_remaining:
                    from search.execution import launch as with_ray

                    run_trials = launch.runner or with_ray.run_trials
                    begun = f"resumes with {ledger.num_finished} trials finished of"
                    does = begun if ledger.num_asked else "starts:"
                    text = f"{does} {plan.budget.text}; objectives {', '.join(plan.objectives)}"
                    progress.say(said or f"study {plan.study} {text}")
                    with progress:
                        run_trials(plan, launch, files, ledger, monitor, reports, open_runs, more)
            finally:
                monitor.close()
            finished = not ledger.num_remaining
            if finished:
                if plan.grid is None:
                    described["further"] = ledger.further(math.ceil(ledger.num_finished / 4))
                if described["plateau"]:
                    described["plateau"]["used"] = ledger.used
                note(finished=True, confirm=None)
        own = [t for t in ledger.finished() if not is_confirmation(t)]
        statuses = Counter(str(t.user_attrs.get("status", "failed")) for t in own)
        if launch.report and finished and statuses["complete"]:
            # The projector, which ends below, sends it.
            _, problem = _analyse("report", files, addresses.tracking_uri, "--no-log")
    finally:
        unwritten = projector.close(finished=finished)
    reasons = Counter(str(t.user_attrs.get("reason", "")) for t in own)
    again_at = Counter(t.user_attrs["status"] for t in ledger.finished() if is_confirmation(t))
    if statuses["complete"] and plan.grid is not None and not launch.quiet:
        table, failure = _analyse("table", files, addresses.tracking_uri, "--primary")
        problem = problem or failure
    return StudyEnd(
        directory=files.directory,
        tracking_uri=masked(addresses.tracking_uri),
        finished=ledger.num_finished,
        complete=statuses["complete"],
        failed=statuses["failed"],
        remaining=ledger.num_remaining,
        front=len(ledger.front()),
        idle=ledger.idle,
        plateau=plateau_text(described["plateau"]) if described["plateau"] else "",
        reason=next((reason for reason, _ in reasons.most_common() if reason), ""),
        unwritten=scrubbed(unwritten, addresses.tracking_uri),
        report_problem=problem,
        table=table,
        confirming=num_seeds is not None,
        confirmed=", ".join(f"{count} {status}" for status, count in again_at.items()),
    )


def _check_first_trial(plan: Plan, quiet: bool) -> str:
    """Open the data and build the model once: their faults are the user's, in every trial.

    Returns a digest of the data's content.
    """
    from trainables.data.catalogue import open_dataset
    from trainables.models.catalogue import build_model, service_of
    from trainables.shipping.trial_costs import deployment_costs
    from trainables.sparsity.masking.masks import MaskRegistry
    from trainables.sparsity.structures.catalogue import build_structure, use_structure

    config = plan.sample_config()
    dataset = open_dataset(config.data, None if quiet else preparation(f"study {plan.study}"))
    num_channels = {task: dataset.num_channels(task) for task in config.data.tasks}
    model = build_model(config.model, num_channels, config.seed)
    deployment_costs(config)
    if METHOD.find(config.method).sparse:
        with running({f"model {config.model.name!r}": model}):
            registry = MaskRegistry(model, service_of(config.model, model, config.data.size))
            use_structure(config.sparsity.structure, registry, model, config.data.size)
            build_structure(config.sparsity, registry, {})
    return dataset.digest()


def _check_same_data(plan: Plan, known: Mapping[str, Any], found: str | None) -> None:
    """Raise `UserError` where `known`, the study's `study.json`, has another digest of its data."""
    if known.get("data", found) not in (found, None):
        raise UserError(
            f"the data of {plan.study!r} must stay the same, got others in "
            f"{plan.data_root or 'the default folder'}; name the --data-root it began with, or "
            "give a new study another --name"
        )


@contextlib.contextmanager
def _failures_of_storage(plan: Plan, files: StudyFiles, addresses: Addresses) -> Iterator[None]:
    """Turn what the storage, the disk and Tune raise in mid-study into one `Failure`."""
    from optuna.exceptions import StorageInternalError
    from ray.tune.error import TuneError
    from sqlalchemy.exc import SQLAlchemyError

    from search.record.storage import BrokenConnection

    try:
        yield
        return
    except OSError as error:
        cause: Exception = error
        named = error.filename is not None and Path(os.fsdecode(error.filename)).absolute()
        elsewhere = named and files.storage.absolute() not in named.parents
        whose = str(named) if elsewhere else "the study's files"
        what = f"{whose} cannot be read or written ({error})"
    except TuneError as error:
        # Its text may be a traceback, which ends with what was raised.
        cause, what = error, f"Ray Tune ended the study ({str(error).strip().splitlines()[-1]})"
    except (StorageInternalError, SQLAlchemyError, BrokenConnection) as error:
        cause, said = error, first_line(error.__cause__ or error)
        what = f"the study storage {masked(addresses.study_storage)!r} went away ({said})"
    command = again("resume", plan.study, files.storage)
    raise Failure(
        f"{scrubbed(what, addresses.study_storage)}. Fix the cause, then resume by: {command}"
    ) from cause


def _analyse(command: str, files: StudyFiles, tracking_uri: str, *options: str) -> tuple[str, str]:
    """Run `analysis report` or `table`: return what it printed, and what went wrong, or ''."""
    arguments = ["-m", "analysis", command, files.study, "--storage", str(files.storage), *options]
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        # By environment: a command line, with its passwords, is everybody's to read.
        env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri},
    )
    if done.returncode == 0:
        return done.stdout.rstrip(), ""
    lines = (done.stderr or done.stdout).strip().splitlines() or [""]
    said = scrubbed(lines[-1], tracking_uri)
    return "", f"{' '.join(arguments)} exited {done.returncode}: {said}"
