"""Regression: exact gradients, interpolation, and honest uncertainty away from the data."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search.samplers.gaussian_process import GaussianProcess, hyperparameters, loss_of

GROUPS = (0, 1, 1, 2)

Floats = NDArray[np.float64]


def data(num: int, seed: int = 0) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    features_ND = generator.uniform(-1, 1, (num, 4))
    x, y, _, z = features_ND.T
    return features_ND, x**2 + x * z + 0.2 * np.sin(3 * y)


def fit(features_ND: Floats, outputs_N: Floats) -> Floats:
    return hyperparameters(GROUPS, features_ND.tobytes(), outputs_N.tobytes())


def fitted(features_ND: Floats, outputs_N: Floats) -> GaussianProcess:
    return GaussianProcess(GROUPS, features_ND, outputs_N, fit(features_ND, outputs_N))


def kernel(first_AD: Floats, second_BD: Floats, theta: Floats) -> Floats:
    """Written out, pair by pair."""
    lengths = np.exp(theta[3:])[list(GROUPS)]

    def value(first: Floats, second: Floats) -> float:
        u, v = first / lengths, second / lengths
        root = np.sqrt(5) * np.linalg.norm(u - v)
        bend = (1 + root + root**2 / 3) * np.exp(-root)
        return float(np.exp(theta[0] + u @ v) + np.exp(theta[1]) * bend)

    return np.array([[value(p, q) for q in second_BD] for p in first_AD])


def some_thetas(num: int) -> Floats:
    features_ND, outputs_N = data(12)
    steps = np.random.default_rng(1).normal(size=(num, 6))
    return fit(features_ND, outputs_N) + 0.5 * steps


def test_the_gradient_is_that_of_the_loss() -> None:
    loss = loss_of(GROUPS, *data(12))
    for theta in some_thetas(5):
        _, gradient = loss(theta)
        for index in range(len(theta)):
            step = np.zeros_like(theta)
            step[index] = 1e-5
            slope = (loss(theta + step)[0] - loss(theta - step)[0]) / 2e-5
            assert gradient[index] == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_the_loss_is_that_of_the_textbook() -> None:
    """Rasmussen and Williams 2006, equation 2.30 (2 π apart), and log-normal priors."""
    features_ND, outputs_N = data(12)
    loss = loss_of(GROUPS, features_ND, outputs_N)
    mean = np.log([0.1, 0.1, 2e-3, 3.0, 3.0, 3.0])
    deviation = np.array([1.5, 1.5, 1.5, 1.0, 1.0, 1.0])
    for theta in some_thetas(5):
        known = kernel(features_ND, features_ND, theta)
        known += (np.exp(theta[2]) + 1e-6) * np.eye(len(known))
        density = outputs_N @ np.linalg.solve(known, outputs_N) + np.linalg.slogdet(known)[1]
        density += (((theta - mean) / deviation) ** 2).sum()
        assert loss(theta)[0] == pytest.approx(0.5 * density, rel=1e-8)


def test_what_is_remembered_is_what_would_be_fitted() -> None:
    features_ND, outputs_N = data(12)
    first = fit(features_ND, outputs_N)
    assert fit(features_ND, outputs_N) is first
    hyperparameters.cache_clear()
    assert np.array_equal(fit(features_ND, outputs_N), first)


def test_predictions_are_those_of_the_textbook() -> None:
    """Rasmussen and Williams 2006, equations 2.25 and 2.26, with the kernel written out."""
    features_ND, outputs_N = data(9)
    theta = fit(features_ND, outputs_N)
    asked_CD, _ = data(5, seed=3)
    known = kernel(features_ND, features_ND, theta)
    known += (np.exp(theta[2]) + 1e-6) * np.eye(len(known))
    scaled = (outputs_N - outputs_N.mean()) / outputs_N.std()
    mean_C, covariance_CC = fitted(features_ND, outputs_N).predict(asked_CD)
    cross_CN = kernel(asked_CD, features_ND, theta)
    mean = cross_CN @ np.linalg.solve(known, scaled)
    covariance = kernel(asked_CD, asked_CD, theta) - cross_CN @ np.linalg.solve(known, cross_CN.T)
    assert mean_C == pytest.approx(mean * outputs_N.std() + outputs_N.mean(), abs=1e-6)
    assert covariance_CC == pytest.approx(covariance * outputs_N.var(), abs=1e-6)


def test_samples_have_the_mean_and_the_covariance_of_the_predictions() -> None:
    process = fitted(*data(9))
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
    asked_CD, truth_C = data(200, seed=5)
    mean_C, covariance_CC = fitted(*data(30)).predict(asked_CD)
    deviation_C = np.sqrt(np.maximum(np.diag(covariance_CC), 0.0))
    assert np.sqrt(np.mean((mean_C - truth_C) ** 2)) < 0.3 * truth_C.std()
    assert np.mean(np.abs(mean_C - truth_C) < 3 * deviation_C + 0.02) > 0.9


@pytest.mark.parametrize("num", [1, 2, 3])
def test_hardly_any_data_and_constant_outputs_will_do(num: int) -> None:
    features_ND, _ = data(num)
    mean_C, covariance_CC = fitted(features_ND, np.full(num, 7.0)).predict(features_ND)
    assert mean_C == pytest.approx(np.full(num, 7.0))
    assert np.isfinite(covariance_CC).all()


def test_hyperparameters_of_other_data_will_do_however_badly_they_fit() -> None:
    """At the shortest lengths the exponent is capped, and the kernel is no longer definite."""
    features_ND, outputs_N = data(30)
    shortest = np.array([3.0, 3.0, -9.0, -2.0, -2.0, -2.0])
    process = GaussianProcess(GROUPS, np.sign(features_ND) * 0.99, outputs_N, shortest)
    asked_CD, _ = data(5, seed=2)
    assert np.isfinite(process.sample(asked_CD, np.ones((2, 5)))).all()


def test_the_scale_of_the_outputs_changes_nothing() -> None:
    features_ND, outputs_N = data(15)
    asked_CD, _ = data(6, seed=2)
    plain, _ = fitted(features_ND, outputs_N).predict(asked_CD)
    scaled, _ = fitted(features_ND, 1000.0 * outputs_N - 5.0).predict(asked_CD)
    assert scaled == pytest.approx(1000.0 * plain - 5.0, rel=1e-3, abs=1e-2)
