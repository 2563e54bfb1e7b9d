"""How every figure looks: one colour and marker per method, labels with units, one paper.

Colours are from Okabe & Ito (2008) and Paul Tol's muted scheme: told apart by readers with
any common colour blindness, and each method's marker differs as well. Standard library only.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from trainables import report

DPI = 150
INK = "#1b1f24"
QUIET = "#6b7280"
GRID = "#e5e7eb"
# Points, on figures about ten inches wide: still ten pixels high in a page 800 pixels wide.
TITLE_SIZE = 14.0
PANEL_SIZE = 12.0
LABEL_SIZE = 10.5
TICK_SIZE = 9.5
FRONT = "#111827"  # the front's staircase
RANDOM_LINE = "#8c8c8c"
FONT = "DejaVu Sans"
PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodStyle:
    """`marker` is Matplotlib's name of the shape, `symbol` Plotly's name of the same one."""

    label: str
    colour: str
    marker: str
    symbol: str


def _style(label: str, colour: str, marker: str, symbol: str) -> MethodStyle:
    return MethodStyle(label=label, colour=colour, marker=marker, symbol=symbol)


METHOD_STYLES: dict[str, MethodStyle] = {
    "dense": _style("Dense", "#000000", "s", "square"),
    "random": _style("Random", "#8c8c8c", "X", "x"),
    "disparse-static": _style("DiSparse static", "#0072B2", "o", "circle"),
    "disparse-dynamic": _style("DiSparse dynamic", "#D55E00", "D", "diamond"),
    "disparse-pretrained": _style("DiSparse pretrained", "#009E73", "^", "triangle-up"),
    "snip": _style("SNIP", "#CC79A7", "v", "triangle-down"),
    "rigl": _style("RigL", "#E69F00", "p", "pentagon"),
    "set": _style("SET", "#999933", "<", "triangle-left"),
    "gmp": _style("GMP", "#882255", "*", "star"),
    "lth": _style("LTH", "#56B4E9", "h", "hexagon"),
    "imp": _style("IMP", "#332288", ">", "triangle-right"),
    "random-pretrained": _style("Random pretrained", "#5f5f5f", "P", "cross"),
    "cross-stitch": _style("Cross-Stitch", "#44AA99", "d", "diamond-tall"),
    "sluice": _style("Sluice", "#AA4499", "H", "hexagon2"),
    "den": _style("DEN", "#661100", "8", "octagon"),
}

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


def method_style(method: str) -> MethodStyle:
    """A method's look. One outside the table (a user's own) gets ink and a plus."""
    return METHOD_STYLES.get(method) or _style(method, "#374151", "P", "cross")


def method_order(methods: Iterable[str]) -> list[str]:
    """Distinct methods in the order of the table, unknown ones last."""
    place = {name: index for index, name in enumerate(METHOD_STYLES)}
    return sorted(set(methods), key=lambda m: (place.get(m, len(place)), m))


def task_label(task: str) -> str:
    return _TASK_LABELS.get(task, task.capitalize())


def metric_label(name: str) -> str:
    """Short, without unit or split: "mIoU"."""
    return _METRIC_LABELS.get(report.without_split(name), report.without_split(name))


def unit_label(name: str) -> str:
    """The unit as written on an axis; empty for a plain fraction of a quality."""
    bare = report.without_split(name)
    if bare in _COST_UNITS:
        return _COST_UNITS[bare]
    unit = report.describe(name).unit
    return "" if unit == "fraction" else _UNITS.get(unit, unit)


def axis_label(name: str) -> str:
    """ "mean angular error (°)"."""
    unit = unit_label(name)
    return f"{metric_label(name)} ({unit})" if unit else metric_label(name)


def better(name: str) -> str:
    """ "higher is better" or "lower is better"."""
    return (
        "higher is better" if report.describe(name).direction == "maximize" else "lower is better"
    )


def is_percentage(name: str) -> bool:
    """Whether a cost is a fraction that is shown in percent."""
    return report.without_split(name) in _COST_UNITS


def wants_log(values: Iterable[float]) -> bool:
    """Costs over more than a factor of eight are read on a logarithmic axis."""
    positive = [v for v in values]
    return bool(positive) and min(positive) > 0 and max(positive) / min(positive) > 8


def log_ticks(low: float, high: float) -> list[float]:
    """1-2-5 ticks that lie in [low, high], thinned to decades over more than three of them."""
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    ticks = [step * 10.0**power for power in range(-12, 13) for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def bar_ticks(low: float, high: float) -> list[float]:
    """Both ends of a logarithmic colour bar and one round value between, well apart."""
    room = (high / low) ** 0.25
    inner = [tick for tick in log_ticks(low, high) if low * room <= tick <= high / room]
    return [low, *inner[len(inner) // 2 :][:1], high]


_LAYER_WORDS = ("backbone", "heads", "blocks", "branches", "weight")
_SHORTCUTS = ("ds", "downsample", "shortcut")


def layer_label(name: str, owner: str = "shared") -> str:
    """Short, where the owner is written beside it: "backbone.blocks.1.0.conv2.weight" is
    "1.0.conv2", "heads.depth.branches.3.conv1.weight" is "3.conv1" of depth."""
    parts = [part for part in name.split(".") if part not in (*_LAYER_WORDS, owner)]
    return ".".join("shortcut" if p in _SHORTCUTS else p for p in parts) or name


def is_shortcut(name: str) -> bool:
    """Whether the layer is a projection beside the main path, not a step along it."""
    return any(part in _SHORTCUTS for part in name.split("."))


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten that lie in [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float, name: str | None = None) -> str:
    """A value as a person writes it: costs that are fractions in percent, else 4 digits."""
    if value != value:
        return "NaN"
    if name is not None and is_percentage(name):
        percent = 100 * value
        return f"{percent:.3g} %" if percent < 99.95 else f"{percent:.4g} %"
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
