"""Decides which trials continue at a rung: ParetoASHA without Ray. Everything is minimised.

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
Tuning", Algorithm 2) in its stopping form, with one change: trials are ordered by non-domination
instead of by one number. Let R be the records of a rung and v a trial that reaches it. v stops iff

    (records in R that come before v) / (|R| + 1) > 1 / reduction_factor

and is recorded either way. What comes before v is Deb's order (Deb et al. 2002, "A Fast and
Elitist Multiobjective Genetic Algorithm", section VI): feasible vectors by non-domination rank,
then infeasible ones by how much they violate, then vectors that hold a NaN. Laws, each a test:

- a trial that dominates every record is never stopped, and the first trial never is;
- on the same records, whatever dominates a trial that is kept is kept too;
- permuting the objectives, or rescaling any of them by an increasing function, changes nothing.

Why not Syne Tune's MOASHA (0.16.0): it reads sorted indices as ranks, and may stop a trial that
dominates all others.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.plans.rung_settings import EPSILON, RungSettings
from search.schedulers.ranks import RankedRecords
from trainables.errors import UserError


class Rung:
    """Holds the records at one milestone, and puts them in Deb's order.

    records: each a vector and its violation, in the order they came.
    """

    def __init__(self, num_objectives: int) -> None:
        self.records: list[tuple[list[float], float]] = []
        self._feasible = RankedRecords(num_objectives)
        self._violations: list[float] = []  # of the infeasible

    def add(self, vector: NDArray[np.float64], violation: float) -> int:
        """Add a record (M,), and return how many others come strictly before it."""
        self.records.append((vector.tolist(), violation))
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

    num_objectives: M, the length of every vector. Raises `UserError` for less than one.
    """

    def __init__(self, settings: RungSettings, num_objectives: int) -> None:
        if num_objectives < 1:
            raise UserError(f"a comparison needs at least one objective, got {num_objectives}")
        self.settings = settings
        self.num_objectives = num_objectives
        # Trials of different brackets that reach one milestone are compared with one another.
        self._rungs = self._empty_rungs()
        self._kept: dict[str, dict[float, bool]] = {}  # by trial, then by milestone

    def decide(
        self,
        trial: str,
        time: float,
        vector: ArrayLike,
        *,
        violation: float = 0.0,
        bracket: int = 0,
    ) -> bool:
        """Return whether the trial continues; call it at every report.

        time: how long the trial has trained. The furthest milestone it has reached counts, once:
          a trial that reports again there (after a restart) gets the same answer.
        vector: (M,), minimised; of cost, what the trial will *end* with, because a gradual
          schedule is still dense early. Infinite values compare as numbers do.
        violation: of the constraints in all, 0 where all hold; see `search.plans.constraints`.

        Raises `ValueError` for a vector of another length.
        """
        values = np.asarray(vector, dtype=np.float64)
        if values.shape != (self.num_objectives,):
            raise ValueError(
                f"`vector` must hold {self.num_objectives} objectives, got shape {values.shape}"
            )
        reached = [m for m in self.settings.milestones(bracket) if m <= time * (1 + EPSILON)]
        if not reached or time >= self.settings.maximum * (1 - EPSILON):
            return True
        kept = self._kept.setdefault(trial, {})
        if False in kept.values():  # stopped, by a driver that died before the trial did
            return False
        milestone = reached[-1]
        if milestone not in kept:
            rung = self._rungs[milestone]
            share_before = rung.add(values, violation) / len(rung.records)
            kept[milestone] = share_before <= 1.0 / self.settings.reduction_factor
        return kept[milestone]

    def num_records(self) -> dict[float, int]:
        """Return the number of records by milestone, ascending."""
        return {milestone: len(rung.records) for milestone, rung in self._rungs.items()}

    def state(self) -> dict[str, Any]:
        """Return plain values, from which `restore` makes an equal object; `json` writes them."""
        return {
            "num_objectives": self.num_objectives,
            "kept": {trial: list(kept.items()) for trial, kept in self._kept.items()},
            "rungs": [(milestone, rung.records) for milestone, rung in self._rungs.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave. Raises `UserError` for one of other rungs or objectives."""
        if state["num_objectives"] != self.num_objectives:
            raise UserError(
                f"a saved state must be of {self.num_objectives} objectives, got "
                f"{state['num_objectives']}; restore it with the objectives it was saved with"
            )
        rungs, known = self._empty_rungs(), dict(state["rungs"])
        if list(known) != list(rungs):
            raise UserError(
                f"a saved state must have the rungs {list(rungs)}, got {list(known)}; restore it "
                "with the settings it was saved with"
            )
        for milestone, rung in rungs.items():
            for vector, violation in known[milestone]:
                rung.add(np.asarray(vector, dtype=np.float64), violation)
        self._rungs = rungs
        self._kept = {trial: dict(kept) for trial, kept in state["kept"].items()}

    def _empty_rungs(self) -> dict[float, Rung]:
        return {m: Rung(self.num_objectives) for m in self.settings.milestones()}


def bracket_of(position: int, settings: RungSettings) -> int:
    """Return the bracket of the trial added at `position`: in turn, so nothing is random."""
    return position % settings.brackets


def check_names(metrics: Sequence[str], modes: Sequence[str]) -> None:
    """Raise `UserError` unless there is one mode, min or max, for every metric."""
    if not metrics or len(metrics) != len(modes) or len(set(metrics)) != len(metrics):
        raise UserError(
            f"`metrics` must name distinct objectives, with one mode each, got "
            f"(metrics={list(metrics)}, modes={list(modes)})"
        )
    for mode in modes:
        if mode not in ("min", "max"):
            raise UserError(f"`modes` must be min or max, got {mode!r}")
