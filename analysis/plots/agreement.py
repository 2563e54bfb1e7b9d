"""The watershed: how far the tasks' own masks agree on each shared layer.

Published for DiSparse static (Sun et al. 2022, figure 3): tasks want the same weights in the
first layers and part company deeper. 1 means every task votes for the same weights.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure

from analysis.masks import TrialMasks
from analysis.plots import canvas, style

if TYPE_CHECKING:
    import plotly.graph_objects as go

LABEL = "agreement among tasks (IoU of their masks)"
_MAX_TICKS = 24


def draw(masks: Sequence[TrialMasks], title: str, subtitle: str) -> Figure:
    """One panel per method, one line per trial, its colour the density of all weights."""
    methods = style.method_order(m.trial.method for m in masks)
    names = _layer_names(masks)
    figure = canvas.new_figure(max(7.2, 4.4 * len(methods) + 1.2), 5.0, title, subtitle)
    cells = figure.subplots(1, len(methods), squeeze=False, sharey=True).ravel()
    scale = _scale(masks)
    colours = colormaps["viridis_r"]
    for axes, method in zip(cells, methods, strict=True):
        canvas.tidy(axes)
        look = style.method_style(method)
        axes.set_title(look.label, loc="left", fontsize=11, fontweight="bold", color=style.INK)
        for item in sorted((m for m in masks if m.trial.method == method), key=lambda m: m.density):
            places = [names.index(name) for name in item.agreement]
            axes.plot(
                places,
                list(item.agreement.values()),
                color=colours(scale(item.density)),
                marker=look.marker,
                markersize=4.5,
                markeredgecolor="white",
                markeredgewidth=0.4,
                linewidth=1.5,
            )
        axes.set_ylim(-0.02, 1.04)
        _layer_ticks(axes, names)
        axes.set_xlabel("shared layer, from the image to the heads", fontsize=9.5)
    cells[0].set_ylabel(LABEL, fontsize=9.5)
    mappable = ScalarMappable(norm=scale, cmap=colours)
    bar = figure.colorbar(mappable, ax=list(cells), pad=0.015, aspect=30)
    low, high = scale.vmin or 1e-3, scale.vmax or 1.0
    ticks = style.log_ticks(low, high) or [low, high]
    bar.set_ticks(ticks, labels=[style.number(t, "cost/density") for t in ticks], fontsize=8.5)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("density of the whole model", fontsize=9.5, color=style.INK)
    return figure


def interactive(masks: Sequence[TrialMasks]) -> "go.Figure":
    """The same lines in one panel for the page; hover names trial, layer and density."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = _layer_names(masks)
    scale, colours = _scale(masks), colormaps["viridis_r"]
    dashes = dict(zip(style.method_order(m.trial.method for m in masks), _DASHES, strict=False))
    for item in sorted(masks, key=lambda m: (m.trial.method, m.density)):
        look = style.method_style(item.trial.method)
        density = style.number(item.density, "cost/density")
        figure.add_trace(
            go.Scatter(
                x=list(item.agreement),
                y=list(item.agreement.values()),
                mode="lines+markers",
                line={
                    "color": to_hex(colours(scale(item.density))),
                    "width": 2,
                    "dash": dashes.get(item.trial.method, "solid"),
                },
                marker={"symbol": look.symbol, "size": 7},
                name=f"{look.label}, {density}",
                hovertemplate=(
                    f"<b>{item.trial.trial}</b> {look.label}<br>density {density}"
                    "<br>%{x}: agreement %{y:.3f}<extra></extra>"
                ),
            )
        )
    canvas.page_layout(figure, 500)
    figure.update_layout(legend={"orientation": "v", "y": 1, "x": 1.01}, margin={"b": 120})
    order = {"categoryorder": "array", "categoryarray": names}
    figure.update_xaxes(
        title_text="shared layer, from the image to the heads", tickangle=-45, **order
    )
    figure.update_yaxes(title_text=LABEL, range=[0, 1.03])
    return figure


_DASHES = ("solid", "dash", "dot", "dashdot")


def _scale(masks: Sequence[TrialMasks]) -> LogNorm:
    densities = [m.density for m in masks if m.density > 0] or [1.0]
    low, high = min(densities), max(densities)
    return LogNorm(vmin=low, vmax=high) if high > low * 1.05 else LogNorm(low / 1.5, high * 1.5)


def _layer_names(masks: Sequence[TrialMasks]) -> list[str]:
    """Names in the model's order: that of the trial with the most layers, then what it lacks."""
    names: dict[str, None] = {}
    for item in sorted(masks, key=lambda m: -len(m.agreement)):
        names.update(dict.fromkeys(item.agreement))
    return list(names)


def _layer_ticks(axes: "canvas.Axes", names: Sequence[str]) -> None:
    stride = -(-len(names) // _MAX_TICKS) or 1
    places = range(0, len(names), stride)
    axes.set_xticks(list(places), [names[p] for p in places], rotation=60, ha="right", fontsize=7)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")
