"""Holds what is known of trials' learning curves, and what is believed of their ends.

Shape suffixes: K configurations that are asked for, N points of curves, D features, M outputs, S
samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.samplers.gaussian_process import GaussianProcess, hyperparameters
from spaces.space import Parameter, Space

_NUM_SAMPLES = 32
_BOLDNESS = 0.6  # share of the posterior's deviations that samples have; measured, 0.3 to 1
_MAX_POINTS = 240  # a draw from so many takes 0.1 s
_MAX_FRESH = 120  # of up to so many points, hyperparameters are fitted for every draw
_GROWTH = 1.1  # and then when the trials that have ended are so many times as many

_Floats = NDArray[np.float64]
# What a trial said: the fraction of training, the values, the violations of constraints.
Point = tuple[float, tuple[float, ...], Mapping[str, float]]


@dataclass(slots=True)
class Curve:
    """Holds what is known of a trial. points: by milestone; that of the end is 1."""

    params: Mapping[str, Any]
    points: dict[float, Point] = field(default_factory=dict)
    ended: bool = False

    @property
    def complete(self) -> bool:
        """Whether its final values are known."""
        return 1.0 in self.points

    @property
    def final(self) -> tuple[float, ...]:
        """The final values of a complete one."""
        return self.points[1.0][1]

    @property
    def feasible(self) -> bool:
        """Whether it is complete and holds the constraints."""
        return self.complete and all(x <= 0 for x in self.points[1.0][2].values())


class Posterior:
    """Holds what is believed of the ends of trials: their objectives, then what they miss of names.

    Of many points, hyperparameters are those of the first trials that ended, whose number grows by
    a tenth at a time: so most draws find them in memory. Whether they do changes nothing.
    """

    def __init__(self, space: Space, curves: Sequence[Curve], names: Sequence[str]) -> None:
        self._encoder = _Encoder(space)
        features_ND, output_NM = settled_ND, settled_NM = self._table(curves, names)
        if len(features_ND) > _MAX_FRESH:
            ended = [curve for curve in curves if curve.ended and curve.points]
            num_settled = math.ceil(_GROWTH ** int(math.log(len(ended), _GROWTH)))
            settled_ND, settled_NM = self._table(ended[:num_settled], names)
        groups, settled = self._encoder.groups, settled_ND.tobytes()
        thetas = [hyperparameters(groups, settled, column.tobytes()) for column in settled_NM.T]
        self._processes = [
            GaussianProcess(groups, features_ND, *given)
            for given in zip(output_NM.T, thetas, strict=True)
        ]

    def sample(self, asked: Sequence[Mapping[str, Any]], generator: np.random.Generator) -> _Floats:
        """Draw the ends of `asked` (S, K, M), jointly over these."""
        features_KD = self._encoder.encode(asked, 1.0)
        sizes = len(self._processes), _NUM_SAMPLES, len(asked)
        both = zip(self._processes, _BOLDNESS * generator.normal(size=sizes), strict=True)
        return np.stack([process.sample(features_KD, normal) for process, normal in both], axis=2)

    def _table(self, curves: Sequence[Curve], names: Sequence[str]) -> tuple[_Floats, _Floats]:
        # By milestone, in whatever order a restart tells them.
        points = [(c.params, *point) for c in curves for _, point in sorted(c.points.items())]
        # The ends first, then what is new: trials come in the order of their numbers.
        newest = sorted(range(len(points)), key=lambda i: (points[i][1] < 1.0, -i))[:_MAX_POINTS]
        params, fractions, values, missed = zip(*(points[i] for i in sorted(newest)), strict=True)
        rows = [[*v, *(m.get(n, 0.0) for n in names)] for v, m in zip(values, missed, strict=True)]
        return self._encoder.encode(params, fractions), np.array(rows)


class _Encoder:
    """Makes numbers for a Gaussian process: ranges on [-1, 1], a feature for each choice, and time.

    A parameter that a configuration does not read is 0 in all its features.
    """

    def __init__(self, space: Space) -> None:
        self._parameters = [p for p in space.parameters if p.name not in space.fixed]
        sizes = [*(max(1, len(p.choices)) for p in self._parameters), 1]
        self.groups = tuple(group for group, size in enumerate(sizes) for _ in range(size))

    def encode(self, asked: Sequence[Mapping[str, Any]], fractions: ArrayLike) -> _Floats:
        """Return the features (N, D) of configurations at fractions of training."""
        columns = [column for p in self._parameters for column in _features(p, asked)]
        # 1 at the end, 0 at a third of training, -1 at a ninth: where curves are learned.
        time_N = np.broadcast_to(1.0 + np.log(fractions) / math.log(3.0), len(asked))
        return np.column_stack([*columns, time_N])


def _features(parameter: Parameter, asked: Sequence[Mapping[str, Any]]) -> list[ArrayLike]:
    given = [params.get(parameter.name, math.nan) for params in asked]
    if parameter.kind == "categorical":
        return [[value == choice for value in given] for choice in parameter.choices]
    value_N = np.array([parameter.low, parameter.high, *given], dtype=float)
    value_N = np.log(value_N) if parameter.log else value_N
    low, high = value_N[:2]
    return [np.nan_to_num(2.0 * (value_N[2:] - low) / (high - low or 1.0) - 1.0)]
