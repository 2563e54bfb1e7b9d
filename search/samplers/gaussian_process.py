"""Fits Gaussian processes to encoded configurations, for some hundreds of observations.

Shape suffixes: N observations, D features, G groups of features, H hyperparameters, T pairs of
observations, C candidates, S samples.

The kernel is k = a exp(x·x') + b Matérn5/2(|x − x'|) over features divided by a length for each
group, plus noise. The first term holds polynomials of every degree, those of degree n with weight
1/n!: a smooth response surface, of which a few trials determine slopes and curvature; the second
bends it where many trials say so. Hyperparameters maximise the posterior density under log-normal
priors (Rasmussen and Williams 2006, chapters 2, 4 and 5), by L-BFGS with exact gradients.
Optuna's `GPSampler` was measured and is slower by a factor of twenty; it cannot take the cost as
known, nor learn from trials that have not ended (docs/decisions/0010).
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack, solve_triangular
from scipy.optimize import minimize

_Floats = NDArray[np.float64]
_NUM_SHARED = 3  # log a, log b, log noise; then a log length for each group
_PRIOR_MEAN = np.log([0.1, 0.1, 2e-3, 3.0])
_PRIOR_DEVIATION = np.array([1.5, 1.5, 1.5, 1.0])
_BOUNDS = ((-9.0, 3.0), (-9.0, 3.0), (-9.0, 3.0), (-2.0, 3.0))
_JITTER = 1e-6
_MAX_ITERATIONS = 20
_MAX_EXPONENT = 30.0  # of features far outside [-1, 1] at the shortest lengths


class GaussianProcess:
    """Regresses one output over D features. Nothing is random: all depends on the data alone.

    group_D: to which group, from 0, every feature belongs; those of a group share a length.
    features_ND: about in [-1, 1]. outputs_N: finite, any scale.
    theta_H: of `hyperparameters`, for these data or for others like them.
    """

    def __init__(
        self, group_D: Sequence[int], features_ND: _Floats, outputs_N: _Floats, theta_H: _Floats
    ) -> None:
        self._length_D = np.exp(theta_H[_NUM_SHARED:])[list(group_D)]
        self._amplitude, self._bend, noise = np.exp(theta_H[:_NUM_SHARED])
        self._known_ND = features_ND / self._length_D
        kernel_NN = self._kernel(self._known_ND, self._known_ND)
        # What fits other data may leave this kernel all but singular.
        self._root_NN = _root(kernel_NN, float(noise) + _JITTER)
        self._mean, self._deviation = float(outputs_N.mean()), float(outputs_N.std()) or 1.0
        scaled_N = (outputs_N - self._mean) / self._deviation
        self._weights_N = cho_solve((self._root_NN, True), scaled_N)

    def predict(self, features_CD: _Floats) -> tuple[_Floats, _Floats]:
        """Return the mean (C,) and the covariance (C, C) of the output without noise."""
        asked_CD = features_CD / self._length_D
        cross_NC = self._kernel(self._known_ND, asked_CD)
        explained_NC = solve_triangular(self._root_NN, cross_NC, lower=True)
        covariance_CC = self._kernel(asked_CD, asked_CD) - explained_NC.T @ explained_NC
        mean_C = self._mean + self._deviation * (self._weights_N @ cross_NC)
        return mean_C, self._deviation**2 * covariance_CC

    def sample(self, features_CD: _Floats, normal_SC: _Floats) -> _Floats:
        """Return joint draws from the posterior (S, C). normal_SC: independent standard normals."""
        mean_C, covariance_CC = self.predict(features_CD)
        scale = max(float(np.diag(covariance_CC).max()), _JITTER * self._deviation**2)
        # Of candidates that nearly coincide, the covariance is singular but for this.
        return mean_C + normal_SC @ _root(covariance_CC, _JITTER * scale).T

    def _kernel(self, u_AD: _Floats, v_BD: _Floats) -> _Floats:
        """Return the kernel (A, B), without noise, of features that are divided by lengths."""
        product_AB = u_AD @ v_BD.T
        distance_AB = (u_AD**2).sum(axis=1)[:, None] + (v_BD**2).sum(axis=1) - 2.0 * product_AB
        kernel_AB, _ = _matern(distance_AB)
        kernel_AB *= self._bend
        kernel_AB += self._amplitude * _exponential(product_AB)
        return kernel_AB


@functools.lru_cache(maxsize=32)
def hyperparameters(group_D: tuple[int, ...], features_ND: bytes, outputs_N: bytes) -> _Floats:
    """Return those that were found to fit (H,). Arrays are as for `GaussianProcess`, in bytes."""
    outputs = np.frombuffer(outputs_N)
    features = np.frombuffer(features_ND).reshape(len(outputs), -1)
    kinds = [0, 1, 2, *[3] * (max(group_D) + 1)]
    found = minimize(
        loss_of(group_D, features, (outputs - outputs.mean()) / (outputs.std() or 1.0)),
        _PRIOR_MEAN[kinds],
        jac=True,
        method="L-BFGS-B",
        bounds=[_BOUNDS[kind] for kind in kinds],
        options={"maxiter": _MAX_ITERATIONS},
    )
    return np.asarray(found.x)


def loss_of(
    group_D: Sequence[int], features_ND: _Floats, outputs_N: _Floats
) -> Callable[[_Floats], tuple[float, _Floats]]:
    """Return the negative log posterior density of hyperparameters, up to a constant, as a
    function that returns it with its gradient. outputs_N: standardised."""
    pairs = np.tril_indices(len(outputs_N))  # every pair once: half of the work
    products, distances = [], []
    for group in range(max(group_D) + 1):
        part_ND = features_ND[:, np.equal(group_D, group)]
        squares_N = (part_ND**2).sum(axis=1)
        products.append((part_ND @ part_ND.T)[pairs])
        distances.append(np.add.outer(squares_N, squares_N)[pairs] - 2.0 * products[-1])
    products_GT, distances_GT = np.array(products), np.array(distances)
    kernel_NN = np.zeros((len(outputs_N), len(outputs_N)), order="F")  # overwritten by every call
    kinds = [0, 1, 2, *[3] * len(products)]

    def loss(theta_H: _Floats) -> tuple[float, _Floats]:
        amplitude, bend, noise = np.exp(theta_H[:_NUM_SHARED])
        weights_G = np.exp(-2.0 * theta_H[_NUM_SHARED:])
        smooth_T = _exponential(weights_G @ products_GT)
        matern_T, slope_T = _matern(weights_G @ distances_GT)
        kernel_NN[pairs] = amplitude * smooth_T + bend * matern_T
        kernel_NN[np.diag_indices(len(kernel_NN))] += noise + _JITTER
        root_NN, failed = lapack.dpotrf(kernel_NN, lower=1, overwrite_a=1)
        if failed:
            return 1e9, np.zeros_like(theta_H)
        weights_N = cho_solve((root_NN, True), outputs_N, check_finite=False)
        from_prior_H = (theta_H - _PRIOR_MEAN[kinds]) / _PRIOR_DEVIATION[kinds]
        value = 0.5 * (outputs_N @ weights_N + from_prior_H @ from_prior_H)
        value += np.log(np.diag(root_NN)).sum()
        residual_NN = lapack.dpotri(root_NN, lower=1, overwrite_c=1)[0]
        residual_NN -= np.outer(weights_N, weights_N)
        residual_NN[np.diag_indices(len(residual_NN))] *= 0.5  # other pairs count twice
        residual_T = residual_NN[pairs]
        # d exp(s) = exp(s) ds and dMatérn = slope d|x|², where both fall with 2 log length.
        smooth_T *= residual_T
        by_length_G = -2.0 * amplitude * (products_GT @ smooth_T)
        by_length_G -= 2.0 * bend * (distances_GT @ (residual_T * slope_T))
        by_a, by_b = amplitude * smooth_T.sum(), bend * (residual_T @ matern_T)
        gradient_H = np.array([by_a, by_b, noise * np.trace(residual_NN), *weights_G * by_length_G])
        return float(value), gradient_H + from_prior_H / _PRIOR_DEVIATION[kinds]

    return loss


def _root(covariance_NN: _Floats, least: float) -> _Floats:
    """Return the Cholesky factor with `least` more on the diagonal, or with what it takes."""
    for power in range(30):
        root_NN = np.array(covariance_NN, order="F")
        root_NN[np.diag_indices(len(root_NN))] += least * 10.0**power
        root_NN, failed = lapack.dpotrf(root_NN, lower=1, overwrite_a=1)
        if not failed:
            break
    return root_NN


def _exponential(product: _Floats) -> _Floats:
    return np.exp(np.minimum(product, _MAX_EXPONENT))


def _matern(distance: _Floats) -> tuple[_Floats, _Floats]:
    """Return Matérn 5/2 of squared distances, and its derivative by them."""
    root = np.maximum(distance, 0.0)
    np.sqrt(np.multiply(root, 5.0, out=root), out=root)  # fresh memory costs more than the sums
    slope = np.exp(-root)
    value = root + root**2 / 3.0
    value *= slope
    value += slope
    root += 1.0
    slope *= root * (-5.0 / 6.0)
    return value, slope
