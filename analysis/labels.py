"""Give tasks, metrics and layers their short names, and numbers their units.

Tables, figures and sentences of all rooms take their words from here. Standard library only.
"""

from trainables import report

_TASK_LABELS = {
    "segmentation": "Segmentation",
    "normals": "Surface normals",
    "depth": "Depth",
    "keypoints": "Keypoints",
    "edges": "Edges",
    "multitask": "Multitask",
}

_METRIC_LABELS = {
    "segmentation/miou": "mIoU",
    "segmentation/pixel_accuracy": "pixel accuracy",
    "segmentation/error": "cross-entropy",
    "normals/mean_error_deg": "mean angular error",
    "normals/median_error_deg": "median angular error",
    "normals/within_11_25": "within 11.25°",
    "normals/within_22_5": "within 22.5°",
    "normals/within_30": "within 30°",
    "depth/absolute_error": "absolute error",
    "depth/relative_error": "relative error",
    "depth/within_1_25": "δ < 1.25",
    "depth/within_1_25_squared": "δ < 1.25²",
    "depth/within_1_25_cubed": "δ < 1.25³",
    "keypoints/error": "mean absolute error",
    "edges/error": "mean absolute error",
    "multitask/delta_percent": "Δ_T",
    "cost/density": "density",
    "cost/sparsity": "sparsity",
    "cost/parameters_kept": "weights kept",
    "cost/flops_fraction": "forward FLOPs",
    "cost/train_flops_fraction": "training FLOPs",
    "cost/average_training_density": "average density in training",
    "cost/latency_ms": "latency per image",
}

_UNITS = {"deg": "°", "percent": "%", "dataset unit": "data units"}
_COST_UNITS = {
    "cost/density": "weights kept, % of dense",
    "cost/sparsity": "weights pruned, %",
    "cost/flops_fraction": "% of dense",
    "cost/train_flops_fraction": "% of dense",
    "cost/average_training_density": "% of dense",
}


def task_label(task: str) -> str:
    """Return a task's name for a title, for example "Surface normals"."""
    return _TASK_LABELS.get(task) or task.replace("_", " ").capitalize()


def metric_label(name: str) -> str:
    """Return a metric's short name without unit and split, for example "mIoU"."""
    bare = report.without_split(name)
    return _METRIC_LABELS.get(bare) or bare.rpartition("/")[2].replace("_", " ")


def unit_label(name: str) -> str:
    """Return the unit as written on an axis; empty for a quality that is a plain fraction."""
    bare = report.without_split(name)
    if bare in _COST_UNITS:
        return _COST_UNITS[bare]
    unit = report.describe(name).unit
    return "" if unit == "fraction" else _UNITS.get(unit, unit)


def axis_label(name: str) -> str:
    """Return the short name with its unit, for example "mean angular error (°)"."""
    unit = unit_label(name)
    return f"{metric_label(name)} ({unit})" if unit else metric_label(name)


def better(name: str) -> str:
    """Say which direction is better: "higher is better" or "lower is better"."""
    return (
        "higher is better" if report.describe(name).direction == "maximize" else "lower is better"
    )


def is_percentage(name: str) -> bool:
    """Tell whether the metric is a cost that is stored as a fraction and shown in percent."""
    return report.without_split(name) in _COST_UNITS


_LAYER_WORDS = ("backbone", "heads", "blocks", "branches", "weight")
_SHORTCUTS = ("ds", "downsample", "shortcut")


def layer_label(name: str, owner: str = "shared") -> str:
    """Shorten a layer's name for a place where its owner is written beside it.

    `backbone.blocks.1.0.conv2.weight` becomes "1.0.conv2", and
    `heads.depth.branches.3.conv1.weight` of the owner depth becomes "3.conv1".
    """
    parts = [part for part in name.split(".") if part not in (*_LAYER_WORDS, owner)]
    return ".".join("shortcut" if p in _SHORTCUTS else p for p in parts) or name


def is_shortcut(name: str) -> bool:
    """Tell whether the layer is a projection beside the main path and not a step along it."""
    return any(part in _SHORTCUTS for part in name.split("."))


def number(value: float, name: str | None = None) -> str:
    """Write a value for a reader, with four significant digits.

    name: its metric; a cost that `is_percentage` is written in percent, with three digits.
    """
    if value != value:
        return "NaN"
    if name is not None and is_percentage(name):
        percent = 100 * value
        return f"{percent:.3g} %" if percent < 99.95 else f"{percent:.4g} %"
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
