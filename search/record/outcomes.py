"""What the last result of a trial amounts to: an outcome, never an exception. No Ray here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.plans.limits.constraints import Constraints
from trainables.report import non_finite

_PREFIXES = ("val/", "test/", "cost/", "multitask/", "training/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a trial. `metrics` are the last known; `reason` is empty when complete."""

    status: str
    reason: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    fraction: float = 0.0


def judge(
    result: Mapping[str, Any] | None,
    objectives: tuple[str, ...],
    *,
    constraints: Constraints | None = None,
    error: str | None = None,
) -> Outcome | None:
    """Return what a trial's last result amounts to; None without one. error: why it crashed."""
    if result is None and error is None:
        return None
    result = result or {}
    metrics = metrics_of(result)
    fraction = metrics.get("training/fraction", 0.0)
    fraction = fraction if math.isfinite(fraction) else 0.0
    unusable = non_finite(metrics, objectives)
    missed = constraints.missed(metrics) if constraints else []
    status, reason = "failed", ""
    if error is not None:
        reason = error
    elif result.get("status") == "failed":
        reason = str(result.get("reason") or "the trial gave no reason")
    elif fraction < 1.0 - 1e-9:
        reason = f"the trial ended at {fraction:.0%} of training"
        # Tune sets `done` when a scheduler stops a trial, so only its own status tells.
        if result.get("status") == "running":
            status, reason = "stopped", f"stopped by the scheduler at {fraction:.0%} of training"
    elif unusable:
        said = ", ".join(f"{name}={result.get(name, 'missing')}" for name in unusable)
        reason = f"objectives missing or not finite: {said}"
    elif missed:
        status, reason = "infeasible", f"constraints not met: {'; '.join(missed)}"
    else:
        status = "complete"
    return Outcome(status=status, reason=reason, metrics=metrics, fraction=fraction)


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a flat result under their contract names, and `training/…`."""
    return {
        name: float(value)
        for name, value in result.items()
        if name.startswith(_PREFIXES)
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
    }
