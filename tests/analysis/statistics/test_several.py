"""Several studies on one front: aligned at their dense models, and refused where they differ."""

import json
from collections.abc import Callable

import pytest

from analysis.statistics.several import together
from analysis.studies.trials import Study, load_study
from tests.analysis.built_studies import PRIMARY, BuiltStudy, Row, simple_row
from trainables.errors import UserError

TASKS = ("segmentation", "normals")
MIOU, ANGLE = PRIMARY["segmentation"], PRIMARY["normals"]
Record = Callable[..., BuiltStudy]


def load(record: Record, name: str, rows: list[Row], **options: object) -> Study:
    built = record(name, rows, **{"tasks": TASKS, **options})
    return load_study(name, built.storage)


def weak(record: Record) -> Study:
    return load(record, "weak", [simple_row(0, "dense", 1.0, 0.30, 30.0),
                                 simple_row(1, "snip", 0.1, 0.29, 31.0)])  # fmt: skip


def strong(record: Record) -> Study:
    return load(record, "strong", [simple_row(0, "dense", 1.0, 0.40, 20.0),
                                   simple_row(1, "dense", 1.0, 0.44, 22.0),
                                   simple_row(2, "rigl", 0.1, 0.39, 24.0)])  # fmt: skip


def test_values_are_differences_to_the_own_dense_model(record: Record) -> None:
    found = together([weak(record), strong(record)])
    assert found.aligned
    assert found.dense["strong"] == pytest.approx({MIOU: 0.42, ANGLE: 21.0})
    by_trial = {one.trial.trial: one.values for one in found.placed}
    assert by_trial["weak-00001"] == pytest.approx({MIOU: -0.01, ANGLE: 1.0, "cost/density": 0.1})
    assert by_trial["strong-00002"] == pytest.approx({MIOU: -0.03, ANGLE: 3.0, "cost/density": 0.1})
    # By value the strong study's trial would win; beside its own dense model it lost more.
    cheapest = [one.trial.trial for one in found.members if one.values["cost/density"] == 0.1]
    assert cheapest == ["weak-00001"]
    assert found.front(MIOU, "strong")[0].trial.trial == "strong-00002"


def test_without_a_dense_trial_values_stay_and_a_note_says_so(record: Record) -> None:
    bare = load(record, "bare", [simple_row(0, "snip", 0.1, 0.35, 25.0)])
    found = together([weak(record), bare])
    assert not found.aligned
    assert {one.values[MIOU] for one in found.placed} == {0.30, 0.29, 0.35}
    assert any("bare has no dense trial" in note for note in found.notes)


def test_tasks_that_not_all_have_are_left_out_and_named(record: Record) -> None:
    one = load(record, "one", [simple_row(0, "dense", 1.0, 0.3)], tasks=("segmentation",))
    found = together([weak(record), one])
    assert found.qualities == (MIOU,)
    assert any(ANGLE in note for note in found.notes)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dataset": "nyu-v2"}, "same data set, got scenes in weak, nyu-v2 in other"),
        ({"objectives": [MIOU, "cost/flops_fraction"]}, "same cost"),
        ({"objectives": [PRIMARY["depth"], "cost/density"]}, "must share a task"),
    ],
)
def test_studies_that_do_not_compare_are_refused(record: Record, facts: dict, message: str) -> None:
    built = record("other", [simple_row(0, "dense", 1.0, 0.3, 20.0, 0.4)], tasks=TASKS)
    path = built.directory / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(UserError, match=message):
        together([weak(record), load_study("other", built.storage)])


def test_a_study_named_twice_or_without_trials_is_refused(record: Record) -> None:
    with pytest.raises(UserError, match="named once"):
        together([weak(record), weak(record)])
    empty = [load(record, name, []) for name in ("none", "neither")]
    with pytest.raises(UserError, match="must have a complete trial"):
        together(empty)
