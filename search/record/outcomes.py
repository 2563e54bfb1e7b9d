"""What the last result of a trial amounts to: an outcome, never an exception. No Ray here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.plans.constraints import Constraints
from trainables.report import non_finite


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a trial. `metrics` are the last known; `reason` is empty when complete."""

    status: str
    reason: str
    metrics: Mapping[str, float]
    fraction: float


def judge(
    result: Mapping[str, Any] | None,
    objectives: tuple[str, ...],
    *,
    constraints: Constraints | None = None,
    error: str | None = None,
) -> Outcome | None:
    """What a trial's last result amounts to; None where it says nothing final.

    Missing or non-finite objectives, a crash and an early stop are outcomes too, never
    exceptions: the study goes on.
    """
    metrics = metrics_of(result or {})
    fraction = _number((result or {}).get("training/fraction"))

    def outcome(status: str, reason: str) -> Outcome:
        return Outcome(status=status, reason=reason, metrics=metrics, fraction=fraction)

    if error is not None:
        return outcome("failed", error)
    if result is None:
        return None
    if result.get("status") == "failed":
        return outcome("failed", str(result.get("reason") or "the trial gave no reason"))
    if fraction < 1.0 - 1e-9:
        # Tune sets `done` when a scheduler stops a trial, so only its own status tells.
        if result.get("status") == "running":
            return outcome("stopped", f"stopped by the scheduler at {fraction:.0%} of training")
        return outcome("failed", f"the trial ended at {fraction:.0%} of training")
    unusable = non_finite(metrics, objectives)
    if unusable:
        said = ", ".join(f"{n}={result.get(n, 'missing')}" for n in unusable)
        return outcome("failed", f"objectives missing or not finite: {said}")
    missed = constraints.missed(metrics) if constraints else []
    if missed:
        return outcome("infeasible", f"constraints not met: {'; '.join(missed)}")
    return outcome("complete", "")


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a flat result under their contract names, and `training/…`."""
    prefixes = ("val/", "test/", "cost/", "multitask/", "training/")
    return {
        name: float(value)
        for name, value in result.items()
        if name.startswith(prefixes)
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
