"""A study's runs in MLflow: a parent, a child per trial, found again by their tags.

Writing the same events twice leaves one of each: runs are looked up by the study's id and the
trial's name, points by their step where an earlier launch may have written them. Of two points
that are equal down to their timestamps, as ours are when a call is repeated whose answer was
lost, MLflow keeps one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import InterfaceError, OperationalError

from search.events import Ended, Point, StudyFacts, TrialWrites
from trainables.report import TAG_FRONT, TAG_METHOD, TAG_STATUS, TAG_STUDY, TAG_TRIAL

TAG_KIND = "disparse.kind"
TAG_REASON = "disparse.reason"
TAG_STUDY_ID = "disparse.study_id"
TAG_INCOMPLETE = "disparse.incomplete"  # "true" where a point was refused; to be written again
TAG_PARENT = "mlflow.parentRunId"
STEP_METRIC = "training/fraction"  # in every report, so its history holds every step logged

# FINISHED means trained to the end: values that can be compared with one another. A trial that
# the scheduler ended early is KILLED, as are those an interrupted study left; the latter have no
# `disparse.status` yet.
MLFLOW_STATUS = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
_MAX_PARAMS = 100  # MLflow's limits of one batch: so many parameters, 1,000 items in all
_MAX_METRICS = 850
_MAX_PARAM_CHARACTERS = 6000
MAX_REASON_CHARACTERS = 4000
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)


class GaveUp(Exception):
    """The server is away, and waiting for it was called off."""


class StudyRuns:
    """Writes one study's runs; waits while the server is away, so that the order is kept.

    on_child: told of every run that an earlier launch left, by the trial's name.
    on_progress: called after every answer of the server. on_trouble: told, once per write, why
    it has to wait. give_up: once set, a write that fails raises `GaveUp` instead of waiting.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        facts: StudyFacts,
        *,
        on_child: Callable[[str, Run], None] = lambda name, run: None,
        on_progress: Callable[[], None] = lambda: None,
        on_trouble: Callable[[str], None] = lambda text: None,
        give_up: threading.Event | None = None,
    ) -> None:
        self.client = client
        self._experiment_id = experiment_id
        self._facts = facts
        self._on_child = on_child
        self._on_progress = on_progress
        self._on_trouble = on_trouble
        self._give_up = give_up or threading.Event()
        self._ids: dict[str, str] = {}  # MLflow's run id, by trial name
        self._open: set[str] = set()  # trials whose runs are RUNNING
        self._front: dict[str, bool] = {}  # as tagged
        self._known_params: dict[str, set[str]] = {}  # of unfinished runs from earlier launches
        self._to_look_up: set[str] = set()  # trials that may have points we do not know of
        self._steps: dict[str, set[int]] = {}  # with points; of trials that have not ended
        self._to_complete: set[str] = set()  # trials of which a write was refused, as tagged
        self._incomplete: set[str] = set()  # the same, of this launch
        self.ended: set[str] = set()  # trials whose runs were complete when this began
        self.num_changes = 0  # calls that changed something
        self.num_refused = 0
        self.problem = ""  # the last refusal or trouble
        self._parent_status = ""
        self.parent_run_id = self._find_or_make_parent()
        self._find_children()

    def begin(self) -> None:
        """The study is at work."""
        if self._parent_status != "RUNNING":
            self._set_status(self.parent_run_id, "RUNNING")
            self._parent_status = "RUNNING"

    def write(self, name: str, writes: TrialWrites) -> None:
        """What happened to a trial since the last call, in as few calls as it takes.

        Of what the server refuses, everything else is written, and the trial is tagged
        incomplete. Raises `GaveUp`.
        """
        started = writes.started
        if started is not None and name not in self._ids:
            self._insist(name, lambda again: self._make_child(name, writes, look_first=again))
        if name not in self._ids:
            return
        if started is not None and name not in self._open and writes.ended is None:
            self._insist(name, lambda _: self._set_status(self._ids[name], "RUNNING"))
            self._open.add(name)
        known = self._known_params.get(name, set())
        params = {} if started is None else started.params
        self._log(
            name,
            [Param(k, _clip(v)) for k, v in params.items() if k not in known],
            self._new_points(name, writes.points),
            self._new_tags(name, writes),
        )
        if writes.ended is not None:
            self._end(name, writes.ended)

    def end_all(self, *, finished: bool) -> None:
        """No run is left RUNNING: unfinished trials become KILLED, as does an unfinished study."""
        for name in sorted(self._open):
            self._insist(name, partial(self._kill, name))
        self._open.clear()
        status = "FINISHED" if finished else "KILLED"
        if self._parent_status != status:
            self._insist("", lambda _: self._terminate(self.parent_run_id, status))
            self._parent_status = status

    def attach(self, paths: Iterable[Path]) -> None:
        """Log files with the parent run, except those it has."""
        known = {item.path for item in self.client.list_artifacts(self.parent_run_id)}
        for path in paths:
            if path.name not in known:
                self._insist("", partial(self._attach, path))

    def steps_of(self, name: str) -> set[int]:
        """Those with points on the server, asked for once."""
        if name in self._to_look_up:
            self._insist(name, partial(self._look_up, name))
        return self._steps.setdefault(name, set())

    # ------------------------------------------------------------------ finding

    def _find_or_make_parent(self) -> str:
        where = f"tags.`{TAG_STUDY_ID}` = '{self._facts.study_id}' and tags.`{TAG_KIND}` = 'study'"
        order = ["attributes.start_time ASC"]
        found = self.client.search_runs([self._experiment_id], where, order_by=order, max_results=1)
        known: set[str] = set()
        if found:
            run = found[0]
            known = set(run.data.params)
        else:
            tags = {
                TAG_STUDY: self._facts.study,
                TAG_STUDY_ID: self._facts.study_id,
                TAG_KIND: "study",
            }
            run = self.client.create_run(self._experiment_id, tags=tags, run_name=self._facts.study)
            self._changed()
        self._parent_status = str(run.info.status)
        run_id = str(run.info.run_id)
        # Only those it lacks: MLflow refuses to change one, such as the root of moved data.
        params = [Param(k, _clip(v)) for k, v in self._facts.params.items() if k not in known]
        if params:
            self.client.log_batch(run_id, params=params)
            self._changed()
        return run_id

    def _find_children(self) -> None:
        """Learn of runs from earlier launches."""
        for run in self._children(f"tags.`{TAG_PARENT}` = '{self.parent_run_id}'"):
            name = run.data.tags.get(TAG_TRIAL)
            if name is None:
                continue
            if name in self._ids:
                # A server that was slow has made a second one, when the call was repeated.
                self.client.delete_run(run.info.run_id)
                self._changed()
                continue
            self._ids[name] = str(run.info.run_id)
            self._front[name] = run.data.tags.get(TAG_FRONT) == "true"
            if run.info.status == "RUNNING":
                self._open.add(name)
            if STEP_METRIC in run.data.metrics:
                self._to_look_up.add(name)
            if run.data.tags.get(TAG_INCOMPLETE) == "true":
                self._to_complete.add(name)
            elif run.info.status != "RUNNING" and TAG_STATUS in run.data.tags:
                self.ended.add(name)
            if name not in self.ended:
                self._known_params[name] = set(run.data.params)
            self._on_child(name, run)

    def _children(self, where: str) -> Iterator[Run]:
        """Oldest first."""
        token = None
        while True:
            page = self.client.search_runs(
                [self._experiment_id],
                where,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            self._on_progress()
            token = page.token
            if not token:
                return

    # ------------------------------------------------------------------ writing

    def _make_child(self, name: str, writes: TrialWrites, *, look_first: bool) -> None:
        """look_first: an earlier call may have made the run though its answer was lost."""
        assert writes.started is not None
        if look_first:
            where = (
                f"tags.`{TAG_PARENT}` = '{self.parent_run_id}' and tags.`{TAG_TRIAL}` = '{name}'"
            )
            found = next(self._children(where), None)
            if found is not None:
                self._ids[name] = str(found.info.run_id)
                self._open.add(name)
                return
        run = self.client.create_run(
            self._experiment_id,
            start_time=int(writes.started.at * 1000),
            run_name=name,
            tags={
                TAG_PARENT: self.parent_run_id,
                TAG_STUDY: self._facts.study,
                TAG_STUDY_ID: self._facts.study_id,
                TAG_TRIAL: name,
                TAG_METHOD: writes.started.method,
                TAG_FRONT: "false",
            },
        )
        self._changed()
        self._ids[name] = str(run.info.run_id)
        self._front[name] = False
        self._open.add(name)

    def _new_points(self, name: str, points: Sequence[Point]) -> list[Point]:
        if not points:
            return []
        known = self.steps_of(name)
        new = []
        for point in points:
            if point.step not in known and point.metrics:
                known.add(point.step)
                new.append(point)
        return new

    def _look_up(self, name: str, _: bool) -> None:
        history = self.client.get_metric_history(self._ids[name], STEP_METRIC)
        self._steps[name] = {point.step for point in history}
        self._to_look_up.discard(name)

    def _new_tags(self, name: str, writes: TrialWrites) -> list[RunTag]:
        tags = []
        if writes.front is not None and writes.front != self._front.get(name):
            tags.append(RunTag(TAG_FRONT, str(writes.front).lower()))
            self._front[name] = writes.front
        if writes.ended is not None:
            tags.append(RunTag(TAG_STATUS, writes.ended.status))
            if writes.ended.reason:
                tags.append(RunTag(TAG_REASON, writes.ended.reason[:MAX_REASON_CHARACTERS]))
            if name in self._to_complete:
                tags.append(RunTag(TAG_INCOMPLETE, "false"))
        return tags

    def _log(self, name: str, params: list[Param], points: list[Point], tags: list[RunTag]) -> None:
        """MLflow writes a batch's tags last: a run that has its status has all of its points."""
        metrics = [metric for point in points for metric in _metrics(point)]
        if not params and not metrics and not tags:
            return
        whole = {"params": params, "metrics": metrics, "tags": tags}
        fits = len(params) <= _MAX_PARAMS and len(metrics) <= _MAX_METRICS
        if fits and name not in self._incomplete and self._accepted(name, **whole):
            return
        # Too much for one batch, or something in it was refused: piece by piece.
        for start in range(0, len(params), _MAX_PARAMS):
            self._batch(name, params=params[start : start + _MAX_PARAMS])
        for point in points:
            ours = _metrics(point)
            for start in range(0, len(ours), _MAX_METRICS):
                self._batch(name, metrics=ours[start : start + _MAX_METRICS])
        if name in self._incomplete and any(tag.key == TAG_STATUS for tag in tags):
            tags = [t for t in tags if t.key != TAG_INCOMPLETE] + [RunTag(TAG_INCOMPLETE, "true")]
        if tags:
            self._batch(name, tags=tags)

    def _accepted(self, name: str, **batch: Any) -> bool:
        """Try one batch; False where the server refuses something in it."""

        def attempt(_: bool) -> None:
            self.client.log_batch(self._ids[name], **batch)
            self._changed()

        return self._insist(name, attempt, count=False)

    def _batch(self, name: str, **batch: Any) -> None:
        def attempt(_: bool) -> None:
            self.client.log_batch(self._ids[name], **batch)
            self._changed()

        self._insist(name, attempt)

    def _end(self, name: str, ended: Ended) -> None:
        status = MLFLOW_STATUS.get(ended.status, "FAILED")
        self._insist(name, lambda _: self._terminate(self._ids[name], status, ended.at))
        self._open.discard(name)
        for kept in (self._known_params, self._steps):
            kept.pop(name, None)
        self._to_look_up.add(name)  # should it ever be reported again

    def _kill(self, name: str, _: bool) -> None:
        self._terminate(self._ids[name], "KILLED")

    def _attach(self, path: Path, _: bool) -> None:
        self.client.log_artifact(self.parent_run_id, str(path))
        self._changed()

    def _set_status(self, run_id: str, status: str) -> None:
        self.client.update_run(run_id, status=status)
        self._changed()

    def _terminate(self, run_id: str, status: str, at: float | None = None) -> None:
        self.client.set_terminated(run_id, status, None if at is None else int(at * 1000))
        self._changed()

    def _changed(self) -> None:
        self.num_changes += 1
        self._on_progress()

    def _insist(self, name: str, attempt: Callable[[bool], object], *, count: bool = True) -> bool:
        """Try until the server answers; False where it refuses. Raises `GaveUp`.

        attempt: told whether an earlier try may have been carried out without an answer.
        count: whether a refusal is the last word.
        """
        tries = 0
        while True:
            try:
                attempt(tries > 0)
                return True
            except Exception as error:
                self.problem = first_line(error)
                if not is_passing(error):
                    if count:
                        self.num_refused += 1
                        self._incomplete.add(name)
                        self._on_trouble(f"{self.problem}; not written")
                    return False
                if tries == 0:
                    self._on_trouble(f"{self.problem}; will try again")
                if self._give_up.wait(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]):
                    raise GaveUp(self.problem) from error
                tries += 1


def is_passing(error: BaseException) -> bool:
    """Whether waiting may help: a refused value will be refused again."""
    if isinstance(error, MlflowException):
        # MLflow calls a connection that broke in the database's driver a bad request.
        if error.error_code == "BAD_REQUEST":
            return "connect" in str(error).lower()
        return error.error_code not in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "RESOURCE_ALREADY_EXISTS",
        )
    return isinstance(error, (OSError, OperationalError, InterfaceError))


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _metrics(point: Point) -> list[Metric]:
    at = int(point.at * 1000)
    return [Metric(name, value, at, point.step) for name, value in point.metrics.items()]


def _clip(value: Any) -> str:
    return str(value)[:_MAX_PARAM_CHARACTERS]
