"""A study's trials as a table, in the columns of its `trials.parquet`.

Columns, as in `trials.parquet` (whose reference is `search.record.trials_table`): trial, number,
method, seed, status, reason (of a failure), params (JSON), metrics (JSON), fraction (of training),
started, ended (UTC), then `params/<name>` and every metric under its own name, sorted.
"""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.studies.trials import Study, Trial

_FIXED_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
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


def to_table(trials: Sequence[Trial]) -> pa.Table:
    """The table of the module's docstring. A parameter of mixed types becomes text."""
    columns: dict[str, pa.Array] = {}
    for name, kind in _FIXED_COLUMNS:
        if name in ("params", "metrics"):
            values: list[Any] = [json.dumps(dict(getattr(t, name)), sort_keys=True) for t in trials]
        elif name == "reason":
            values = [t.reason or "" for t in trials]
        else:
            values = [getattr(t, name) for t in trials]
        columns[name] = pa.array(values, type=kind)
    for param in sorted({name for t in trials for name in t.params}):
        columns[f"params/{param}"] = _param_array([t.params.get(param) for t in trials])
    for metric in sorted({name for t in trials for name in t.metrics}):
        values = [t.metrics.get(metric) for t in trials]
        columns[metric] = pa.array(values, type=pa.float64())
    return pa.table(columns)


def front_table(study: Study, members: Sequence[Trial]) -> pa.Table:
    """`members` in the columns of `trials.parquet`, as its own rows where it holds them all."""
    wanted = {member.trial for member in members}
    table = to_table(study.trials)
    try:
        record = pq.read_table(study.directory / "trials.parquet")
    except (OSError, pa.ArrowException):
        record = None
    if record is not None and "trial" in record.column_names:
        if wanted <= set(record["trial"].to_pylist()):
            table = record
        else:  # MLflow is ahead: its rows, in the record's columns
            table = pa.table([_as_field(table, f) for f in record.schema], schema=record.schema)
    rows = [i for i, name in enumerate(table["trial"].to_pylist()) if name in wanted]
    return table.take(pa.array(rows, type=pa.int64()))


def _as_field(table: pa.Table, wanted: pa.Field) -> pa.Array:
    """The column of `wanted`'s name in its type, null where there is no such value."""
    if wanted.name not in table.column_names:
        return pa.nulls(table.num_rows, type=wanted.type)
    column = table[wanted.name].combine_chunks()
    if column.type == wanted.type:
        return column
    if wanted.type == pa.string():
        return column.cast(pa.string())
    try:
        return column.cast(wanted.type)
    except pa.ArrowException:  # of another kind than all the recorded: `params` has it as JSON
        return pa.nulls(table.num_rows, type=wanted.type)


def _param_array(values: list[Any]) -> pa.Array:
    """Of the one type that holds all values, else text (JSON): as in `search.record`."""
    types = {type(v) for v in values if v is not None}
    for allowed, kind in (
        ({bool}, pa.bool_()),
        ({int}, pa.int64()),
        ({int, float}, pa.float64()),
    ):
        if types and types <= allowed:
            return pa.array(values, type=kind)
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(texts, type=pa.string())
