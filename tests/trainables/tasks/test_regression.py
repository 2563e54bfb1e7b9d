"""Depth, keypoints and edges: hand-worked pixels, NumPy as the oracle, quirks side by side."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.tasks.base import Task
from trainables.tasks.catalogue import build_tasks

NAN = float("nan")
NAMES = ("depth", "keypoints", "edges")


def task_of(name: str) -> Task:
    return build_tasks([name], {name: 1})[name]


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[None, None, None, :]


def compute(name: str, prediction: Tensor, target: Tensor, definition: str) -> dict[str, float]:
    accumulator = task_of(name).accumulator(definition, "cpu")
    accumulator.update(prediction, target)
    return {full.split("/")[1]: value for full, value in accumulator.compute().items()}


def test_depth_by_hand() -> None:
    """Ratios 1, 1.2, 1.5, 1.8 (by a prediction too small), 4, a negative one, zero, unknown."""
    truth = row(2, 2, 2, 1.8, 1, 2, 2, NAN)
    prediction = row(2, 2.4, 3, 1, 4, -1, 0, 50)
    errors = np.array([0, 0.4, 1, 0.8, 3, 3, 2])
    relative = errors / np.array([2, 2, 2, 1.8, 1, 2, 2])
    corrected = compute("depth", prediction, truth, "corrected")
    published = compute("depth", prediction, truth, "published")
    for metrics in (corrected, published):
        assert metrics["absolute_error"] == pytest.approx(errors.mean(), rel=1e-6)
        assert metrics["relative_error"] == pytest.approx(relative.mean(), rel=1e-6)
    shares = ("within_1_25", "within_1_25_squared", "within_1_25_cubed")
    assert [corrected[s] for s in shares] == pytest.approx([2 / 7, 3 / 7, 4 / 7])
    # The negative prediction is inside every δ as published; zero is not (its ratio is infinite).
    assert [published[s] for s in shares] == pytest.approx([3 / 7, 4 / 7, 5 / 7])


def test_definitions_agree_on_one_full_size_image_of_positive_depths() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(1, 1, 6, 7, generator=generator) + 0.5
    truth = torch.rand(1, 1, 6, 7, generator=generator) + 0.5
    first = compute("depth", prediction, truth, "corrected")
    assert first == pytest.approx(compute("depth", prediction, truth, "published"))


@pytest.mark.parametrize("name", NAMES)
def test_published_weighs_images_and_corrected_pixels(name: str) -> None:
    truth = torch.cat([row(1, 1, 1, 1), row(1, NAN, NAN, NAN), row(NAN, NAN, NAN, NAN)])
    prediction = torch.cat([row(2, 2, 2, 2), row(4, 0, 0, 0), row(9, 9, 9, 9)])
    key = "absolute_error" if name == "depth" else "error"
    corrected = compute(name, prediction, truth, "corrected")[key]
    assert corrected == pytest.approx((4 * 1 + 3) / 5)
    published = compute(name, prediction, truth, "published")[key]
    assert published == pytest.approx((1 + 3) / 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_nan_predictions_surface(name: str, definition: str) -> None:
    prediction = torch.rand(2, 1, 2, 2)
    prediction[1, 0, 0, 1] = NAN
    metrics = compute(name, prediction, torch.rand(2, 1, 8, 8) + 0.5, definition)
    assert all(np.isnan(value) for value in metrics.values()), metrics


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_nothing_known_is_nan(name: str, definition: str) -> None:
    metrics = compute(name, torch.rand(1, 1, 2, 2), torch.full((1, 1, 8, 8), NAN), definition)
    assert all(np.isnan(value) for value in metrics.values())
