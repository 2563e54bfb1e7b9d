"""Every metric's name, unit and direction, and the words a study's record uses.

Standard library only: `analysis` and `search` import this without loading torch.
Full names are `<split>/<task>/<metric>` for task quality, `multitask/…` per split,
and `cost/<metric>` (no split).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from trainables.errors import unknown_name

Direction = Literal["maximize", "minimize"]

SPLITS = ("val", "test")
STATUSES = ("complete", "stopped", "failed", "infeasible")

TAG_STUDY = "disparse.study"
TAG_TRIAL = "disparse.trial"
TAG_METHOD = "disparse.method"
TAG_STATUS = "disparse.status"
TAG_FRONT = "disparse.front"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One quantity a trial reports. `name` carries no split."""

    name: str
    unit: str
    direction: Direction
    description: str

    @property
    def sign(self) -> float:
        """Multiply by this to minimise."""
        return -1.0 if self.direction == "maximize" else 1.0


def _metric(name: str, unit: str, direction: Direction, description: str) -> tuple[str, Metric]:
    return name, Metric(name=name, unit=unit, direction=direction, description=description)


METRICS: dict[str, Metric] = dict(
    (
        _metric("segmentation/miou", "fraction", "maximize", "mean intersection over union"),
        _metric("segmentation/pixel_accuracy", "fraction", "maximize", "pixels labelled right"),
        _metric("segmentation/error", "nats", "minimize", "mean cross-entropy per pixel"),
        _metric("normals/mean_error_deg", "deg", "minimize", "mean angle to the true normal"),
        _metric("normals/median_error_deg", "deg", "minimize", "median angle to the true normal"),
        _metric("normals/within_11_25", "fraction", "maximize", "pixels with angle < 11.25 deg"),
        _metric("normals/within_22_5", "fraction", "maximize", "pixels with angle < 22.5 deg"),
        _metric("normals/within_30", "fraction", "maximize", "pixels with angle < 30 deg"),
        _metric("depth/absolute_error", "dataset unit", "minimize", "mean |prediction - truth|"),
        _metric(
            "depth/relative_error", "fraction", "minimize", "mean |prediction - truth| / truth"
        ),
        _metric("depth/within_1_25", "fraction", "maximize", "pixels with ratio < 1.25"),
        _metric("depth/within_1_25_squared", "fraction", "maximize", "pixels with ratio < 1.25^2"),
        _metric("depth/within_1_25_cubed", "fraction", "maximize", "pixels with ratio < 1.25^3"),
        _metric("keypoints/error", "response", "minimize", "mean |prediction - truth|"),
        _metric("edges/error", "response", "minimize", "mean |prediction - truth|"),
        _metric(
            "multitask/delta_percent",
            "percent",
            "maximize",
            "mean signed relative change to the dense baseline (AdaShare's delta_T)",
        ),
        _metric("cost/density", "fraction", "minimize", "kept / prunable weights"),
        _metric("cost/sparsity", "fraction", "maximize", "pruned / prunable weights"),
        _metric(
            "cost/parameters_kept",
            "parameters",
            "minimize",
            "parameters not pruned, biases and normalisation included",
        ),
        _metric(
            "cost/flops_fraction",
            "fraction",
            "minimize",
            "forward FLOPs / those of the dense network (cross-stitch, sluice, den: of dense "
            "hard sharing of the same sizes)",
        ),
        _metric(
            "cost/train_flops_fraction",
            "fraction",
            "minimize",
            "training FLOPs with pre-training / those of the dense network (as above), trained as "
            "long as the study's dense trial",
        ),
        _metric(
            "cost/average_training_density",
            "fraction",
            "minimize",
            "density, mean over the steps after pre-training",
        ),
        _metric("cost/latency_ms", "ms", "minimize", "median forward time of one image"),
    )
)

PRIMARY_METRICS: dict[str, str] = {
    "segmentation": "segmentation/miou",
    "normals": "normals/mean_error_deg",
    "depth": "depth/absolute_error",
    "keypoints": "keypoints/error",
    "edges": "edges/error",
}


def without_split(name: str) -> str:
    """`val/depth/absolute_error` → `depth/absolute_error`; names without a split pass through."""
    head, _, tail = name.partition("/")
    return tail if head in SPLITS else name


def describe(name: str) -> Metric:
    """The metric behind a full or split-less name. Raises `UserError` for an unknown one."""
    try:
        return METRICS[without_split(name)]
    except KeyError:
        raise unknown_name("metric", name, METRICS) from None


def minimised(name: str, value: float) -> float:
    """`value` turned so that smaller is better: the one place where direction is converted."""
    return describe(name).sign * value


def task_metrics(task: str) -> tuple[str, ...]:
    """All metric names of one task, without split."""
    return tuple(name for name in METRICS if name.startswith(f"{task}/"))


def objective_names(tasks: Iterable[str], cost: str = "cost/density") -> tuple[str, ...]:
    """The search's objectives: one primary metric per task on `val`, then one cost."""
    names = []
    for task in tasks:
        if task not in PRIMARY_METRICS:
            raise unknown_name("task", task, PRIMARY_METRICS)
        names.append(f"val/{PRIMARY_METRICS[task]}")
    if describe(cost).name != cost or not cost.startswith("cost/"):
        raise unknown_name("cost metric", cost, (m for m in METRICS if m.startswith("cost/")))
    return (*names, cost)


def non_finite(metrics: Mapping[str, float], names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that are missing from `metrics`, NaN or infinite."""
    return tuple(n for n in names if n not in metrics or not math.isfinite(metrics[n]))


def delta_percent(metrics: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Mean signed relative change to the baseline over all metrics, in percent.

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
