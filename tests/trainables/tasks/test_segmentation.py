"""Segmentation metrics: hand-worked matrices, and NumPy over stored pixels as the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.report import task_metrics
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


def brute_force(logits: np.ndarray, truth: np.ndarray, definition: str) -> dict[str, float]:
    """Class by class and image by image, over all stored pixels at once."""
    num_classes = logits.shape[1]
    predicted = logits.argmax(1)
    labelled = truth != 255
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    safe = np.where(labelled, truth, 0)
    error = -np.take_along_axis(log_probabilities, safe[:, None], 1)[:, 0]
    ious = []
    for label in range(num_classes):
        true, guess = (truth == label) & labelled, (predicted == label) & labelled
        intersection, union = (true & guess).sum(), (true | guess).sum()
        if union > 0 and (definition == "corrected" or intersection > 0):
            ious.append(intersection / union)
    right = predicted == truth
    if definition == "corrected":
        accuracy, mean_error = right[labelled].mean(), error[labelled].mean()
    else:
        images = [i for i in range(len(truth)) if labelled[i].any()]
        accuracy = np.mean([right[i][labelled[i]].mean() for i in images])
        mean_error = np.mean([error[i][labelled[i]].mean() for i in images])
    miou = float(np.mean(ious)) if ious else float("nan")
    return {"miou": miou, "pixel_accuracy": float(accuracy), "error": float(mean_error)}


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    num_classes=st.integers(2, 6),
    num_images=st.integers(1, 5),
    chunk=st.integers(1, 5),
    definition=st.sampled_from(["corrected", "published"]),
)
def test_streaming_equals_brute_force(
    seed: int, num_classes: int, num_images: int, chunk: int, definition: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_images, num_classes, 2, 3, generator=generator)
    truth = torch.randint(0, num_classes, (num_images, 9, 14), generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.3] = 255
    truth[0, 0, 0] = 0
    accumulator = Segmentation(num_classes).accumulator(definition, "cpu")
    for start in range(0, num_images, chunk):
        accumulator.update(logits[start : start + chunk], truth[start : start + chunk])
    got = accumulator.compute()
    assert set(got) == set(task_metrics("segmentation"))
    mode = {"mode": "bilinear"} if definition == "corrected" else {"mode": "nearest"}
    full = F.interpolate(logits, (9, 14), **mode).double().numpy()
    for name, value in brute_force(full, truth.numpy(), definition).items():
        assert got[f"segmentation/{name}"] == pytest.approx(value, rel=1e-5, nan_ok=True), name


def test_the_confusion_matrix_has_truth_in_rows() -> None:
    accumulator = Segmentation(3).accumulator("corrected", "cpu")
    accumulator.update(one_hot([[2, 2, 0]], 3), torch.tensor([[[1, 1, 0]]]))
    assert accumulator.confusion.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]
    assert accumulator.confusion.dtype == torch.int64


def test_unknown_definition() -> None:
    with pytest.raises(UserError, match="valid: corrected, published"):
        Segmentation(3).accumulator("correct", "cpu")
