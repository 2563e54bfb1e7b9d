"""Draw the watershed: how far the tasks' own masks agree on each shared layer.

Published for DiSparse static (Sun et al. 2022, figure 3): tasks want the same weights in the
first layers and part company deeper. An agreement of 1 means that all tasks vote alike.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, to_hex
from matplotlib.figure import Figure

from analysis.labels import admitting, axis_label, is_shortcut, layer_label, number
from analysis.methods import method_order, method_style
from analysis.plots import canvas, style
from analysis.studies.masks import TrialMasks

if TYPE_CHECKING:
    import plotly.graph_objects as go

LABEL = "agreement of the tasks' masks (IoU)"
LAYERS_LABEL = "shared layer, from the image to the heads"


def draw(masks: Sequence[TrialMasks], title: str, subtitle: str) -> Figure:
    """Draw one panel per method and one line per trial, coloured by the density of all weights."""
    methods = method_order(m.trial.method for m in masks)
    names = _layer_names(masks)
    panel = max(4.4, 0.17 * len(names) + 0.9)  # inches, room for the name of every layer
    figure = canvas.new_figure(max(7.2, panel * len(methods) + 1.2), 5.0, title, subtitle)
    cells = figure.subplots(1, len(methods), squeeze=False, sharey=True).ravel()
    scale = _scale(masks)
    colours = _colours()
    for axes, method in zip(cells, methods, strict=True):
        canvas.tidy(axes)
        look = method_style(method)
        axes.set_title(
            look.label, loc="left", fontsize=style.PANEL_SIZE, fontweight="bold", color=style.INK
        )
        for item in sorted((m for m in masks if m.trial.method == method), key=lambda m: m.density):
            places, values = _line(item, names)
            axes.plot(
                places,
                values,
                color=colours(scale(item.density)),
                marker=look.marker,
                markersize=4.5,
                markeredgecolor="white",
                markeredgewidth=0.4,
                linewidth=1.5,
            )
        axes.set_ylim(-0.02, 1.04)
        _layer_ticks(axes, names)
        axes.set_xlabel(LAYERS_LABEL, fontsize=style.LABEL_SIZE)
    cells[0].set_ylabel(LABEL, fontsize=style.LABEL_SIZE)
    mappable = ScalarMappable(norm=scale, cmap=colours)
    bar = figure.colorbar(mappable, ax=list(cells), pad=0.015, aspect=30)
    low, high = scale.vmin or 1e-3, scale.vmax or 1.0
    ticks = style.bar_ticks(low, high)
    bar.set_ticks(
        ticks, labels=[number(t, "cost/density") for t in ticks], fontsize=style.TICK_SIZE
    )
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(
        f"{axis_label('cost/density')}, log scale", fontsize=style.LABEL_SIZE, color=style.INK
    )
    return figure


def interactive(masks: Sequence[TrialMasks]) -> list["go.Figure"]:
    """Draw one panel per method for the page; hovering names trial, layer and density."""
    methods = method_order(m.trial.method for m in masks)
    return [_method_panel(masks, method) for method in methods]


def page_width(masks: Sequence[TrialMasks]) -> int:
    """Return how many pixels wide a panel must be for the names of all layers."""
    return 150 + 13 * (len(_layer_names(masks)) + 1)


def _method_panel(masks: Sequence[TrialMasks], method: str) -> "go.Figure":
    """Draw one method's lines, with the layers and the colours of all methods."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = _layer_names(masks)
    scale, colours = _scale(masks), _colours()
    look = method_style(method)
    for item in sorted((m for m in masks if m.trial.method == method), key=lambda m: m.density):
        density = admitting(item.density, "cost/density")
        places, values = _line(item, names)
        colour = to_hex(colours(scale(item.density)))
        figure.add_trace(
            go.Scatter(
                x=places,
                y=[None if v != v else v for v in values],
                text=[_name_at(place, names) for place in places],
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"symbol": look.symbol, "size": 6},
                name=item.trial.trial,
                hovertemplate=(
                    f"<b>{item.trial.trial}</b><br>density {density}"
                    "<br>%{text}:<br>agreement %{y:.3f}<extra></extra>"
                ),
            )
        )
    figure.add_trace(_colour_bar(scale, colours))
    canvas.page_layout(figure, 430)
    figure.update_layout(
        showlegend=False,
        title={"text": f"<b>{look.label}</b>", "font": {"size": 15}, "x": 0.02, "y": 0.97},
        margin={"l": 56, "r": 10, "t": 44, "b": 110},
    )
    figure.update_xaxes(
        title={"text": LAYERS_LABEL, "standoff": 10},
        tickvals=[_place(name, names) for name in names],
        ticktext=[layer_label(name) for name in names],
        tickangle=-60,
        tickfont={"size": 11},
        range=[-0.6, max(_place(name, names) for name in names) + 0.6],
    )
    figure.update_yaxes(title_text=LABEL, range=[0, 1.03])
    return figure


def _colour_bar(scale: LogNorm, colours: Colormap) -> "go.Scatter":
    """Return a trace without points that brings the colour bar of the densities."""
    import plotly.graph_objects as go

    low, high = scale.vmin or 1e-3, scale.vmax or 1.0
    ticks = style.bar_ticks(low, high)
    stops = [[i / 8, to_hex(colours(i / 8))] for i in range(9)]
    bar = {
        "title": {"text": "weights<br>kept, log", "side": "top"},
        "tickvals": np.log10(ticks).tolist(),
        "ticktext": [number(tick, "cost/density") for tick in ticks],
        "thickness": 10,
        "outlinewidth": 0,
    }
    limits = {"cmin": math.log10(low), "cmax": math.log10(high)}
    marker = {"color": [limits["cmin"]], "colorscale": stops, "showscale": True, "colorbar": bar}
    return go.Scatter(x=[None], y=[None], mode="markers", marker={**marker, **limits})


def _scale(masks: Sequence[TrialMasks]) -> LogNorm:
    densities = [m.density for m in masks if m.density > 0] or [1.0]
    low, high = min(densities), max(densities)
    return LogNorm(vmin=low, vmax=high) if high > low * 1.05 else LogNorm(low / 1.5, high * 1.5)


def _layer_names(masks: Sequence[TrialMasks]) -> list[str]:
    """Return names in the model's order: those of the trial with most layers, then others."""
    names: dict[str, None] = {}
    for item in sorted(masks, key=lambda m: -len(m.agreement)):
        names.update(dict.fromkeys(item.agreement))
    return sorted(names, key=is_shortcut)  # stable: the main path first, in its order


def _place(name: str, names: Sequence[str]) -> float:
    """Return a layer's x. Shortcuts are at the right: they are no step along the main path."""
    return names.index(name) + (1.0 if is_shortcut(name) else 0.0)


def _name_at(place: float, names: Sequence[str]) -> str:
    return next((name for name in names if _place(name, names) == place), "")


def _line(item: TrialMasks, names: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return a trial's places and agreements.

    There is a NaN where the line breaks before the shortcuts, and where no weight is kept: tasks
    agree on an empty mask, which says nothing.
    """
    empty = {layer.name for layer in item.layers if layer.kept == 0}
    shown = {n: math.nan if n in empty else v for n, v in item.agreement.items()}
    along = {n: v for n, v in shown.items() if not is_shortcut(n)}
    beside = {n: v for n, v in shown.items() if is_shortcut(n)}
    places = [_place(name, names) for name in along]
    values = list(along.values())
    if along and beside:
        places.append(places[-1] + 0.5)
        values.append(math.nan)
    return places + [_place(n, names) for n in beside], values + list(beside.values())


def _colours() -> Colormap:
    """Return viridis from sparse to dense, without its yellow end, which is lost on white."""
    return ListedColormap(colormaps["viridis_r"](np.linspace(0.16, 1.0, 256)))


def _layer_ticks(axes: "canvas.Axes", names: Sequence[str]) -> None:
    places = [_place(name, names) for name in names]
    labels = [layer_label(name) for name in names]
    axes.set_xticks(places, labels, rotation=60, ha="right", fontsize=8.5)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")
