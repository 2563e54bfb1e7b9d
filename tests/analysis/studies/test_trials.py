"""Load a study from its folder: every field, every fault, and where MLflow is looked for."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.studies import tracking
from analysis.studies.trials import load_study
from tests.analysis.built_studies import (
    BuiltStudy,
    realistic_rows,
    simple_row,
)
from trainables import report
from trainables.errors import UserError

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]


def test_the_record_comes_back_whole(record: Record) -> None:
    rows = realistic_rows(20, TASKS)
    built = record("alone", rows, tasks=TASKS)
    study = load_study("alone", built.storage)
    assert study.source == "parquet"
    assert study.notes == ()
    assert study.objectives == (
        "val/segmentation/miou",
        "val/normals/mean_error_deg",
        "cost/density",
    )
    assert [t.trial for t in study.trials] == [built.trial(r.number) for r in rows]
    for trial, row in zip(study.trials, rows, strict=True):
        assert (trial.method, trial.status, trial.seed) == (row.method, row.status, row.seed)
        assert dict(trial.params) == row.params
        assert dict(trial.metrics) == row.metrics
        assert trial.reason == row.reason


def test_unknown_study_lists_those_known(record: Record, database: Path) -> None:
    built = record("known", [], tasks=TASKS)
    with pytest.raises(UserError, match=r"unknown study 'knwon'.*Did you mean 'known'"):
        load_study("knwon", built.storage)
    with pytest.raises(UserError, match="valid: known, tracked"):
        load_study("other", built.storage, f"sqlite:///{database}")


def test_no_study_at_all_names_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="search run"):
        load_study("demo", tmp_path / "runs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ["val/segmentation/miou"]}, "exactly one cost"),
        ({"objectives": ["cost/density"]}, "at least one quality"),
        ({"objectives": ["test/segmentation/miou", "cost/density"]}, "must not be on test"),
        ({"objectives": ["val/segmentation/mious", "cost/density"]}, "unknown metric"),
        ({"objectives": None, "tasks": None}, "`objectives` or its `tasks`"),
    ],
)
def test_objectives_are_checked(record: Record, change: dict, message: str) -> None:
    built = record("odd", [], tasks=TASKS)
    path = built.directory / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_study("odd", built.storage)


def test_objectives_follow_from_tasks(record: Record) -> None:
    built = record("implied", [], tasks=("depth",))
    path = built.directory / "study.json"
    facts = json.loads(path.read_text())
    del facts["objectives"]
    path.write_text(json.dumps(facts))
    assert load_study("implied", built.storage).objectives == (
        "val/depth/absolute_error",
        "cost/density",
    )


def test_a_table_of_another_study_is_refused(record: Record) -> None:
    built = record("mine", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    other = record("other", [simple_row(0, "rigl", 0.1, 0.4, 20.0)], tasks=TASKS)
    shutil.copy(other.directory / "trials.parquet", built.directory / "trials.parquet")
    with pytest.raises(UserError, match=r"must hold the trials of 'mine', got 'other-00000' of"):
        load_study("mine", built.storage)


def test_damaged_files_are_named(record: Record) -> None:
    built = record("hurt", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    table = built.directory / "trials.parquet"
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(UserError, match=r"trials\.parquet"):
        load_study("hurt", built.storage)
    (built.directory / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json"):
        load_study("hurt", built.storage)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("study.json", r"'lost' must have '.*study\.json', got no such file; restore it"),
        (
            "trials.parquet",
            r"for 2 of its trials have ended, .* `.*python -m search sync lost --storage /.*/runs`",
        ),
    ],
)
@pytest.mark.parametrize("a_folder", [False, True])
def test_a_file_of_the_record_that_is_gone(
    record: Record, file: str, said: str, a_folder: bool
) -> None:
    built = record("lost", [simple_row(n, "snip", 0.1, 0.4, 20.0) for n in (0, 1)], tasks=TASKS)
    for number in (0, 1):
        folder = built.directory / "trials" / f"{number:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text("{}")
    assert len(load_study("lost", built.storage).trials) == 2
    (built.directory / file).unlink()
    if a_folder:
        (built.directory / file).mkdir()
    with pytest.raises(UserError, match=said):
        load_study("lost", built.storage)


def test_a_missing_fraction_is_nan(record: Record) -> None:
    built = record("f", [simple_row(0, "snip", 0.1, 0.4, 20.0, fraction=None)], tasks=TASKS)
    assert math.isnan(load_study("f", built.storage).trials[0].fraction)


def test_a_study_without_trials_yet_has_none(record: Record) -> None:
    built = record("fresh", [], tasks=TASKS)
    (built.directory / "trials.parquet").unlink()
    study = load_study("fresh", built.storage)
    assert study.trials == ()
    assert study.table.num_rows == 0


def test_an_own_task_of_the_record_is_made_known(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[SimpleNamespace] = []
    monkeypatch.setattr(report, "add_task", known.append, raising=False)
    monkeypatch.setattr(report, "TaskDescription", SimpleNamespace, raising=False)
    metric = {"name": "grasp/success", "unit": "fraction", "direction": "maximize"}
    metric["description"] = "grasps that hold"
    task = {"name": "grasp", "summary": "", "primary": "grasp/success", "metrics": [metric]}
    built = record("own", [], tasks=TASKS, facts={"own_tasks": [task]})
    load_study("own", built.storage)
    (seen,) = known
    assert (seen.name, seen.primary) == ("grasp", "grasp/success")
    assert seen.metrics == (report.Metric(**metric),)


@pytest.mark.parametrize(
    ("option", "recorded", "environment", "expected"),
    [
        ("http://a", "http://b", "http://c", "http://a"),
        (None, "http://b", "http://c", "http://b"),
        (None, None, "http://c", "http://c"),
        (None, None, None, None),
        (None, "http://user@b", "http://user:secret@b", "http://user:secret@b"),
        (None, "http://user:***@b", "http://user:secret@b", "http://user:secret@b"),
        (None, "http://user@other", "http://user:secret@b", "http://user@other"),
    ],
)
def test_the_address_of_mlflow(
    option: str | None,
    recorded: str | None,
    environment: str | None,
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert tracking.resolve_uri(option, recorded, tmp_path) == expected
    (tmp_path / "mlflow.db").touch()
    default = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking.resolve_uri(option, recorded, tmp_path) == (expected or default)


def test_a_folder_is_read_without_asking_mlflow(record: Record) -> None:
    built = record("here", [simple_row(0, "snip", 0.1, 0.4, 20.0)], tasks=TASKS)
    study = load_study("here", built.storage, "http://127.0.0.1:9")
    assert (study.source, study.tracking_uri) == ("parquet", "http://127.0.0.1:9")
    assert study.notes == ()
