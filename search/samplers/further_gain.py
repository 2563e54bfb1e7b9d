"""Measures hypervolumes along random directions, and what further trials would add to one.

Shape suffixes: C candidates, F members of the front, K vectors, M objectives, S samples of the
posterior, W directions.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.pareto import non_dominated

_Floats = NDArray[np.float64]
_NUM_WEIGHTS = 16  # directions for each sample
_REFERENCE = 1.1  # of the front's range, as everywhere (analysis.statistics.indicators)

_MIN_TREND = 6  # trials
_TREND_SAMPLES = 64


def reach_in_directions(
    front_FM: _Floats,
    num_samples: int,
    generator: np.random.Generator,
    spare_M: _Floats | float = 1.0,
) -> Callable[[_Floats], _Floats]:
    """Return a function from vectors (S, K, M) to how far they reach in directions (S, K, W).

    The mean over directions λ of max(0, min_i (r_i - v_i) / λ_i)^M, of the vector that reaches
    furthest in each, is the hypervolume, up to a constant (Zhang and Golovin 2020, equation 3).
    Objectives are scaled by the range of the front; spare_M: by what where the front has one value
    of an objective. 0 is as 1.
    """
    low_M, high_M = front_FM.min(axis=0), front_FM.max(axis=0)
    width_M = np.where(high_M > low_M, high_M - low_M, spare_M)
    width_M = np.where(width_M > 0.0, width_M, 1.0)
    num_objectives = front_FM.shape[1]
    weights_SWM = np.abs(generator.normal(size=(num_samples, _NUM_WEIGHTS, num_objectives)))
    weights_SWM /= np.linalg.norm(weights_SWM, axis=2, keepdims=True)

    def reach(values_SKM: _Floats) -> _Floats:
        room_SKM = _REFERENCE - (values_SKM - low_M) / width_M
        reach_SKW = np.full((*room_SKM.shape[:2], _NUM_WEIGHTS), np.inf)
        for index in range(num_objectives):  # one by one, which needs a fraction of the memory
            along_SKW = room_SKM[:, :, index, None] / weights_SWM[:, None, :, index]
            np.minimum(reach_SKW, along_SKW, out=reach_SKW)
        return np.maximum(reach_SKW, 0.0) ** num_objectives

    return reach


def expected_gains(
    ends_SKM: _Floats,
    holds_SK: NDArray[np.bool_],
    front_FM: _Floats,
    num_working: int,
    generator: np.random.Generator,
    spare_M: _Floats | float = 1.0,
) -> _Floats:
    """Return the hypervolume that each candidate adds, on average over samples (C,).

    It is added to the front and to the trials at work, which are the first `num_working` of K.
    holds_SK: what misses a constraint adds nothing. spare_M: as in `reach_in_directions`.
    """
    reach = reach_in_directions(front_FM, len(ends_SKM), generator, spare_M)
    front_SFM = np.broadcast_to(front_FM, (len(ends_SKM), *front_FM.shape))
    volume_SKW = reach(ends_SKM) * holds_SK[:, :, None]
    there_SW = volume_SKW[:, :num_working].max(axis=1, initial=0.0)
    there_SW = np.maximum(there_SW, reach(front_SFM).max(axis=1))
    added_SCW = np.maximum(volume_SKW[:, num_working:] - there_SW[:, None], 0.0)
    return added_SCW.mean(axis=(0, 2))


def batch_gain(
    ends_SCM: _Floats,
    holds_SC: NDArray[np.bool_],
    front_FM: _Floats,
    num_trials: int,
    generator: np.random.Generator,
) -> float:
    """Return what the best `num_trials` candidates add, as a share of the front's hypervolume.

    They are taken one by one, each the one that adds most to those before it, on average over the
    samples (Wilson et al. 2018, "Maximizing acquisition functions for Bayesian optimization",
    section 3.2). ends_SCM: how candidates end in each sample. holds_SC: what misses a constraint
    adds nothing.
    """
    reach = reach_in_directions(front_FM, len(ends_SCM), generator)
    front_SFM = np.broadcast_to(front_FM, (len(ends_SCM), *front_FM.shape))
    best_SW = reach(front_SFM).max(axis=1)
    before = best_SW.mean()
    left_SCW = reach(ends_SCM) * holds_SC[:, :, None]
    for _ in range(min(num_trials, left_SCW.shape[1])):
        raised_C = np.maximum(left_SCW, best_SW[:, None]).mean(axis=(0, 2))
        place = int(raised_C.argmax())
        best_SW = np.maximum(best_SW, left_SCW[:, place])
    return float((best_SW.mean() - before) / before)


def trend_gain(values_NM: _Floats, num_trials: int, generator: np.random.Generator) -> float | None:
    """Return what further trials add as a share of the hypervolume, if it grows on as it did.

    A search gains about as much whenever its trials double, so the hypervolume is taken as a line
    over the logarithm of their number, through where it is and where it was after a third of them:
    less far back, one lucky trial decides. values_NM: of the complete ones, in their order. None
    for fewer than 6.
    """
    num = len(values_NM)
    num_before = num // 3
    if num < _MIN_TREND:
        return None
    front_FM = values_NM[non_dominated(values_NM)]
    reach = reach_in_directions(front_FM, _TREND_SAMPLES, generator)
    reach_SNW = reach(np.broadcast_to(values_NM, (_TREND_SAMPLES, *values_NM.shape)))
    before, now = (reach_SNW[:, :n].max(axis=1).mean() for n in (num_before, num))
    slope = (now - before) / math.log(num / num_before)
    return float(slope * math.log((num + num_trials) / num) / now)
