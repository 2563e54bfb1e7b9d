"""What a description of a data set refuses."""

import pytest

from trainables.errors import UserError
from trainables.registry.datasets import DatasetDescription


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"depth_kind": "feet"}, "unknown depth kind 'feet'"), ({"tasks": ()}, "must name a task")],
)
def test_a_data_set_that_contradicts_itself_is_refused(facts: dict, message: str) -> None:
    values = {"summary": "", "tasks": ("depth",), "num_classes": 0, "depth_kind": "metric"}
    with pytest.raises(UserError, match=message):
        DatasetDescription(**(values | facts))


@pytest.mark.parametrize(("tasks", "num"), [(("segmentation",), 0), (("depth",), 256)])
def test_descriptions_with_classes_that_cannot_be_stored(tasks, num):
    with pytest.raises(UserError, match=r"`num_classes` of a data set must be [01] to 255, got"):
        DatasetDescription(summary="x", tasks=tasks, num_classes=num, depth_kind="metric")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tasks": "depth"}, r"`tasks` .* must be a tuple of names, got 'depth'; e\.g\."),
        ({"tasks": {"depth"}}, r"`tasks` .* must be a tuple of names, got \{'depth'\}"),
        ({"tasks": ("depth", "edges", "depth")}, "must name each task once, got 'depth' twice"),
        ({"num_classes": 4.0}, r"`num_classes` .* must be 0 to 255, got 4\.0; give"),
        ({"size": (64,)}, r"`size` .* must be \(height, width\) in pixels, got \(64,\); e\.g\."),
        ({"crop": 64}, r"`crop` .* must be \(height, width\) in pixels, got 64"),
        ({"size": (64.0, 64.0)}, r"got \(64\.0, 64\.0\); e\.g\. \(120, 160\)"),
        ({"num_classes": "4"}, r"`num_classes` .* must be 0 to 255, got '4'; give"),
    ],
)
def test_descriptions_of_other_types(fields, said):
    given = {"summary": "x", "tasks": ("depth",), "num_classes": 0, "depth_kind": "metric"}
    with pytest.raises(UserError, match=said):
        DatasetDescription(**{**given, **fields})
