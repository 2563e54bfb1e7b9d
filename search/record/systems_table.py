"""The table at the end of `search baselines`: one line per system and sparsity."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq

from search.plans.grid import Grid
from trainables.report import PRIMARY_METRICS, without_split

_DELTA = "test/multitask/delta_percent"
_NONE = "-"


def systems_table(trials: Path, grid: Grid, tasks: Iterable[str]) -> list[str]:
    """Lines of text: each system's primary test metrics, means over its complete seeds.

    trials: the study's `trials.parquet`. `seeds` counts the complete ones of those asked for;
    `steps` are pre-training + training.
    """
    columns = ["number", "status", "params", "metrics"]
    rows = {row["number"]: row for row in pq.read_table(trials, columns=columns).to_pylist()}
    metrics = [f"test/{PRIMARY_METRICS[task]}" for task in tasks]
    if any(_DELTA in json.loads(row["metrics"]) for row in rows.values()):
        metrics.append(_DELTA)
    table = [["system", "sparsity", "seeds", "steps", *map(without_split, metrics)]]
    cells = grid.cells()
    of_one_seed = [cell for cell in cells if cell.seed == grid.seeds[0]]
    for position, cell in enumerate(of_one_seed):
        # A trial's number is its place among the cells.
        numbers = range(position, len(cells), len(of_one_seed))
        of_cell = [rows[number] for number in numbers if number in rows]
        table.append([*_name(cell.params, grid), *_values(of_cell, len(numbers), metrics)])
    return _aligned(table)


def _name(params: Mapping[str, Any], grid: Grid) -> list[str]:
    """The method, with its settings where there are variants of it; the sparsity."""
    method = str(params["method"])
    variants = sum(system.method == method for system in grid.systems)
    own = {k: v for k, v in params.items() if k not in ("method", "sparsity.target")}
    settings = [f"{name}={value}" for name, value in own.items()] if variants > 1 else []
    target = params.get("sparsity.target")
    return [" ".join([method, *settings]), _NONE if target is None else f"{target:g}"]


def _values(rows: Sequence[Mapping[str, Any]], num_asked: int, metrics: Sequence[str]) -> list[str]:
    complete = [json.loads(row["metrics"]) for row in rows if row["status"] == "complete"]
    params = [json.loads(row["params"]) for row in rows]
    lengths = {
        f"{p['training.pretrain_steps']}+{p['training.steps']}"
        for p in params
        if "training.steps" in p and "training.pretrain_steps" in p
    }
    means = []
    for name in metrics:
        found = [v[name] for v in complete if math.isfinite(v.get(name, math.nan))]
        means.append(f"{fmean(found):.4g}" if found else _NONE)
    return [f"{len(complete)}/{num_asked}", ", ".join(sorted(lengths)) or _NONE, *means]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the rest to the right."""
    first, *others = (max(map(len, column)) for column in zip(*table, strict=True))
    lines = []
    for name, *cells in table:
        right = (cell.rjust(width) for cell, width in zip(cells, others, strict=True))
        lines.append("  ".join([name.ljust(first), *right]))
    return lines
