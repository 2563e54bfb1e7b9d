"""`trials.parquet`: every finished trial of a study, rebuilt from the ledger at any time."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from optuna.trial import FrozenTrial

from search.record.front import CONFIRMS
from trainables.errors import UserError
from trainables.integrity.checksums import read_table, write_table
from trainables.registry.lookup import METHOD
from trainables.sweep.folder import trial_name

logger = logging.getLogger(__name__)

_FIXED_COLUMNS = (
    ("trial", pa.string()),
    ("number", pa.int64()),
    ("method", pa.string()),
    ("seed", pa.int64()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("confirms", pa.int64()),  # the number of the trial that is repeated at a fresh seed, or null
    ("params", pa.string()),
    ("metrics", pa.string()),
    ("fraction", pa.float64()),
    ("started", pa.timestamp("us", tz="UTC")),
    ("ended", pa.timestamp("us", tz="UTC")),
)
_PARAM_TYPES = (({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64()))


def trials_table(study: str, trials: Iterable[FrozenTrial]) -> pa.Table:
    """Return one row per finished trial, in order of number, in the schema that `analysis` reads.

    Its columns are:
    - the fixed columns above; `params` and `metrics` as JSON with sorted keys;
    - `params/<name>` of every parameter of a trial, and of `training.steps` and
      `training.pretrain_steps` (0 where the method has none), sorted by name, of the one type that
      holds all of its values: bool, int64, float64, else string (other values as JSON);
    - every metric under its own name, sorted, float64.

    A trial without a parameter or metric has null there.
    """
    rows = [_row(study, trial) for trial in sorted(trials, key=lambda t: t.number)]
    columns = {name: pa.array([r[name] for r in rows], type=t) for name, t in _FIXED_COLUMNS}
    for name in sorted({key for row in rows for key in row["_params"]}):
        columns[f"params/{name}"] = _param_array([row["_params"].get(name) for row in rows])
    for name in sorted({key for row in rows for key in row["_metrics"]}):
        columns[name] = pa.array([row["_metrics"].get(name) for row in rows], type=pa.float64())
    return pa.table(columns)


def num_recorded(path: Path, study: str) -> int:
    """Return how many trials of a study its table holds; 0 without one, or, said, for a bad one."""
    try:
        names = read_table(path)["trial"].to_pylist()
    except OSError:
        return 0
    except (UserError, KeyError) as error:
        logger.warning("not used: %s", error)
        return 0
    if others := [name for name in names if str(name).rpartition("-")[0] != study]:
        logger.warning("not used: %s, which holds %s of another study", path, others[0])
        return 0
    return len(names)


def write_trials(path: Path, study: str, trials: Iterable[FrozenTrial]) -> None:
    """Write the table atomically: a reader sees the old one or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    write_table(partial, trials_table(study, trials))
    partial.replace(path)


def _row(study: str, trial: FrozenTrial) -> dict[str, Any]:
    attributes = trial.user_attrs
    config, metrics = attributes.get("config", {}), attributes.get("metrics", {})
    params = {**_lengths(config), **attributes.get("params", trial.params)}
    started, ended = trial.datetime_start, trial.datetime_complete  # naive local times
    return {
        "trial": trial_name(study, trial.number),
        "number": trial.number,
        "method": params.get("method", config.get("method")),
        "seed": attributes.get("seed"),
        "status": attributes.get("status", "failed"),
        "reason": attributes.get("reason", ""),
        "confirms": attributes.get(CONFIRMS),
        "params": json.dumps(params, sort_keys=True),
        "metrics": json.dumps(metrics, sort_keys=True),
        "fraction": attributes.get("fraction", 0.0),
        "started": started and started.astimezone(),
        "ended": ended and ended.astimezone(),
        "_params": params,
        "_metrics": metrics,
    }


def _lengths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Steps of training proper and before it: whoever compares trials has to know of both."""
    if not config:
        return {}
    training = config["training"]
    used = training["pretrain_steps"] if METHOD.find(config["method"]).needs_pretraining else 0
    return {"training.steps": training["steps"], "training.pretrain_steps": used}


def _param_array(values: list[Any]) -> pa.Array:
    types = {type(v) for v in values if v is not None}
    for allowed, kind in _PARAM_TYPES:
        if types and types <= allowed:
            return pa.array(values, type=kind)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(texts, type=pa.string())
