"""The rule of ParetoASHA, without Ray: which trials go on at a rung. Everything is minimised.

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
    """The records at one milestone, in Deb's order: feasible, infeasible, not a number."""

    def __init__(self, num_objectives: int) -> None:
        self._feasible = RankedRecords(num_objectives)
        self._violations: list[float] = []
        self._num_nan = 0

    def __len__(self) -> int:
        return len(self._feasible) + len(self._violations) + self._num_nan

    def num_before(self, vector: NDArray[np.float64], violation: float) -> int:
        """How many records come strictly before `vector`."""
        if np.isnan(vector).any() or math.isnan(violation):
            return len(self) - self._num_nan
        if violation > 0:
            return len(self._feasible) + sum(known < violation for known in self._violations)
        return self._feasible.num_before(vector)

    def add(self, vector: NDArray[np.float64], violation: float) -> None:
        if np.isnan(vector).any() or math.isnan(violation):
            self._num_nan += 1
        elif violation > 0:
            self._violations.append(violation)
        else:
            self._feasible.add(vector)

    def state(self) -> dict[str, Any]:
        """Plain values, from which `restore` makes an equal rung."""
        return {
            "values": self._feasible.values_NM.tolist(),
            "violations": list(self._violations),
            "num_nan": self._num_nan,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Into an empty rung."""
        for vector in state["values"]:
            self._feasible.add(np.asarray(vector, dtype=np.float64))
        self._violations = list(state["violations"])
        self._num_nan = int(state["num_nan"])


class ParetoRungs:
    """ParetoASHA's decisions for trials that report in any order. Not thread-safe.

    num_objectives: M, the length of every vector.
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
        """Whether the trial goes on; call it at every report.

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
        if time >= self.settings.maximum * (1 - EPSILON):
            return True
        milestones = self.settings.milestones(bracket)
        reached = [m for m in milestones if m <= time * (1 + EPSILON)]
        if not reached:
            return True
        milestone = reached[-1]
        kept = self._kept.setdefault(trial, {})
        if False in kept.values():  # stopped, by a driver that died before the trial did
            return False
        if milestone not in kept:
            rung = self._rungs[milestone]
            before = rung.num_before(values, violation)
            rung.add(values, violation)
            kept[milestone] = before / len(rung) <= 1.0 / self.settings.reduction_factor
        return kept[milestone]

    def num_records(self) -> dict[float, int]:
        """By milestone, ascending."""
        return {milestone: len(rung) for milestone, rung in self._rungs.items()}

    def state(self) -> dict[str, Any]:
        """Plain values, from which `restore` makes an equal object; `json` writes them."""
        return {
            "num_objectives": self.num_objectives,
            "kept": {trial: list(kept.items()) for trial, kept in self._kept.items()},
            "rungs": [(milestone, rung.state()) for milestone, rung in self._rungs.items()],
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
            rung.restore(known[milestone])
        self._rungs = rungs
        self._kept = {trial: dict(kept) for trial, kept in state["kept"].items()}

    def _empty_rungs(self) -> dict[float, Rung]:
        return {m: Rung(self.num_objectives) for m in self.settings.milestones()}


def bracket_of(position: int, settings: RungSettings) -> int:
    """The bracket of the trial that was added at `position`: in turn, so nothing is random."""
    return position % settings.brackets


def check_names(metrics: Sequence[str], modes: Sequence[str]) -> None:
    """Raises `UserError` unless there is one mode, min or max, for every metric."""
    if not metrics or len(metrics) != len(modes) or len(set(metrics)) != len(metrics):
        raise UserError(
            f"`metrics` must name distinct objectives, with one mode each, got "
            f"(metrics={list(metrics)}, modes={list(modes)})"
        )
    for mode in modes:
        if mode not in ("min", "max"):
            raise UserError(f"`modes` must be min or max, got {mode!r}")
