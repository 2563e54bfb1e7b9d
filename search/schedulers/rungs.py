"""Decides which trials continue at a rung: ParetoASHA without Ray. Everything is minimised.

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
Tuning", Algorithm 2) in its stopping form, with one change: trials are ordered by non-domination
instead of by one number. Let R be the records of a rung and v a trial that reaches it. v stops iff

    (records in R that come before v) / (|R| + 1) > 1 / reduction_factor

unless it is spared, which is not for this module to say, and is recorded either way. What comes
before v is Deb's order (Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm",
section VI): feasible vectors by non-domination rank, then infeasible ones by how much they violate,
then vectors that hold a NaN. Laws of what is not spared, each a test:

- a trial that dominates every record is never stopped, and the first trial never is;
- on the same records, whatever dominates a trial that is kept is kept too;
- permuting the objectives, or rescaling any of them by an increasing function, changes nothing.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.plans.rung_settings import EPSILON, RungSettings
from search.schedulers.ranks import RankedRecords


class Rung:
    """Holds the records at one milestone, and puts them in Deb's order."""

    def __init__(self, num_objectives: int) -> None:
        self.num_records = 0
        self._feasible = RankedRecords(num_objectives)
        self._violations: list[float] = []  # of the infeasible

    def add(self, vector: NDArray[np.float64], violation: float) -> int:
        """Add a record (M,), and return how many others come strictly before it."""
        self.num_records += 1
        if np.isnan(vector).any() or math.isnan(violation):
            return len(self._feasible) + len(self._violations)
        if violation > 0:
            self._violations.append(violation)
            return len(self._feasible) + sum(known < violation for known in self._violations)
        before = self._feasible.num_before(vector)
        self._feasible.add(vector)
        return before


class ParetoRungs:
    """Decides which trials continue; they may report in any order. Not thread-safe.

    num_objectives: M, the length of every vector.
    """

    def __init__(self, settings: RungSettings, num_objectives: int) -> None:
        self.settings = settings
        self.num_objectives = num_objectives
        self._rungs = {m: Rung(num_objectives) for m in settings.milestones()}
        self._kept: dict[str, dict[float, bool]] = {}  # by trial, then by milestone

    def decide(
        self,
        trial: str,
        time: float,
        vector: ArrayLike,
        *,
        violation: float = 0.0,
        spared: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Return whether the trial continues; call it at every report.

        time: how long the trial has trained. The furthest milestone it has reached counts, once:
          a trial that reports again there (after a restart) gets the same answer.
        vector: (M,), minimised; of cost, what the trial will *end* with, because a gradual
          schedule is still dense early. Infinite values compare as numbers do.
        violation: of the constraints in all, 0 where all hold; see `search.plans.limits`.
        spared: asked where the trial would stop; whether it continues all the same.

        Raises `ValueError` for a vector of another length.
        """
        values = np.asarray(vector, dtype=np.float64)
        if values.shape != (self.num_objectives,):
            raise ValueError(
                f"`vector` must hold {self.num_objectives} objectives, got shape {values.shape}"
            )
        reached = [m for m in self._rungs if m <= time * (1 + EPSILON)]
        if not reached or time >= self.settings.maximum * (1 - EPSILON):
            return True
        kept = self._kept.setdefault(trial, {})
        if False in kept.values():  # stopped, by a driver that died before the trial did
            return False
        milestone = reached[-1]
        if milestone not in kept:
            rung = self._rungs[milestone]
            share_before = rung.add(values, violation) / rung.num_records
            kept[milestone] = share_before <= 1.0 / self.settings.reduction_factor or spared()
        return kept[milestone]

    def num_records(self) -> dict[float, int]:
        """Return the number of records by milestone, ascending."""
        return {milestone: rung.num_records for milestone, rung in self._rungs.items()}
