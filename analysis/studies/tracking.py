"""Read the copy of a study's record that MLflow keeps, and log files; only here is MLflow loaded.

MLflow is a projection of a study's record. The projection keeps the record itself, `study.json` and
`trials.parquet`, as artifacts of the study's parent run; these two files are all that is read.

MLflow retries a dead server for minutes and creates a SQLite file that does not exist, so an
address is probed first. Whatever goes wrong with a server is one exception, `TrackingAway`.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trainables import report
from trainables.addresses import (
    PROBE_SECONDS,
    absolute,
    file_address,
    left_behind,
    local_file,
    without_password,
)
from trainables.errors import UserError
from trainables.terminal.command_line import masked

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

TAG_KIND = "disparse.kind"
TAG_STUDY_ID = "disparse.study_id"  # tells studies of one name on one server apart
RECORD_FOLDER = "record"  # of the parent run's artifacts
RECORD_FILES = ("study.json", "trials.parquet")
_PAGE = 1000


class TrackingAway(RuntimeError):
    """Say that the tracking server does not answer, or answers with an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedRecord:
    """Name the run whose record was downloaded. `notes` are sentences for the reader."""

    run_id: str
    notes: tuple[str, ...]


def resolve_uri(option: str | None, recorded: object, storage: Path) -> str | None:
    """Choose MLflow's address; None where nothing names one.

    The first of these counts: the option, the address in the study's record, the environment
    variable MLFLOW_TRACKING_URI, and `storage`/mlflow.db if that file exists. A record holds no
    password: where the environment names the recorded address with one, the environment's is taken.
    """
    environment = os.environ.get("MLFLOW_TRACKING_URI")
    if environment and recorded in (masked(environment), without_password(environment)):
        recorded = environment
    for uri in (option, recorded, environment):
        if isinstance(uri, str) and uri:
            return absolute(uri)
    return default_uri(storage)


def default_uri(storage: Path) -> str | None:
    """Return the address of the database that a storage folder holds; None if it holds none."""
    database = storage / "mlflow.db"
    return file_address("sqlite", database) if database.is_file() else None


def fetch_record(uri: str, name: str, folder: Path) -> FetchedRecord | None:
    """Download the record of the newest study `name` into `folder`.

    Returns None where the server knows no study of that name. Raises `TrackingAway`, and
    `UserError` where the study's run holds no record.
    """
    with _client(uri) as client:
        parents = _parents(client, name)
        if not parents:
            return None
        parent = parents[0]
        run_id = parent.info.run_id
        there = {entry.path for entry in client.list_artifacts(run_id, RECORD_FOLDER)}
        wanted = [f"{RECORD_FOLDER}/{file}" for file in RECORD_FILES]
        missing = [path for path in wanted if path not in there]
        if missing:
            raise UserError(
                f"the MLflow run of study {name!r} must hold its record, but run {run_id} at "
                f"{masked(uri)} lacks {', '.join(missing)}; run `python -m search sync {name}` "
                "where the study's folder is"
            )
        for path in wanted:
            local = Path(client.download_artifacts(run_id, path, str(folder)))
            local.replace(folder / local.name)
    # One that was moved has several runs.
    count = len({run.data.tags.get(TAG_STUDY_ID, run.info.run_id) for run in parents})
    notes = () if count == 1 else (_several(uri, name, count, parent),)
    return FetchedRecord(run_id=run_id, notes=notes)


def study_names(uri: str) -> tuple[str, ...]:
    """Return the names of all studies that the server knows, sorted. Raises `TrackingAway`."""
    with _client(uri) as client:
        runs = list(_search(client, f"tags.`{TAG_KIND}` = 'study'"))
    names = {run.data.tags.get(report.TAG_STUDY) for run in runs}
    return tuple(sorted(name for name in names if name))


def log_artifacts(
    uri: str,
    name: str,
    paths: Mapping[Path, Path],
    *,
    parent_run_id: str | None = None,
    study_id: object = None,
) -> bool:
    """Log files as artifacts of the study's parent run; False where the server has no such run.

    paths: the files, each with the folder of the artifacts that it goes to.

    The run is `parent_run_id` if this server has it: another server may have been named. Otherwise
    it is the newest run of the study `name`, and of `study_id` where the runs are tagged with one.
    Raises `TrackingAway`.
    """
    with _client(uri) as client:
        run_id = _recorded_parent(client, uri, name, parent_run_id)
        if run_id is None:
            # Not those of before a move: their files are elsewhere, and may be another study's.
            parents = [
                run
                for run in _parents(client, name)
                if not left_behind(uri, run.info.artifact_uri or "")
            ]
            if study_id:
                # A run without the tag may be the study's own, from before the tag existed.
                own = [r for r in parents if r.data.tags.get(TAG_STUDY_ID) == study_id]
                parents = own or [r for r in parents if TAG_STUDY_ID not in r.data.tags]
            run_id = parents[0].info.run_id if parents else None
        if run_id is None:
            return False
        for path, folder in paths.items():
            client.log_artifact(run_id, str(path), "" if folder == Path() else str(folder))
    return True


@contextlib.contextmanager
def _client(uri: str) -> Iterator["MlflowClient"]:
    _probe(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):  # messages about the schema are no news to the reader
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError  # MLflow lets some of these through

    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TrackingAway(f"{masked(uri)}: {masked(first)}") from error


def _probe(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] == "sqlite":
        path = local_file(uri)
        if path is None or not path.is_file():
            raise TrackingAway(f"{uri}: no such file")
    elif parts.hostname is not None:
        default = {"https": 443, "postgresql": 5432}.get(parts.scheme.partition("+")[0], 80)
        try:
            address = (parts.hostname, parts.port or default)
            socket.create_connection(address, timeout=PROBE_SECONDS).close()
        except (OSError, ValueError) as error:
            raise TrackingAway(f"{masked(uri)}: {error}") from None


def _recorded_parent(client: "MlflowClient", uri: str, name: str, run_id: str | None) -> str | None:
    """Return the run named by the study's record, if this server has it."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise
    is_own = run.data.tags.get(report.TAG_STUDY) == name and not left_behind(
        uri, run.info.artifact_uri or ""
    )
    return run_id if is_own and run.info.lifecycle_stage == "active" else None


def _parents(client: "MlflowClient", name: str) -> list["Run"]:
    """Return the parent runs of the studies called `name`, the newest first."""
    quoted = name.replace("'", "")  # no study has a quote in its name: it then matches nothing
    where = f"tags.`{report.TAG_STUDY}` = '{quoted}' and tags.`{TAG_KIND}` = 'study'"
    return sorted(_search(client, where), key=lambda r: r.info.start_time or 0, reverse=True)


def _several(uri: str, name: str, count: int, chosen: "Run") -> str:
    when = ""
    if chosen.info.start_time:
        started = datetime.fromtimestamp(chosen.info.start_time / 1000, tz=UTC)
        when = f", started {started:%Y-%m-%d %H:%M} UTC"
    return (
        f"MLflow at {masked(uri)} holds {count} studies called {name!r}: read the newest "
        f"(run {chosen.info.run_id}{when})."
    )


def _search(client: "MlflowClient", where: str) -> Iterator["Run"]:
    experiments, token = [], None
    while True:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        experiments += [e.experiment_id for e in page]
        token = page.token
        if not token:
            break
    while experiments:
        runs = client.search_runs(experiments, where, max_results=_PAGE, page_token=token)
        yield from runs
        token = runs.token
        if not token:
            break
