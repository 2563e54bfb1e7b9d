"""What tests of tracking share: a study's record written by hand, and what MLflow has of it."""

import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState, create_trial

from search.plans.description import describe_study
from search.plans.plan import Plan
from search.record.files.study_folder import StudyFiles, append_json_line, write_json
from search.record.front import CONFIRMS
from search.record.storage import GIVEN, OUTCOME, StudyRecord
from search.tracking.connection import open_client
from search.tracking.projection import Projection
from tests.search import studies
from trainables.sweep.folder import trial_name

STEPS = (1, 2, 3)
LENGTHS = {"training": {"steps": 300, "pretrain_steps": 0}}  # that trials.parquet tells
_STATES = {
    "complete": TrialState.COMPLETE,
    "infeasible": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def metrics(fraction: float) -> dict[str, float]:
    return {"training/fraction": fraction, "val/depth/absolute_error": 1 - fraction}


class Recorded:
    """A study's record, as a driver writes it; trials are given by the test."""

    def __init__(
        self, folder: Path, name: str = "s", study_id: str = "", plan: Plan | None = None
    ) -> None:
        self.files = StudyFiles(storage=folder, study=name)
        self.files.directory.mkdir(parents=True, exist_ok=True)
        self.plan = plan or studies.plan_of(study=name)
        self.record = studies.record_of(self.plan, self.files.default_study_storage)
        self.study_id = study_id or name
        described = describe_study(self.plan, {"study_id": self.study_id})
        write_json(self.files.description, described)

    def begin(
        self,
        method: str = "snip",
        params: Mapping[str, Any] | None = None,
        confirms: int | None = None,
    ) -> int:
        """Hand out a trial. Returns its number.

        params: nested settings beside the method, and the seed. confirms: the trial that it
          repeats.
        """
        number = len(self.record.trials())
        given = {
            "params": {"method": method},
            "seed": (params or {}).get("seed", 0),
            "reference": False,
            "config": {"method": method, **(params or {})},
            "number": number,
            **({} if confirms is None else {CONFIRMS: confirms}),
        }
        self.record.add(create_trial(state=TrialState.RUNNING, user_attrs={GIVEN: given}))
        return number

    def report(
        self, number: int, steps: Sequence[int] = STEPS, values: Mapping[str, Any] | None = None
    ) -> None:
        """Take reports of steps, whose last is the end of training; one a second."""
        for step in steps:
            row = {
                "step": step,
                "at": 1_000.0 + step,
                "metrics": metrics(step / max(STEPS[-1], *steps)) | (values or {}),
            }
            append_json_line(self.files.reports(number), row)

    def end(
        self,
        number: int,
        status: str = "complete",
        reason: str = "",
        quality: float = 0.5,
        density: float = 0.1,
        further: Mapping[str, float] | None = None,
    ) -> None:
        """Record an end. quality, density, further metrics: of a trial that ran to its end."""
        trial_id = self.record.id_of(number)
        state = _STATES[status]
        values = [quality, 20.0, 1.0, density] if state == TrialState.COMPLETE else None
        metrics = dict(zip(self.plan.objectives, values or (), strict=False)) | dict(further or {})
        outcome = {"status": status, "reason": reason, "metrics": metrics, "fraction": 1.0}
        self.record.note(trial_id, OUTCOME, outcome)
        self.record.end(trial_id, state, values, {})

    def whole(self, method: str = "snip", status: str = "complete", **named: Any) -> int:
        """A trial from its start to its end."""
        number = self.begin(method, named.pop("params", None))
        self.report(number)
        self.end(number, status, **named)
        return number

    def times(self, number: int) -> tuple[int, int]:
        """Start and end of a trial, in milliseconds since the epoch."""
        trial = self.record.trials()[number]
        start, end = trial.datetime_start, trial.datetime_complete
        assert isinstance(start, datetime.datetime)
        assert isinstance(end, datetime.datetime)
        return int(start.timestamp() * 1000), int(end.timestamp() * 1000)

    def name(self, number: int) -> str:
        return trial_name(self.files.study, number)


def project(study: Recorded, uri: str, **options: Any) -> Projection:
    """Open a projection of a study, as a process that has just begun does."""
    client, experiment = open_client(uri, study.files.artifacts)
    record = StudyRecord.load(study.files.default_study_storage, study.files.study)
    return Projection(client, experiment, study.files, record, **options)


def runs_of(uri: str, study_id: str | None = None) -> dict[str, Run]:
    """By trial name; the parent under `parent`. Fails where a trial has two.

    study_id: of one study, where there are several.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("disparse")
    assert experiment is not None
    where = "" if study_id is None else f"tags.`disparse.study_id` = '{study_id}'"
    runs = client.search_runs([experiment.experiment_id], where, max_results=5000)
    by_name = {r.data.tags.get("disparse.trial", "parent"): r for r in runs}
    assert len(by_name) == len(runs)
    return by_name


def points(uri: str, run: Run, key: str = "training/fraction") -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, key)
    return sorted((p.step, p.value) for p in history)


def content(uri: str, study_id: str | None = None) -> dict[str, Any]:
    """All that the runs say, except ids. study_id: of one study, where there are several."""
    client = MlflowClient(uri)
    told = {}
    for name, run in runs_of(uri, study_id).items():
        told[name] = {
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time) if name != "parent" else None,
            "params": run.data.params,
            "tags": {k: v for k, v in run.data.tags.items() if k.startswith("disparse.")},
            "points": [
                (p.key, p.step, p.value, p.timestamp)
                for key in sorted(run.data.metrics)
                for p in client.get_metric_history(run.info.run_id, key)
            ],
        }
    return told


def wait_for(what: Any, seconds: float = 30.0) -> None:
    """Until `what()` holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
