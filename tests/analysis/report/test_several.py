"""Run `analysis front A B`: its files, its answer, and its one message for what cannot be."""

import json
from collections.abc import Callable

import pyarrow.csv as csv
import pytest

from tests.analysis.built_studies import BuiltStudy, realistic_rows
from tests.analysis.test_command_line import is_picture, run

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]


def test_two_studies_on_one_front(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    built = [record(name, realistic_rows(20, TASKS, seed), tasks=TASKS)
             for seed, name in enumerate(("first", "second"))]  # fmt: skip
    out = built[0].storage.parent / "out"
    answer = out / "answer.json"
    options = ("--storage", built[0].storage, "--out", out, "--json", answer, "-q")
    assert run(monkeypatch, "front", "first", "second", *options) == 0
    result = json.loads(answer.read_text())
    assert result["studies"] == ["first", "second"]
    assert result["aligned"]
    stem = out / "front-first-second"
    assert result["files"] == [f"{stem}{suffix}" for suffix in (".png", ".html", ".csv")]
    assert is_picture(stem.with_suffix(".png"))
    table = csv.read_csv(stem.with_suffix(".csv")).to_pylist()
    assert len(table) == result["trials"]
    members = {row["trial"] for row in table if row["on_joint_front"]}
    assert members == {member["trial"] for member in result["front"]}
    for row in table:
        level = result["dense"][row["study"]]["val/segmentation/miou"]
        aligned = row["val/segmentation/miou"] - level
        assert row["aligned/val/segmentation/miou"] == pytest.approx(aligned)


def test_studies_of_two_data_sets_are_refused(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = record("first", realistic_rows(12, TASKS), tasks=TASKS)
    record("city", realistic_rows(12, TASKS), tasks=TASKS, facts={"dataset": "cityscapes"})
    assert run(monkeypatch, "front", "first", "city", "--storage", built.storage) == 2
    said = capsys.readouterr().err
    assert "must have the same data set, got scenes in first, cityscapes in city" in said
    assert "Traceback" not in said
