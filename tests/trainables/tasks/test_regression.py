"""Depth, keypoints and edges: hand-worked pixels, NumPy as the oracle, quirks side by side."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from trainables.report import task_metrics
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


def brute_force(prediction: np.ndarray, truth: np.ndarray, definition: str) -> dict[str, float]:
    known = ~np.isnan(truth)
    error = np.abs(prediction - truth)

    def mean(values: np.ndarray) -> float:
        if definition == "corrected":
            return float(values[known].mean())
        images = [i for i in range(len(truth)) if known[i].any()]
        return float(np.mean([values[i][known[i]].mean() for i in images]))

    p, t = prediction[known], truth[known]
    ratio = np.maximum(p / t, t / p)
    inside = ratio if definition == "published" else np.where(p > 0, ratio, np.inf)
    return {
        "error": mean(error),
        "absolute_error": mean(error),
        "relative_error": mean(error / truth),
        "within_1_25": float((inside < 1.25).mean()),
        "within_1_25_squared": float((inside < 1.25**2).mean()),
        "within_1_25_cubed": float((inside < 1.25**3).mean()),
    }


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 10_000),
    num_images=st.integers(1, 4),
    chunk=st.integers(1, 4),
    definition=st.sampled_from(["corrected", "published"]),
)
def test_streaming_equals_brute_force(
    name: str, seed: int, num_images: int, chunk: int, definition: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(num_images, 1, 2, 3, generator=generator) + 1
    truth = 2 * torch.rand(num_images, 1, 9, 10, generator=generator) + 0.2
    truth[torch.rand(truth.shape, generator=generator) < 0.3] = NAN
    accumulator = task_of(name).accumulator(definition, "cpu")
    for start in range(0, num_images, chunk):
        accumulator.update(prediction[start : start + chunk], truth[start : start + chunk])
    got = accumulator.compute()
    assert set(got) == set(task_metrics(name))
    mode = "bilinear" if definition == "corrected" else "nearest"
    full = F.interpolate(prediction, (9, 10), mode=mode).double().numpy()
    expected = brute_force(full, truth.double().numpy(), definition)
    for full_name, value in got.items():
        key = full_name.split("/")[1]
        # float32 may move a single ratio across its limit.
        tolerance = 2 / truth.numel() if key.startswith("within") else 1e-5
        assert value == pytest.approx(expected[key], abs=tolerance, rel=1e-5), full_name
