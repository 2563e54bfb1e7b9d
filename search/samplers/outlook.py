"""Weighs what further trials would add to the front, by what is known at one moment.

Shape suffixes: C candidates, F members of the front, K trials at work and candidates, M objectives
(and constraints), S samples.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.pareto import non_dominated
from search.samplers.further_gain import batch_gain, expected_gains
from search.samplers.posterior import Curve, Posterior
from spaces.space import Space

_Floats = NDArray[np.float64]
_Configurations = Sequence[Mapping[str, Any]]


class Outlook:
    """Holds the front of complete trials, and what is believed of others.

    curves: of the trials that `space` could draw.
    feasible: whether a complete trial holds the constraints. Without one, none gains.
    parents: the configurations of the front; of all complete trials' where none holds them.
    """

    def __init__(self, space: Space, curves: Sequence[Curve]) -> None:
        self._space = space
        self._curves = curves
        complete = [c for c in curves if c.complete]
        feasible = [c for c in complete if c.feasible]
        known = feasible or complete
        self.num_complete = len(complete)
        self.feasible = bool(feasible)
        self._values_FM = np.array([c.final for c in known], dtype=float)
        self._on_front = non_dominated(self._values_FM) if known else np.array([], dtype=bool)
        self.parents = [c.params for c, on in zip(known, self._on_front, strict=True) if on]

    @cached_property
    def _posterior(self) -> Posterior:
        complete = [c for c in self._curves if c.complete]
        names = sorted({name for c in complete for name in c.points[1.0][2]})
        return Posterior(self._space, self._curves, names)

    def scores(
        self, working: _Configurations, candidates: _Configurations, generator: np.random.Generator
    ) -> _Floats:
        """Return what each candidate gains, and what it misses of the constraints (C, 2).

        The gain is in hypervolume, on average over samples, and beside `working`, the trials at
        work. Every call has samples of its own: a candidate that was lucky in one round must lead
        again in the next.
        """
        ends_SKM, missed_SK = self._sampled([*working, *candidates], generator)
        gain_C = np.zeros(len(candidates))
        if self.feasible:
            holds_SK = missed_SK <= 0.0
            front_FM, spare_M = self._values_FM[self._on_front], np.ptp(self._values_FM, axis=0)
            gain_C = expected_gains(ends_SKM, holds_SK, front_FM, len(working), generator, spare_M)
        return np.column_stack([gain_C, missed_SK[:, len(working) :].mean(axis=0)])

    def batch_gain(
        self, candidates: _Configurations, num_trials: int, generator: np.random.Generator
    ) -> float:
        """Return what the best `num_trials` candidates add, as a share of the hypervolume."""
        ends_SCM, missed_SC = self._sampled(candidates, generator)
        front_FM = self._values_FM[self._on_front]
        return batch_gain(ends_SCM, missed_SC <= 0.0, front_FM, num_trials, generator)

    def _sampled(
        self, asked: _Configurations, generator: np.random.Generator
    ) -> tuple[_Floats, _Floats]:
        """Draw how `asked` end (S, K, M), and what they miss of the constraints (S, K)."""
        drawn_SKM = self._posterior.sample(asked, generator)
        ends_SKM, missed_SKM = np.split(drawn_SKM, [self._values_FM.shape[1]], axis=2)
        return ends_SKM, np.maximum(missed_SKM, 0.0).sum(axis=2)


def best_first(score_C2: _Floats) -> NDArray[np.intp]:
    """Order by gain; where nothing that holds the constraints gains, by the nearest miss."""
    gain_C, missed_C = score_C2.T
    return np.lexsort((missed_C, -gain_C))
