"""Make tables of systems × metrics, with mean and sample deviation over seeds."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from analysis.labels import axis_label, shown_factor, task_label
from analysis.methods import method_style
from analysis.studies.systems_by_seed import DELTA, Grid, System, percent
from analysis.tables.typeset import Table, mean_and_deviation
from trainables import report

_COST = "cost"
_PRIMARY = "primary metrics"


def metric_names(grid: Grid) -> tuple[str, ...]:
    """Return every metric that some system reports, without split: tasks, Δ_T, costs."""
    names = [name for task in grid.tasks for name in report.task_metrics(task)]
    names += [DELTA, *(name for name in report.METRICS if name.startswith("cost/"))]
    return tuple(n for n in names if any(values(grid, s, n) for s in grid.systems))


def values(grid: Grid, system: System, name: str) -> dict[int, float]:
    """Return the finite values of a metric, by seed."""
    found = {
        seed: grid.dense_delta(trial) if name == DELTA else grid.value(trial, name)
        for seed, trial in system.trials.items()
    }
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def tables(grid: Grid) -> list[Table]:
    """Make one table per task with all its metrics, one for Δ_T and one for the costs."""
    names = metric_names(grid)
    groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
    return [
        _table(grid, group, [n for n in names if n.partition("/")[0] == group]) for group in groups
    ]


def primary_table(grid: Grid) -> Table:
    """Make one table of each task's primary metric and of Δ_T: the shortest answer."""
    primary = (*(report.PRIMARY_METRICS[task] for task in grid.tasks), DELTA)
    return _table(grid, _PRIMARY, [n for n in metric_names(grid) if n in primary])


def to_table(grid: Grid) -> pa.Table:
    """Return one row per system, with `<metric>/mean` and `<metric>/std` (null for one seed).

    Task metrics and Δ_T bear the split's name, as in `trials.parquet`.
    """
    return pa.Table.from_pylist(to_json(grid))


def to_json(grid: Grid) -> list[dict[str, Any]]:
    """Return one mapping per system, in the metrics' own units."""
    rows = []
    for system in grid.systems:
        row: dict[str, Any] = {
            "method": system.method,
            "sparsity": system.sparsity,
            "settings": system.variant,
            "num_seeds": len(system.seeds),
        }
        for name in metric_names(grid):
            full = name if name.startswith("cost/") else f"{grid.split}/{name}"
            found = list(values(grid, system, name).values())
            mean = sum(found) / len(found) if found else None
            row[f"{full}/mean"], row[f"{full}/std"] = mean, None
            if mean is not None and len(found) > 1:
                variance = sum((v - mean) ** 2 for v in found) / (len(found) - 1)
                row[f"{full}/std"] = variance**0.5
        rows.append(row)
    return rows


def _table(grid: Grid, group: str, names: Sequence[str]) -> Table:
    shown = {name: _shown(grid, name) for name in names}
    digits = {name: _digits([v for cell in cells for v in cell]) for name, cells in shown.items()}
    rows = []
    for index, system in enumerate(grid.systems):
        look = method_style(system.method).label
        words = [f"{look} ({system.variant})" if system.settings else look]
        words += [percent(system.sparsity), str(len(system.seeds))]
        rows.append(words + [mean_and_deviation(shown[n][index], digits[n]) for n in names])
    sparsities = [system.sparsity for system in grid.systems]
    rules = [i for i in range(1, len(rows)) if sparsities[i] != sparsities[i - 1]]
    where = "" if group == _COST else f" on {grid.split}"
    what = "Cost" if group == _COST else task_label(group)
    return Table(
        title=f"{what}{where}, mean ± sample deviation over seeds",
        heads=["system", "sparsity", "seeds", *(_head(name, group) for name in names)],
        rows=rows,
        num_words=1,
        rules=rules,
    )


def _shown(grid: Grid, name: str) -> list[list[float]]:
    """Return a metric's values by system as written, in the unit of its label."""
    factor = shown_factor(name)
    return [[factor * v for v in values(grid, s, name).values()] for s in grid.systems]


def _head(name: str, group: str) -> str:
    arrow = "↑" if report.describe(name).direction == "maximize" else "↓"
    if name == DELTA:
        return f"Δ_T to dense (%) {arrow}"
    task = f"{task_label(name.partition('/')[0])} " if group == _PRIMARY else ""
    return f"{task}{axis_label(name)} {arrow}"


def _digits(found: Sequence[float]) -> int:
    largest = max((abs(value) for value in found), default=0.0)
    return 0 if largest >= 1e4 else 2 if largest >= 1 else 4
