"""Says when ParetoASHA compares trials, and how many of them it keeps."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from trainables.errors import UserError

EPSILON = 1e-9  # fractions of training are sums of floats
_MAX_RUNGS = 1000  # more are a mistake in the unit of time, and every report looks through them


@dataclass(frozen=True, kw_only=True, slots=True)
class RungSettings:
    """Says when trials are compared, and how many continue.

    grace: no trial is stopped before it has trained so long, in the unit of time.
    maximum: the full length, at which nothing is decided.
    reduction_factor: about one in so many continues (η); rungs are at grace·η^k.

    Raises `UserError` for settings that do not fit together.
    """

    grace: float = 1.0 / 3.0
    maximum: float = 1.0
    reduction_factor: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.grace <= self.maximum < math.inf:
            raise UserError(
                "`0 < grace <= maximum` must hold for rungs, got "
                f"(grace={self.grace:g}, maximum={self.maximum:g}); e.g. 0.1 of training"
            )
        if not 1 < self.reduction_factor < math.inf:
            raise UserError(
                f"`reduction_factor` must be above 1, got {self.reduction_factor:g}; 3 lets a "
                "third go on"
            )
        num_rungs = math.log(self.maximum / self.grace) / math.log(self.reduction_factor)
        if num_rungs > _MAX_RUNGS:
            raise UserError(
                f"rungs must be at most {_MAX_RUNGS}, got {num_rungs:.4g}; raise `grace` or "
                "`reduction_factor`"
            )

    def to_json(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return asdict(self)

    def milestones(self) -> tuple[float, ...]:
        """Return where trials are compared, ascending, all below `maximum`."""
        found, milestone = [], self.grace
        while milestone < self.maximum * (1 - EPSILON):
            found.append(milestone)
            milestone *= self.reduction_factor
        return tuple(found)
