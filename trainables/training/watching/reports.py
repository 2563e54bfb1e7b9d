"""Defines what a trial tells others while it trains: reports and progress."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Called with the phase, the steps done in it and the steps it has.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Holds a trial's metrics at a fixed fraction of its training.

    step, fraction: position in training, without pre-training.
    metrics: full names of `trainables.report` (`val/…`, `cost/…`; `test/…` only in the final
      report), and `training/loss`. In the final report `val/…` are those of the best weights by
      validation, which are also evaluated on test, and `training/best_step` is their step.
    """

    step: int
    fraction: float
    metrics: Mapping[str, float]
    final: bool
