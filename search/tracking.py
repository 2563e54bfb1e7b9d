"""MLflow: a parent run per study, a child per trial, written by one thread.

The study's loop never waits for the server: it puts events in a queue. Every report is one
`log_batch`. Runs are found again by their tags, and points at steps that the server already has
are skipped, so writing the same report twice leaves one point.
"""

import logging
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlparse

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from trainables.errors import UserError
from trainables.report import TAG_FRONT, TAG_METHOD, TAG_STATUS, TAG_STUDY, TAG_TRIAL

EXPERIMENT = "disparse"
TAG_KIND = "disparse.kind"
TAG_REASON = "disparse.reason"
TAG_PARENT = "mlflow.parentRunId"
STEP_METRIC = "training/fraction"  # in every report, so its history holds every step logged

_MLFLOW_STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MAX_PARAMS = 100  # MLflow's limits of one batch
_MAX_METRICS = 1000
_MAX_PARAM_CHARACTERS = 6000
_PROBE_SECONDS = 10.0
_CONNECT_SECONDS = 60.0  # a new SQLite file takes seconds for its tables, more on a busy disk
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """What the parent run says of a study."""

    study: str
    params: Mapping[str, str]


class Tracker:
    """Writes one study to MLflow.

    Create with `connect`; call `start`, `trial_started`, `report`, `trial_ended`, `close` from
    the study's loop. None of them raises or blocks on the server, `connect` and `close` aside.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, facts: StudyFacts) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._study = facts.study
        self._runs: dict[str, str] = {}  # MLflow run id by trial name
        self._last_steps: dict[str, int] = {}
        self.ended: set[str] = set()  # trials whose runs were complete when this driver began
        self.parent_run_id = self._open_parent(facts)
        self._find_children()
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._give_up = threading.Event()
        self._unwritten = 0
        self._problem = ""
        self._thread = threading.Thread(target=self._write, name="tracking", daemon=True)
        self._thread.start()

    def trial_started(
        self, name: str, *, method: str, params: Mapping[str, Any], started: float
    ) -> None:
        """Open the trial's run, or reopen it after a restart."""
        self._put(lambda: self._open_child(name, method, params, started))

    def report(self, name: str, *, step: int, metrics: Mapping[str, float], at: float) -> None:
        """One batch of points; skipped where the run has points at or beyond `step`."""
        finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
        self._put(lambda: self._log(name, step, finite, at))

    def trial_ended(self, name: str, *, status: str, reason: str, at: float) -> None:
        self._put(lambda: self._end_child(name, status, reason, at))

    def tag_front(self, members: Mapping[str, bool]) -> None:
        """Mark every finished trial as on the joint front or not."""
        for name, member in members.items():
            self._put(partial(self._tag, name, TAG_FRONT, member))

    def close(self, *, finished: bool, timeout_seconds: float = 30.0) -> str:
        """Write what is queued, end the parent; returns what could not be written, or ''.

        Children still open (their trials are unfinished) are ended KILLED; resuming the study
        opens them again.
        """
        self._put(lambda: self._end_all(finished))
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._give_up.set()
            self._thread.join(2 * max(_RETRY_SECONDS))
        left = self._unwritten + self._queue.qsize()
        if not left:
            return ""
        return f"{left} writes to MLflow were not made ({self._problem or 'the server is slow'})"

    def _put(self, write: Callable[[], None]) -> None:
        self._queue.put(write)

    def _write(self) -> None:
        while (write := self._queue.get()) is not None:
            self._try(write)

    def _try(self, write: Callable[[], None]) -> None:
        """Retry while the server is away; the order of writes is kept by waiting."""
        attempt = 0
        while True:
            try:
                write()
                return
            except Exception as error:
                self._problem = _first_line(error)
                if attempt == 0:
                    logger.warning("tracking: %s; will try again", self._problem)
                if self._give_up.is_set() or not _is_passing(error):
                    self._unwritten += 1
                    return
                self._give_up.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1

    def _open_parent(self, facts: StudyFacts) -> str:
        where = f"tags.`{TAG_STUDY}` = '{self._study}' and tags.`{TAG_KIND}` = 'study'"
        found = self._client.search_runs([self._experiment_id], where, max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {TAG_STUDY: self._study, TAG_KIND: "study"}
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=self._study)
            run_id = str(run.info.run_id)
        self._client.log_batch(run_id, params=[Param(k, _clip(v)) for k, v in facts.params.items()])
        return run_id

    def _find_children(self) -> None:
        """Learn of runs from earlier launches, and of the last step each has."""
        for run in self._children():
            name = run.data.tags.get(TAG_TRIAL)
            if name is None:
                continue
            self._runs[name] = run.info.run_id
            if run.info.status != "RUNNING" and TAG_STATUS in run.data.tags:
                self.ended.add(name)
            if STEP_METRIC in run.data.metrics:
                history = self._client.get_metric_history(run.info.run_id, STEP_METRIC)
                self._last_steps[name] = max(point.step for point in history)

    def _children(self) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`{TAG_PARENT}` = '{self.parent_run_id}'",
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _open_child(
        self, name: str, method: str, params: Mapping[str, Any], started: float
    ) -> None:
        if name in self._runs:
            self._client.update_run(self._runs[name], status="RUNNING")
        else:
            run = self._client.create_run(
                self._experiment_id,
                start_time=int(started * 1000),
                run_name=name,
                tags={
                    TAG_PARENT: self.parent_run_id,
                    TAG_STUDY: self._study,
                    TAG_TRIAL: name,
                    TAG_METHOD: method,
                },
            )
            self._runs[name] = run.info.run_id
        items = [Param(key, _clip(value)) for key, value in params.items()]
        for start in range(0, len(items), _MAX_PARAMS):
            self._client.log_batch(self._runs[name], params=items[start : start + _MAX_PARAMS])

    def _log(self, name: str, step: int, metrics: Mapping[str, float], at: float) -> None:
        if step <= self._last_steps.get(name, -1) or name not in self._runs:
            return
        points = [Metric(k, v, int(at * 1000), step) for k, v in metrics.items()]
        for start in range(0, len(points), _MAX_METRICS):
            self._client.log_batch(self._runs[name], metrics=points[start : start + _MAX_METRICS])
        self._last_steps[name] = step

    def _end_child(self, name: str, status: str, reason: str, at: float) -> None:
        run_id = self._runs.get(name)
        if run_id is None:
            return
        tags = [RunTag(TAG_STATUS, status)]
        if reason:
            tags.append(RunTag(TAG_REASON, reason[:4000]))
        self._client.log_batch(run_id, tags=tags)
        self._client.set_terminated(run_id, _MLFLOW_STATUS.get(status, "FAILED"), int(at * 1000))

    def _tag(self, name: str, key: str, value: bool) -> None:
        if name in self._runs:
            self._client.set_tag(self._runs[name], key, str(value).lower())

    def _end_all(self, finished: bool) -> None:
        for run in self._children():
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        self._client.set_terminated(self.parent_run_id, "FINISHED" if finished else "KILLED")


def probe(uri: str) -> None:
    """Raises `UserError` within seconds where nobody answers at `uri`; writes nothing."""
    _within(_PROBE_SECONDS, uri, lambda: _check_answers(uri))


def connect(uri: str, facts: StudyFacts, artifacts: Path) -> Tracker:
    """Open the study's runs. Raises `UserError` where the server does not play along."""

    def attempt() -> Tracker:
        _limit_retries()
        client = MlflowClient(tracking_uri=uri)
        return Tracker(client, _experiment(client, uri, artifacts), facts)

    return _within(_CONNECT_SECONDS, uri, attempt)


def _within(seconds: float, uri: str, attempt: Callable[[], T]) -> T:
    """The attempt's result; MLflow retries a dead database for minutes, so it runs apart."""
    outcome: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            outcome.put((attempt(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="tracking-connect", daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        result, error = None, TimeoutError(f"no answer within {seconds:.0f} s")
    if error is not None:
        raise UserError(
            f"`--tracking-uri` must be an MLflow server or database that answers, got {uri!r} "
            f"({_first_line(error)}); start it, or leave the option out for a local file"
        ) from None
    return cast(T, result)


def _experiment(client: MlflowClient, uri: str, artifacts: Path) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    location = artifacts.as_uri() if uri.startswith("sqlite") else None
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=location))
    except MlflowException:  # another study was first
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            raise
        return str(found.experiment_id)


def _check_answers(uri: str) -> None:
    """Fail at once where nobody listens."""
    parsed = urlparse(uri)
    if parsed.scheme in ("http", "https"):
        import urllib.request

        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS / 2):
            return
    if parsed.scheme.startswith("sqlite"):
        Path(uri.partition("///")[2]).parent.mkdir(parents=True, exist_ok=True)
        return
    if parsed.scheme.split("+")[0] in ("postgresql", "mysql", "mssql"):
        import sqlalchemy

        with sqlalchemy.create_engine(uri).connect():
            return
    raise UserError("it must begin with http(s)://, sqlite:/// or postgresql://")


def _limit_retries() -> None:
    """MLflow's own retries last minutes; ours, in the writer, know when to stop."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def _is_passing(error: BaseException) -> bool:
    """Whether waiting may help: a refused value will be refused again."""
    if isinstance(error, MlflowException):
        return error.error_code not in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "BAD_REQUEST",
        )
    return isinstance(error, (OSError, TimeoutError)) or "connection" in str(error).lower()


def _clip(value: Any) -> str:
    return str(value)[:_MAX_PARAM_CHARACTERS]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
