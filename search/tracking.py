"""MLflow: a parent run per study, a child per trial, written by one thread.

The study's loop never waits for the server: it puts events in a queue. Every report is one
`log_batch`. Runs are found again by their tags, and points at steps that the server already has
are skipped, so writing the same report twice leaves one point. What could not be written is
said at the end, and the next launch of the study writes it from its own record.
"""

import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import InterfaceError, OperationalError

from trainables.report import TAG_FRONT, TAG_METHOD, TAG_STATUS, TAG_STUDY, TAG_TRIAL

TAG_KIND = "disparse.kind"
TAG_REASON = "disparse.reason"
TAG_STUDY_ID = "disparse.study_id"
TAG_INCOMPLETE = "disparse.incomplete"  # "true" where a point was refused; to be written again
TAG_PARENT = "mlflow.parentRunId"
STEP_METRIC = "training/fraction"  # in every report, so its history holds every step logged

_MLFLOW_STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MAX_PARAMS = 100  # MLflow's limits of one batch
_MAX_METRICS = 1000
_MAX_PARAM_CHARACTERS = 6000
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """What the parent run says of a study. `study_id` tells it from others of its name."""

    study: str
    study_id: str
    params: Mapping[str, str]


class Tracker:
    """Writes one study to MLflow.

    Create with `search.connection.connect`; call the rest from the study's loop. Nothing raises
    or waits for the server, `close` aside.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, facts: StudyFacts) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._facts = facts
        self._runs: dict[str, str] = {}  # MLflow run id by trial name
        self._known_params: dict[str, set[str]] = {}  # of runs from earlier launches
        self._steps: dict[str, set[int]] = {}  # with points on the server, as far as looked up
        self._incomplete: set[str] = set()  # trials of which a write was refused
        self._to_complete: set[str] = set()  # those that an earlier launch left so
        self.ended: set[str] = set()  # trials whose runs were complete when this driver began
        self.parent_run_id = self._open_parent(facts)
        self._find_children()
        self._queue: queue.Queue[tuple[Callable[[], None], str] | None] = queue.Queue()
        self._give_up = threading.Event()
        self._unwritten = 0
        self._problem = ""
        self._thread = threading.Thread(target=self._write, name="tracking", daemon=True)
        self._thread.start()

    def trial_started(
        self, name: str, *, method: str, params: Mapping[str, Any], started: float
    ) -> None:
        """Open the trial's run, or reopen it after a restart."""
        self._put(lambda: self._open_child(name, method, params, started), name)

    def report(self, name: str, *, step: int, metrics: Mapping[str, float], at: float) -> None:
        """One batch of points; skipped where the run has points at `step`."""
        finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
        self._put(lambda: self._log(name, step, finite, at), name)

    def trial_ended(self, name: str, *, status: str, reason: str, at: float) -> None:
        self._put(lambda: self._end_child(name, status, reason, at), name)

    def tag_front(self, members: Mapping[str, bool]) -> None:
        """Mark every finished trial as on the joint front or not."""
        for name, member in members.items():
            self._put(partial(self._tag, name, TAG_FRONT, member), name)

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

    def _put(self, write: Callable[[], None], name: str = "") -> None:
        self._queue.put((write, name))

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            self._try(*item)

    def _try(self, write: Callable[[], None], name: str) -> None:
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
                    self._incomplete.add(name)
                    return
                self._give_up.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1

    def _open_parent(self, facts: StudyFacts) -> str:
        where = f"tags.`{TAG_STUDY_ID}` = '{facts.study_id}' and tags.`{TAG_KIND}` = 'study'"
        found = self._client.search_runs([self._experiment_id], where, max_results=1)
        if found:
            run_id, known = str(found[0].info.run_id), set(found[0].data.params)
            self._client.update_run(run_id, status="RUNNING")
        else:
            run = self._client.create_run(
                self._experiment_id,
                tags={
                    TAG_STUDY: facts.study,
                    TAG_STUDY_ID: facts.study_id,
                    TAG_KIND: "study",
                },
                run_name=facts.study,
            )
            run_id, known = str(run.info.run_id), set()
        self._log_params(run_id, facts.params, known)
        return run_id

    def _find_children(self) -> None:
        """Learn of runs from earlier launches."""
        for run in self._children():
            name = run.data.tags.get(TAG_TRIAL)
            if name is None:
                continue
            self._runs[name] = run.info.run_id
            self._known_params[name] = set(run.data.params)
            if STEP_METRIC not in run.data.metrics:
                self._steps[name] = set()
            if run.data.tags.get(TAG_INCOMPLETE) == "true":
                self._to_complete.add(name)
            elif run.info.status != "RUNNING" and TAG_STATUS in run.data.tags:
                self.ended.add(name)

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
                    TAG_STUDY: self._facts.study,
                    TAG_STUDY_ID: self._facts.study_id,
                    TAG_TRIAL: name,
                    TAG_METHOD: method,
                },
            )
            self._runs[name] = run.info.run_id
            self._steps[name] = set()
        self._log_params(self._runs[name], params, self._known_params.get(name, set()))

    def _log_params(self, run_id: str, params: Mapping[str, Any], known: set[str]) -> None:
        """Those the run lacks: MLflow refuses to change one, such as the root of moved data."""
        items = [Param(k, _clip(v)) for k, v in params.items() if k not in known]
        for start in range(0, len(items), _MAX_PARAMS):
            self._client.log_batch(run_id, params=items[start : start + _MAX_PARAMS])

    def _log(self, name: str, step: int, metrics: Mapping[str, float], at: float) -> None:
        if name not in self._runs or step in self._steps_of(name):
            return
        points = [Metric(k, v, int(at * 1000), step) for k, v in metrics.items()]
        for start in range(0, len(points), _MAX_METRICS):
            self._client.log_batch(self._runs[name], metrics=points[start : start + _MAX_METRICS])
        self._steps[name].add(step)

    def _steps_of(self, name: str) -> set[int]:
        """The steps the server has of a run, asked for once."""
        if name not in self._steps:
            history = self._client.get_metric_history(self._runs[name], STEP_METRIC)
            self._steps[name] = {point.step for point in history}
        return self._steps[name]

    def _end_child(self, name: str, status: str, reason: str, at: float) -> None:
        run_id = self._runs.get(name)
        if run_id is None:
            return
        tags = [RunTag(TAG_STATUS, status)]
        if name in self._incomplete | self._to_complete:
            tags.append(RunTag(TAG_INCOMPLETE, str(name in self._incomplete).lower()))
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


def _is_passing(error: BaseException) -> bool:
    """Whether waiting may help: a refused value will be refused again."""
    if isinstance(error, MlflowException):
        return error.error_code not in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "BAD_REQUEST",
        )
    # A database that is locked, or whose connection broke, comes back.
    passing = (OSError, OperationalError, InterfaceError)
    return isinstance(error, passing) or "connection" in str(error).lower()


def _clip(value: Any) -> str:
    return str(value)[:_MAX_PARAM_CHARACTERS]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
