"""What somebody believes before a study: where good settings are. It is forgotten as data come in.

The way of PriMO, the prior-informed multi-objective optimizer of NePS, and before it of πBO
(Hvarfner et al. 2022, "πBO: Augmenting Acquisition Functions with User Beliefs for Bayesian
Optimization"): a share of the draws comes from the belief, and what a model promises of the others
is weighted by the belief's density to a power. Both fall by half with every so many trials that ran
to their end.

Deviations: the belief allows for being wrong, which bounds what it can hide. And a trial near it
that is off the front when it has ended counts as several, beyond as many that are on the front:
what is wrong is forgotten after few trials, and what is right is kept for longer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.space import Parameter, Space

_Floats = NDArray[np.float64]
_Params = Mapping[str, Any]
_WIDTH = 0.1  # deviation of a belief, in shares of a parameter's range
_OTHER = 0.2  # how likely another choice is, against the one that is believed in
_WRONG = 0.1  # how likely the belief says nothing
_SHARE = 0.5  # of the first draws that come from the belief
_SHARE_TRIALS = 6.0  # after which the share is a half of that
_POWER_TRIALS = 4.0  # and the power of the density
_REFUTES = 8.0  # trials that a poor one near the belief counts as
_NEAR = math.exp(-3.0)  # of the largest density: four draws of five from the belief


@dataclass(frozen=True, slots=True)
class Prior:
    """Holds points that good settings are thought to be near, each as likely as the others.

    points: values by parameter, each within its range; not all parameters need be named.
    """

    points: tuple[_Params, ...]

    def held(
        self,
        space: Space,
        ended: Sequence[_Params],
        front: Sequence[_Params],
        num_complete: int,
        generator: np.random.Generator,
    ) -> "Belief":
        """Return what is left of the prior for the next draw.

        ended: the configurations of all trials that ended. front: those of them on the front, the
          same objects.
        """
        named = {name for point in self.points for name in point}
        told_C = np.array([not named.isdisjoint(params) for params in ended], dtype=bool)
        near_C = told_C & (self.density(space, ended) >= _NEAR)
        good_C = np.array(
            [any(params is member for member in front) for params in ended], dtype=bool
        )
        num_refuting = max(0, int((near_C & ~good_C).sum()) - int((near_C & good_C).sum()))
        age = num_complete + _REFUTES * num_refuting
        drawn = bool(generator.random() < _SHARE * 0.5 ** (age / _SHARE_TRIALS))
        return Belief(self, space, 0.5 ** (age / _POWER_TRIALS), drawn, generator)

    def near(self, space: Space, others: _Params, generator: np.random.Generator) -> dict[str, Any]:
        """Draw what the prior names; the rest is that of `others`, or uniform."""
        point = self.points[int(generator.integers(len(self.points)))]
        drawn = space.suggest(_Draw(point, others, generator))
        return {name: value for name, value in drawn.items() if name not in space.fixed}

    def density(self, space: Space, asked: Sequence[_Params]) -> _Floats:
        """Return the density of configurations under the nearest point (C,), 1 at a point.

        What a configuration does not read, or the point does not name, changes nothing.
        """
        log_PC = np.zeros((len(self.points), len(asked)))
        for parameter in space.parameters:
            name = parameter.name
            if name not in space.fixed:
                given_P = [point.get(name) for point in self.points]
                log_PC += _log_kernel(parameter, given_P, [params.get(name) for params in asked])
        return np.asarray(np.exp(log_PC.max(axis=0)))


@dataclass(frozen=True, slots=True)
class Belief:
    """Holds what is left of a prior for one draw.

    power: of the density; 1 before any trial. drawn: whether the draw comes from the belief.
    """

    prior: Prior
    space: Space
    power: float
    drawn: bool
    generator: np.random.Generator

    def weights(self, asked: Sequence[_Params]) -> _Floats:
        """Return what the gains of configurations are multiplied by (C,)."""
        if self.drawn:
            return np.ones(len(asked))
        density_C = self.prior.density(self.space, asked)
        return np.asarray((_WRONG + (1.0 - _WRONG) * density_C) ** self.power)

    def mixed_into(self, candidates: Sequence[_Params]) -> list[dict[str, Any]]:
        """Return the candidates, every second near the belief; all where the draw is from it."""
        return [
            self.prior.near(self.space, params, self.generator)
            if self.drawn or place % 2
            else dict(params)
            for place, params in enumerate(candidates)
        ]

    def kept(self, refined: Sequence[_Params]) -> list[dict[str, Any]]:
        """Return refined candidates, near the belief where the draw comes from it."""
        return self.mixed_into(refined) if self.drawn else list(map(dict, refined))


def _log_kernel(parameter: Parameter, given_P: Sequence[Any], asked_C: Sequence[Any]) -> _Floats:
    """Return the log density of a parameter's values under each point's (P, C), 0 at the most."""
    if parameter.kind == "categorical":
        rows = [
            [
                math.log(_OTHER) if None not in (given, value) and given != value else 0.0
                for value in asked_C
            ]
            for given in given_P
        ]
        return np.array(rows)
    assert parameter.low is not None
    assert parameter.high is not None
    values = np.array([parameter.low, parameter.high, *given_P, *asked_C], dtype=float)
    values = np.log(values) if parameter.log else values  # None is NaN
    places = (values[2:] - values[0]) / ((values[1] - values[0]) or 1.0)
    apart_PC = np.subtract.outer(places[: len(given_P)], places[len(given_P) :])
    return np.nan_to_num(-0.5 * (apart_PC / _WIDTH) ** 2)


@dataclass(slots=True)
class _Draw:
    """Stands in for a trial of Optuna: near a point, then as given, then uniform."""

    _point: _Params
    _others: _Params
    _generator: np.random.Generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Draw a number."""
        if name in self._others and name not in self._point:
            return float(self._others[name])
        forth, back = (math.log, math.exp) if log else (float, float)
        bottom, top = forth(low), forth(high)
        if name in self._point:
            place = forth(self._point[name]) + self._generator.normal() * _WIDTH * (top - bottom)
        else:
            place = self._generator.uniform(bottom, top)
        return min(max(back(min(max(place, bottom), top)), low), high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Draw a whole number."""
        return min(max(round(self.suggest_float(name, low, high, log=log)), low), high)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Draw a choice."""
        if name in self._others and name not in self._point:
            return self._others[name]
        chance_C = [
            _OTHER if name in self._point and c != self._point[name] else 1 for c in choices
        ]
        index = self._generator.choice(len(choices), p=np.array(chance_C) / sum(chance_C))
        return choices[int(index)]
