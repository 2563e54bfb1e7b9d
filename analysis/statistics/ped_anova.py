"""Compute PED-ANOVA: how a parameter's values differ between the best trials and all trials.

Watanabe, Bansal & Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces", IJCAI 2023, https://arxiv.org/abs/2304.10255. Parameters that only some trials
have: "Conditional PED-ANOVA", https://arxiv.org/abs/2601.20800, with one range per parameter.

For ranges the values are those of `optuna.importance.PedAnovaImportanceEvaluator`, which the tests
compare with. Optuna's takes a millisecond per parameter. A test against chance and the deviations
need hundreds of choices of the best trials, which are one batch here. Levels and categories are not
smoothed by kernels. If they were, two fifths of an observation would count for other levels where
the best trials all have one of three levels, and a method would seem to matter less than a number
that matters as much.

Shapes: N trials, L choices of the best, G cells of a parameter's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

_NUM_CELLS = 50  # of a range
_MAX_LEVELS = 5  # numbers with at most so many values are levels, not points of a range
_LEAST_SIGMA = 0.5 / 1.64  # cells: nine tenths of a kernel lie in its own
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Hold a parameter's values as cells.

    cells_NG: 1 where the trial's value lies, a row of 0 where it has none.
    ordered: whether these are cells of a range, whose neighbours are alike, or else levels or
      categories.
    """

    cells_NG: NDArray[np.float64]
    ordered: bool

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Grid":
        """Make the cells from one value per trial, None where a trial has none.

        A number's place is its rank. So the divergence is the same on every scale, linear or
        logarithmic, but for the width of the kernels.
        """
        known = [value for value in values if value is not None]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
        ordered = numbers and len(set(known)) > _MAX_LEVELS
        if ordered:
            ranks = rankdata(known)
            steps = (ranks - ranks.min()) / (ranks.max() - ranks.min()) * (_NUM_CELLS - 1)
            places = np.ceil(steps - 0.5).astype(int)
            num_cells = _NUM_CELLS
        else:
            names, places = np.unique([str(value) for value in known], return_inverse=True)
            num_cells = len(names)
        cells_NG = np.zeros((len(values), num_cells))
        cells_NG[[row for row, value in enumerate(values) if value is not None], places] = 1.0
        return cls(cells_NG=cells_NG, ordered=ordered)


def divergences(
    grid: Grid, best_LN: NDArray[np.bool_], among_LN: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (L,): the divergence of each row's best trials from the trials `among` which they are.

    among_LN: one row for all, or as many rows. The divergence is 0 for a parameter that fewer than
    two of these trials have, or none of the best.
    """
    best_LG = best_LN.astype(float) @ grid.cells_NG
    among_LG = among_LN.astype(float) @ grid.cells_NG
    density = _range_density if grid.ordered else _level_density
    best_density_LG, density_LG = density(best_LG) + _TINY, density(among_LG) + _TINY
    pearson_L = (density_LG * (best_density_LG / density_LG - 1.0) ** 2).sum(axis=1)
    # The paper's (γ'/γ)² α²/β, where α is the share of the best that have the parameter and β
    # that of all.
    num_best_L, num_L = best_LG.sum(axis=1), among_LG.sum(axis=1)
    weight_L = num_best_L**2 / (np.maximum(num_L, 1.0) * among_LN.sum(axis=1))
    found_L: NDArray[np.float64] = np.where(num_L >= 2, weight_L * pearson_L, 0.0)
    return found_L


def _level_density(counts_LG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts, and one more observation spread over all levels."""
    total_L1 = counts_LG.sum(axis=1, keepdims=True)
    density_LG: NDArray[np.float64] = (counts_LG + 1.0 / counts_LG.shape[1]) / (total_L1 + 1.0)
    return density_LG


def _range_density(counts_LG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth counts by a Gaussian kernel on every observation, its width by Scott's rule.

    Kernels are cut at the ends of the range. One more, as wide as the range, is in its middle.
    """
    num_cells = counts_LG.shape[1]
    total_L1 = counts_LG.sum(axis=1, keepdims=True)
    cells_G = np.arange(num_cells)
    offsets = cells_G[:, None] - cells_G[None, :] + num_cells - 1  # from the kernel's centre
    edges = np.arange(2 * num_cells) - num_cells + 0.5
    mass_LD = np.diff(ndtr(edges / _scott_L1(counts_LG)), axis=1)
    kernels_LGG = mass_LD[:, offsets]
    inside_LG = kernels_LGG.sum(axis=1)
    seen_LG = np.einsum("lxc,lc->lx", kernels_LGG, counts_LG / inside_LG)
    middle = (num_cells - 1) / 2
    wide_G = np.diff(ndtr((np.arange(num_cells + 1) - 0.5 - middle) / num_cells))
    density_LG: NDArray[np.float64] = (seen_LG + wide_G / wide_G.sum()) / (total_L1 + 1.0)
    return density_LG


def _scott_L1(counts_LG: NDArray[np.float64]) -> NDArray[np.float64]:
    """The width by Scott's rule (Multivariate Density Estimation, 1992), in cells."""
    cells_G = np.arange(counts_LG.shape[1])
    total_L1 = np.maximum(counts_LG.sum(axis=1, keepdims=True), 1.0)
    mean_L1 = (counts_LG * cells_G).sum(axis=1, keepdims=True) / total_L1
    squares_L1 = (counts_LG * (cells_G - mean_L1) ** 2).sum(axis=1, keepdims=True)
    deviation_L1 = np.sqrt(squares_L1 / np.maximum(total_L1 - 1.0, 1.0))
    up_to_LG = counts_LG.cumsum(axis=1)
    # As Optuna rounds: the first cells by which a quarter is reached and three are exceeded.
    first_L = (up_to_LG >= np.maximum(total_L1 // 4, 1.0)).argmax(axis=1)
    last_L = (up_to_LG > total_L1 * 3 // 4).argmax(axis=1)
    between_L1 = (last_L - first_L)[:, None] / 1.34
    width_L1: NDArray[np.float64] = np.maximum(
        1.059 * np.minimum(between_L1, deviation_L1) * total_L1**-0.2, _LEAST_SIGMA
    )
    return width_L1
