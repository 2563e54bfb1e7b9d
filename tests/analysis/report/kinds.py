"""Write the kinds of studies whose reports differ most, with records as `search` leaves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.analysis.built_studies import (
    LEVELS,
    METHODS,
    PRIMARY,
    BuiltStudy,
    Row,
    confirming,
    realistic_rows,
    searched_rows,
    write_record,
)

TASKS = ("segmentation", "normals", "depth")
_SPARSITIES = (0.5, 0.7, 0.9, 0.98)


def baseline_rows(seeds: int = 3, sparsities: tuple[float, ...] = _SPARSITIES) -> list[Row]:
    """Return systems × sparsities × seeds as `search baselines` leaves them, on both splits."""
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    cells = [("dense", 0.0), *((m, s) for s in sparsities for m in METHODS if m != "dense")]
    for method, sparsity in cells:
        for seed in range(seeds):
            params: dict[str, Any] = {"method": method, "training.steps": 600}
            metrics = {"cost/density": 1 - sparsity, "cost/sparsity": sparsity}
            if sparsity:
                params["sparsity.target"] = sparsity
            damage = METHODS[method] * (-np.log10(1 - sparsity) / 2.1) ** 1.6
            for task in TASKS:
                level, loss = LEVELS[task]
                for split in ("val", "test"):
                    value = level + loss * (damage + rng.normal(0, 0.02))
                    metrics[PRIMARY[task].replace("val/", f"{split}/")] = float(value)
            rows.append(
                Row(number=len(rows), method=method, seed=seed, params=params, metrics=metrics)
            )
    return rows


def _search(storage: Path) -> BuiltStudy:
    rows = realistic_rows(60, TASKS)
    rows[4].metrics[PRIMARY["depth"]] = 40.0  # one trial that diverged, and reported numbers
    return write_record(storage, "search", rows, tasks=TASKS, summaries=True)


def _confirmed(storage: Path) -> BuiltStudy:
    """A search whose dense model and every fourth trial were trained at three fresh seeds."""
    rng = np.random.default_rng(4)
    rows = realistic_rows(30, TASKS)
    again = [row for row in rows if row.status == "complete" and row.number % 4 == 0]
    for row in again:
        for seed in (901, 902, 903):
            fresh = confirming(row, len(rows), seed, 0.0)
            for task in TASKS:
                name, (_, loss) = PRIMARY[task], LEVELS[task]
                # One of them differs so much from seed to seed that its interval leaves the panel.
                spread = 0.6 if row is again[1] and task == "depth" else 0.03
                fresh.metrics[name] += abs(loss) * float(rng.normal(0, spread))
            rows.append(fresh)
    return write_record(storage, "confirmed", rows, tasks=TASKS, summaries=True)


def _grid(storage: Path) -> BuiltStudy:
    facts = {"recipe": "demo", "grid": {"seeds": 3, "sparsities": list(_SPARSITIES)}}
    return write_record(storage, "grid", baseline_rows(), tasks=TASKS, facts=facts)


def _constrained(storage: Path) -> BuiltStudy:
    constraints = {"segmentation/miou": ">=0.38", "cost/density": "<=0.9"}
    rows = searched_rows(60, TASKS, 0.38)
    return write_record(
        storage,
        "constrained",
        rows,
        tasks=TASKS,
        summaries=True,
        facts={"constraints": constraints},
    )


def _single(storage: Path) -> BuiltStudy:
    rows = [row for row in realistic_rows(4, TASKS) if row.method != "dense"][:1]
    return write_record(storage, "single", rows, tasks=TASKS, summaries=True)


def _thousand(storage: Path) -> BuiltStudy:
    return write_record(storage, "thousand", realistic_rows(1000, TASKS), tasks=TASKS)


def _six(storage: Path) -> BuiltStudy:
    tasks = tuple(PRIMARY)
    return write_record(storage, "six", realistic_rows(50, tasks), tasks=tasks, summaries=True)


KINDS: dict[str, Callable[[Path], BuiltStudy]] = {
    "search": _search,
    "confirmed": _confirmed,
    "grid": _grid,
    "constrained": _constrained,
    "single": _single,
    "thousand": _thousand,
    "six": _six,
}
