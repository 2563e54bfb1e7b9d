"""MLflow as a projection of a study's record: a parent run, and a child for every trial.

What MLflow has is compared with what the record says, and the difference written: a second time
nothing changes. Runs are found by their tags, and MLflow keeps one of two equal points, so a call
whose answer was lost is made again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage, Metric, RunTag, ViewType
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial

from search.record.files.study_folder import StudyFiles, read_json, read_json_lines
from search.record.storage import StudyRecord
from search.tracking import run_content
from search.tracking.connection import EXPERIMENT, is_passing
from search.tracking.run_content import TAG_KIND, TAG_PARENT, TAG_STUDY_ID
from trainables.addresses import first_line
from trainables.integrity.code_digest import digest
from trainables.report import TAG_STUDY, TAG_TRIAL, add_recorded_tasks
from trainables.sweep.folder import trial_name

_MAX_PARAMS = 100  # MLflow's limits of one batch: so many parameters, 1,000 items in all
_MAX_METRICS = 850


class Away(Exception):
    """MLflow does not answer: the same call may succeed later."""


@dataclass(slots=True)
class _TrialRun:
    """What MLflow has of a trial. steps: of its reports; None where that is not known.

    fresh: its means over fresh seeds.
    """

    run_id: str
    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    steps: set[int] | None = field(default_factory=set)
    fresh: dict[str, float] = field(default_factory=dict)


class Projection:
    """Brings one study's runs level with its record.

    thorough: also looks for missing reports in runs that seem complete, a call for each.
    on_answer: called after every answer of MLflow.
    num_changes: writes that were made. num_refused: those that MLflow refused, for `problem`.

    Opening and every method raise `Away` where MLflow does not answer; the next call continues.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        files: StudyFiles,
        record: StudyRecord,
        *,
        thorough: bool = False,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self.num_changes = self.num_refused = 0
        self.problem = ""
        self._client, self._experiment_id = client, experiment_id
        self._files, self._record = files, record
        self._thorough = thorough
        self._on_answer = on_answer
        self._study = read_json(files.description)
        add_recorded_tasks(self._study["own_tasks"])
        self._runs: dict[str, _TrialRun] = {}
        self._settled: dict[int, FrozenTrial] = {}  # ended, and written but for the front
        self._stale = True  # whether MLflow may have runs, or parts of them, that we do not know
        self._made_parent, self._parent_status = False, ""
        self._digests: dict[str, str] = {}  # the parent's tags, digests of its files among them
        self._parent_metrics: dict[str, float] = {}
        self.parent_run_id = self._find_or_make_parent()

    def update(self, *, live: bool = True) -> None:
        """Write what has changed in the record. live: whether a driver is at work."""
        if self._stale:
            self._find_children()
            self._stale = False
        if live:
            self._set_parent_status("RUNNING")
        trials = self._record.trials(lambda number: number not in self._settled)
        newly_ended = [trial for trial in trials if run_content.has_ended(trial)]
        everyone = [*self._settled.values(), *trials]
        fronts = run_content.front_tags(everyone, self._study["objectives"])
        for trial in trials:
            self._project(trial, fronts[trial.number], live=live)
            if run_content.has_ended(trial):
                self._settled[trial.number] = trial
        if newly_ended:
            for number in self._settled:
                run = self._runs.get(trial_name(self._files.study, number))
                if run is not None:
                    self._log_tags(run, fronts[number])

    def close(self, *, finished: bool) -> None:
        """Write everything, and leave no run RUNNING. finished: whether no trial is left."""
        self.update(live=False)
        self._log_study()
        self._log_fresh()
        self._find_children()  # deletes what a server made twice, unknown to us
        self._set_parent_status("FINISHED" if finished else "KILLED")
        self.send_files()

    def discard(self) -> None:
        """Leave nothing of a study that was given up before its first trial."""
        if self._made_parent and not self._record.trials():
            self._write(self._client.delete_run, self.parent_run_id)

    def send_files(self) -> None:
        """Keep the study's description, table and report as artifacts of the parent run."""
        for tag, placed in run_content.artifacts_of(self._files).items():
            found = digest(b"".join(path.name.encode() + path.read_bytes() for path, _ in placed))
            if not placed or self._digests.get(tag) == found:
                continue
            if all([self._attach(*each) for each in placed]):
                self._write(self._client.set_tag, self.parent_run_id, tag, found)
                self._digests[tag] = found

    def _find_or_make_parent(self) -> str:
        study_id = self._study["study_id"]
        found = self._ask(
            self._client.search_runs,
            [self._experiment_id],
            f"tags.`{TAG_STUDY_ID}` = '{study_id}' and tags.`{TAG_KIND}` = 'study'",
            run_view_type=ViewType.ALL,
            order_by=["attributes.start_time ASC"],
        )
        # One that is not deleted, if there is any; the trials of a deleted one are still its own.
        runs = sorted(found, key=lambda run: run.info.lifecycle_stage != LifecycleStage.ACTIVE)
        if runs:
            run = runs[0]
            if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
                self._write(self._client.restore_run, run.info.run_id)
        else:
            self._made_parent = True
            name = self._study["name"]
            tags = {TAG_STUDY: name, TAG_STUDY_ID: study_id, TAG_KIND: "study"}
            run = self._ask(self._client.create_run, self._experiment_id, tags=tags, run_name=name)
            self.num_changes += 1
            self._retire_moved(study_id)
        self._parent_status = str(run.info.status)
        self._digests = dict(run.data.tags)
        self._parent_metrics = dict(run.data.metrics)
        run_id = str(run.info.run_id)
        # Only those it lacks: MLflow refuses to change a parameter.
        params = run_content.params_of(run_content.params_of_study(self._study), run.data.params)
        if params:
            self._write(self._client.log_batch, run_id, params=params)
        return run_id

    def _log_study(self) -> None:
        """Write what the parent says of the study: its description, source and key metrics."""
        tags = run_content.study_tags(self._study, self._files)
        new = [RunTag(key, text) for key, text in tags.items() if self._digests.get(key) != text]
        values = run_content.study_metrics([*self._settled.values()], self._study["objectives"])
        points = self._lacking(values, self._parent_metrics)
        batch: dict[str, Any] = {"metrics": points, "tags": new}
        if (new or points) and self._write(self._client.log_batch, self.parent_run_id, **batch):
            self._digests |= tags
            self._parent_metrics |= values

    def _log_fresh(self) -> None:
        """Write into the runs of confirmed trials what they are at fresh seeds."""
        found = run_content.fresh_means([*self._settled.values()], self._study["objectives"])
        for number, values in found.items():
            run = self._runs.get(trial_name(self._files.study, number))
            if run is not None and (points := self._lacking(values, run.fresh)):
                self._write(self._client.log_batch, run.run_id, metrics=points)

    def _lacking(self, values: Mapping[str, float], known: Mapping[str, float]) -> list[Metric]:
        lacking = {name: value for name, value in values.items() if known.get(name) != value}
        if not lacking:
            return []
        last = max((run_content.times_of(t)[1] or 0 for t in self._settled.values()), default=0)
        return [Metric(name, value, last, 0) for name, value in lacking.items()]

    def _retire_moved(self, study_id: str) -> None:
        """Mark a study's runs of another place as deleted: it is projected anew in this one."""
        moved = f"name LIKE '{EXPERIMENT} at %'"
        found = self._ask(self._client.search_experiments, filter_string=moved)
        others = [one.experiment_id for one in found]
        mine = f"tags.`{TAG_STUDY_ID}` = '{study_id}'"
        while others and (runs := self._ask(self._client.search_runs, others, mine)):
            if not all([self._write(self._client.delete_run, r.info.run_id) for r in runs]):
                break

    def _find_children(self) -> None:
        self._runs = {}
        token, more = None, True
        while more:
            page = self._ask(
                self._client.search_runs,
                [self._experiment_id],
                f"tags.`{TAG_PARENT}` = '{self.parent_run_id}'",
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            token, more = page.token, bool(page.token)
            for run in page:
                name, run_id = run.data.tags.get(TAG_TRIAL), str(run.info.run_id)
                if name in self._runs:  # a slow server made a second one when asked again
                    self._write(self._client.delete_run, run_id)
                elif name is not None:
                    known = (dict(run.data.tags), set(run.data.params))
                    fresh = run_content.of_fresh_seeds(run.data.metrics)
                    self._runs[name] = _TrialRun(run_id, str(run.info.status), *known, None, fresh)

    def _project(self, trial: FrozenTrial, fronts: Mapping[str, str], *, live: bool) -> None:
        """Write what a trial's run lacks. fronts: the tags that say which fronts it is on."""
        name = trial_name(self._files.study, trial.number)
        model = self._files.model(trial.number)
        tags = run_content.tags_of(trial, self._study, self.parent_run_id, name, model)
        tags |= fronts
        start, end = run_content.times_of(trial)
        run = self._runs.get(name)
        if run is None:
            now = {k: v for k, v in tags.items() if k not in run_content.END_TAGS}
            make, experiment = self._client.create_run, self._experiment_id
            made = self._write(make, experiment, start_time=start, run_name=name, tags=now)
            if not made:
                return
            run = self._runs[name] = _TrialRun(str(made.info.run_id), tags=now)
        if run_content.TAG_MODEL in run.tags.keys() - tags.keys():  # its file is gone
            self._write(self._client.delete_tag, run.run_id, run_content.TAG_MODEL)
            del run.tags[run_content.TAG_MODEL]
        wanted = run_content.status_of(trial, live=live)
        settings = run_content.settings_of(trial)
        if (
            run.steps is None  # unknown, but the status comes last
            and run.status == wanted
            and tags.items() <= run.tags.items()
            and run.params >= settings.keys()
            and run_content.has_ended(trial)
            and not self._thorough
        ):
            return
        if run.status != wanted == "RUNNING":
            self._write(self._client.update_run, run.run_id, wanted)
            run.status = wanted
        self._log(run, settings, read_json_lines(self._files.reports(trial.number)))
        # Tags come after the reports: a run that has its status has all of its points.
        self._log_tags(run, tags)
        terminate = self._client.set_terminated
        if run.status != wanted and self._write(terminate, run.run_id, wanted, end):
            run.status = wanted

    def _log(
        self, run: _TrialRun, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Log parameters and reports that are missing."""
        if run.steps is None:
            ask = self._client.get_metric_history
            run.steps = {p.step for p in self._ask(ask, run.run_id, run_content.STEP_METRIC)}
        params = run_content.params_of(settings, run.params)
        by_step = {row["step"]: row for row in reversed(rows) if row["step"] not in run.steps}
        reports = [run_content.metrics_of([by_step[step]]) for step in sorted(by_step)]
        metrics = [point for report in reports for point in report]
        log = self._client.log_batch
        if params or metrics:
            fits = len(params) <= _MAX_PARAMS and len(metrics) <= _MAX_METRICS
            batch: dict[str, Any] = {"params": params, "metrics": metrics}
            if not fits or not self._write(log, run.run_id, **batch, counted=False):
                # Too much for one batch, or something in it was refused: piece by piece.
                for part in _parts(params, _MAX_PARAMS):
                    self._write(log, run.run_id, params=part)
                for report in reports:
                    for part in _parts(report, _MAX_METRICS):
                        self._write(log, run.run_id, metrics=part)
        run.params |= settings.keys()
        run.steps |= by_step.keys()

    def _log_tags(self, run: _TrialRun, tags: Mapping[str, str]) -> None:
        batch = [RunTag(key, value) for key, value in tags.items() if run.tags.get(key) != value]
        if batch and self._write(self._client.log_batch, run.run_id, tags=batch):
            run.tags |= tags

    def _set_parent_status(self, status: str) -> None:
        live = status == "RUNNING"
        change = self._client.update_run if live else self._client.set_terminated
        if self._parent_status != status and self._write(change, self.parent_run_id, status):
            self._parent_status = status

    def _attach(self, path: Path, folder: str) -> bool:
        log = (self._client.log_artifact, self.parent_run_id, str(path), folder or None)
        try:
            return bool(self._write(*log))
        except Away as away:
            if isinstance(away.__cause__, OSError):
                raise
        # MLflow may be there, and the place that it names for files not be ours to use. A server
        # that has just come back is asked again.
        self._ask(self._client.get_run, self.parent_run_id)
        try:
            return bool(self._write(*log))
        except Away as away:
            self.problem = str(away)
            self.num_refused += 1
            return False

    def _ask(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Return MLflow's answer; raise `Away`, or what MLflow raises where it refuses."""
        try:
            answer = call(*arguments, **named)
        except Exception as error:
            if is_passing(error):
                self._stale = True  # a change may have been carried out all the same
                raise Away(first_line(error)) from error
            raise
        self._on_answer()
        return answer

    def _write(
        self, change: Callable[..., Any], *arguments: Any, counted: bool = True, **named: Any
    ) -> Any:
        """Change something; return the answer, or True, and False where MLflow refuses it."""
        try:
            answer = self._ask(change, *arguments, **named)
        except Away:
            raise
        except Exception as error:
            self.problem = first_line(error)
            self.num_refused += counted
            return False
        self.num_changes += 1
        return True if answer is None else answer


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
