"""What a study tells its tracking, as lines of JSON. Light: no MLflow here."""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

CLOSE = "close"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """What the parent run says of a study. `study_id` tells it from others of its name."""

    study: str
    study_id: str
    params: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A trial has begun, or goes on after a restart. `at` in seconds since the epoch, as below."""

    method: str
    params: Mapping[str, Any]
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One report. `metrics` are finite."""

    step: int
    metrics: Mapping[str, float]
    at: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Point":
        """From a row of `reports.jsonl`."""
        metrics = {k: v for k, v in row["metrics"].items() if math.isfinite(v)}
        return cls(step=row["step"], metrics=metrics, at=row["at"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What became of a trial; `status` as in `trainables.report.STATUSES`."""

    status: str
    reason: str
    at: float


@dataclass(kw_only=True, slots=True)
class TrialWrites:
    """What is yet to be written about one trial: several events, in few calls of the server."""

    started: Started | None = None
    points: list[Point] = field(default_factory=list)
    ended: Ended | None = None
    front: bool | None = None


def start_of(trial: "FrozenTrial") -> Started:
    """As the ledger has recorded it; of a refused trial, what there is."""
    attributes = trial.user_attrs
    refused = {**attributes.get("params", trial.params), "seed": attributes.get("seed")}
    params = attributes.get("config", refused)
    return Started(
        method=str(params.get("method", "")), params=params, at=_timestamp(trial.datetime_start)
    )


def end_of(trial: "FrozenTrial") -> Ended:
    attributes = trial.user_attrs
    return Ended(
        status=attributes.get("status", "failed"),
        reason=attributes.get("reason", ""),
        at=_timestamp(trial.datetime_complete),
    )


def to_line(name: str, event: Started | Point | Ended | bool) -> str:
    """One event of a trial; a boolean says whether the trial is on the front."""
    kind = "front" if isinstance(event, bool) else type(event).__name__.lower()
    # Parameters go to MLflow as text, so what JSON does not know may become text here.
    content = event if isinstance(event, bool) else {n: getattr(event, n) for n in event.__slots__}
    return json.dumps([kind, name, content], default=str)


def close_line(finished: bool) -> str:
    return json.dumps([CLOSE, "", finished])


def gather(lines: Iterable[str]) -> tuple[dict[str, TrialWrites], bool | None]:
    """Events by trial, in the order in which trials first occur; and, where the study closes,
    whether it is finished."""
    trials: dict[str, TrialWrites] = {}
    closing: bool | None = None
    for line in lines:
        kind, name, content = json.loads(line)
        if kind == CLOSE:
            closing = bool(content)
            continue
        writes = trials.setdefault(name, TrialWrites())
        if kind == "started":
            writes.started = Started(**content)
        elif kind == "point":
            writes.points.append(Point(**content))
        elif kind == "ended":
            writes.ended = Ended(**content)
        else:
            writes.front = bool(content)
    return trials, closing


def _timestamp(moment: Any) -> float:
    return float(moment.timestamp()) if moment is not None else time.time()
