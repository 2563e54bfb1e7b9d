"""What a trial tells others while it trains: reports and progress."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Called with the phase, the steps done in it and the steps it has.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A trial's metrics at a fixed fraction of its training.

    step, fraction: of training, pre-training not counted.
    metrics: full names of `trainables.report` (`val/…`, `cost/…`; `test/…` in the final report
      only), and `training/loss`. In the final report `val/…` belong to the best weights by
      validation, which are also the ones evaluated on test, and `training/best_step` is theirs.
    """

    step: int
    fraction: float
    metrics: Mapping[str, float]
    final: bool
