"""Floors and caps that a model has to meet: `--set constraint.segmentation/miou='>=0.3'`.

A constraint is on a metric that every trial reports: a task's quality on validation, or a cost.
How far it is missed, its violation, is relative to the bound, so that constraints in different
units can be added up; 0 or less where it holds.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from trainables.errors import UserError, unknown_name
from trainables.report import METRICS, describe

PREFIX = "constraint."

# Known to `trainables.report`, but not reported by every trial of a study.
_UNREPORTED = ("cost/latency_ms", "multitask/delta_percent")
_BOUND = re.compile(r"\s*(>=|<=)\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """`metric` (its full name) must be at least, or at most, `bound`, whichever is better."""

    metric: str
    bound: float

    @classmethod
    def parse(cls, name: str, text: str, tasks: Sequence[str]) -> Self:
        """From `--set constraint.NAME=TEXT`.

        Raises `UserError` for a metric that trials do not report, a task that the study does not
        have, a bound that is no number, and a bound on the wrong side: "at most" of a metric
        that should be high would ask for bad models.
        """
        found = _BOUND.fullmatch(text)
        try:
            bound = float(found[2]) if found else math.nan
        except ValueError:
            bound = math.nan
        option = f"--set {PREFIX}{name}"
        if found is None or not math.isfinite(bound):
            raise UserError(
                f"`{option}` must be >=NUMBER or <=NUMBER, got {text!r}; e.g. "
                f"{PREFIX}segmentation/miou='>=0.3'"
            )
        head = name.partition("/")[0]
        valid = [m for m in METRICS if m.split("/")[0] in (*tasks, "cost")]
        if name not in valid or name in _UNREPORTED:
            raise unknown_name(
                "metric for a constraint", name, (m for m in valid if m not in _UNREPORTED)
            )
        needed = ">=" if describe(name).direction == "maximize" else "<="
        if found[1] != needed:
            wanted = "high" if needed == ">=" else "low"
            raise UserError(
                f"`{option}` must be a bound against bad values, got {text!r}; {name} should be "
                f"{wanted}: use {needed}{bound:g}"
            )
        fraction = describe(name).unit == "fraction" and needed == ">="
        if bound < 0 or (fraction and bound > 1):
            valid_range = "in [0, 1]; 0.3 is 30 %" if fraction else "0 or more"
            raise UserError(f"`{option}` must be a bound {valid_range}, got {text!r}")
        return cls(metric=name if head == "cost" else f"val/{name}", bound=bound)

    @property
    def text(self) -> str:
        """For the record: what `parse` takes, without the metric."""
        sign = ">=" if describe(self.metric).direction == "maximize" else "<="
        return f"{sign}{self.bound!r}"

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Relative to the bound, positive where the constraint is missed; infinite where the
        metric is missing or not a number."""
        value = metrics.get(self.metric, math.nan)
        if not math.isfinite(value):
            return math.inf
        sign = describe(self.metric).sign
        return sign * (value - self.bound) / (abs(self.bound) or 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """All constraints of a study, each metric at most once."""

    items: tuple[Constraint, ...] = ()

    @classmethod
    def parse(cls, settings: Mapping[str, str], tasks: Sequence[str]) -> Self:
        """From metric to bound, `{"segmentation/miou": ">=0.3"}`; errors as `Constraint.parse`."""
        return cls(items=tuple(Constraint.parse(n, str(t), tasks) for n, t in settings.items()))

    def __bool__(self) -> bool:
        return bool(self.items)

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By metric, positive where missed."""
        return {item.metric: item.violation(metrics) for item in self.items}

    def total_violation(self, metrics: Mapping[str, float]) -> float:
        """The sum of what is missed; 0 where all hold."""
        return sum(max(0.0, item.violation(metrics)) for item in self.items)

    def of(self, metrics: Collection[str]) -> "Constraints":
        """Those on the named metrics alone."""
        return Constraints(items=tuple(i for i in self.items if i.metric in metrics))

    def missed(self, metrics: Mapping[str, float]) -> list[str]:
        """In words, one for each constraint that does not hold."""
        return [
            f"{item.metric}={metrics.get(item.metric, math.nan):.6g} must be {item.text}"
            for item in self.items
            if item.violation(metrics) > 0
        ]

    def bound(self, metric: str) -> float | None:
        """Of the constraint on `metric`, by its full name."""
        return next((item.bound for item in self.items if item.metric == metric), None)

    def to_json(self) -> dict[str, str]:
        """What `parse` takes."""
        return {item.metric.removeprefix("val/"): item.text for item in self.items}
