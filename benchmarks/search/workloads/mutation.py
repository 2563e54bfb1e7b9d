"""Configurations near others, for sampling the front of a task whose equations are not known."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from spaces.space import Space

_REDRAWN = 0.1  # share of the values that are drawn anew


def mutated(
    space: Space, parent: Mapping[str, Any], step: float, generator: np.random.Generator
) -> dict[str, Any]:
    """Return a configuration that `space` draws near `parent`; of an empty one, at random.

    step: the deviation of a number, in shares of its range.
    """
    return space.suggest(_Near(parent, step, generator))


class _Near:
    """Stands in for a trial of Optuna."""

    def __init__(
        self, parent: Mapping[str, Any], step: float, generator: np.random.Generator
    ) -> None:
        self._parent = parent
        self._step = step
        self._generator = generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        forth, back = (math.log, math.exp) if log else (float, float)
        bottom, top = forth(low), forth(high)
        place = float(self._generator.uniform(bottom, top))
        if self._keeps(name):
            place = forth(self._parent[name])
            place += float(self._generator.normal()) * self._step * (top - bottom)
        return min(max(back(min(max(place, bottom), top)), low), high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if not self._keeps(name) and not log:
            return int(self._generator.integers(low, high + 1))
        return round(self.suggest_float(name, low, high, log=log))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if self._keeps(name):
            return self._parent[name]
        return choices[int(self._generator.integers(len(choices)))]

    def _keeps(self, name: str) -> bool:
        return name in self._parent and bool(self._generator.random() >= _REDRAWN)
