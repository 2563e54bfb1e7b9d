"""Give tasks, metrics and layers their short names, and numbers their units.

Tables, figures and sentences of all rooms take their words from here. Standard library only.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from trainables import report
from trainables.registry.datasets import DATASETS

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
    "cost/parameters_kept": "parameters kept",
    "cost/flops_fraction": "forward FLOPs",
    "cost/train_flops_fraction": "training FLOPs",
    "cost/average_training_density": "average density in training",
    "cost/latency_ms": "latency per image",
    "cost/latency_fraction": "latency",
    "cost/latency_spread": "spread of the latency",
    "cost/model_bytes": "weights.safetensors",
}

DELTA_MEANS = (
    "the mean change of all metrics of a task, not only of the one shown, beside the dense model, "
    "averaged over the tasks; positive is better"
)

_OWN_UNITS = "data units"
_UNITS = {"deg": "°", "percent": "%", "dataset unit": _OWN_UNITS, "bytes": "MB"}
_DEPTH_UNITS = {"metric": "m", "disparity": "disparity"}
_PERCENTAGES = {  # costs that are stored as fractions, and their units on an axis
    "cost/density": "weights kept, %",
    "cost/sparsity": "weights pruned, %",
    "cost/flops_fraction": "% of dense",
    "cost/train_flops_fraction": "% of dense",
    "cost/average_training_density": "% of dense",
    "cost/latency_fraction": "% of dense",
    "cost/latency_spread": "%",
}
_BYTES_TO_MB = 1e-6
_DUST = Decimal("1e-9")


def depth_unit(dataset: str) -> str:
    """Return the unit of a data set's depths: "m", "disparity", or "data units" if unknown here."""
    described = DATASETS.get(dataset)
    return _OWN_UNITS if described is None else _DEPTH_UNITS[described.depth_kind]


def remember_depth(dataset: str) -> None:
    """Write depths in the unit of this data set where no other is named."""
    _UNITS["dataset unit"] = depth_unit(dataset)


def task_label(task: str) -> str:
    """Return a task's name for a title, for example "Surface normals"."""
    return _TASK_LABELS.get(task) or task.replace("_", " ").capitalize()


def task_in_words(name: str) -> str:
    """Return the task that a metric measures, as within a sentence: "surface normals"."""
    return task_label(report.task_of(name)).lower()


def metric_label(name: str) -> str:
    """Return a metric's short name without unit and split, for example "mIoU"."""
    bare = report.without_split(name)
    return _METRIC_LABELS.get(bare) or bare.rpartition("/")[2].replace("_", " ")


def unit_label(name: str, dataset: str | None = None) -> str:
    """Return the unit as written on an axis; empty for a quality that is a plain fraction.

    dataset: whose depths are meant; None for those of `remember_depth`.
    """
    bare = report.without_split(name)
    if bare in _PERCENTAGES:
        return _PERCENTAGES[bare]
    unit = report.describe(name).unit
    if unit == "dataset unit" and dataset is not None:
        return depth_unit(dataset)
    return "" if unit == "fraction" else _UNITS.get(unit, unit)


def axis_label(name: str, dataset: str | None = None) -> str:
    """Return the short name with its unit, for example "mean angular error (°)"."""
    unit = unit_label(name, dataset)
    return f"{metric_label(name)} ({unit})" if unit else metric_label(name)


def objective_label(name: str, dataset: str | None = None) -> str:
    """Return task, metric, unit and arrow, for example "Depth absolute error (m) ↓"."""
    arrow = "↑" if report.describe(name).direction == "maximize" else "↓"
    task = report.task_of(name)
    if task in ("cost", "multitask"):
        return f"{metric_label(name)} {arrow}"
    unit = unit_label(name)  # a degree sign stands behind each number
    words = metric_label(name) if unit == "°" else axis_label(name, dataset)
    return f"{task_label(task)} {words} {arrow}"


def better(name: str) -> str:
    """Say which direction is better: "higher is better" or "lower is better"."""
    higher = report.describe(name).direction == "maximize"
    return "higher is better" if higher else "lower is better"


def is_percentage(name: str) -> bool:
    """Tell whether the metric is a cost that is stored as a fraction and shown in percent."""
    return report.without_split(name) in _PERCENTAGES


def shown_factor(name: str) -> float:
    """Return what a stored value is multiplied by to be shown in the unit of `unit_label`."""
    if is_percentage(name):
        return 100.0
    return _BYTES_TO_MB if report.describe(name).unit == "bytes" else 1.0


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

    name: its metric; a cost is written with its unit, one that `is_percentage` with three digits.
    """
    if value != value:
        return "NaN"
    if name is not None and name.startswith("cost/"):
        if is_percentage(name):
            percent = 100 * value
            text = f"{percent:.3g}" if percent < 99.95 else f"{percent:.4g}"
            return f"{_decimal_text(Decimal(text))} %" if math.isfinite(value) else f"{text} %"
        return f"{_plain(shown_factor(name) * value)}{_unit_after(name)}"
    return _plain(value)


def numbers(values: Sequence[float], name: str | None = None) -> list[str]:
    """Write values that a reader compares: with four significant digits, or more if they need it.

    Values that differ are written differently and in their order, so 0.1001 beside 0.1 is never
    10 %. name: their metric; they are written in its unit, a cost or an angle with it.
    Counts are written whole.
    """
    factor = 1.0 if name is None else shown_factor(name)
    if factor == 1.0 and all(value == round(value) for value in values if math.isfinite(value)):
        return [f"{value:,.0f}{'' if name is None else _unit_after(name)}" for value in values]
    texts: list[str] = []
    for digits in range(4, 18):
        texts = [f"{factor * value:.{digits}g}" for value in values]
        if _order(list(map(float, texts))) == _order(values):
            break
    if name is not None and is_percentage(name) and all(map(math.isfinite, values)):
        return [f"{_decimal_text(Decimal(text))} %" for text in texts]
    unit = "" if name is None else _unit_after(name)
    return [_without_exponent(text) + unit for text in texts]


def admitting(value: float, name: str, digits: int = 4) -> str:
    """Write a value so that a bound of what is written admits it: rounded to the worse side.

    A density of 0.10001 is "10.01 %" and never "10 %", which a bound of 0.1 would refuse. name: its
    metric, whose direction decides and in whose unit it is written. "–" for what is not finite.
    """
    if not math.isfinite(value):
        return "–"
    return _decimal_text(_worse(value, name, digits)) + _unit_after(name)


def admitting_numbers(values: Sequence[float], name: str) -> list[str]:
    """Write values as `admitting` does, with more digits where values that differ need them."""
    texts: list[str] = []
    for digits in range(4, 18):
        texts = [admitting(value, name, digits) for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def beside_bound(
    value: float, operator: str, bound: float, name: str, dense: float | None = None
) -> list[str]:
    """Write a value, the bound that it is compared with and, where it is given, the dense value.

    dense: of which the bound is a percentage; it is then rounded to its strict side, else written
    as it was typed. The others are as `admitting` writes them. All compare as the values do.
    """
    exact = _scaled(bound, name)
    strict = ROUND_FLOOR if operator.startswith("<") else ROUND_CEILING
    texts: list[str] = []
    for digits in range(4, 18):
        level = exact if dense is None else Context(digits, strict).create_decimal(exact)
        shown = _worse(value, name, digits)
        others = [] if dense is None else [_worse(dense, name, digits)]
        texts = [_decimal_text(one) + _unit_after(name) for one in (shown, level, *others)]
        same_order = ((shown > level) - (shown < level)) == ((value > bound) - (value < bound))
        if same_order and (dense is None or (others[0] == shown) == (dense == value)):
            break
    return texts


def difference(loss: float, name: str, digits: int = 4) -> str:
    """Write by how much two values differ, for example "0.0226", "4°" or "5.1 percentage points".

    loss: the worse one's distance to the better one; below 0 where it is a gain. Never smaller than
    it is, nor a gain greater. name: the metric, in whose unit it is written.
    """
    text = _raised(loss, name, digits)
    if is_percentage(name) or report.describe(name).unit == "percent":
        return f"{text} percentage point{'' if text == '1' else 's'}"
    return text + _unit_after(name)


def plus_minus(mean: float, half: float, name: str) -> str:
    """Write a mean ± half an interval that is no narrower than it is: "0.412 ± 0.0081"."""
    if not math.isfinite(half):
        return admitting(mean, name)
    return f"{admitting(mean, name)} ± {_raised(half, name, 3)}{_unit_after(name)}"


def exactly(value: float, name: str) -> str:
    """Write a value with all of its digits, in the metric's unit: for a bound, as it was given."""
    return _decimal_text(_scaled(value, name)) + _unit_after(name)


def losing(percent: float, digits: int = 3) -> str:
    """Write a loss in percent, for example "1.04 % worse", "0.2 % better" or "equal".

    Never smaller than it is, nor a gain greater, so that a loss beyond a bound is written beyond
    it: rounded up to `digits` significant digits, or to whole percents where these are coarser.
    """
    loss = _rounded_up(percent, digits)
    if not loss:
        return "equal"
    return f"{_decimal_text(abs(loss))} % {'worse' if loss > 0 else 'better'}"


def share_of_dense(value: float, dense: float, name: str, digits: int = 4) -> str:
    """Write a value as a percentage of the dense model's, rounded to the worse side as well.

    "–" where there is no percentage: of a value that is not positive, and of one not finite.
    """
    if not (math.isfinite(value) and math.isfinite(dense) and dense > 0):
        return "–"
    percent = 100 * Decimal(repr(float(value))) / Decimal(repr(float(dense)))
    return f"{_decimal_text(report.rounded_to_worse(name, percent, digits))} %"


def _scaled(value: float, name: str) -> Decimal:
    """Return a value in the unit in which it is shown."""
    return Decimal(repr(float(value))) * Decimal(repr(shown_factor(name)))


def _worse(value: float, name: str, digits: int) -> Decimal:
    """Return a value as it is shown, rounded to the worse side; a count keeps all its digits."""
    scaled = _scaled(value, name)
    whole = shown_factor(name) == 1 and scaled == scaled.to_integral_value()
    return scaled if whole else report.rounded_to_worse(name, scaled, digits)


def _rounded_up(percent: float, digits: int) -> Decimal:
    """Round up; what is below a billionth of a percent is what is left of floats that are equal."""
    exact = Decimal(repr(float(percent))).quantize(_DUST, context=Context(prec=50))
    if not exact:
        return Decimal(0)
    step = Decimal(1).scaleb(min(exact.adjusted() - digits + 1, 0))
    return exact.quantize(step, rounding=ROUND_CEILING, context=Context(prec=50)) + 0


def _raised(value: float, name: str, digits: int) -> str:
    """Write the size of a value, in the metric's unit, rounded up; below 0, towards it."""
    # Without what is left of floats that are equal.
    cleaned = _scaled(value, name).quantize(_DUST, context=Context(prec=50))
    rounded = Context(prec=digits, rounding=ROUND_CEILING).create_decimal(cleaned)
    return _decimal_text(abs(rounded))


def _decimal_text(value: Decimal) -> str:
    text = f"{value:,.0f}" if value == value.to_integral_value() else f"{value:f}"
    trimmed = text.rstrip("0").rstrip(".") if "." in text else text
    return trimmed or "0"


def _order(values: Sequence[float]) -> list[int]:
    """Return the place of each value among the distinct values."""
    distinct = sorted(set(values))
    return [distinct.index(value) for value in values]


def _unit_after(name: str) -> str:
    """Return what follows a number: " %", " MB" or " ms" for costs, "°", else nothing."""
    if is_percentage(name):
        return " %"
    unit = unit_label(name)
    return "°" if unit == "°" else f" {unit}" if unit in ("MB", "ms") else ""


def _without_exponent(text: str) -> str:
    """Write "1.2e+06" as "1,200,000"; small values keep their exponent."""
    return f"{float(text):,.0f}" if "e+" in text else text


def _plain(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
