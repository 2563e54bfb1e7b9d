"""What analysis reads from MLflow and writes back to it. The only file here that loads it.

MLflow retries a dead server for minutes and creates a sqlite file that is not there, so an
address is probed first; whatever goes wrong then is one exception, `TrackingAway`.
"""

import ast
import contextlib
import logging
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainables import report
from trainables.command_line import masked

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

TAG_KIND = "disparse.kind"
TAG_PARENT = "mlflow.parentRunId"
TAG_STUDY_ID = "disparse.study_id"  # tells studies of one name on one server apart
_PROBE_SECONDS = 3.0
_PAGE = 1000


class TrackingAway(RuntimeError):
    """The tracking server does not answer, or answers with an error. The message says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """One MLflow run, parameters parsed to Python values, metrics at their last step."""

    run_id: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedStudy:
    parent_run_id: str | None
    params: Mapping[str, Any]  # of the parent
    runs: tuple[TrackedRun, ...]  # the trials
    notes: tuple[str, ...] = ()


def resolve_uri(flag: str | None, recorded: object, storage: Path) -> str | None:
    """The flag, else the study's record, else MLFLOW_TRACKING_URI, else `storage`/mlflow.db.

    A record holds no password: where the environment names the recorded address with one, the
    environment's is taken.
    """
    environment = os.environ.get("MLFLOW_TRACKING_URI")
    if environment and recorded in (masked(environment), _without_password(environment)):
        recorded = environment
    for uri in (flag, recorded, environment):
        if isinstance(uri, str) and uri:
            return uri
    database = storage / "mlflow.db"
    return f"sqlite:///{database}" if database.is_file() else None


def read_study(
    uri: str, name: str, *, parent_run_id: object = None, study_id: object = None
) -> TrackedStudy | None:
    """Parent and children of the study, or None where the server knows no such study.

    A server may hold several studies of one name. The record's `parent_run_id` and `study_id`
    (both optional) say which is meant; without them the newest is taken and `notes` says so.
    """
    notes: tuple[str, ...] = ()
    with _client(uri) as client:
        parent = _recorded_parent(client, name, parent_run_id)
        if parent is None:
            where = f"{_of_study(name)} and tags.`{TAG_KIND}` = 'study'"
            parents = list(_search(client, where))
            if study_id:
                # A run without the tag is older than the tag, and may be the study's own.
                wanted = [r for r in parents if r.data.tags.get(TAG_STUDY_ID) == study_id]
                parents = wanted or [r for r in parents if TAG_STUDY_ID not in r.data.tags]
            parent = max(parents, key=lambda r: r.info.start_time or 0, default=None)
            if parent is not None and len(parents) > 1:
                notes = (_several(uri, name, len(parents), parent),)
        children = _children(client, name, None if parent is None else parent.info.run_id)
    if parent is None and study_id:
        children = [r for r in children if r.data.tags.get(TAG_STUDY_ID) == study_id]
    if parent is None and not children:
        return None
    return TrackedStudy(
        parent_run_id=None if parent is None else parent.info.run_id,
        params={} if parent is None else {k: _parsed(v) for k, v in parent.data.params.items()},
        runs=tuple(_tracked(run) for run in children),
        notes=notes,
    )


def study_names(uri: str) -> tuple[str, ...]:
    """Every study the server knows."""
    with _client(uri) as client:
        runs = list(_search(client, f"tags.`{TAG_KIND}` = 'study'"))
    names = {run.data.tags.get(report.TAG_STUDY) for run in runs}
    return tuple(sorted(name for name in names if name))


def tag_front(
    uri: str, name: str, parent_run_id: str | None, member_run_ids: Collection[str]
) -> int:
    """Set `disparse.front` to true on the members' runs, to false on the study's other trials.

    The study is the children of `parent_run_id`, or by name without one. Returns how many tags
    changed: a second call writes nothing.
    """
    changed = 0
    with _client(uri) as client:
        for run in _children(client, name, parent_run_id):
            value = "true" if run.info.run_id in member_run_ids else "false"
            if run.data.tags.get(report.TAG_FRONT) != value:
                client.set_tag(run.info.run_id, report.TAG_FRONT, value)
                changed += 1
    return changed


def log_artifacts(uri: str, run_id: str, paths: Iterable[Path]) -> None:
    """Log files as artifacts of a run, at its top."""
    with _client(uri) as client:
        for path in paths:
            client.log_artifact(run_id, str(path))


@contextlib.contextmanager
def _client(uri: str) -> Iterator["MlflowClient"]:
    _probe(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):  # schema chatter is not news to the reader
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
    if parts.scheme == "sqlite":
        path = uri.removeprefix("sqlite:///").partition("?")[0]
        if not Path(path).is_file():
            raise TrackingAway(f"{uri}: no such file")
    elif parts.hostname is not None:
        default = {"https": 443, "postgresql": 5432}.get(parts.scheme.partition("+")[0], 80)
        try:
            address = (parts.hostname, parts.port or default)
            socket.create_connection(address, timeout=_PROBE_SECONDS).close()
        except (OSError, ValueError) as error:
            raise TrackingAway(f"{masked(uri)}: {error}") from None


def _without_password(uri: str) -> str:
    """The address as a record keeps it: the user stays, the password goes."""
    return masked(uri).replace(":***@", "@", 1)


def _recorded_parent(client: "MlflowClient", name: str, run_id: object) -> "Run | None":
    """The run of the study's record, if this server has it: it may be another server."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    if not isinstance(run_id, str) or not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise
    is_ours = run.data.tags.get(report.TAG_STUDY) == name
    return run if is_ours and run.info.lifecycle_stage == "active" else None


def _children(client: "MlflowClient", name: str, parent_run_id: str | None) -> list["Run"]:
    """The trials' runs: those of the parent, or of the study's name where there is no parent."""
    where = _of_study(name)
    if parent_run_id is not None:
        where = f"tags.`{TAG_PARENT}` = '{parent_run_id}'"
    return [run for run in _search(client, where) if report.TAG_TRIAL in run.data.tags]


def _several(uri: str, name: str, count: int, chosen: "Run") -> str:
    started = _time(chosen.info.start_time)
    when = "" if started is None else f", started {started:%Y-%m-%d %H:%M} UTC"
    return (
        f"MLflow at {masked(uri)} holds {count} studies called {name!r} and no record says "
        f"which is meant: read the newest (run {chosen.info.run_id}{when})."
    )


def _of_study(name: str) -> str:
    return f"tags.`{report.TAG_STUDY}` = '{_quoted(name)}'"


def _quoted(name: str) -> str:
    return name.replace("'", "")  # no study has a quote in its name: it then matches nothing


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


def _tracked(run: "Run") -> TrackedRun:
    return TrackedRun(
        run_id=run.info.run_id,
        tags=dict(run.data.tags),
        params={name: _parsed(value) for name, value in run.data.params.items()},
        metrics=dict(run.data.metrics),
        started=_time(run.info.start_time),
        ended=_time(run.info.end_time),
    )


def _time(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def _parsed(text: str) -> Any:
    """MLflow keeps parameters as text: numbers, booleans, None and lists come back as such."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return list(value) if isinstance(value, tuple) else value
