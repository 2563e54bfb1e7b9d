"""Draw where the kept weights are: density by layer, one row per member of the front."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.labels import admitting, layer_label, number, task_label
from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.studies.masks import Layer, TrialMasks

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MAX_WIDTH = 32.0  # inches
_COLUMN_PIXELS = 13  # of a layer on the page, at least


def draw(
    masks: Sequence[TrialMasks],
    title: str,
    subtitle: str,
    row_label: Callable[[TrialMasks], str] | None = None,
) -> Figure:
    """Draw a map: rows from sparse to dense, columns in the model's order and grouped by owner.

    row_label: what a row is called; None for its method, density and trial.
    """
    rows, layers = _arranged(masks)
    values = _densities(rows, layers)
    width = min(_MAX_WIDTH, max(8.0, 2.9 + 0.28 * len(layers)))
    font = min(8.0, 65.0 * (width - 2.9) / len(layers))  # points, so that no name is left out
    figure = canvas.new_figure(width, 2.1 + max(1.5, 0.29 * len(rows)), title, subtitle)
    axes = figure.subplots()
    low = max(1e-4, float(np.nanmin(np.where(values > 0, values, np.nan), initial=1.0)))
    norm = LogNorm(vmin=min(low, 0.5), vmax=1.0)
    shown = np.ma.masked_invalid(np.maximum(values, norm.vmin or low))
    image = axes.pcolormesh(shown, cmap="viridis", norm=norm, edgecolors="white", linewidth=0.4)
    axes.set_ylim(len(rows), 0)
    labels = [(row_label or _row_label)(row) for row in rows]
    axes.set_yticks(np.arange(len(rows)) + 0.5, labels, fontsize=9)
    names = [_name(layer) for layer in layers]
    axes.set_xticks(np.arange(len(layers)) + 0.5, names, rotation=60, ha="right", fontsize=font)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for owner, start, stop in _blocks(layers):
        if start:
            axes.axvline(start, color=style.INK, linewidth=1.6)
        axes.annotate(
            _owner_label(owner, stop - start).replace(" ", "\n"),
            xy=((start + stop) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=style.QUIET,
        )
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=25)
    ticks = style.bar_ticks(norm.vmin or low, 1.0)
    bar.set_ticks(ticks, labels=[number(t, "cost/density") for t in ticks], fontsize=9)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("weights kept, log scale", fontsize=style.LABEL_SIZE, color=style.INK)
    return figure


def interactive(masks: Sequence[TrialMasks]) -> "go.Figure":
    """Draw the map for the page; hovering shows the counts."""
    import plotly.graph_objects as go

    rows, layers = _arranged(masks)
    values = _densities(rows, layers)
    low = float(np.nanmin(np.where(values > 0, values, np.nan), initial=0.5))
    low = min(low, 0.5)
    ticks = style.bar_ticks(low, 1.0)
    texts = [[_hover(row, layer) for layer in layers] for row in rows]
    figure = go.Figure(
        go.Heatmap(
            z=np.log10(np.maximum(values, low)).tolist(),
            x=list(range(len(layers))),
            y=[_row_label(r) for r in rows],
            text=texts,
            hovertemplate="%{text}<extra></extra>",
            colorscale="Viridis",
            zmin=float(np.log10(low)),
            zmax=0.0,
            xgap=1,
            ygap=1,
            colorbar={
                "title": {"text": "kept,<br>log scale", "side": "top"},
                "tickvals": np.log10(ticks).tolist(),
                "ticktext": [number(t, "cost/density") for t in ticks],
                "thickness": 14,
                "outlinewidth": 0,
            },
        )
    )
    tilted = any(_is_narrow(owner, stop - start) for owner, start, stop in _blocks(layers))
    canvas.page_layout(figure, 150 + 40 * tilted + max(150, 26 * len(rows)))
    for owner, start, stop in _blocks(layers):
        if start:
            figure.add_vline(x=start - 0.5, line={"color": style.INK, "width": 2})
        figure.add_annotation(
            x=(start + stop - 1) / 2,
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text=_owner_label(owner, stop - start).replace(" ", " " if tilted else "<br>"),
            font={"size": 12, "color": style.QUIET},
            **({"textangle": -35, "xanchor": "left"} if tilted else {}),
        )
    names = [_name(layer) for layer in layers]
    figure.update_xaxes(
        tickvals=list(range(len(layers))),
        ticktext=names,
        tickangle=-60,
        tickfont={"size": 10},
        showgrid=False,
    )
    figure.update_yaxes(autorange="reversed", tickfont={"size": 11}, showgrid=False)
    figure.update_layout(margin={"l": 240, "t": 56 + 40 * tilted, "b": 90})
    return figure


def _is_narrow(owner: str, num_columns: int) -> bool:
    """Tell whether a group's label may be wider than its columns on the page."""
    words = _owner_label(owner, num_columns).split(" ")
    return _COLUMN_PIXELS * num_columns < 8 * max(map(len, words))


def page_width(masks: Sequence[TrialMasks]) -> int:
    """Return how many pixels wide the page's map must be for the names of all layers."""
    return 320 + _COLUMN_PIXELS * len(_arranged(masks)[1])


def _arranged(masks: Sequence[TrialMasks]) -> tuple[list[TrialMasks], list[Layer]]:
    """Return rows by density; columns by owner, shared first, then in the model's order."""
    rows = sorted(masks, key=lambda m: (m.density, m.trial.number))
    columns: dict[str, Layer] = {}
    for item in rows:
        for layer in item.layers:
            columns.setdefault(layer.name, layer)
    owners = list(dict.fromkeys(layer.owner for layer in columns.values()))
    owners.sort(key=lambda owner: owner != "shared")
    return rows, sorted(columns.values(), key=lambda layer: owners.index(layer.owner))


def _name(layer: Layer) -> str:
    return layer_label(layer.name, layer.owner)


def _owner_label(owner: str, num_columns: int) -> str:
    """Return the label, which the caller breaks at its spaces: a group may be narrow."""
    if owner == "shared":
        return "shared\u00a0trunk"
    label = task_label(owner)
    return label if num_columns < 6 else f"{label}\u00a0head".replace(" ", "\u00a0")


def _densities(rows: Sequence[TrialMasks], layers: Sequence[Layer]) -> "np.ndarray":
    values = np.full((len(rows), len(layers)), np.nan)
    for index, item in enumerate(rows):
        by_name = {layer.name: layer.density for layer in item.layers}
        values[index] = [by_name.get(layer.name, np.nan) for layer in layers]
    return values


def _row_label(masks: TrialMasks) -> str:
    label = method_style(masks.trial.method).label
    return f"{label} · {admitting(masks.density, 'cost/density')} kept · #{masks.trial.number}"


def _blocks(layers: Sequence[Layer]) -> list[tuple[str, int, int]]:
    blocks: list[tuple[str, int, int]] = []
    for index, layer in enumerate(layers):
        if blocks and blocks[-1][0] == layer.owner:
            blocks[-1] = (layer.owner, blocks[-1][1], index + 1)
        else:
            blocks.append((layer.owner, index, index + 1))
    return blocks


def _hover(masks: TrialMasks, column: Layer) -> str:
    layer = next((item for item in masks.layers if item.name == column.name), None)
    if layer is None:
        return f"{column.name}: not in {masks.trial.trial}"
    share = admitting(layer.density, "cost/density")
    head = f"<b>{masks.trial.trial}</b> {method_style(masks.trial.method).label}"
    return f"{head}<br>{layer.name} ({layer.owner})<br>{layer.kept:,} of {layer.total:,} ({share})"
