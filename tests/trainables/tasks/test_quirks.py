"""Each quirk of the published evaluation by hand: where the definitions part, where they agree.

The quirks are those of the released code of DiSparse (`evaluation.py`) and AdaShare
(`envs/base_env.py`, `dataloaders/`), as read there; those of normals have a file of their own.
"""

import math

import pytest
import torch
from torch import Tensor

from tests.trainables.tasks.by_hand import both, labels_of, logits_of, row, vectors
from trainables.registry.datasets import DatasetDescription

NAN = math.nan
CITY = DatasetDescription(  # of a user's own
    summary="a city", tasks=("segmentation",), num_classes=2, depth_kind="metric"
)


# ---------------------------------------------------------------- classes without true positive


def test_dropping_missed_classes_inflates_miou_most_where_most_are_missed() -> None:
    """Ten classes, one pixel each. A network that has collapsed to class 0 has IoU 1/10 there."""
    truth = labels_of(*range(10))
    corrected, published = both("segmentation", logits_of(*[0] * 10, num_classes=10), truth)
    assert corrected["miou"] == pytest.approx((1 / 10) / 10)
    assert published["miou"] == pytest.approx(1 / 10)
    # Half of the classes found, the other half called class 0.
    half = logits_of(0, 1, 2, 3, 4, *[0] * 5, num_classes=10)
    corrected, published = both("segmentation", half, truth)
    assert corrected["miou"] == pytest.approx((1 / 6 + 4) / 10)
    assert published["miou"] == pytest.approx((1 / 6 + 4) / 5)


def test_miou_agrees_where_every_class_has_a_hit_or_never_occurs() -> None:
    """0: 1 of 2; 1: 1 of 3; 2: 1 of 2; class 3 is neither true nor predicted and never counts."""
    truth = labels_of(0, 0, 1, 1, 2)
    corrected, published = both("segmentation", logits_of(0, 1, 1, 2, 2, num_classes=4), truth)
    assert corrected == published
    assert corrected["miou"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)


# ---------------------------------------------------------------- ignored pixels on Cityscapes

HALF_LABELLED = (logits_of(0, 1, 0, 1, num_classes=2), labels_of(0, 1, 255, 255))


@pytest.mark.parametrize("dataset", ["cityscapes", "cityscapes-metric"])
def test_unlabelled_pixels_count_as_wrong_on_cityscapes(dataset: str) -> None:
    """They are -1 there and pass the filter `label < num_classes`, into the accuracy alone: the
    cross-entropy ignores -1, and so does the confusion matrix, whose labels are 0 to C - 1."""
    corrected, published = both("segmentation", *HALF_LABELLED, dataset=dataset)
    assert corrected["pixel_accuracy"] == 1.0
    assert published["pixel_accuracy"] == 2 / 4
    assert published["miou"] == corrected["miou"] == 1.0
    assert published["error"] == corrected["error"]


@pytest.mark.parametrize("dataset", [None, "scenes", "nyu-v2", "taskonomy", f"{__name__}:CITY"])
def test_unlabelled_pixels_do_not_count_elsewhere(dataset: str | None) -> None:
    """255 there, which the filter stops."""
    corrected, published = both("segmentation", *HALF_LABELLED, dataset=dataset)
    assert corrected == published
    assert published["pixel_accuracy"] == 1.0


def test_fully_labelled_cityscapes_agrees() -> None:
    sure = logits_of(0, 1, 1, 0, num_classes=2)
    corrected, published = both("segmentation", sure, labels_of(0, 1, 0, 0), dataset="cityscapes")
    assert corrected == published
    assert corrected["pixel_accuracy"] == 3 / 4


# ---------------------------------------------------------------- disparities of Cityscapes


def disparities(*pixels: float) -> Tensor:
    """What `cityscapes` holds for 16-bit values p: (p - 1) / 65535."""
    return (row(*pixels) - 1) / 65535


def test_small_disparities_are_divided_by_p() -> None:
    """2, 4 and 101 are predicted as 3, 4 and 202: off by 1/2, 0 and 1 of p; ratios 1.5, 1, 2."""
    pair = disparities(3, 4, 202), disparities(2, 4, 101)
    corrected, published = both("depth", *pair, dataset="cityscapes")
    assert published["relative_error"] == pytest.approx((1 / 2 + 0 + 1) / 3, rel=1e-6)
    assert corrected["relative_error"] == pytest.approx((1 / 1 + 0 + 101 / 100) / 3, rel=1e-6)
    assert published["within_1_25"] == pytest.approx(1 / 3)  # 4 alone
    assert published["within_1_25_squared"] == pytest.approx(2 / 3)  # 1.5 < 1.5625
    assert corrected["within_1_25_squared"] == pytest.approx(1 / 3)  # 2 / 1 is not
    assert published["absolute_error"] == pytest.approx(102 / 3 / 65535, rel=1e-6)
    assert corrected["absolute_error"] == pytest.approx(102 / 3 / 65535, rel=1e-6)


@pytest.mark.parametrize("dataset", [None, "nyu-v2", "cityscapes-metric", "taskonomy"])
def test_elsewhere_depth_has_no_offset(dataset: str | None) -> None:
    pair = disparities(3, 4, 202), disparities(2, 4, 101)
    corrected, published = both("depth", *pair, dataset=dataset)
    assert published == pytest.approx(corrected)


def test_the_published_relative_error_is_that_of_the_released_formula() -> None:
    """Mean over the pixels of |p̂ - p| / p, for values down to the smallest known, 2."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.cat([torch.arange(2, 40), torch.randint(2, 32258, (90,), generator=generator)])
    guess = (truth + torch.randint(-30, 31, truth.shape, generator=generator)).clamp(min=0)
    expected = ((guess - truth).abs().double() / truth.double()).mean()
    pair = disparities(*guess.tolist()), disparities(*truth.tolist())
    _, published = both("depth", *pair, dataset="cityscapes")
    assert published["relative_error"] == pytest.approx(float(expected), rel=1e-5)


# ---------------------------------------------------------------- negative depth


def test_negative_depths_are_inside_every_ratio() -> None:
    """p / t = t / p < 0 for any negative p: as published, ever so wrong a depth is within 1.25."""
    corrected, published = both("depth", row(-0.01, -50.0, -2.0, 4.0), row(2, 2, 2, 4))
    for share in ("within_1_25", "within_1_25_squared", "within_1_25_cubed"):
        assert (corrected[share], published[share]) == (1 / 4, 1.0)
    assert corrected["absolute_error"] == pytest.approx((2.01 + 52 + 4 + 0) / 4)
    assert published["absolute_error"] == pytest.approx(corrected["absolute_error"])


def test_zero_depth_is_outside_in_both() -> None:
    corrected, published = both("depth", row(0.0, 0.0), row(1.0, 3.0))
    assert corrected["within_1_25_cubed"] == published["within_1_25_cubed"] == 0.0


def test_positive_depths_agree() -> None:
    """Ratios 1.2, 1.5, 1.8 and 2; the ratio does not care which of the two is larger."""
    corrected, published = both("depth", row(1.2, 3.0, 1.0, 1.0), row(1.0, 2.0, 1.8, 2.0))
    assert corrected == pytest.approx(published)
    assert [corrected[f"within_1_25{end}"] for end in ("", "_squared", "_cubed")] == [
        1 / 4,
        2 / 4,
        3 / 4,
    ]


def test_a_ratio_on_the_limit_is_inside_as_published_only() -> None:
    """1.25 and 1.5625 are exact in binary."""
    corrected, published = both("depth", row(1.25, 1.5625), row(1.0, 1.0))
    assert (corrected["within_1_25"], published["within_1_25"]) == (0.0, 1 / 2)
    assert (corrected["within_1_25_squared"], published["within_1_25_squared"]) == (1 / 2, 1.0)


# ---------------------------------------------------------------- nearest up-sampling

# Two cells become four pixels: bilinear at -0.25, 0.25, 0.75 and 1.25, that is with shares of
# 0, 1/4, 3/4 and 1 of the second; nearest takes each cell twice.


def test_upsampled_logits_move_the_border_between_classes() -> None:
    """Class 1 leads by 9 in the second cell, class 0 by 1 in the first: interpolated, the lead of
    class 1 is -1, 1.5, 6.5, 9. Both definitions see the second pixel differently."""
    logits = torch.tensor([[[[1.0, 0.0]], [[0.0, 9.0]]]])
    corrected, published = both("segmentation", logits, labels_of(0, 1, 1, 1))
    assert (corrected["pixel_accuracy"], published["pixel_accuracy"]) == (1.0, 3 / 4)
    assert corrected["miou"] == 1.0
    assert published["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)

    def wrong(lead: float) -> float:
        return math.log1p(math.exp(-lead))

    assert corrected["error"] == pytest.approx((wrong(1) + wrong(1.5) + wrong(6.5) + wrong(9)) / 4)
    assert published["error"] == pytest.approx((wrong(1) + wrong(-1) + 2 * wrong(9)) / 4)


@pytest.mark.parametrize(("name", "metric"), [("depth", "absolute_error"), ("edges", "error")])
def test_upsampled_values_are_mixed_or_not(name: str, metric: str) -> None:
    """Cells 1 and 5 become 1, 2, 4, 5, or 1, 1, 5, 5, against a truth of 1, 2, 4, 5."""
    corrected, published = both(name, row(1, 5), row(1, 2, 4, 5))
    assert corrected[metric] == pytest.approx(0, abs=1e-6)
    assert published[metric] == pytest.approx((0 + 1 + 1 + 0) / 4)


def test_upsampled_normals_are_turned_or_not() -> None:
    """Half-way between two unit vectors at ±45° lies the one at 0°; here a quarter of the way."""
    cells = vectors((1, 0, -1), (-1, 0, -1))
    quarter = math.degrees(math.atan(0.5))
    corrected, _ = both("normals", cells, vectors(*[(0, 0, -1)] * 4))
    assert corrected["mean_error_deg"] == pytest.approx((45 + quarter) / 2, abs=1e-4)
    _, published = both("normals", cells, vectors(*[(0, 0, -1)] * 4))
    _, at_full_size = both("normals", cells, vectors(*[(0, 0, -1)] * 2))
    assert published == pytest.approx(at_full_size)


@pytest.mark.parametrize("name", ["segmentation", "depth", "keypoints", "edges"])
def test_constant_predictions_agree_at_any_size(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    if name == "segmentation":
        prediction = torch.tensor([0.3, 1.0, -2.0]).view(1, 3, 1, 1).expand(1, 3, 2, 3)
        # Class 1, the one predicted, alone is true: no class is missed.
        target = torch.ones(1, 8, 9, dtype=torch.int64)
    else:
        prediction = torch.full((1, 1, 2, 3), 1.5)
        target = torch.rand(1, 1, 8, 9, generator=generator) + 0.5
    corrected, published = both(name, prediction, target)
    assert corrected == pytest.approx(published, rel=1e-6)


# ---------------------------------------------------------------- means of images' means


def test_images_weigh_the_same_as_published() -> None:
    """Four pixels off by 1 in one image, one off by 3 in the other: 7/5 or (1 + 3)/2."""
    prediction = torch.cat([row(2, 2, 2, 2), row(4, 9, 9, 9)])
    target = torch.cat([row(1, 1, 1, 1), row(1, NAN, NAN, NAN)])
    corrected, published = both("depth", prediction, target)
    assert (corrected["absolute_error"], published["absolute_error"]) == (7 / 5, 4 / 2)
    assert (corrected["relative_error"], published["relative_error"]) == (7 / 5, 4 / 2)
    # The shares are over all pixels in both: ratios 2 four times, 4 once, none within 1.95.
    assert corrected["within_1_25_cubed"] == published["within_1_25_cubed"] == 0.0


def test_equally_known_images_agree() -> None:
    prediction = torch.cat([row(2, 2, 9), row(4, 5, 9)])
    target = torch.cat([row(1, 1, NAN), row(1, 1, NAN)])
    corrected, published = both("edges", prediction, target)
    assert corrected == published == {"error": (1 + 1 + 3 + 4) / 4}
