"""Regression: exact gradients, interpolation, and honest uncertainty away from the data."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search.samplers.gaussian_process import GaussianProcess

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
        return float(a * np.exp(u @ v) + b * bend)

    known = np.array([[kernel(p, q) for q in features_ND] for p in features_ND])
    known += (noise + 1e-6) * np.eye(len(known))
    scaled = (outputs_N - outputs_N.mean()) / outputs_N.std()
    mean_C, covariance_CC = process.predict(asked_CD)
    cross_CN = np.array([[kernel(p, q) for q in features_ND] for p in asked_CD])
    prior_CC = np.array([[kernel(p, q) for q in asked_CD] for p in asked_CD])
    mean = cross_CN @ np.linalg.solve(known, scaled)
    covariance = prior_CC - cross_CN @ np.linalg.solve(known, cross_CN.T)
    assert mean_C == pytest.approx(mean * outputs_N.std() + outputs_N.mean(), abs=1e-6)
    assert covariance_CC == pytest.approx(covariance * outputs_N.var(), abs=1e-6)


def test_samples_have_the_mean_and_the_covariance_of_the_predictions() -> None:
    features_ND, outputs_N = data(9)
    process = GaussianProcess(GROUPS, features_ND, outputs_N)
    asked_CD, _ = data(4, seed=3)
    asked_CD[3] = asked_CD[2]  # twice the same
    mean_C, covariance_CC = process.predict(asked_CD)
    normal_SC = np.random.default_rng(0).normal(size=(20_000, 4))
    samples_SC = process.sample(asked_CD, normal_SC)
    largest = np.sqrt(np.diag(covariance_CC).max())
    assert samples_SC.mean(axis=0) == pytest.approx(mean_C, abs=0.05 * largest)
    assert np.cov(samples_SC.T) == pytest.approx(covariance_CC, abs=0.05 * largest**2)
    assert samples_SC[:, 3] == pytest.approx(samples_SC[:, 2], abs=0.02 * largest)
    assert process.sample(asked_CD, 0.0 * normal_SC[:1])[0] == pytest.approx(mean_C)


def test_it_learns_a_response_surface_from_few_points() -> None:
    features_ND, outputs_N = data(30)
    asked_CD, truth_C = data(200, seed=5)
    mean_C, covariance_CC = GaussianProcess(GROUPS, features_ND, outputs_N).predict(asked_CD)
    deviation_C = np.sqrt(np.maximum(np.diag(covariance_CC), 0.0))
    assert np.sqrt(np.mean((mean_C - truth_C) ** 2)) < 0.3 * truth_C.std()
    assert np.mean(np.abs(mean_C - truth_C) < 3 * deviation_C + 0.02) > 0.9


@pytest.mark.parametrize("num", [1, 2, 3])
def test_hardly_any_data_and_constant_outputs_will_do(num: int) -> None:
    features_ND, _ = data(num)
    mean_C, covariance_CC = GaussianProcess(GROUPS, features_ND, np.full(num, 7.0)).predict(
        features_ND
    )
    assert mean_C == pytest.approx(np.full(num, 7.0))
    assert np.isfinite(covariance_CC).all()


def test_the_scale_of_the_outputs_changes_nothing() -> None:
    features_ND, outputs_N = data(15)
    asked_CD, _ = data(6, seed=2)
    plain, _ = GaussianProcess(GROUPS, features_ND, outputs_N).predict(asked_CD)
    scaled, _ = GaussianProcess(GROUPS, features_ND, 1000.0 * outputs_N - 5.0).predict(asked_CD)
    assert scaled == pytest.approx(1000.0 * plain - 5.0, rel=1e-3, abs=1e-2)
