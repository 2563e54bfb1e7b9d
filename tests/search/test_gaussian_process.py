"""Regression: exact gradients, interpolation, and honest uncertainty away from the data."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search.gaussian_process import GaussianProcess

GROUPS = [0, 1, 1, 2]


def data(num: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    features_ND = generator.uniform(-1, 1, (num, 4))
    x, y, _, z = features_ND.T
    return features_ND, x**2 + x * z + 0.2 * np.sin(3 * y)


def test_the_gradient_is_that_of_the_loss() -> None:
    features_ND, outputs_N = data(12)
    process = GaussianProcess(GROUPS, features_ND, outputs_N)
    process._products_GNN, process._distances_GNN = process._by_group()
    generator = np.random.default_rng(1)
    for _ in range(5):
        theta = process._theta + 0.5 * generator.normal(size=len(process._theta))
        _, gradient = process._loss(theta)
        for index in range(len(theta)):
            step = np.zeros_like(theta)
            step[index] = 1e-5
            slope = (process._loss(theta + step)[0] - process._loss(theta - step)[0]) / 2e-5
            assert gradient[index] == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_predictions_are_those_of_the_textbook() -> None:
    """Rasmussen and Williams 2006, equations 2.25 and 2.26, with the kernel written out."""
    features_ND, outputs_N = data(9)
    process = GaussianProcess(GROUPS, features_ND, outputs_N)
    asked_CD, _ = data(5, seed=3)
    a, b, noise = np.exp(process._theta[:3])
    lengths = np.exp(process._theta[3:])[GROUPS]

    def kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        u, v = first / lengths, second / lengths
        root = np.sqrt(5) * np.linalg.norm(u - v)
        bend = (1 + root + root**2 / 3) * np.exp(-root)
        return float(a * (1 + u @ v) ** 2 + b * bend)

    known = np.array([[kernel(p, q) for q in features_ND] for p in features_ND])
    known += (noise + 1e-6) * np.eye(len(known))
    scaled = (outputs_N - outputs_N.mean()) / outputs_N.std()
    mean_C, deviation_C = process.predict(asked_CD)
    for index, point in enumerate(asked_CD):
        cross = np.array([kernel(point, q) for q in features_ND])
        mean = cross @ np.linalg.solve(known, scaled)
        variance = kernel(point, point) - cross @ np.linalg.solve(known, cross)
        assert mean_C[index] == pytest.approx(mean * outputs_N.std() + outputs_N.mean(), abs=1e-6)
        assert deviation_C[index] == pytest.approx(
            np.sqrt(max(variance, 0.0)) * outputs_N.std(), abs=1e-5
        )


def test_it_learns_a_response_surface_from_few_points() -> None:
    features_ND, outputs_N = data(30)
    asked_CD, truth_C = data(200, seed=5)
    mean_C, deviation_C = GaussianProcess(GROUPS, features_ND, outputs_N).predict(asked_CD)
    assert np.sqrt(np.mean((mean_C - truth_C) ** 2)) < 0.25 * truth_C.std()
    assert np.mean(np.abs(mean_C - truth_C) < 3 * deviation_C + 0.02) > 0.9


@pytest.mark.parametrize("num", [1, 2, 3])
def test_hardly_any_data_and_constant_outputs_will_do(num: int) -> None:
    features_ND, _ = data(num)
    mean_C, deviation_C = GaussianProcess(GROUPS, features_ND, np.full(num, 7.0)).predict(
        features_ND
    )
    assert mean_C == pytest.approx(np.full(num, 7.0))
    assert np.isfinite(deviation_C).all()


def test_the_scale_of_the_outputs_changes_nothing() -> None:
    features_ND, outputs_N = data(15)
    asked_CD, _ = data(6, seed=2)
    plain, _ = GaussianProcess(GROUPS, features_ND, outputs_N).predict(asked_CD)
    scaled, _ = GaussianProcess(GROUPS, features_ND, 1000.0 * outputs_N - 5.0).predict(asked_CD)
    assert scaled == pytest.approx(1000.0 * plain - 5.0, rel=1e-3, abs=1e-2)
