"""Segmentation metrics: hand-worked matrices, and NumPy over stored pixels as the oracle."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.tasks.segmentation import Segmentation


def one_hot(labels: list[list[int]], num_classes: int, height: float = 5.0) -> Tensor:
    """Logits (1, C, H, W) whose argmax is `labels`."""
    return height * F.one_hot(torch.tensor([labels]), num_classes).movedim(-1, 1).float()


def compute(logits: Tensor, target: Tensor, definition: str, **options: bool) -> dict[str, float]:
    task = Segmentation(logits.shape[1], **options)
    accumulator = task.accumulator(definition, "cpu")
    accumulator.update(logits, target)
    return {name.split("/")[1]: value for name, value in accumulator.compute().items()}


def test_by_hand() -> None:
    """Eight pixels, four classes; class 2 is never right, class 3 neither true nor predicted."""
    truth = torch.tensor([[[0, 0, 0, 1], [1, 2, 255, 255]]])
    logits = one_hot([[0, 0, 1, 1], [1, 0, 2, 3]], 4)
    # Class 0: hits 2, union 4; class 1: 2 of 3; class 2: 0 of 1; class 3: only at ignored pixels.
    corrected = compute(logits, truth, "corrected")
    assert corrected["miou"] == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert corrected["pixel_accuracy"] == pytest.approx(4 / 6)
    published = compute(logits, truth, "published")
    assert published["miou"] == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert published["pixel_accuracy"] == pytest.approx(4 / 6)
    wrong, right = np.log(np.exp(5) + 3), np.log(np.exp(5) + 3) - 5
    assert corrected["error"] == pytest.approx((4 * right + 2 * wrong) / 6, rel=1e-5)


def test_a_class_predicted_but_never_true_counts_when_corrected() -> None:
    truth = torch.zeros(1, 1, 4, dtype=torch.int64)
    logits = one_hot([[0, 0, 0, 1]], 3)
    assert compute(logits, truth, "corrected")["miou"] == pytest.approx((3 / 4 + 0) / 2)
    assert compute(logits, truth, "published")["miou"] == pytest.approx(3 / 4)


def test_perfect_prediction_agrees_in_both() -> None:
    truth = torch.tensor([[[0, 1], [2, 255]]])
    logits = one_hot([[0, 1], [2, 0]], 5, height=200.0)
    for definition in ("corrected", "published"):
        metrics = compute(logits, truth, definition)
        assert metrics == {"miou": 1.0, "pixel_accuracy": 1.0, "error": 0.0}


def test_no_true_positive_at_all() -> None:
    truth = torch.ones(1, 2, 2, dtype=torch.int64)
    logits = one_hot([[0, 0], [0, 0]], 3)
    assert compute(logits, truth, "corrected")["miou"] == 0
    assert np.isnan(compute(logits, truth, "published")["miou"])  # 0 / 0, as published


def test_published_cityscapes_counts_unlabelled_pixels_as_wrong() -> None:
    truth = torch.tensor([[[0, 1, 255, 255]]])
    logits = one_hot([[0, 1, 0, 1]], 2)
    plain = compute(logits, truth, "published")
    cityscapes = compute(logits, truth, "published", counts_ignored=True)
    assert (plain["pixel_accuracy"], cityscapes["pixel_accuracy"]) == (1.0, 0.5)
    assert (plain["miou"], plain["error"]) == (cityscapes["miou"], cityscapes["error"])
    assert compute(logits, truth, "corrected", counts_ignored=True)["pixel_accuracy"] == 1.0


def test_published_weighs_images_and_corrected_pixels() -> None:
    truth = torch.tensor([[[0, 0, 0, 0]], [[0, 255, 255, 255]]])
    logits = torch.cat([one_hot([[0, 0, 0, 0]], 2), one_hot([[1, 0, 0, 0]], 2)])
    assert compute(logits, truth, "corrected")["pixel_accuracy"] == pytest.approx(4 / 5)
    assert compute(logits, truth, "published")["pixel_accuracy"] == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("definition", ["corrected", "published"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_broken_logits_surface(definition: str, poison: float) -> None:
    logits = torch.randn(2, 3, 4, 4)
    logits[1, 2, 0, 0] = poison
    metrics = compute(logits, torch.zeros(2, 8, 8, dtype=torch.int64), definition)
    assert all(np.isnan(value) for value in metrics.values()), metrics


@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_nothing_labelled_is_nan(definition: str) -> None:
    metrics = compute(torch.randn(2, 3, 2, 2), torch.full((2, 8, 8), 255), definition)
    assert all(np.isnan(value) for value in metrics.values())


def test_the_confusion_matrix_has_truth_in_rows() -> None:
    accumulator = Segmentation(3).accumulator("corrected", "cpu")
    accumulator.update(one_hot([[2, 2, 0]], 3), torch.tensor([[[1, 1, 0]]]))
    assert accumulator.confusion.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]
    assert accumulator.confusion.dtype == torch.int64


def test_unknown_definition() -> None:
    with pytest.raises(UserError, match="Valid: corrected, published"):
        Segmentation(3).accumulator("correct", "cpu")
