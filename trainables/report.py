"""Defines every metric's name, unit and direction, and the words a study's record uses.

It uses only the standard library, so `analysis` and `search` import it without loading torch.
Full names are `<split>/<task>/<metric>` for task quality, `multitask/…` per split,
and `cost/<metric>` (no split).
"""

import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from trainables.errors import unknown_name
from trainables.registry.tasks import TASKS, Direction, Metric, TaskDescription, remember

__all__ = [
    "DEPLOYMENT_COSTS",
    "METRICS",
    "PRIMARY_METRICS",
    "REACHED_THE_END",
    "SPLITS",
    "STATUSES",
    "TAG_CONFIRMS",
    "TAG_FRONT",
    "TAG_METHOD",
    "TAG_STATUS",
    "TAG_STUDY",
    "TAG_TRIAL",
    "Direction",
    "Metric",
    "add_recorded_tasks",
    "add_task",
    "delta_percent",
    "describe",
    "minimised",
    "non_finite",
    "objective_names",
    "rounded_to_worse",
    "task_metrics",
    "without_split",
]

SPLITS = ("val", "test")
STATUSES = ("complete", "stopped", "failed", "infeasible")
REACHED_THE_END = ("complete", "infeasible")  # of training: their metrics are final

TAG_STUDY = "disparse.study"
TAG_TRIAL = "disparse.trial"
TAG_METHOD = "disparse.method"
TAG_STATUS = "disparse.status"
TAG_FRONT = "disparse.front"
TAG_CONFIRMS = "disparse.confirms"  # the name of the trial that is repeated at a fresh seed


_ACROSS_TASKS = (
    Metric(
        name="multitask/delta_percent",
        unit="percent",
        direction="maximize",
        description="mean signed relative change to the dense baseline (AdaShare's delta_T)",
    ),
    Metric(
        name="cost/density",
        unit="fraction",
        direction="minimize",
        description="kept / prunable weights",
    ),
    Metric(
        name="cost/sparsity",
        unit="fraction",
        direction="maximize",
        description="pruned / prunable weights",
    ),
    Metric(
        name="cost/parameters_kept",
        unit="parameters",
        direction="minimize",
        description="parameters not pruned, biases and normalisation included",
    ),
    Metric(
        name="cost/flops_fraction",
        unit="fraction",
        direction="minimize",
        description="forward FLOPs / those of the dense network (cross-stitch, sluice, den: of "
        "dense hard sharing of the same sizes)",
    ),
    Metric(
        name="cost/train_flops_fraction",
        unit="fraction",
        direction="minimize",
        description="training FLOPs with pre-training / those of the dense network, trained as "
        "long as the study's dense trial",
    ),
    Metric(
        name="cost/average_training_density",
        unit="fraction",
        direction="minimize",
        description="density, mean over the steps after pre-training",
    ),
    Metric(
        name="cost/latency_ms",
        unit="ms",
        direction="minimize",
        description="median forward time of one image",
    ),
    Metric(
        name="cost/latency_fraction",
        unit="fraction",
        direction="minimize",
        description="median time of one image / that of the dense network, measured in turns",
    ),
    Metric(
        name="cost/model_bytes",
        unit="bytes",
        direction="minimize",
        description="size of the packed weights file",
    ),
    Metric(
        name="cost/latency_spread",
        unit="fraction",
        direction="minimize",
        description="interquartile range of the ratios behind cost/latency_fraction",
    ),
)

# Reported by trials that are asked to measure them (`deployment.measure`).
DEPLOYMENT_COSTS = (
    "cost/latency_ms",
    "cost/latency_fraction",
    "cost/latency_spread",
    "cost/model_bytes",
)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metrics in (*(task.metrics for task in TASKS.values()), _ACROSS_TASKS)
    for metric in metrics
}

PRIMARY_METRICS: dict[str, str] = {name: task.primary for name, task in TASKS.items()}


def add_task(task: TaskDescription) -> None:
    """Make a user's own task and its metrics known in this process.

    Afterwards `METRICS`, `PRIMARY_METRICS` and every function here include it. Adding the same
    task again changes nothing. Raises `UserError` if another task has its name.
    """
    remember(task)
    METRICS.update({metric.name: metric for metric in task.metrics})
    PRIMARY_METRICS[task.name] = task.primary


def add_recorded_tasks(rows: Iterable[Mapping[str, Any]]) -> None:
    """Make the tasks of a study's record known, each given as a dict of plain values.

    A process that reads a study then knows the metrics of a user's own tasks without their code.
    """
    for row in rows:
        metrics = tuple(Metric(**metric) for metric in row["metrics"])
        add_task(TaskDescription(**{**row, "metrics": metrics}))


def without_split(name: str) -> str:
    """Return `depth/absolute_error` for `val/depth/absolute_error`; others are unchanged."""
    head, _, tail = name.partition("/")
    return tail if head in SPLITS else name


def task_of(name: str) -> str:
    """Return the task that a metric measures: "depth" of "val/depth/absolute_error"."""
    return without_split(name).partition("/")[0]


def describe(name: str) -> Metric:
    """Return the metric of a full or split-less name. Raises `UserError` for an unknown one."""
    try:
        return METRICS[without_split(name)]
    except KeyError:
        raise unknown_name("metric", name, METRICS) from None


def minimised(name: str, value: float) -> float:
    """Return `value` so that smaller is better; direction is converted only here."""
    return describe(name).sign * value


def rounded_to_worse(name: str, value: Decimal, digits: int = 4) -> Decimal:
    """Return a value with so many significant digits, rounded to where the metric is worse."""
    upwards = describe(name).direction == "minimize"
    context = Context(prec=digits, rounding=ROUND_CEILING if upwards else ROUND_FLOOR)
    return context.create_decimal(value)


def task_metrics(task: str) -> tuple[str, ...]:
    """Return all metric names of one task, without split."""
    return tuple(name for name in METRICS if name.startswith(f"{task}/"))


def objective_names(tasks: Iterable[str], cost: str = "cost/density") -> tuple[str, ...]:
    """Return the search's objectives: one primary metric per task on `val`, then one cost."""
    names = []
    for task in tasks:
        if task not in PRIMARY_METRICS:
            raise unknown_name("task", task, PRIMARY_METRICS)
        names.append(f"val/{PRIMARY_METRICS[task]}")
    if describe(cost).name != cost or not cost.startswith("cost/"):
        raise unknown_name("cost metric", cost, (m for m in METRICS if m.startswith("cost/")))
    return (*names, cost)


def non_finite(metrics: Mapping[str, float], names: Iterable[str]) -> tuple[str, ...]:
    """Return those of `names` that are missing from `metrics`, NaN or infinite."""
    return tuple(n for n in names if n not in metrics or not math.isfinite(metrics[n]))


def delta_percent(metrics: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Return the mean signed relative change to the baseline over all metrics, in percent.

    AdaShare (Sun et al. 2020, section 4.1), Δ_T: the mean over tasks of the mean over a task's
    metrics; positive is better. Both mappings hold the same split-less names; a metric that the
    baseline lacks, or has at 0, is left out.
    """
    by_task: dict[str, list[float]] = {}
    for name, value in metrics.items():
        reference = baseline.get(name)
        if reference is None or reference == 0:
            continue
        change = -METRICS[name].sign * (value - reference) / abs(reference)
        by_task.setdefault(name.split("/")[0], []).append(change)
    means = [sum(changes) / len(changes) for changes in by_task.values()]
    return 100.0 * sum(means) / len(means) if means else float("nan")
