"""Fits Gaussian processes to encoded configurations, for some hundreds of observations.

Shape suffixes: N observations, C candidates, D features, G groups of features.

The kernel is k = a exp(x·x') + b Matérn5/2(|x − x'|) over features divided by a length for each
group, plus noise. The first term holds polynomials of every degree, those of degree n with weight
1/n!: a smooth response surface, of which a few trials determine slopes and curvature; the second
bends it where many trials say so. Hyperparameters maximise the posterior density under log-normal
priors (Rasmussen and Williams 2006, chapters 2, 4 and 5), by L-BFGS with exact gradients.
Optuna's `GPSampler` was measured and is slower by a factor of twenty; it cannot take the cost as
known, nor learn from trials that have not ended (docs/decisions/0010).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

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
    """

    def __init__(self, group_D: ArrayLike, features_ND: ArrayLike, outputs_N: ArrayLike) -> None:
        self._group_D = np.asarray(group_D, dtype=np.intp)
        self._num_groups = int(self._group_D.max()) + 1
        self._features_ND = np.asarray(features_ND, dtype=float)
        outputs = np.asarray(outputs_N, dtype=float)
        self._mean, self._deviation = float(outputs.mean()), float(outputs.std()) or 1.0
        self._outputs_N = (outputs - self._mean) / self._deviation
        self._products_GNN, self._distances_GNN = self._by_group()
        kinds = [0, 1, 2, *[3] * self._num_groups]
        self._prior_mean, self._prior_deviation = _PRIOR_MEAN[kinds], _PRIOR_DEVIATION[kinds]
        self._theta = minimize(
            self._loss,
            self._prior_mean,
            jac=True,
            method="L-BFGS-B",
            bounds=[_BOUNDS[kind] for kind in kinds],
            options={"maxiter": _MAX_ITERATIONS},
        ).x
        self._factor = cho_factor(self._parts(self._theta)[0], lower=True)
        self._weights_N = cho_solve(self._factor, self._outputs_N)
        del self._products_GNN, self._distances_GNN

    def predict(self, features_CD: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean (C,) and the covariance (C, C) of the output without noise."""
        mean_C, covariance_CC = self._posterior(np.asarray(features_CD, dtype=float))
        return mean_C * self._deviation + self._mean, covariance_CC * self._deviation**2

    def sample(self, features_CD: ArrayLike, normal_SC: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return joint draws from the posterior (S, C). normal_SC: independent standard normals."""
        mean_C, covariance_CC = self._posterior(np.asarray(features_CD, dtype=float))
        scale = max(float(np.diag(covariance_CC).max()), _JITTER)
        jitter = _JITTER
        while True:  # of candidates that nearly coincide, the covariance is singular but for this
            try:
                root_CC = cholesky(covariance_CC + jitter * scale * np.eye(len(mean_C)), lower=True)
                break
            except LinAlgError:
                jitter *= 10.0
        return (mean_C + normal_SC @ root_CC.T) * self._deviation + self._mean

    def _posterior(
        self, features_CD: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Do what `predict` does, on the scale of the standardised outputs."""
        cross_CN = self._kernel(features_CD, self._features_ND)
        explained_NC = solve_triangular(self._factor[0], cross_CN.T, lower=True)
        covariance_CC = self._kernel(features_CD, features_CD) - explained_NC.T @ explained_NC
        return cross_CN @ self._weights_N, covariance_CC

    def _kernel(
        self, first_AD: NDArray[np.float64], second_BD: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the kernel (A, B), without noise."""
        length_D = np.exp(self._theta[_NUM_SHARED:])[self._group_D]
        u_AD, v_BD = first_AD / length_D, second_BD / length_D
        amplitude, bend = np.exp(self._theta[:2])
        product_AB = u_AD @ v_BD.T
        squares_A, squares_B = (u_AD**2).sum(axis=1), (v_BD**2).sum(axis=1)
        distance_AB = squares_A[:, None] + squares_B[None] - 2.0 * product_AB
        return amplitude * _exponential(product_AB) + bend * _matern(distance_AB)[0]

    def _by_group(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return inner products and squared distances (G, N, N), not yet divided by lengths."""
        products, distances = [], []
        for group in range(self._num_groups):
            part_ND = self._features_ND[:, self._group_D == group]
            product_NN = part_ND @ part_ND.T
            squares_N = np.diag(product_NN)
            products.append(product_NN)
            distances.append(squares_N[:, None] + squares_N[None] - 2.0 * product_NN)
        return np.array(products), np.array(distances)

    def _parts(self, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Return the kernel with noise, and what its gradient needs."""
        weights_G = np.exp(-2.0 * theta[_NUM_SHARED:])
        smooth_NN = _exponential(np.tensordot(weights_G, self._products_GNN, axes=1))
        distance_NN = np.tensordot(weights_G, self._distances_GNN, axes=1)
        matern_NN, slope_NN = _matern(distance_NN)
        kernel_NN = np.exp(theta[0]) * smooth_NN + np.exp(theta[1]) * matern_NN
        kernel_NN[np.diag_indices(len(kernel_NN))] += np.exp(theta[2]) + _JITTER
        return kernel_NN, smooth_NN, matern_NN, slope_NN

    def _loss(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the negative log posterior density, up to a constant, and its gradient."""
        kernel_NN, smooth_NN, matern_NN, slope_NN = self._parts(theta)
        try:
            factor = cho_factor(kernel_NN, lower=True, check_finite=False)
        except LinAlgError:
            return 1e9, np.zeros_like(theta)
        weights_N = cho_solve(factor, self._outputs_N, check_finite=False)
        inverse_NN = cho_solve(factor, np.eye(len(kernel_NN)), check_finite=False)
        residual_NN = inverse_NN - np.outer(weights_N, weights_N)
        loss = 0.5 * self._outputs_N @ weights_N + np.log(np.diag(factor[0])).sum()
        from_prior = (theta - self._prior_mean) / self._prior_deviation
        loss += 0.5 * (from_prior**2).sum()
        amplitude, bend, noise = np.exp(theta[:3])
        weights_G = np.exp(-2.0 * theta[_NUM_SHARED:])
        # d exp(s) = exp(s) ds and dMatérn = slope d|x|², where both fall with 2 log length.
        by_product_NN = residual_NN * (-2.0 * amplitude) * smooth_NN
        by_distance_NN = residual_NN * (-2.0 * bend) * slope_NN
        by_length_G = weights_G * (
            np.tensordot(self._products_GNN, by_product_NN, axes=2)
            + np.tensordot(self._distances_GNN, by_distance_NN, axes=2)
        )
        by_amplitude = amplitude * (residual_NN * smooth_NN).sum()
        by_bend = bend * (residual_NN * matern_NN).sum()
        by_noise = noise * np.trace(residual_NN)
        gradient = 0.5 * np.array([by_amplitude, by_bend, by_noise, *by_length_G])
        prior = (theta - self._prior_mean) / self._prior_deviation**2
        return float(loss), gradient + prior


def _exponential(product: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(np.minimum(product, _MAX_EXPONENT))


def _matern(
    distance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Matérn 5/2 of squared distances, and its derivative by them."""
    root = np.sqrt(5.0 * np.maximum(distance, 0.0))
    decay = np.exp(-root)
    return (1.0 + root + root**2 / 3.0) * decay, -(5.0 / 6.0) * (1.0 + root) * decay
