"""Holds floors and caps that a model has to meet: `--set constraint.segmentation/miou='>=0.3'`.

A constraint is on a metric that every trial reports. How far it is missed, its violation, is
relative to the bound, so that constraints in different units can be added up.
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
_UNREPORTED = ("cost/latency_spread", "multitask/delta_percent")
_BOUND = re.compile(r"\s*(>=|<=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """Asks that `metric` (its full name) be at least or at most `bound`, whichever is better."""

    metric: str
    bound: float

    @classmethod
    def parse(cls, name: str, text: str, tasks: Sequence[str]) -> Self:
        """Read a constraint from `--set constraint.NAME=TEXT`.

        Raises `UserError` for a metric that the study's trials do not report, a bound that is no
        number, and one on the wrong side, which would ask for bad models.
        """
        found = _BOUND.fullmatch(text)
        option = f"--set {PREFIX}{name}"
        if found is None or not math.isfinite(bound := float(found[2])):
            raise UserError(
                f"`{option}` must be >=NUMBER or <=NUMBER, got {text!r}; e.g. "
                f"{PREFIX}segmentation/miou='>=0.3'"
            )
        heads = (*tasks, "cost")
        valid = [m for m in METRICS if m.split("/")[0] in heads and m not in _UNREPORTED]
        if name not in valid:
            raise unknown_name("metric for a constraint", name, valid)
        metric = describe(name)
        needed, wanted = (">=", "high") if metric.direction == "maximize" else ("<=", "low")
        if found[1] != needed:
            raise UserError(
                f"`{option}` must be a bound against bad values, got {text!r}; {name} should be "
                f"{wanted}: use {needed}{bound:g}"
            )
        fraction = metric.unit == "fraction" and needed == ">="
        if bound < 0 or (fraction and bound > 1):
            valid_range = "in [0, 1]; 0.3 is 30 %" if fraction else "0 or more"
            raise UserError(f"`{option}` must be a bound {valid_range}, got {text!r}")
        return cls(metric=name if name.startswith("cost/") else f"val/{name}", bound=bound)

    @property
    def text(self) -> str:
        """What `parse` takes, without the metric; for the record."""
        sign = ">=" if describe(self.metric).direction == "maximize" else "<="
        return f"{sign}{self.bound!r}"

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return by how much the constraint is missed, relative to the bound.

        0 or less where it holds; infinite where the metric is missing or not a number.
        """
        value = metrics.get(self.metric, math.nan)
        if not math.isfinite(value):
            return math.inf
        return describe(self.metric).sign * (value - self.bound) / (abs(self.bound) or 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """Holds all constraints of a study, each metric at most once."""

    items: tuple[Constraint, ...] = ()

    @classmethod
    def parse(cls, settings: Mapping[str, str], tasks: Sequence[str]) -> Self:
        """Read bounds by metric, `{"segmentation/miou": ">=0.3"}`; errors as `Constraint.parse`."""
        return cls(items=tuple(Constraint.parse(n, str(t), tasks) for n, t in settings.items()))

    def __bool__(self) -> bool:
        return bool(self.items)

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the violations by metric, positive where missed."""
        return {item.metric: item.violation(metrics) for item in self.items}

    def total_violation(self, metrics: Mapping[str, float]) -> float:
        """Return the sum of what is missed; 0 where all hold."""
        return sum(max(0.0, violation) for violation in self.violations(metrics).values())

    def of(self, metrics: Collection[str]) -> "Constraints":
        """Return those on the named metrics alone."""
        return Constraints(items=tuple(i for i in self.items if i.metric in metrics))

    def missed(self, metrics: Mapping[str, float]) -> list[str]:
        """Return a line in words for each constraint that does not hold."""
        return [
            f"{item.metric}={metrics.get(item.metric, math.nan):.6g} must be {item.text}"
            for item in self.items
            if item.violation(metrics) > 0
        ]

    def bound(self, metric: str) -> float | None:
        """Return the bound on `metric` (its full name), if there is one."""
        return next((item.bound for item in self.items if item.metric == metric), None)

    def to_json(self) -> dict[str, str]:
        """Return what `parse` takes."""
        return {item.metric.removeprefix("val/"): item.text for item in self.items}
