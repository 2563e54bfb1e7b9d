"""Average a grid's systems over seeds: per task a curve over sparsity, and levels of dense ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.statistics.comparing.comparison import Interval, mean_interval
from analysis.studies.systems_by_seed import Grid, System


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Hold a system's mean over seeds with Student's t interval of 95 %, infinite for one seed."""

    sparsity: float
    mean: float
    interval: Interval
    num_seeds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Hold one method, or a variant of it, over sparsity. `points` ascend in sparsity."""

    method: str
    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCurves:
    """Hold one task's curves, and the levels of dense systems, which have no sparsity.

    quality: the task's primary metric with its split.
    """

    task: str
    quality: str
    curves: tuple[Curve, ...]
    levels: tuple[Curve, ...]

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Return the sparsities of any curve, ascending."""
        return tuple(sorted({point.sparsity for c in self.curves for point in c.points}))


def task_curves(grid: Grid) -> tuple[TaskCurves, ...]:
    """Return the curves of every task whose metric some system has."""
    found = []
    for task, measure in zip(grid.tasks, grid.primary(), strict=True):
        lines: dict[tuple[str, str, bool], list[System]] = {}
        for system in grid.systems:
            key = (system.method, system.variant, system.sparsity > 0)
            lines.setdefault(key, []).append(system)
        curves = {key: _curve(grid, systems, measure) for key, systems in lines.items()}
        there = {key: curve for key, curve in curves.items() if curve.points}
        if there:
            found.append(
                TaskCurves(
                    task=task,
                    quality=f"{grid.split}/{measure}",
                    curves=tuple(curve for key, curve in there.items() if key[2]),
                    levels=tuple(curve for key, curve in there.items() if not key[2]),
                )
            )
    return tuple(found)


def _curve(grid: Grid, systems: Sequence[System], measure: str) -> Curve:
    first = systems[0]
    label = System(method=first.method, sparsity=0.0, settings=first.settings, trials={}).label
    points = []
    for system in systems:
        values = [grid.value(trial, measure) for trial in system.trials.values()]
        values = [value for value in values if math.isfinite(value)]
        if values:
            points.append(
                Point(
                    sparsity=system.sparsity,
                    mean=math.fsum(values) / len(values),
                    interval=mean_interval(values),
                    num_seeds=len(values),
                )
            )
    return Curve(
        method=first.method, label=label, points=tuple(sorted(points, key=lambda p: p.sparsity))
    )
