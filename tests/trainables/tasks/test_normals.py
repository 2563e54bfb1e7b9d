"""Angles: exact rotations, a float64 NumPy oracle, and the published comparison of colours."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.tasks.normals import Normals, angles_deg

NAN = float("nan")


def field(*vectors: tuple[float, float, float]) -> Tensor:
    """(1, 3, 1, N) from N vectors."""
    return torch.tensor(vectors, dtype=torch.float32).T[None, :, None, :]


def tilted(*degrees: float) -> Tensor:
    """Unit vectors turned from -z towards +x: what stands before the camera, facing it."""
    return field(*[(np.sin(np.radians(d)), 0.0, -np.cos(np.radians(d))) for d in degrees])


def compute(
    prediction: Tensor, target: Tensor, definition: str, *, as_colours: bool = True
) -> dict[str, float]:
    accumulator = Normals(3, as_colours=as_colours).accumulator(definition, "cpu")
    accumulator.update(prediction, target)
    return {name.split("/")[1]: value for name, value in accumulator.compute().items()}


def test_by_hand() -> None:
    degrees = (0.0, 5.0, 11.0, 20.0, 25.0, 40.0, 90.0, 180.0)
    metrics = compute(7 * tilted(*degrees), tilted(*[0.0] * 8), "corrected")
    assert metrics["mean_error_deg"] == pytest.approx(np.mean(degrees), abs=1e-4)
    assert metrics["median_error_deg"] == pytest.approx((20 + 25) / 2, abs=0.01)
    assert metrics["within_11_25"] == 3 / 8
    assert metrics["within_22_5"] == 4 / 8
    assert metrics["within_30"] == 5 / 8


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 0.02, 1.0, 45.0, 89.999, 179.99, 180.0])
def test_angles_are_accurate_where_arccos_is_not(degrees: float) -> None:
    got = angles_deg(tilted(degrees), tilted(0.0)).item()
    assert got == pytest.approx(degrees, abs=2e-5, rel=1e-5)


def test_a_zero_prediction_is_not_perfect() -> None:
    for definition in ("corrected", "published"):
        metrics = compute(torch.zeros(1, 3, 1, 4), tilted(10.0, 20.0, 30.0, 40.0), definition)
        assert metrics["within_11_25"] == 0
    assert compute(torch.zeros(1, 3, 1, 1), tilted(10.0), "corrected")["mean_error_deg"] == 90


def test_odd_count_has_one_middle() -> None:
    metrics = compute(tilted(3.0, 50.0, 7.0), tilted(0.0, 0.0, 0.0), "corrected")
    assert metrics["median_error_deg"] == pytest.approx(7.0, abs=0.005)


def test_published_angles_are_between_colours() -> None:
    """n = (0, 0, -1) has colour (127.5, 0, 127.5), n = (1, 0, 0) would have (255, 127.5, 127.5)."""
    target, prediction = field((0.0, 0.0, -1.0)), field((0.6, 0.0, -0.8))
    a, b = np.array([128.0, 0.0, 128.0]), np.array([204.0, 25.5, 127.5])
    expected = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    got = compute(prediction, target, "published")["mean_error_deg"]
    assert got == pytest.approx(expected, abs=0.01)
    assert got < compute(prediction, target, "corrected")["mean_error_deg"] / 2


def test_published_leaves_out_normals_along_an_axis() -> None:
    """A level floor's normal (0, -1, 0) is stored as 255, the marker of an unknown pixel."""
    target = field((0.0, -1.0, 0.0), (0.0, -0.99, -0.141), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
    accumulator = Normals(3).accumulator("published", "cpu")
    accumulator.update(target, target)
    assert accumulator._mean._count == 2
    assert compute(target, target, "corrected")["within_11_25"] == 1.0


@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_perfect_prediction_is_near_zero_in_both(definition: str) -> None:
    target = F.normalize(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    metrics = compute(target, target, definition)
    # Published: the truth is rounded to 8 bits and arccos is coarse near 0.
    assert metrics["mean_error_deg"] < (1e-4 if definition == "corrected" else 0.4)
    assert metrics["within_11_25"] == 1.0


@pytest.mark.parametrize("definition", ["corrected", "published"])
@pytest.mark.parametrize("as_colours", [True, False])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_broken_predictions_surface(definition: str, as_colours: bool, poison: float) -> None:
    prediction = torch.randn(1, 3, 2, 2)
    prediction[0, 1, 1, 1] = poison
    target = F.normalize(torch.randn(1, 3, 8, 8).clamp(-1, 1)) * 0.9
    metrics = compute(prediction, target, definition, as_colours=as_colours)
    assert all(np.isnan(value) for value in metrics.values()), metrics


def test_broken_predictions_at_unknown_pixels_do_not_matter() -> None:
    target = tilted(0.0, 10.0)
    target[..., 1] = NAN
    prediction = tilted(5.0, 10.0)
    prediction[..., 1] = NAN
    assert compute(prediction, target, "corrected")["mean_error_deg"] == pytest.approx(5, abs=1e-4)


@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_nothing_known_is_nan(definition: str) -> None:
    metrics = compute(torch.randn(1, 3, 2, 2), torch.full((1, 3, 8, 8), NAN), definition)
    assert all(np.isnan(value) for value in metrics.values())
