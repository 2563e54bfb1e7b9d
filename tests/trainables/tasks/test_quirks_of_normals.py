"""Each quirk of the published evaluation of normals by hand: as colours, and on Taskonomy.

The quirks are those of the released code of DiSparse (`evaluation.py`) and AdaShare
(`envs/base_env.py`, `dataloaders/`), as read there.
"""

import math

import pytest
import torch

from tests.trainables.tasks.by_hand import both, vectors

NAN = math.nan

# ---------------------------------------------------------------- normals as colours


def between(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return math.degrees(math.acos(dot / math.hypot(*first) / math.hypot(*second)))


def test_colours_lie_closer_together_than_the_normals() -> None:
    """A wall seen from 45° to its left, taken for one from 45° to its right: a right angle. With
    (x, z, -y) as colours 127.5 · (1 + n), the truth rounded, less than half of it."""
    corrected, published = both("normals", vectors((1, 0, -1)), vectors((-1, 0, -1)))
    low, high = 127.5 * (1 - math.sqrt(0.5)), 127.5 * (1 + math.sqrt(0.5))
    assert (round(low), round(high)) == (37, 218)
    expected = between((high, low, 127.5), (37, 37, 128))
    assert corrected["mean_error_deg"] == pytest.approx(90, abs=1e-4)
    assert published["mean_error_deg"] == pytest.approx(expected, abs=0.01)
    assert published["mean_error_deg"] == pytest.approx(43.08, abs=0.01)
    assert (corrected["within_30"], published["within_30"]) == (0.0, 0.0)


def test_a_poor_normal_is_within_the_tightest_limit_as_published() -> None:
    """20° beside a wall that faces the camera: colours (128, 0, 128) and (171, 8, 127.5)."""
    angle = math.radians(20)
    tilted = vectors((math.sin(angle), 0, -math.cos(angle)))
    corrected, published = both("normals", tilted, vectors((0, 0, -1)))
    red, green = 127.5 * (1 + math.sin(angle)), 127.5 * (1 - math.cos(angle))
    assert corrected["mean_error_deg"] == pytest.approx(20, abs=1e-4)
    assert published["mean_error_deg"] == pytest.approx(
        between((red, green, 127.5), (128, 0, 128)), abs=0.01
    )
    assert (corrected["within_11_25"], published["within_11_25"]) == (0.0, 1.0)


def test_level_floors_are_left_out_as_published() -> None:
    """n = (0, -1, 0) is the colour (127.5, 127.5, 255), and 255 marks what is unknown."""
    floor, wall, other = (0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (0.8, 0.0, -0.6)
    prediction = vectors(wall, wall, other)
    corrected, published = both("normals", prediction, vectors(floor, wall, other))
    assert corrected["mean_error_deg"] == pytest.approx(90 / 3, abs=1e-4)
    assert corrected["within_11_25"] == pytest.approx(2 / 3)
    assert published["mean_error_deg"] < 0.2  # the 90° are gone; rounding to 8 bits remains
    assert published["within_11_25"] == 1.0


def test_right_normals_agree() -> None:
    known = vectors((0.1, 0.2, -1), (0.7, -0.3, -0.6), (-0.5, 0.5, -0.7))
    corrected, published = both("normals", 3 * known, known)
    for metric, value in published.items():
        close = 0.4 if metric.endswith("deg") else 0  # 8 bits, and float32's arccos near 0
        assert value == pytest.approx(corrected[metric], abs=close)


# ---------------------------------------------------------------- normals on Taskonomy


def test_taskonomys_normals_are_compared_as_vectors() -> None:
    """Angles of 0, 20, 90 and 180° and their shares, which as colours would be far smaller, and
    a level floor (the first) counts."""
    angle = math.radians(20)
    tilted = (math.sin(angle), 0, -math.cos(angle))
    prediction = vectors((0, -1, 0), tilted, (1, 0, -1), (0, 0, 1))
    truth = vectors((0, -1, 0), (0, 0, -1), (-1, 0, -1), (0, 0, -1))
    corrected, published = both("normals", 5 * prediction, truth, dataset="taskonomy")
    assert published["mean_error_deg"] == pytest.approx((0 + 20 + 90 + 180) / 4, abs=0.01)
    assert published["median_error_deg"] == pytest.approx((20 + 90) / 2, abs=0.01)
    assert (published["within_11_25"], published["within_22_5"]) == (1 / 4, 2 / 4)
    # All known and at full size: the two definitions agree but for float32's arccos.
    assert published == pytest.approx(corrected, abs=0.01)
    _, as_colours = both("normals", prediction, truth, dataset="nyu-v2")
    assert as_colours["mean_error_deg"] < 40


def test_taskonomys_unknown_normals_count_as_grey() -> None:
    """(128, 128, 128) becomes (1, 1, 1) / 255 right, down and towards the camera: a third of the
    squared length along each axis, so a wall that faces the camera is acos(1 / √3) = 54.736° off,
    a ceiling (0, 1, 0) too, and a floor (0, -1, 0) 180° less that."""
    nothing = torch.full((1, 3, 1, 4), NAN)
    prediction = vectors((0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 1, -1))
    corrected, published = both("normals", prediction, nothing, dataset="taskonomy")
    assert math.isnan(corrected["mean_error_deg"])
    assert published["mean_error_deg"] == pytest.approx(
        (54.7356 + 54.7356 + 125.2644 + 0) / 4, abs=0.01
    )
    assert (published["within_11_25"], published["within_30"]) == (1 / 4, 1 / 4)


def test_a_known_pixel_weighs_as_much_as_an_unknown_one_on_taskonomy() -> None:
    truth = vectors((0, 0, -1), (0, 0, -1))
    truth[..., 1] = NAN
    corrected, published = both("normals", vectors(*[(0, 0, -1)] * 2), truth, dataset="taskonomy")
    assert corrected["mean_error_deg"] == pytest.approx(0, abs=1e-4)
    assert published["mean_error_deg"] == pytest.approx(54.7356 / 2, abs=0.01)


def test_a_pruned_head_is_at_a_right_angle_on_taskonomy() -> None:
    """A zero vector stays zero when normalised there: cosine 0."""
    _, published = both(
        "normals", torch.zeros(1, 3, 1, 2), vectors((0, 0, -1), (1, 0, 0)), dataset="taskonomy"
    )
    assert published["mean_error_deg"] == pytest.approx(90)
