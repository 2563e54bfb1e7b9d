"""Read the floors and caps of a study from its record, and put them in words.

Whether a trial meets them is decided by the search, which gives a trial that ran to the end and
missed one the status `infeasible`. Nothing here decides it again.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.labels import admitting, exactly, metric_label, task_label
from trainables import report
from trainables.errors import UserError

_BOUND = re.compile(r"\s*([^<>=]+?)\s*(>=|<=)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """Hold a bound: `metric` (its full name) must be at least or at most `value`."""

    metric: str
    value: float

    @property
    def is_floor(self) -> bool:
        """Tell whether the bound is from below, as higher is better."""
        return report.describe(self.metric).direction == "maximize"

    @property
    def short(self) -> str:
        """Return for example "≥ 0.3" or "≤ 20 %"."""
        return f"{'≥' if self.is_floor else '≤'} {exactly(self.value, self.metric)}"

    @property
    def typed(self) -> str:
        """Return the bound as it is given to the search, for example "segmentation/miou>=0.3"."""
        sign = ">=" if self.is_floor else "<="
        return f"{report.without_split(self.metric)}{sign}{self.value!r}"

    @property
    def label(self) -> str:
        """Return for example "mIoU ≥ 0.3", for a place that names the task."""
        return f"{metric_label(self.metric)} {self.short}"

    @property
    def text(self) -> str:
        """Return for example "segmentation mIoU at least 0.3" or "density at most 20 %"."""
        side = "at least" if self.is_floor else "at most"
        return f"{self._what} {side} {exactly(self.value, self.metric)}"

    def is_missed(self, metrics: Mapping[str, float]) -> bool:
        """Tell whether a recorded value misses the bound, to say which bound it was."""
        value = metrics.get(self.metric, math.nan)
        sign = report.describe(self.metric).sign
        return sign * value > sign * self.value

    def miss(self, metrics: Mapping[str, float]) -> str:
        """Return for example "segmentation mIoU is 0.21, must be at least 0.3".

        The value is rounded to the worse side and the bound is written whole, so that they differ.
        """
        side = "at least" if self.is_floor else "at most"
        value = admitting(metrics.get(self.metric, math.nan), self.metric)
        return f"{self._what} is {value}, must be {side} {exactly(self.value, self.metric)}"

    @property
    def _what(self) -> str:
        label = metric_label(self.metric)
        if self.metric.startswith("cost/"):
            return label
        task = report.task_of(self.metric)
        return f"{task_label(task).lower()} {label}"


def read_bounds(facts: Mapping[str, Any]) -> tuple[Bound, ...]:
    """Read the constraints of `study.json`, {"segmentation/miou": ">=0.3"}; empty without any.

    Raises `UserError` for one that cannot be read and for an unknown metric.
    """
    recorded = facts.get("constraints") or {}
    if not isinstance(recorded, Mapping):
        raise UserError(
            "`constraints` must be an object of metrics and bounds, got "
            f"{recorded!r}; correct the study's study.json"
        )
    return tuple(_bound(f"{name}{text}") for name, text in recorded.items())


def axis_bound(bounds: Iterable[Bound], name: str) -> Bound | None:
    """Return what to draw on the axis of the metric `name`: the stricter one of two bounds.

    A floor on sparsity is a cap on density, and the other way round.
    """
    found = []
    turned = {"cost/density": "cost/sparsity", "cost/sparsity": "cost/density"}.get(name)
    for bound in bounds:
        if bound.metric == name:
            found.append(bound)
        elif bound.metric == turned:
            found.append(Bound(metric=name, value=round(1.0 - bound.value, 12)))
    sign = report.describe(name).sign
    return min(found, key=lambda bound: sign * bound.value, default=None)


def off_axis_bounds(bounds: Iterable[Bound], quality: str, cost: str) -> tuple[Bound, ...]:
    """Return the bounds that concern a panel of `quality` against `cost` but are on neither axis.

    They are on another metric of the task, or on another cost.
    """
    task = report.task_of(quality)
    return tuple(
        bound
        for bound in bounds
        if report.task_of(bound.metric) in (task, "cost")
        and not any(axis_bound([bound], name) for name in (quality, cost))
    )


def misses(bounds: Iterable[Bound], metrics: Mapping[str, float]) -> list[str]:
    """Return every bound that the values miss, in words."""
    return [bound.miss(metrics) for bound in bounds if bound.is_missed(metrics)]


def _bound(text: str) -> Bound:
    found = _BOUND.fullmatch(text)
    try:
        value = float(found[3]) if found else math.nan
    except ValueError:
        value = math.nan
    if found is None or not math.isfinite(value):
        raise UserError(
            "`constraints` must be a metric with >=NUMBER or <=NUMBER each, got "
            f"{text.strip()!r}; correct the study's study.json"
        )
    name = report.describe(found[1]).name
    return Bound(metric=name if name.startswith("cost/") else f"val/{name}", value=value)
