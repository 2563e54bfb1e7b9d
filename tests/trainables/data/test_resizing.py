"""Each modality keeps its meaning when a frame is resized."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.frame import Frame
from trainables.data.resizing import (
    area_weights,
    resize_area,
    resize_frame,
    resize_nearest,
    resize_normals,
)


def test_area_weights_worked_by_hand():
    np.testing.assert_allclose(area_weights(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    third = 1 / 3
    np.testing.assert_allclose(
        area_weights(3, 2), [[2 * third, third, 0], [0, third, 2 * third]], atol=1e-6
    )


@settings(deadline=None, max_examples=30)
@given(
    old=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    new=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_area_against_counting_on_a_fine_grid(old, new):
    rng = np.random.default_rng(0)
    array = rng.uniform(0, 1, (*old, 2)).astype(np.float32)
    fine = array.repeat(new[0], 0).repeat(new[1], 1)
    expected = fine.reshape(new[0], old[0], new[1], old[1], 2).mean((1, 3))
    np.testing.assert_allclose(resize_area(array, new), expected, atol=1e-5)
    assert resize_area(array, new).mean() == pytest.approx(array.mean(), abs=1e-5)


def test_nearest_takes_the_pixel_under_the_centre():
    assert resize_nearest(np.arange(9)[None], (1, 3)).tolist() == [[1, 4, 7]]
    assert resize_nearest(np.arange(2)[None], (1, 4)).tolist() == [[0, 0, 1, 1]]


def test_normals_are_unit_vectors_or_unknown():
    normals = np.zeros((2, 6, 3), np.float32)
    normals[:, 0] = (0, 0, -1)
    normals[:, 1] = (1, 0, 0)
    normals[0, 2] = (0, 1, 0)
    normals[1, 2] = normals[:, 3] = np.nan
    normals[:, 4], normals[:, 5] = (0, 0, 1), (0, 0, -1)
    got = resize_normals(normals, (1, 3))[0]
    np.testing.assert_allclose(got[0], [0.5**0.5, 0, -(0.5**0.5)], atol=1e-6)
    assert np.isnan(got[1]).all()  # a quarter known
    assert np.isnan(got[2]).all()  # opposite directions


def test_frame():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2] = [[[10], [20]], [[30], [40]]]
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    depth = np.full((4, 4), 2.0, np.float32)
    depth[3, 3] = np.nan
    frame = Frame(name="a", scene="b", image=image, segmentation=labels, depth=depth)
    small = resize_frame(frame, (2, 2))
    assert small.image[0, 0].tolist() == [25, 25, 25]
    assert set(small.segmentation.ravel()) <= set(labels.ravel())
    assert small.depth[0, 0] == 2.0
    assert np.isnan(small.depth[1, 1])
    assert resize_frame(frame, (4, 4)) is frame
