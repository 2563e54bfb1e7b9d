"""Draw agreement among tasks by relative depth, mean over seeds, with published curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.methods import method_order, method_style
from analysis.plots import canvas, style
from analysis.plots.layers.agreement import LABEL
from analysis.statistics.watershed import SystemLayers, mean_curve
from analysis.tables.papers import published_curve

_PUBLISHED_DASHES = {"nyu-v2": (4, 2), "cityscapes": (1, 1.5), "taskonomy": (6, 2, 1, 2)}
_LINE_STYLES = ("-", "--", ":", "-.")
_PANELS_PER_ROW = 3


def draw(
    layers: Sequence[SystemLayers], datasets: Sequence[str], title: str, subtitle: str
) -> Figure:
    """Draw one panel per method, one line per sparsity or variant, with ± a sample deviation."""
    methods = method_order(item.system.method for item in layers)
    columns = min(_PANELS_PER_ROW, len(methods))
    num_rows = -(-len(methods) // columns)
    size = (max(7.2, 3.9 * columns + 0.8), 1.3 + 3.6 * num_rows)
    figure = canvas.new_figure(*size, title, subtitle)
    cells = figure.subplots(num_rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in cells[len(methods) :]:
        axes.set_visible(False)
    for index, (axes, method) in enumerate(zip(cells, methods, strict=False)):
        canvas.tidy(axes)
        look = method_style(method)
        axes.set_title(
            look.label, loc="left", fontsize=style.PANEL_SIZE, fontweight="bold", color=style.INK
        )
        for dataset in datasets:
            line = published_curve(dataset)
            axes.plot(
                line.depth_N,
                line.values_N,
                color=style.RANDOM_LINE,
                linewidth=1.3,
                dashes=_PUBLISHED_DASHES[dataset],
            )
        own = [item for item in layers if item.system.method == method]
        for item, line_style in zip(own, _cycled(len(own)), strict=True):
            mean, deviation_N = mean_curve(item.votes)
            axes.fill_between(
                mean.depth_N,
                np.clip(mean.values_N - deviation_N, 0, 1),
                np.clip(mean.values_N + deviation_N, 0, 1),
                color=look.colour,
                alpha=0.18,
                linewidth=0,
            )
            name = item.system.label.removeprefix(look.label).strip()
            axes.plot(
                mean.depth_N,
                mean.values_N,
                color=look.colour,
                linestyle=line_style,
                marker=look.marker,
                markersize=4.5,
                markeredgecolor="white",
                markeredgewidth=0.4,
                linewidth=1.7,
                label=f"{name}, n = {len(item.votes)}",
            )
        axes.legend(
            frameon=False,
            fontsize=style.TICK_SIZE,
            loc="lower left",
            labelcolor=style.INK,
            handlelength=2.6,
        )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
        if index + columns >= len(methods):
            axes.set_xlabel("depth along the shared trunk", fontsize=style.LABEL_SIZE)
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel(LABEL, fontsize=style.LABEL_SIZE)
    with_band = any(len(item.votes) > 1 for item in layers)
    # Three in a row fit the narrowest figure; a wider figure has room for all.
    canvas.legend_below(figure, _legend(datasets, with_band), columns=3 if columns < 3 else 6)
    return figure


def _cycled(count: int) -> list[str]:
    return [_LINE_STYLES[index % len(_LINE_STYLES)] for index in range(count)]


def _legend(datasets: Sequence[str], with_band: bool) -> list[Artist]:
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            color=style.RANDOM_LINE,
            linewidth=1.3,
            dashes=_PUBLISHED_DASHES[dataset],
            label=f"published, {dataset}",
        )
        for dataset in datasets
    ]
    if with_band:
        handles.append(Patch(color=style.QUIET, alpha=0.25, label="± deviation over seeds"))
    return handles
