"""MLflow from a study's own record: `search sync`. Whatever the server has or lacks, it ends with
what the record says; a second time changes nothing."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from search.execution.study import Launch, check_record, find_addresses, parent_params
from search.plans.description import plan_of
from search.plans.plan import Plan
from search.record.addresses import local_file, refused, scrubbed, without_password
from search.record.driver_lock import StudyLock, sole_writer
from search.record.ledger import FINISHED, Ledger, trial_name
from search.record.reports import recall_reports
from search.record.storage import open_storage
from search.record.study_folder import StudyFiles, read_json_lines, study_files, write_json
from search.tracking.connection import open_client
from search.tracking.events import Ended, Point, Started, StudyFacts, TrialWrites, end_of, start_of
from search.tracking.projector import StudyRuns
from search.tracking.retries import GaveUp
from search.tracking.run_content import TAG_INCOMPLETE, TAG_REASON, status_of, tags_of_end
from trainables.command_line import masked
from trainables.errors import Failure, UserError
from trainables.report import TAG_STATUS

# What `analysis report` logs with the parent run.
_ARTIFACTS = ("report.html", "front.parquet", "*.png")
_TRIALS_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncEnd:
    """trials: of the record. changes: runs made, and other writes; 0 where all was as it is.
    refused: writes that the server refused, for `reason`. tracking_uri: without a password."""

    trials: int
    changes: int
    refused: int
    reason: str
    tracking_uri: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What the server has of a trial."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    params: frozenset[str]


def sync_study(
    storage: str, study: str, *, tracking_uri: str | None = None, study_storage: str | None = None
) -> SyncEnd:
    """Bring MLflow level with the record, which stays as it is.

    tracking_uri: another server than the recorded one is recorded as the study's from now on.

    Raises `UserError` for a study that does not exist, has a driver at work, or whose storage or
    server does not answer, and `Failure` where the server goes away meanwhile.
    """
    plan, _ = plan_of(storage, study)
    files = study_files(storage, study)
    launch = Launch(storage=storage, tracking_uri=tracking_uri, study_storage=study_storage)
    addresses = find_addresses(plan, launch, files)
    with StudyLock(files.directory, study):
        _, known = plan_of(storage, study)  # as the last driver left it
        ledger = Ledger(plan, _load(study, addresses.study_storage))
        recall_reports(files, ledger)
        check_record(files, known, ledger.trials(), addresses)
        facts = StudyFacts(study=study, study_id=str(known["study_id"]), params=parent_params(plan))
        uri = addresses.tracking_uri
        try:
            with sole_writer(files.tracking_lock):
                runs = _sync(uri, facts, files, plan, ledger)
        except TimeoutError as error:
            raise Failure(f"{error}; the same command tries again") from None
        except GaveUp as error:
            raise Failure(
                f"MLflow at {masked(uri)} went away ({scrubbed(str(error), uri)}); the same "
                "command goes on"
            ) from error
        recorded = {"tracking_uri": without_password(uri), "parent_run_id": runs.parent_run_id}
        if recorded != {name: known.get(name) for name in recorded}:
            write_json(files.description, known | recorded)
    return SyncEnd(
        trials=len(ledger.trials()),
        changes=runs.calls.num_changes,
        refused=runs.calls.num_refused,
        reason=scrubbed(runs.calls.problem, uri),
        tracking_uri=masked(uri),
    )


def _load(study: str, storage: str) -> optuna.Study:
    """Raises `UserError` where the storage has no such study; makes nothing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database = local_file(storage)
    try:
        if database is not None and not database.exists():
            raise KeyError("no such file")
        return optuna.load_study(study_name=study, storage=open_storage(storage))
    except UserError:
        raise
    except Exception as error:
        raise refused("--study-storage", storage, error) from None


def _sync(uri: str, facts: StudyFacts, files: StudyFiles, plan: Plan, ledger: Ledger) -> StudyRuns:
    found: dict[str, _Found] = {}

    def note(name: str, run: Run) -> None:
        found[name] = _Found(
            run_id=str(run.info.run_id),
            status=str(run.info.status),
            tags=dict(run.data.tags),
            params=frozenset(run.data.params),
        )

    at_once = threading.Event()
    at_once.set()  # somebody waits for the answer: a server that is away is said at once
    try:
        client, experiment = open_client(uri, files.artifacts)
        runs = StudyRuns(client, experiment, facts, on_child=note, give_up=at_once)
    except Exception as error:
        raise refused("--tracking-uri", uri, error) from None
    front, trials = set(ledger.front()), ledger.trials()
    for start in range(0, len(trials), _TRIALS_AT_ONCE):
        batch: dict[str, TrialWrites] = {}
        for trial in trials[start : start + _TRIALS_AT_ONCE]:
            name = trial_name(plan.study, trial.number)
            batch[name] = _missing(trial, files, found.get(name), runs)
            if trial.state in FINISHED:
                batch[name].front = trial.number in front
        runs.write_all(batch)
    runs.end_all(finished=not ledger.num_remaining)
    runs.attach(_artifacts(files.directory))
    return runs


def _missing(
    trial: FrozenTrial, files: StudyFiles, found: _Found | None, runs: StudyRuns
) -> TrialWrites:
    """What the server lacks of a trial, or has otherwise."""
    started = start_of(trial)
    rows = read_json_lines(files.reports(trial.number))
    points = [point for row in rows if (point := Point.of(row)).metrics]
    ended = end_of(trial) if trial.state in FINISHED else None
    if found is None:
        return TrialWrites(started=started, points=points, ended=ended)
    params = {name: value for name, value in started.params.items() if name not in found.params}
    known = runs.steps_of(trial_name(files.study, trial.number))
    writes = TrialWrites(points=[point for point in points if point.step not in known])
    if params:
        writes.started = Started(method=started.method, params=params, at=started.at)
    if ended is not None and (writes.points or params or not _has_ended(found, ended)):
        writes.ended = ended
    return writes


def _has_ended(found: _Found, ended: Ended) -> bool:
    return (
        found.status == status_of(ended)
        and found.tags.get(TAG_STATUS) == ended.status
        and found.tags.get(TAG_REASON, "") == tags_of_end(ended).get(TAG_REASON, "")
        and found.tags.get(TAG_INCOMPLETE) != "true"
    )


def _artifacts(directory: Path) -> Iterator[Path]:
    for pattern in _ARTIFACTS:
        yield from sorted(directory.glob(pattern))
