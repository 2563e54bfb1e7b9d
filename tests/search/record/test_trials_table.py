"""The table of trials: a row for each that ended, a column for each name."""

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from optuna.trial import TrialState, create_trial

from search.record.files.trials_table import num_recorded, trials_table, write_trials


def frozen(number: int, status: str, params: dict, metrics: dict) -> object:
    trial = create_trial(
        state=TrialState.COMPLETE if status == "complete" else TrialState.FAIL,
        value=1.0 if status == "complete" else None,
        user_attrs={
            "status": status,
            "reason": "" if status == "complete" else "why",
            "params": params,
            "metrics": metrics,
            "seed": 7,
            "fraction": 1.0,
        },
    )
    trial.number = number
    trial.datetime_start = datetime.datetime(2026, 1, 2, 3, 4, 5)
    return trial


def test_the_table_has_a_row_per_trial_and_a_column_per_name(tmp_path: Path) -> None:
    trials = [
        frozen(1, "failed", {"method": "rigl", "regrowth.fraction": 0.25}, {}),
        frozen(0, "complete", {"method": "snip"}, {"cost/density": 0.1}),
    ]
    path = tmp_path / "trials.parquet"
    write_trials(path, "s", trials)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [path]
    rows = pq.read_table(path).to_pylist()
    assert [row["trial"] for row in rows] == ["s-00000", "s-00001"]
    assert [row["status"] for row in rows] == ["complete", "failed"]
    assert [row["method"] for row in rows] == ["snip", "rigl"]
    assert [row["params/regrowth.fraction"] for row in rows] == [None, 0.25]
    assert [row["params/method"] for row in rows] == ["snip", "rigl"]
    assert [row["cost/density"] for row in rows] == [0.1, None]
    assert json.loads(rows[0]["metrics"]) == {"cost/density": 0.1}
    assert json.loads(rows[1]["params"]) == {"method": "rigl", "regrowth.fraction": 0.25}
    local = datetime.datetime(2026, 1, 2, 3, 4, 5).astimezone()
    assert rows[0]["started"] == local
    assert num_recorded(path, "s") == 2
    assert num_recorded(path, "another") == 0
    assert num_recorded(tmp_path / "absent", "s") == 0


def test_columns_have_the_one_type_that_holds_their_values() -> None:
    params = [
        {"method": "snip", "i": 1, "f": 1, "b": True, "m": 1},
        {"method": "rigl", "i": 2, "f": 0.5, "m": "x"},
    ]
    trials = [frozen(n, "complete", p, {"val/x/y": n}) for n, p in enumerate(params)]
    table = trials_table("s", trials)  # type: ignore[arg-type]
    types = {name: str(table.schema.field(name).type) for name in table.column_names[12:]}
    assert types == {
        "params/b": "bool",
        "params/f": "double",
        "params/i": "int64",
        "params/m": "string",
        "params/method": "string",
        "val/x/y": "double",
    }
    assert list(types) == table.column_names[12:]  # sorted, parameters first
    assert table["params/b"].to_pylist() == [True, None]
    assert table["params/m"].to_pylist() == ["1", "x"]
    assert trials_table("s", trials[::-1]).equals(table)  # type: ignore[arg-type]


def test_an_empty_study_has_an_empty_table() -> None:
    table = trials_table("s", [])
    assert table.num_rows == 0
    assert {"trial", "number", "status", "params", "metrics"} <= set(table.column_names)


def test_the_lengths_of_a_trial_are_columns() -> None:
    """Pre-training counts where the method has one; what was drawn of a length is what counts."""
    trials = []
    for number, method in enumerate(["snip", "disparse-pretrained"]):
        trial: Any = frozen(number, "complete", {"method": method}, {})
        training = {"steps": 300, "pretrain_steps": 90}
        trial.user_attrs["config"] = {"method": method, "training": training}
        trials.append(trial)
    table = trials_table("s", trials)
    assert table["params/training.steps"].to_pylist() == [300, 300]
    assert table["params/training.pretrain_steps"].to_pylist() == [0, 90]
