"""Many runs in one transaction, straight into the tables of MLflow's database.

MLflow has no call that writes more than one run. Its calls for one short trial (create, log, end)
are fourteen sessions and seven transactions; a row in its tables takes microseconds. What is
written here is what those calls write, column by column (a test compares), through MLflow's own
models, and only where its tables have the columns known here.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import LifecycleStage, Metric, Param, RunTag, SourceType
from mlflow.store.tracking.dbmodels.models import (
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data
from sqlalchemy import insert, select, update

_KEYED = {"key", "value", "run_uuid"}
_POINT = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}
_COLUMNS: tuple[tuple[Any, set[str]], ...] = (
    (
        SqlRun.__table__,
        {
            "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id",
            "status", "start_time", "end_time", "deleted_time", "source_version",
            "lifecycle_stage", "artifact_uri", "experiment_id",
        },
    ),
    (SqlTag.__table__, _KEYED),
    (SqlParam.__table__, _KEYED),
    (SqlMetric.__table__, _POINT),
    (SqlLatestMetric.__table__, _POINT),
)  # fmt: skip
_MAX_IDS = 500  # in one statement; databases have limits


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A run as it is first written; times in milliseconds since the epoch, `end_time` None while
    its `status` is RUNNING. `metrics` are finite, and one for a name and step."""

    name: str
    status: str
    start_time: int
    end_time: int | None
    tags: Mapping[str, str]
    params: Sequence[Param]
    metrics: Sequence[Metric]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)


class RunTables:
    """The tables of one experiment's runs."""

    def __init__(self, store: SqlAlchemyStore, experiment_id: str) -> None:
        self._store = store
        self._experiment_id = experiment_id

    @classmethod
    def of(cls, client: MlflowClient, experiment_id: str) -> "RunTables | None":
        """None where a server stands before the database, or its tables are not as known here."""
        store = client._tracking_client.store
        known = all(columns == set(table.columns.keys()) for table, columns in _COLUMNS)
        return cls(store, experiment_id) if known and isinstance(store, SqlAlchemyStore) else None

    def insert(self, runs: Sequence[NewRun], *, again: bool = False) -> None:
        """All of them or none. Raises what MLflow's calls raise.

        again: the same runs were tried before, and may have been written without an answer.
        """
        rows: dict[Any, list[dict[str, Any]]] = {table: [] for table, _ in _COLUMNS}
        experiment = self._store.get_experiment(self._experiment_id)
        self._store._check_experiment_is_active(experiment)
        for run in runs:
            tags = [RunTag(k, v) for k, v in {**run.tags, MLFLOW_RUN_NAME: run.name}.items()]
            metrics, params, tags = _validate_batch_log_data(run.metrics, run.params, tags)
            rows[SqlRun.__table__].append(
                {
                    "run_uuid": run.run_id,
                    "name": run.name,
                    "source_type": SourceType.to_string(SourceType.UNKNOWN),
                    "source_name": "",
                    "entry_point_name": "",
                    "user_id": "unknown",
                    "status": run.status,
                    "start_time": run.start_time,
                    "end_time": run.end_time,
                    "deleted_time": None,
                    "source_version": "",
                    "lifecycle_stage": LifecycleStage.ACTIVE,
                    "artifact_uri": append_to_uri_path(
                        experiment.artifact_location,
                        run.run_id,
                        SqlAlchemyStore.ARTIFACTS_FOLDER_NAME,
                    ),
                    "experiment_id": int(self._experiment_id),
                }
            )
            for table, pairs in ((SqlTag.__table__, tags), (SqlParam.__table__, params)):
                rows[table] += [
                    {"key": pair.key, "value": pair.value, "run_uuid": run.run_id} for pair in pairs
                ]
            points = [_point(run.run_id, metric) for metric in metrics]
            rows[SqlMetric.__table__] += points
            rows[SqlLatestMetric.__table__] += _latest(points)
        with self._store.ManagedSessionMaker(read_only=False) as session:
            if again:
                written = select(SqlRun.run_uuid).where(SqlRun.run_uuid == runs[0].run_id)
                if session.execute(written).first() is not None:
                    return
            for table, _ in _COLUMNS:
                if rows[table]:
                    session.execute(insert(table), rows[table])

    def set_tag(self, run_ids: Sequence[str], key: str, value: str) -> bool:
        """Of runs that are not deleted and have the tag; whether these were all of them."""
        count = 0
        with self._store.ManagedSessionMaker(read_only=False) as session:
            for start in range(0, len(run_ids), _MAX_IDS):
                some = run_ids[start : start + _MAX_IDS]
                active = select(SqlRun.run_uuid).where(
                    SqlRun.run_uuid.in_(some), SqlRun.lifecycle_stage == LifecycleStage.ACTIVE
                )
                where = (SqlTag.key == key) & SqlTag.run_uuid.in_(active)
                done = session.execute(update(SqlTag.__table__).where(where).values(value=value))
                count += done.rowcount
        return count == len(run_ids)


def _point(run_id: str, metric: Metric) -> dict[str, Any]:
    return {
        "key": metric.key,
        "value": metric.value,
        "timestamp": metric.timestamp,
        "step": metric.step,
        "is_nan": False,
        "run_uuid": run_id,
    }


def _latest(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """MLflow's rule: the greatest step, among equal ones the latest, then the greatest value."""
    latest: dict[str, dict[str, Any]] = {}
    for point in points:
        known = latest.get(point["key"])
        if known is None or _order(point) > _order(known):
            latest[point["key"]] = point
    return list(latest.values())


def _order(point: Mapping[str, Any]) -> tuple[int, int, float]:
    return point["step"], point["timestamp"], point["value"]
