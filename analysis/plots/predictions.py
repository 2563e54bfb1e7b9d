"""Draw what models predict for a few test frames: beside image and truth, with maps of errors.

Each frame has two rows. The upper one has the image, the truth and the predictions, the lower one
the error of each prediction. Colours are those of `trainables.pictures`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.labels import admitting, metric_label
from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.studies.predictions import TaskMaps, TrialPredictions
from analysis.studies.trials import Trial
from trainables.pictures import maps
from trainables.pictures.colours import RIGHT, WHITE, WRONG, class_colours, scale_table
from trainables.pictures.maps import Limits
from trainables.registry.tasks import known_tasks

_CELL = 150  # pixels; about as wide is a map, in whole multiples of its own pixels
_GAP = 6  # pixels between maps
_INCHES_PER_PIXEL = 1 / 100
_MAX_CLASSES = 24  # in the legend
_LINE = 18  # characters that fit above a column

_DIRECTIONS = {
    "right": (255, 128, 128),
    "up": (128, 255, 128),
    "towards the camera": (128, 128, 255),
}


def draw(task: str, shown: Sequence[TrialPredictions], title: str, subtitle: str) -> Figure:
    """Draw one task's predictions of trials, which share frames; one column for each trial."""
    of_task = [item.tasks[task] for item in shown]
    first, kind = shown[0], of_task[0].kind
    errors = [error_maps(item) for item in of_task]
    limits = maps.limits_of(kind, of_task[0].truth)
    error_limits = maps.error_limits(*errors)
    palette = class_colours(of_task[0].num_classes, _own_colours(first, of_task[0]))

    def coloured(one: np.ndarray) -> np.ndarray:
        return maps.coloured(kind, one, palette=palette, limits=limits)

    rows: list[list[np.ndarray | None]] = []
    for frame in range(len(first.frames)):
        predictions = [coloured(item.prediction[frame]) for item in of_task]
        rows.append([first.image[frame], coloured(of_task[0].truth[frame]), *predictions])
        wrong = [maps.coloured_errors(kind, error[frame], error_limits) for error in errors]
        rows.append([None, None, *wrong])
    sheet = montage(rows, first.image.shape[1:3])
    heads = ["image", "truth", *(_head(item.trial, task) for item in shown)]
    height, width = (side * _INCHES_PER_PIXEL for side in sheet.shape[:2])
    num_bars = sum((kind != "labels", kind not in ("labels", "vectors")))
    extra = 2.5 + 0.6 * num_bars  # title, heads and legend; scales
    figure = canvas.new_figure(max(8.0, width + 0.8), height + extra, title, subtitle)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    _label(axes, heads, first.frames, sheet.shape[:2], len(rows))
    handles = []
    if maps.is_classes(kind, of_task[0].truth):
        handles = _class_handles(first, of_task, palette)
        handles += [Patch(color=_unit(c), label=t) for c, t in ((RIGHT, "right"), (WRONG, "wrong"))]
    else:
        unit = maps.error_unit(kind, first.depth_kind)
        _bar(figure, axes, maps.ERROR_SCALE, error_limits, f"error ({unit})")
        if maps.is_directions(kind, of_task[0].truth[0]):
            handles = [Patch(color=_unit(c), label=t) for t, c in _DIRECTIONS.items()]
        else:
            _bar(figure, axes, maps.scale_of(kind), limits, _value_label(kind, first.depth_kind))
    if any(_has_unknown(item.truth) for item in of_task):
        handles.append(
            Patch(facecolor=_unit(WHITE), edgecolor=style.QUIET, linewidth=0.6, label="unknown")
        )
    if handles:
        canvas.legend_below(figure, handles, columns=max(4, int(width)))
    return figure


def error_maps(item: TaskMaps) -> np.ndarray:
    """Return the errors of all frames, (N, h, w), NaN where the truth is unknown."""
    pairs = zip(item.prediction, item.truth, strict=True)
    return np.stack([maps.error_map(item.kind, ours, truth) for ours, truth in pairs])


def montage(rows: Sequence[Sequence[np.ndarray | None]], size: tuple[int, int]) -> np.ndarray:
    """Return one picture, uint8 (H, W, 3), of maps of one size (height, width) in rows.

    Pixels are enlarged by a whole number. None leaves its place white.
    """
    factor = max(1, round(_CELL / size[1]))
    height, width = size[0] * factor, size[1] * factor
    shape = len(rows) * (height + _GAP) - _GAP, len(rows[0]) * (width + _GAP) - _GAP
    sheet = np.full((*shape, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, one in enumerate(row):
            if one is not None:
                top, left = i * (height + _GAP), j * (width + _GAP)
                large = one.repeat(factor, axis=0).repeat(factor, axis=1)
                sheet[top : top + height, left : left + width] = large
    return sheet


def _head(trial: Trial, task: str) -> str:
    """Return what stands above a column: method, number, density, and its quality on test."""
    lines = [method_style(trial.method).label, f"#{trial.number}"]
    if (density := trial.metrics.get("cost/density")) is not None:
        lines[-1] += f" · {admitting(density, 'cost/density')} kept"
    described = known_tasks().get(task)
    if described and (value := trial.metrics.get(f"test/{described.primary}")) is not None:
        quality = metric_label(described.primary), admitting(value, described.primary)
        lines += [" ".join(quality)] if len("".join(quality)) < _LINE else quality
    return "\n".join(lines)


def _label(
    axes: Axes, heads: Sequence[str], frames: Sequence[str], size: tuple[int, int], num_rows: int
) -> None:
    height, width = size
    across, down = (width + _GAP) / len(heads), (height + _GAP) / num_rows
    for column, head in enumerate(heads):
        place = column * across + (across - _GAP) / 2
        axes.text(place, -8, head, ha="center", va="bottom", fontsize=8.5, color=style.INK)
    for row, frame in enumerate(frames):
        middle = 2 * row * down
        axes.text(-8, middle + down / 2, frame, ha="right", va="center", fontsize=8, rotation=90)
        axes.text(
            2 * across - 2 * _GAP,
            middle + 1.5 * down,
            "errors",
            ha="right",
            va="center",
            fontsize=9,
            color=style.QUIET,
        )


def _bar(figure: Figure, axes: Axes, scale: str, limits: Limits, label: str) -> None:
    table = ListedColormap((scale_table(scale) / 255.0).tolist())
    shown = ScalarMappable(Normalize(*limits), table)
    bar = figure.colorbar(
        shown, ax=axes, location="bottom", pad=0.01, aspect=40, fraction=0.04, shrink=0.7
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)
    bar.set_label(label, fontsize=style.LABEL_SIZE, color=style.INK)


def _value_label(kind: str, depth_kind: str) -> str:
    return maps.unit_of_depth(depth_kind) if kind == "depth" else "prediction"


def _class_handles(
    first: TrialPredictions, of_task: Sequence[TaskMaps], palette: np.ndarray
) -> list[Patch]:
    """Return the legend of the classes that occur, the most frequent in the truth first."""
    named = _own_classes(first, of_task[0])
    counts = np.bincount(of_task[0].truth.ravel(), minlength=256)[: len(palette)]
    seen = {int(c) for item in of_task for c in np.unique(item.prediction)} | set(
        np.flatnonzero(counts).tolist()
    )
    order = sorted((c for c in seen if c < len(palette)), key=lambda c: (-counts[c], c))
    names = {c: named[c] if c < len(named) else f"class {c}" for c in order}
    return [Patch(color=_unit(palette[c]), label=names[c]) for c in order[:_MAX_CLASSES]]


def _own_classes(first: TrialPredictions, item: TaskMaps) -> tuple[str, ...]:
    """Return the data set's names of classes, where the task's are those."""
    return first.class_names if len(first.class_names) == item.num_classes else ()


def _own_colours(first: TrialPredictions, item: TaskMaps) -> tuple[str, ...]:
    return first.class_colours if len(first.class_colours) == item.num_classes else ()


def _has_unknown(truth: np.ndarray) -> bool:
    if truth.dtype.kind in "iu":
        return bool((truth == maps.UNLABELLED).any())
    return bool(np.isnan(truth).any())


def _unit(colour: Sequence[int] | np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (int(channel) / 255 for channel in colour)
    return red, green, blue
