"""Lists what there is by name: `python -m trainables list`."""

from typing import Annotated, Any

import typer

from trainables.errors import UserError, unknown_name
from trainables.registry.tasks import Metric
from trainables.terminal.answers import write_json

EXAMPLES = "\b\nExample:\n  python -m trainables list methods --json -"


def list_names(
    kind: Annotated[
        str, typer.Argument(help="methods, models, structures, datasets, tasks or metrics.")
    ],
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write as JSON to a file, or - for stdout.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Accepted for consistency, without effect.")
    ] = False,
) -> None:
    """List the methods, models, structures, data sets, tasks or metrics, one per line."""
    del quiet
    rows = _rows(kind)
    if json_file is not None:
        write_json(json_file, dict(rows))
        return
    width = max(len(name) for name, _ in rows)
    for name, description in rows:
        print(f"{name:<{width}}  {description}")


def _rows(kind: str) -> list[tuple[str, str]]:
    """Return names and descriptions: the built-in ones, then those of installed packages."""
    from trainables.registry.lookup import DATASET, METHOD, MODEL, TASK, Kind
    from trainables.registry.method_description import structure_rows
    from trainables.report import METRICS

    kinds: dict[str, Kind[Any]] = {
        "methods": METHOD,
        "models": MODEL,
        "datasets": DATASET,
        "tasks": TASK,
    }
    if kind == "metrics":
        listed = {name: _metric_row(metric) for name, metric in METRICS.items()}
        for _, task in TASK.listed():
            if not isinstance(task, UserError):
                listed |= {metric.name: _metric_row(metric) for metric in task.metrics}
        return list(listed.items())
    if kind == "structures":
        return structure_rows([m for _, m in METHOD.listed() if not isinstance(m, UserError)])
    if kind not in kinds:
        raise unknown_name("kind", kind, (*kinds, "structures", "metrics"))
    rows = []
    for name, described in kinds[kind].listed():
        if isinstance(described, UserError):
            rows.append((name, f"cannot be loaded: {described}"))
        else:
            paper = f" ({described.paper})" if kind == "methods" and described.paper else ""
            rows.append((name, described.summary + paper))
    return rows


def _metric_row(metric: Metric) -> str:
    return f"{metric.description} [{metric.unit}, {metric.direction}]"
