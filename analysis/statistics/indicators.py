"""Compute indicators of a set of vectors with moocore; everything is minimised.

Hypervolume needs one scale and one reference point that stay the same for everything that
is compared. Here a `Normalisation` maps `ideal` to 0 and `nadir` to 1 in every objective,
linearly, and the reference point is `REFERENCE` = 1.1 in every objective, so that the
extreme members of the front count too. The number reported is the share of the box from
the ideal to the reference point that is dominated: 0 to 1, higher is better.

By default ideal and nadir are the best and worst values on the front of all trials of the
study: a trial that diverged does not stretch the scale. They are fixed for the whole
trajectory. Hypervolumes of two studies compare only under one common `Normalisation`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.pareto import non_dominated

REFERENCE = 1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Hold the scale of every minimised objective. `ideal` maps to 0 and `nadir` to 1."""

    ideal: tuple[float, ...]
    nadir: tuple[float, ...]

    def __post_init__(self) -> None:
        proper = len(self.ideal) == len(self.nadir) > 0 and all(
            np.isfinite(low) and np.isfinite(high) and low < high
            for low, high in zip(self.ideal, self.nadir, strict=False)
        )
        if not proper:
            raise ValueError(
                "`ideal` < `nadir` must hold in every objective and both be finite, got "
                f"(ideal={self.ideal}, nadir={self.nadir}); widen the objective that is constant"
            )

    @classmethod
    def of(cls, values_NM: ArrayLike) -> "Normalisation":
        """Make the scale from the front of the finite rows of `values_NM` (at least one).

        An objective that is constant on the front takes its range over all finite rows; one
        that is constant there too takes a range of 1, so that it scales nothing.
        """
        finite_NM = _finite(values_NM)
        if not len(finite_NM):
            raise ValueError("a normalisation needs at least one finite vector, got none")
        front = finite_NM[non_dominated(finite_NM)]
        ideal, nadir = front.min(axis=0), front.max(axis=0)
        nadir = np.where(nadir > ideal, nadir, finite_NM.max(axis=0))
        nadir = np.where(nadir > ideal, nadir, ideal + np.maximum(1.0, np.abs(ideal)))
        return cls(ideal=tuple(ideal.tolist()), nadir=tuple(nadir.tolist()))

    def apply(self, values_NM: ArrayLike) -> NDArray[np.float64]:
        """Return `values_NM` on the common scale, in the same shape."""
        ideal = np.asarray(self.ideal)
        scaled: NDArray[np.float64] = (np.asarray(values_NM, dtype=float) - ideal) / (
            np.asarray(self.nadir) - ideal
        )
        return scaled

    def to_dict(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """Return the scale by objective, minimised (maximised metrics are negated)."""
        return {
            name: {"ideal": low, "nadir": high}
            for name, low, high in zip(names, self.ideal, self.nadir, strict=True)
        }


def hypervolume(values_NM: ArrayLike, normalisation: Normalisation) -> float:
    """Return the share of the box from ideal to reference that the rows dominate.

    It is in [0, 1], and higher is better. Rows that hold a NaN or an infinity count for nothing,
    and so does whatever lies beyond the reference point. Values better than the ideal are taken as
    the ideal.
    """
    scaled_NM = normalisation.apply(_finite(values_NM))
    scaled_NM = np.maximum(scaled_NM[(scaled_NM < REFERENCE).all(axis=1)], 0.0)
    if not len(scaled_NM):
        return 0.0
    return _box_share(scaled_NM)


def hypervolume_trajectory(
    values_NM: ArrayLike, normalisation: Normalisation
) -> NDArray[np.float64]:
    """Return the hypervolume (N,) of the first 1, 2, … N rows, which never falls.

    Rows are as in `hypervolume`. A row that the front so far dominates or equals changes nothing
    and costs no computation.
    """
    scaled_NM = normalisation.apply(values_NM)
    within_NM: NDArray[np.bool_] = np.isfinite(scaled_NM) & (scaled_NM < REFERENCE)
    scaled_NM = np.maximum(scaled_NM, 0.0)
    trajectory_N = np.zeros(len(scaled_NM))
    front_FM = np.empty((0, scaled_NM.shape[1]))
    share = 0.0
    for index, row_M in enumerate(scaled_NM):
        if within_NM[index].all() and not (front_FM <= row_M).all(axis=1).any():
            front_FM = np.vstack([front_FM[~(row_M <= front_FM).all(axis=1)], row_M])
            share = max(share, _box_share(front_FM))
        trajectory_N[index] = share
    return trajectory_N


def _box_share(scaled_NM: NDArray[np.float64]) -> float:
    num_objectives = scaled_NM.shape[1]
    if num_objectives == 1:
        return float((REFERENCE - scaled_NM.min()) / REFERENCE)
    volume = moocore.hypervolume(scaled_NM, ref=np.full(num_objectives, REFERENCE))
    return float(volume) / REFERENCE**num_objectives


def _finite(values_NM: ArrayLike) -> NDArray[np.float64]:
    array_NM = np.asarray(values_NM, dtype=float)
    finite: NDArray[np.float64] = array_NM[np.isfinite(array_NM).all(axis=1)]
    return finite
