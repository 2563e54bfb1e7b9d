"""Colours are fixed, unknown pixels are white, and errors are those worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainables.data.scenes import layout
from trainables.errors import UserError
from trainables.pictures.colours import RIGHT, WHITE, WRONG, class_colours, on_scale, scale_table
from trainables.pictures.maps import (
    UNLABELLED,
    coloured,
    coloured_errors,
    error_limits,
    error_map,
    limits_of,
)
from trainables.registry.datasets import DATASETS, DatasetDescription
from trainables.registry.tasks import TARGET_KINDS

NAN = float("nan")


@pytest.mark.parametrize("count", [1, 12, 40, 41, 255])
def test_classes_keep_their_colours_whatever_their_number(count: int) -> None:
    colours = class_colours(count)
    assert colours.shape == (count, 3)
    assert (colours == class_colours(255)[:count]).all()
    assert len(np.unique(class_colours(min(count, 40)), axis=0)) == min(count, 40)
    assert not (colours == WHITE).all(axis=1).any()


def test_a_data_sets_own_colours_come_first() -> None:
    own = DATASETS["cityscapes"].class_colours
    assert class_colours(19, own)[0].tolist() == [128, 64, 128]  # road
    assert class_colours(19, own)[13].tolist() == [0, 0, 142]  # car


@pytest.mark.parametrize("name", DATASETS)
def test_every_class_of_a_built_in_data_set_has_a_name(name: str) -> None:
    described = DATASETS[name]
    assert len(described.class_names) == len(set(described.class_names)) == described.num_classes


def test_the_names_of_scenes_are_those_that_are_drawn() -> None:
    assert DATASETS["scenes"].class_names == layout.CLASS_NAMES


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (
            {"class_names": ("a",)},
            "`class_names` of a data set must have one entry per class, got 1",
        ),
        ({"class_colours": ("000000",) * 3}, "got 3 for num_classes=2"),
        ({"class_colours": ("000000", "#fff")}, "six hexadecimal digits each, got '#fff'"),
    ],
)
def test_names_and_colours_of_classes_are_checked(changes: dict, part: str) -> None:
    with pytest.raises(UserError, match=part):
        DatasetDescription(
            summary="", tasks=("segmentation",), num_classes=2, depth_kind="metric", **changes
        )


@pytest.mark.parametrize("name", ["viridis", "magma", "inferno"])
def test_scales_are_those_of_matplotlib(name: str) -> None:
    import matplotlib

    theirs = matplotlib.colormaps[name](np.arange(256))[:, :3] * 255
    assert np.abs(scale_table(name).astype(float) - theirs).max() < 7


def test_a_scale_of_one_value_and_an_unknown_scale() -> None:
    assert (on_scale(np.full((2, 2), 3.0), 3.0, 3.0, "grey") == 0).all()
    with pytest.raises(UserError, match=r"unknown scale 'virids'\..* Valid: grey, inferno"):
        scale_table("virids")


def test_class_colours_and_unlabelled_pixels() -> None:
    palette = class_colours(3)
    labels = np.array([[0, 2], [1, UNLABELLED]], np.uint8)
    expected = [[palette[0], palette[2]], [palette[1], WHITE]]
    assert (coloured("labels", labels, palette=palette) == np.array(expected)).all()


def test_directions_have_their_usual_colours() -> None:
    """Our camera frame has y down and z forward; a floor's normal points up, a wall's to us."""
    vectors = np.array([[[1, 0, 0], [0, -1, 0], [0, 0, -1], [NAN, NAN, NAN]]], np.float32)
    expected = [[[255, 128, 128], [128, 255, 128], [128, 128, 255], WHITE]]
    assert coloured("vectors", vectors).tolist() == [[list(colour) for colour in expected[0]]]


def test_a_value_has_its_place_on_the_scale() -> None:
    depth = np.array([[1.0, 3.0, 5.0, -9.0, 99.0, NAN]], np.float32)
    drawn = coloured("depth", depth, limits=(1.0, 5.0))[0]
    table = scale_table("viridis")
    assert (drawn[[0, 2, 3, 4]] == table[[0, 255, 0, 255]]).all()
    assert (drawn[1] == table[128]).all()
    assert drawn[5].tolist() == list(WHITE)


def test_own_values_are_grey_and_of_several_channels_the_first_is_drawn() -> None:
    values = np.array([[[0.0, 7.0], [2.0, 7.0]]], np.float32)
    drawn = coloured("values", values, limits=(0.0, 2.0))
    assert drawn.tolist() == [[[0, 0, 0], [225, 225, 225]]]


def test_misclassified_pixels() -> None:
    truth = np.array([[0, 1, 2, UNLABELLED]], np.uint8)
    errors = error_map("labels", np.array([[0, 2, 2, 1]], np.uint8), truth)
    assert np.array_equal(errors, [[0, 1, 0, NAN]], equal_nan=True)
    drawn = coloured_errors("labels", errors, (0.0, 1.0))[0]
    assert (drawn[0] == drawn[2]).all()
    assert drawn[1].tolist() == list(WRONG)
    assert drawn[0].tolist() == list(RIGHT)
    assert drawn[3].tolist() == list(WHITE)


def test_angles() -> None:
    """0°, 45°, 90°, 180°; a prediction without direction counts as 90°, as in the metrics."""
    half = np.sqrt(0.5)
    x = [1, 0, 0]
    ours = np.array([[x, [half, half, 0], [0, 0, 1], [-1, 0, 0], [0, 0, 0], x]], np.float32)
    truth = np.array([[x, x, x, x, x, [NAN] * 3]], np.float32)
    expected = [[0, 45, 90, 180, 90, NAN]]
    np.testing.assert_allclose(error_map("vectors", ours, truth), expected, atol=1e-4)


def test_absolute_errors() -> None:
    truth = np.array([[2.0, 2.0, NAN]], np.float32)
    ours = np.array([[1.5, 4.0, 1.0]], np.float32)
    for kind in ("depth", "response", "values"):
        assert np.array_equal(error_map(kind, ours, truth), [[0.5, 2.0, NAN]], equal_nan=True)


def test_limits() -> None:
    values = np.append(np.arange(1001.0), [NAN, np.inf])
    assert limits_of("depth", values) == (10.0, 990.0)
    assert limits_of("response", values) == (0.0, 1.0)
    assert limits_of("depth", np.array([NAN])) == (0.0, 1.0)
    assert error_limits(np.zeros(4)) == (0.0, 1.0)  # of a perfect model


@given(
    st.sampled_from([kind for kind in TARGET_KINDS if kind != "labels"]),
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)),
        # A process that has trained flushes subnormal numbers, which Hypothesis notices.
        elements=st.floats(width=32, allow_subnormal=False),
    ),
)
def test_anything_can_be_drawn(kind: str, values: np.ndarray) -> None:
    for array in (values, values[..., 0]):
        drawn = coloured(kind, array)
        assert drawn.shape == (*array.shape[:2], 3)
        assert drawn.dtype == np.uint8
        unknown = np.isnan(array).reshape(*array.shape[:2], -1)
        first = unknown.any(axis=-1) if kind == "vectors" and array.ndim == 3 else unknown[..., 0]
        assert (drawn[first] == WHITE).all()
