"""What trials of an Optuna study reported before their ends, in an attribute of theirs.

Optuna's own `Trial.report` takes one number; here are vectors, at the few steps that anybody asks
for: where trials are compared, and where their curves are learned.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial

ATTRIBUTE = "pareto_reports"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredReport:
    """Holds a report. fraction: of the full length. values: as the user has them.

    violation: of the constraints in all, 0 where they hold. rung: the fraction at which it was
      compared with others; None where it was not. kept: whether the trial was to go on.
    """

    fraction: float
    values: tuple[float, ...]
    violation: float = 0.0
    rung: float | None = None
    kept: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what the constructor takes, as an attribute of a trial holds it."""
        return {**asdict(self), "values": list(self.values)}


def reports_of(attributes: Mapping[str, Any]) -> list[StoredReport]:
    """Return the reports among a trial's attributes, in the order they came."""
    known = attributes.get(ATTRIBUTE, [])
    return [StoredReport(**{**report, "values": tuple(report["values"])}) for report in known]


def was_stopped(trial: FrozenTrial) -> bool:
    """Return whether a trial was told to stop and did not go on to the full length."""
    reports = reports_of(trial.user_attrs)
    return any(not one.kept for one in reports) and reports[-1].fraction < 1.0
