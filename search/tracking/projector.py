"""A study's runs in MLflow: a parent, a child per trial, found again by their tags.

Writing the same events twice leaves one of each: runs are looked up by the study's id and the
trial's name, points by their step where an earlier launch may have written them. Of two points
that are equal down to their timestamps, as ours are when a call is repeated whose answer was
lost, MLflow keeps one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage, Param, Run, RunTag, ViewType
from mlflow.tracking import MlflowClient

from search.tracking.bulk import NewRun, RunTables
from search.tracking.events import Ended, Point, StudyFacts, TrialWrites
from search.tracking.retries import Retries
from search.tracking.run_content import (
    STEP_METRIC,
    TAG_INCOMPLETE,
    TAG_KIND,
    TAG_PARENT,
    TAG_STUDY_ID,
    metrics_of,
    params_of,
    status_of,
    tags_of_end,
    tags_of_start,
)
from trainables.report import TAG_FRONT, TAG_STATUS, TAG_STUDY, TAG_TRIAL

_MAX_PARAMS = 100  # MLflow's limits of one batch: so many parameters, 1,000 items in all
_MAX_METRICS = 850


class StudyRuns:
    """Writes one study's runs; waits while the server is away, so that the order is kept.

    on_child: told of every run that an earlier launch left, by the trial's name.
    on_progress, on_trouble, give_up: as those of `Retries`.
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
        self.calls = Retries(on_progress, on_trouble, give_up or threading.Event())
        self._ids: dict[str, str] = {}  # MLflow's run id, by trial name
        self._open: set[str] = set()  # trials whose runs are RUNNING
        self._front: dict[str, bool] = {}  # as tagged
        self._known_params: dict[str, set[str]] = {}  # of unfinished runs from earlier launches
        self._to_look_up: set[str] = set()  # trials that may have points we do not know of
        self._steps: dict[str, set[int]] = {}  # with points; of trials that have not ended
        self._to_complete: set[str] = set()  # trials of which a write was refused, as tagged
        self._doubtful: set[str] = set()  # trials whose runs may be there though we know none
        self.ended: set[str] = set()  # trials whose runs were complete when this began
        self._tables = RunTables.of(client, experiment_id)
        self._parent_status = ""
        self._made_parent = False
        self.parent_run_id = self._find_or_make_parent()
        self._find_children()

    def begin(self) -> None:
        """The study is at work."""
        if self._parent_status != "RUNNING":
            self._set_status(self.parent_run_id, "RUNNING")
            self._parent_status = "RUNNING"

    def write_all(self, trials: Mapping[str, TrialWrites]) -> None:
        """What happened to trials since the last call, in as few calls as it takes.

        Of what the server refuses, everything else is written, and the trial is tagged
        incomplete. Raises `GaveUp`.
        """
        done = self._insert_new(trials) | self._tag_fronts(trials)
        for name, writes in trials.items():
            if name not in done:
                self.write(name, writes)

    def write(self, name: str, writes: TrialWrites) -> None:
        """`write_all` of one trial, by MLflow's own calls."""
        started = writes.started
        if started is not None and name not in self._ids:
            doubtful = name in self._doubtful
            self.calls.insist(
                name, lambda again: self._make_child(name, writes, look_first=again or doubtful)
            )
        if name not in self._ids:
            return
        if started is not None and name not in self._open and writes.ended is None:
            self.calls.insist(name, lambda _: self._set_status(self._ids[name], "RUNNING"))
            self._open.add(name)
        known = self._known_params.get(name, set())
        params = {} if started is None else started.params
        self._log(
            name,
            params_of(params, known),
            self._new_points(name, writes.points),
            self._new_tags(name, writes),
        )
        if writes.ended is not None:
            self._end(name, writes.ended)

    def end_all(self, *, finished: bool) -> None:
        """No run is left RUNNING: unfinished trials become KILLED, as does an unfinished study."""
        for name in sorted(self._open):
            self.calls.insist(name, partial(self._kill, name))
        self._open.clear()
        status = "FINISHED" if finished else "KILLED"
        if self._parent_status != status:
            self.calls.insist("", lambda _: self._terminate(self.parent_run_id, status))
            self._parent_status = status

    def discard(self) -> None:
        """Leave nothing of a study that was given up before its first trial."""
        if self._made_parent and not self._ids:
            self.calls.insist("", lambda _: self.client.delete_run(self.parent_run_id))

    def attach(self, paths: Iterable[Path]) -> None:
        """Log files with the parent run, except those it has."""
        known = {item.path for item in self.client.list_artifacts(self.parent_run_id)}
        for path in paths:
            if path.name not in known:
                self.calls.insist("", partial(self._attach, path))

    def steps_of(self, name: str) -> set[int]:
        """Those with points on the server, asked for once."""
        if name in self._to_look_up:
            self.calls.insist(name, partial(self._look_up, name))
        return self._steps.setdefault(name, set())

    # ------------------------------------------------------------------ finding

    def _find_or_make_parent(self) -> str:
        where = f"tags.`{TAG_STUDY_ID}` = '{self._facts.study_id}' and tags.`{TAG_KIND}` = 'study'"
        found = self.client.search_runs(
            [self._experiment_id],
            where,
            run_view_type=ViewType.ALL,
            order_by=["attributes.start_time ASC"],
        )
        # Else one that was deleted: its trials are still its own.
        found.sort(key=lambda run: run.info.lifecycle_stage != LifecycleStage.ACTIVE)
        known: set[str] = set()
        if found:
            run = found[0]
            known = set(run.data.params)
            if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
                self.client.restore_run(run.info.run_id)
                self.calls.changed()
        else:
            self._made_parent = True
            tags = {
                TAG_STUDY: self._facts.study,
                TAG_STUDY_ID: self._facts.study_id,
                TAG_KIND: "study",
            }
            run = self.client.create_run(self._experiment_id, tags=tags, run_name=self._facts.study)
            self.calls.changed()
        self._parent_status = str(run.info.status)
        run_id = str(run.info.run_id)
        # Only those it lacks: MLflow refuses to change one, such as the root of moved data.
        params = params_of(self._facts.params, known)
        if params:
            self.client.log_batch(run_id, params=params)
            self.calls.changed()
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
                self.calls.changed()
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
            self.calls.on_progress()
            token = page.token
            if not token:
                return

    # ------------------------------------------------------------------ writing

    def _insert_new(self, trials: Mapping[str, TrialWrites]) -> set[str]:
        """All runs that are yet to be made, at once, where MLflow's database is at hand; the names
        of those that were written."""
        tables = self._tables
        if tables is None:
            return set()
        new = {
            name: self._new_run(name, writes)
            for name, writes in trials.items()
            if name not in self._ids and writes.started is not None
        }
        if not new:
            return set()
        runs = list(new.values())

        def attempt(again: bool) -> None:
            tables.insert(runs, again=again)
            self.calls.changed(len(runs))

        if not self.calls.insist("", attempt, count=False):
            # One by one: all but what is refused. A try whose answer was lost may have made them.
            self._doubtful |= set(new)
            return set()
        for name, run in new.items():
            self._ids[name] = run.run_id
            self._front[name] = run.tags[TAG_FRONT] == "true"
            self._steps[name] = {metric.step for metric in run.metrics}
            if trials[name].ended is None:
                self._open.add(name)
            else:
                self._forget(name)
        return set(new)

    def _new_run(self, name: str, writes: TrialWrites) -> NewRun:
        started, ended = writes.started, writes.ended
        assert started is not None
        points: dict[int, Point] = {}
        for point in writes.points:
            if point.metrics:
                points.setdefault(point.step, point)
        tags = tags_of_start(self._facts, self.parent_run_id, name, started)
        if writes.front is not None:
            tags[TAG_FRONT] = str(writes.front).lower()
        if ended is not None:
            tags |= tags_of_end(ended)
        return NewRun(
            name=name,
            status="RUNNING" if ended is None else status_of(ended),
            start_time=int(started.at * 1000),
            end_time=None if ended is None else int(ended.at * 1000),
            tags=tags,
            params=params_of(started.params),
            metrics=metrics_of(points.values()),
        )

    def _tag_fronts(self, trials: Mapping[str, TrialWrites]) -> set[str]:
        """Of runs of which nothing else is to be written; their names."""
        done: set[str] = set()
        for value in (True, False) if self._tables is not None else ():
            names = [
                name
                for name, writes in trials.items()
                if writes == TrialWrites(front=value) and name in self._ids
            ]
            changed = [name for name in names if self._front.get(name) != value]
            if changed and not self._tag_front(changed, value):
                continue  # one by one: a run was deleted, or its tag
            self._front |= dict.fromkeys(changed, value)
            done |= set(names)
        return done

    def _tag_front(self, names: Sequence[str], value: bool) -> bool:
        tables, ids, found = self._tables, [self._ids[n] for n in names], False
        assert tables is not None

        def attempt(_: bool) -> None:
            nonlocal found
            found = tables.set_tag(ids, TAG_FRONT, str(value).lower())

        if not self.calls.insist("", attempt, count=False) or not found:
            return False
        self.calls.changed(len(names))
        return True

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
            tags=tags_of_start(self._facts, self.parent_run_id, name, writes.started),
        )
        self.calls.changed()
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
            tags += [RunTag(key, value) for key, value in tags_of_end(writes.ended).items()]
            if name in self._to_complete:
                tags.append(RunTag(TAG_INCOMPLETE, "false"))
        return tags

    def _log(self, name: str, params: list[Param], points: list[Point], tags: list[RunTag]) -> None:
        """MLflow writes a batch's tags last: a run that has its status has all of its points."""
        metrics = metrics_of(points)
        if not params and not metrics and not tags:
            return
        whole = {"params": params, "metrics": metrics, "tags": tags}
        fits = len(params) <= _MAX_PARAMS and len(metrics) <= _MAX_METRICS
        if fits and name not in self.calls.refused and self._accepted(name, **whole):
            return
        # Too much for one batch, or something in it was refused: piece by piece.
        for start in range(0, len(params), _MAX_PARAMS):
            self._batch(name, params=params[start : start + _MAX_PARAMS])
        for point in points:
            ours = metrics_of([point])
            for start in range(0, len(ours), _MAX_METRICS):
                self._batch(name, metrics=ours[start : start + _MAX_METRICS])
        if name in self.calls.refused and any(tag.key == TAG_STATUS for tag in tags):
            tags = [t for t in tags if t.key != TAG_INCOMPLETE] + [RunTag(TAG_INCOMPLETE, "true")]
        if tags:
            self._batch(name, tags=tags)

    def _accepted(self, name: str, **batch: Any) -> bool:
        """Try one batch; False where the server refuses something in it."""

        def attempt(_: bool) -> None:
            self.client.log_batch(self._ids[name], **batch)
            self.calls.changed()

        return self.calls.insist(name, attempt, count=False)

    def _batch(self, name: str, **batch: Any) -> None:
        def attempt(_: bool) -> None:
            self.client.log_batch(self._ids[name], **batch)
            self.calls.changed()

        self.calls.insist(name, attempt)

    def _end(self, name: str, ended: Ended) -> None:
        run_id, status = self._ids[name], status_of(ended)
        self.calls.insist(name, lambda _: self._terminate(run_id, status, ended.at))
        self._open.discard(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        """What is of use only while a trial is at work."""
        for kept in (self._known_params, self._steps):
            kept.pop(name, None)
        self._to_look_up.add(name)  # should it ever be reported again

    def _kill(self, name: str, _: bool) -> None:
        self._terminate(self._ids[name], "KILLED")

    def _attach(self, path: Path, _: bool) -> None:
        self.client.log_artifact(self.parent_run_id, str(path))
        self.calls.changed()

    def _set_status(self, run_id: str, status: str) -> None:
        self.client.update_run(run_id, status=status)
        self.calls.changed()

    def _terminate(self, run_id: str, status: str, at: float | None = None) -> None:
        self.client.set_terminated(run_id, status, None if at is None else int(at * 1000))
        self.calls.changed()
