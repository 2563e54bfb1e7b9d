"""`trials.parquet`: every finished trial of a study, rebuilt from the ledger at any time."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial

from search.ledger import trial_name

_FIXED_COLUMNS = (
    ("trial", pa.string()),
    ("number", pa.int64()),
    ("method", pa.string()),
    ("seed", pa.int64()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("params", pa.string()),
    ("metrics", pa.string()),
    ("fraction", pa.float64()),
    ("started", pa.timestamp("us", tz="UTC")),
    ("ended", pa.timestamp("us", tz="UTC")),
)


def trials_table(study: str, trials: Iterable[FrozenTrial]) -> pa.Table:
    """One row per finished trial, in order of number.

    Fixed columns, then `params/<name>` of every drawn parameter and every metric under its own
    name; null where a trial has none. `params` and `metrics` are the same as JSON.
    """
    rows = [_row(study, trial) for trial in sorted(trials, key=lambda t: t.number)]
    columns = {name: pa.array([r[name] for r in rows], type=t) for name, t in _FIXED_COLUMNS}
    for prefix, part in (("params/", "_params"), ("", "_metrics")):
        for name in sorted({key for row in rows for key in row[part]}):
            columns[prefix + name] = _array([row[part].get(name) for row in rows])
    return pa.table(columns)


def write_trials(path: Path, study: str, trials: Iterable[FrozenTrial]) -> None:
    """Atomic: a reader sees the old table or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    pq.write_table(trials_table(study, trials), partial)
    partial.replace(path)


class TrialsWriter:
    """Rewrites the table after a trial ends, at most every `interval_seconds`."""

    def __init__(self, path: Path, study: str, interval_seconds: float = 2.0) -> None:
        self._path = path
        self._study = study
        self._interval_seconds = interval_seconds
        self._written = -float("inf")

    def update(self, trials: Iterable[FrozenTrial], *, force: bool = False) -> None:
        if force or time.monotonic() - self._written >= self._interval_seconds:
            write_trials(self._path, self._study, trials)
            self._written = time.monotonic()


def _row(study: str, trial: FrozenTrial) -> dict[str, Any]:
    attributes = trial.user_attrs
    params = attributes.get("params", trial.params)
    metrics = attributes.get("metrics", {})
    config = attributes.get("config", {})
    return {
        "trial": trial_name(study, trial.number),
        "number": trial.number,
        "method": params.get("method", config.get("method")),
        "seed": attributes.get("seed"),
        "status": attributes.get("status", "failed"),
        "reason": attributes.get("reason", ""),
        "params": json.dumps(params),
        "metrics": json.dumps(metrics),
        "fraction": attributes.get("fraction", 0.0),
        "started": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        "_params": params,
        "_metrics": metrics,
    }


def _utc(moment: Any) -> Any:
    """Optuna keeps naive local times."""
    return None if moment is None else moment.astimezone()


def _array(values: list[Any]) -> pa.Array:
    """Numbers as float64, anything else as text: a column has one type over all trials."""
    present = [v for v in values if v is not None]
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in present):
        return pa.array([None if v is None else float(v) for v in values], type=pa.float64())
    return pa.array([None if v is None else str(v) for v in values], type=pa.string())
