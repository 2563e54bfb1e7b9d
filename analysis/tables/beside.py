"""Set a study's numbers beside the papers' tables, in the papers' units."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.labels import metric_label, task_label, unit_label
from analysis.methods import method_order, method_style
from analysis.studies.protocol import protocol
from analysis.studies.systems_by_seed import Grid, System, percent
from analysis.tables.papers import (
    FROM_ADASHARE,
    NOT_STATED,
    PROTOCOLS,
    PublishedTable,
    published_table,
    same_sparsity,
)
from analysis.tables.typeset import Table, mean_and_deviation
from trainables import report
from trainables.errors import UserError

_PUBLISHED = "published"


def dataset_of(grids: Sequence[Grid]) -> str | None:
    """Return the published data set that the studies are on; None without studies.

    Raises `UserError` where they are on several, or on one of which no paper has a table.
    """
    names = sorted({str(grid.study.facts.get("dataset")) for grid in grids})
    if not names:
        return None
    if len(names) > 1 or names[0] not in PROTOCOLS:
        raise UserError(
            f"the studies must be on one of {', '.join(PROTOCOLS)}, got {', '.join(names)}; "
            "choose the papers' table with --dataset"
        )
    return names[0]


def at_published_sparsities(grid: Grid) -> Grid:
    """Return the systems at sparsities of the papers, and dense ones; all where none is there."""
    known = {row.sparsity for name in PROTOCOLS for row in published_table(name).rows}
    kept = [s for s in grid.systems if any(same_sparsity(s.sparsity, other) for other in known)]
    sparse = any(system.sparsity > 0 for system in kept)
    return dataclasses.replace(grid, systems=type(grid.systems)(kept)) if sparse else grid


def results_table(dataset: str, grids: Sequence[Grid]) -> Table:
    """Make a table of rows by sparsity and method.

    The papers' rows are as printed; each study's rows are mean ± standard deviation.
    """
    published = published_table(dataset)
    keyed: list[tuple[tuple[float, int, int], list[str]]] = []
    methods = [row.method for row in published.rows]
    methods += [system.method for grid in grids for system in grid.systems]
    order = {name: index for index, name in enumerate(method_order(methods))}

    def place(method: str, sparsity: float, group: int) -> tuple[float, int, int]:
        known = (r.sparsity for r in published.rows if same_sparsity(r.sparsity, sparsity))
        return next(known, sparsity), order[method], group

    for row in published.rows:
        cells = [row.printed.get(name, "–") for name in published.columns]
        look = method_style(row.method).label
        words = [look, percent(row.sparsity), f"{_PUBLISHED}, {row.source}"]
        keyed.append((place(row.method, row.sparsity, 0), [*words, *cells]))
    for index, grid in enumerate(grids, start=1):
        for system in grid.systems:
            look = method_style(system.method).label
            name = f"{look} ({system.variant})" if system.settings else look
            ours = f"{grid.study.name}, {grid.split}, n = {len(system.seeds)}"
            words = [name, percent(system.sparsity), ours]
            cells = _our_cells(grid, system, published)
            keyed.append((place(system.method, system.sparsity, index), [*words, *cells]))
    keyed.sort(key=lambda item: item[0])
    rules = [i for i in range(1, len(keyed)) if keyed[i][0][0] != keyed[i - 1][0][0]]
    heads = ["system", "sparsity", "numbers"]
    heads += [_head(name, unit) for name, (unit, _) in published.columns.items()]
    return Table(
        title=f"{dataset}: the papers' numbers{' beside ours' if grids else ''}",
        heads=heads,
        rows=[cells for _, cells in keyed],
        num_words=3,
        rules=rules,
    )


def protocol_table(dataset: str, grids: Sequence[Grid]) -> Table:
    """Make a table of one row per aspect, which says whether all columns agree."""
    columns = [PROTOCOLS[dataset], *(protocol(grid) for grid in grids)]
    aspects = list(dict.fromkeys(name for column in reversed(columns) for name in column))
    rows = []
    for aspect in aspects:
        values = [column.get(aspect, NOT_STATED) for column in columns]
        same = "yes" if len(set(values)) == 1 else "no"
        rows.append([aspect, *values, *([same] if grids else [])])
    heads = ["protocol", _PUBLISHED, *(grid.study.name for grid in grids)]
    return Table(
        title=f"{dataset}: protocol",
        heads=[*heads, *(["same"] if grids else [])],
        rows=rows,
        num_words=len(rows[0]),
    )


def remarks(dataset: str, grids: Sequence[Grid]) -> list[str]:
    """Say in sentences what to know when comparing the numbers."""
    published = published_table(dataset)
    text = [
        "Published rows are from DiSparse (Sun et al. 2022): one number per cell, without spread. "
        "Units are those of the papers; ↑ higher is better, ↓ lower is better."
    ]
    if any(row.method in FROM_ADASHARE for row in published.rows):
        text.append(
            "Cross-Stitch, Sluice and DEN are quoted there from AdaShare (Sun et al. 2020), which "
            "trained them under a slightly different protocol."
        )
    if grids:
        text.append("Our numbers are the mean ± sample standard deviation over seeds.")
    for grid in grids:
        aspects = protocol(grid)
        text.append(
            f"{grid.study.name} trained every system for {_steps(grid, aspects)}, where the papers "
            f"state {PROTOCOLS[dataset]['training steps']}, and measures by the "
            f"{aspects['metric definition']} definitions."
        )
        unlike = [
            name
            for name, value in PROTOCOLS[dataset].items()
            if value not in (aspects.get(name), NOT_STATED)
        ]
        if unlike:
            text.append(
                f"{grid.study.name} differs from the papers in {', '.join(unlike)}: compare the "
                "differences between systems, not the levels."
            )
        if "published" not in aspects["metric definition"]:
            text.append(
                "The published definitions, by which it does not measure, drop classes without a "
                "true positive from mIoU, up-sample to the nearest pixel and compare normals as "
                "colours (`search baselines --metrics published`)."
            )
    if any(name.startswith("depth/") for name in published.columns):
        text.append("Depth errors are in each data set's own unit, which the papers normalise.")
    return text


def to_json(dataset: str, grids: Sequence[Grid]) -> dict[str, Any]:
    """Return the published rows and the studies' rows, in our units."""
    published = published_table(dataset)
    return {
        "dataset": dataset,
        "published": [
            {"source": r.source, "method": r.method, "sparsity": r.sparsity, **r.metrics}
            for r in published.rows
        ],
        "ours": [
            {
                "study": grid.study.name,
                "split": grid.split,
                "method": system.method,
                "sparsity": system.sparsity,
                "settings": system.variant,
                "seeds": list(system.seeds),
                **{
                    name: {"mean": sum(v) / len(v), "values": v}
                    for name in published.columns
                    if (v := _values(grid, system, name))
                },
            }
            for grid in grids
            for system in grid.systems
        ],
        "protocols": {
            _PUBLISHED: dict(PROTOCOLS[dataset]),
            **{grid.study.name: protocol(grid) for grid in grids},
        },
    }


def _steps(grid: Grid, aspects: Mapping[str, str]) -> str:
    """Return how long a study's systems trained, in words."""
    settings = grid.study.facts.get("settings")
    total = settings.get("training.steps") if isinstance(settings, Mapping) else None
    if total is not None and grid.study.facts.get("grid") is not None:
        return f"{total} steps, pre-training included"
    return f"{aspects['training steps']} steps"


def _our_cells(grid: Grid, system: System, published: PublishedTable) -> list[str]:
    cells = []
    columns: Mapping[str, tuple[float, int]] = published.columns
    for name, (unit, digits) in columns.items():
        values = [value / unit for value in _values(grid, system, name)]
        cells.append(mean_and_deviation(values, max(digits, 1)))
    return cells


def _values(grid: Grid, system: System, name: str) -> list[float]:
    values = [grid.value(trial, name) for trial in system.trials.values()]
    return [value for value in values if math.isfinite(value)]


def _head(name: str, unit: float) -> str:
    """Return for example "mIoU (%) ↑", with the task where the label alone is not enough."""
    arrow = "↑" if report.describe(name).direction == "maximize" else "↓"
    label = metric_label(name)
    task = task_label(name.partition("/")[0]).lower()
    what = label if label == "mIoU" else f"{task} {label}"
    measured = "%" if unit != 1.0 else unit_label(name)
    return f"{what} ({measured}) {arrow}" if measured else f"{what} {arrow}"
