"""What a trial's run in MLflow says: its tags, parameters, metrics and status."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from mlflow.entities import Metric, Param

from search.tracking.events import Ended, Point, Started, StudyFacts
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
_STATUSES = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
_MAX_PARAM_CHARACTERS = 6000  # MLflow's limit
_MAX_REASON_CHARACTERS = 4000


def status_of(ended: Ended) -> str:
    return _STATUSES.get(ended.status, "FAILED")


def tags_of_start(
    facts: StudyFacts, parent_run_id: str, name: str, started: Started
) -> dict[str, str]:
    return {
        TAG_PARENT: parent_run_id,
        TAG_STUDY: facts.study,
        TAG_STUDY_ID: facts.study_id,
        TAG_TRIAL: name,
        TAG_METHOD: started.method,
        TAG_FRONT: "false",
    }


def tags_of_end(ended: Ended) -> dict[str, str]:
    reason = {TAG_REASON: ended.reason[:_MAX_REASON_CHARACTERS]} if ended.reason else {}
    return {TAG_STATUS: ended.status} | reason


def params_of(values: Mapping[str, Any], known: Container[str] = ()) -> list[Param]:
    """As text, which MLflow clips otherwise; without those of the names `known`."""
    return [
        Param(name, str(value)[:_MAX_PARAM_CHARACTERS])
        for name, value in values.items()
        if name not in known
    ]


def metrics_of(points: Iterable[Point]) -> list[Metric]:
    return [
        Metric(name, value, int(point.at * 1000), point.step)
        for point in points
        for name, value in point.metrics.items()
    ]
