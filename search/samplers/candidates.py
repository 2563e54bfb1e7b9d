"""Draws configurations to choose from: from all of a space, and near those that proved good."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaces.space import Space

_NUM_CANDIDATES = 400
_STEPS = (0.03, 0.1, 0.3)  # deviations of a mutation, in shares of a parameter's range
_SMALL_STEPS = (0.01, 0.03, 0.1)
_REDRAWN = 0.1  # share of numbers that a mutation draws anew; and of choices
_REDRAWN_CHOICES = 0.15
_UNMOVED = 0.3  # share of the other numbers that it leaves as they are


def drawn_and_mutated(
    space: Space, parents: Sequence[Mapping[str, Any]], generator: np.random.Generator
) -> list[dict[str, Any]]:
    """Return configurations to choose from: half of them drawn, half mutated from `parents`."""
    half = range(_NUM_CANDIDATES // 2)
    drawn = [_mutated(space, {}, _STEPS, generator) for _ in half]
    chosen = (parents[int(generator.integers(len(parents)))] for _ in half)
    return drawn + [_mutated(space, parent, _STEPS, generator) for parent in chosen]


def moved_a_little(
    space: Space, parent: Mapping[str, Any], generator: np.random.Generator
) -> dict[str, Any]:
    """Return a configuration very near `parent`."""
    return _mutated(space, parent, _SMALL_STEPS, generator)


def _mutated(
    space: Space, parent: Mapping[str, Any], steps: Sequence[float], chance: np.random.Generator
) -> dict[str, Any]:
    """Return what `space` draws near `parent`, fixed values apart."""
    drawn = space.suggest(_Mutation(parent, float(chance.choice(steps)), chance))
    return {name: value for name, value in drawn.items() if name not in space.fixed}


@dataclass(slots=True)
class _Mutation:
    """Stands in for a trial of Optuna: a parent's values, moved a little; others are drawn."""

    _parent: Mapping[str, Any]
    _step: float
    _generator: np.random.Generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        forth, back = (math.log, math.exp) if log else (float, float)
        bottom, top = forth(low), forth(high)
        if name not in self._parent or self._generator.random() < _REDRAWN:
            place = self._generator.uniform(bottom, top)
        else:
            place = forth(self._parent[name])
            if self._generator.random() >= _UNMOVED:
                place += self._generator.normal() * self._step * (top - bottom)
        return min(max(back(min(max(place, bottom), top)), low), high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return min(max(round(self.suggest_float(name, low, high, log=log)), low), high)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        kept = name in self._parent and self._generator.random() >= _REDRAWN_CHOICES
        return self._parent[name] if kept else choices[int(self._generator.integers(len(choices)))]
