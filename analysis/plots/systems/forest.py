"""Draw a forest plot: each system's difference to its reference with the interval of 95 %."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.labels import metric_label, task_label, unit_label
from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.statistics.comparing.paired import Row

if TYPE_CHECKING:
    import plotly.graph_objects as go

TOLD = "the interval leaves 0 out"
UNTOLD = "the interval holds 0"
_REACH = 3.0  # medians of the half-widths that an axis makes room for


def measures(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return what is compared, one panel each, in the order of the rows."""
    return tuple(dict.fromkeys(row.measure for row in rows))


def draw(rows: Sequence[Row], title: str, subtitle: str) -> Figure:
    """Draw one panel per measure, systems by sparsity from top to bottom; right is better."""
    shown = measures(rows)
    names = _names(rows)
    height = 1.9 + 0.25 * max(4, len(names))
    figure = canvas.new_figure(3.2 + 2.6 * len(shown), height, title, subtitle)
    cells = figure.subplots(1, len(shown), squeeze=False, sharey=True).ravel()
    for axes, measure in zip(cells, shown, strict=True):
        _panel(axes, [row for row in rows if row.measure == measure], names)
    cells[0].set_yticks(range(len(names)), names)
    cells[0].set_ylim(len(names) - 0.4, -0.6)
    plain: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 6,
        "markeredgecolor": style.INK,
    }
    handles = [
        Line2D([], [], markerfacecolor=style.INK, label=TOLD, **plain),
        Line2D([], [], markerfacecolor="white", label=UNTOLD, **plain),
    ]
    canvas.legend_below(figure, handles)
    return figure


def _panel(axes: Axes, rows: Sequence[Row], names: Sequence[str]) -> None:
    canvas.tidy(axes)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    low, high = _limits(rows)
    axes.set_xlim(low, high)
    axes.axvline(0, color=style.INK, linewidth=1.0, zorder=1)
    for row in rows:
        place, colour = names.index(_name(row)), method_style(row.system.method).colour
        left, right = max(row.found.interval.low, low), min(row.found.interval.high, high)
        axes.plot([left, right], [place, place], color=colour, linewidth=1.8, zorder=2)
        for end, edge, arrow in (
            (row.found.interval.low, low, "<"),
            (row.found.interval.high, high, ">"),
        ):
            if end != min(max(end, low), high):
                axes.plot(edge, place, marker=arrow, color=colour, markersize=6, clip_on=False)
        axes.plot(
            min(max(row.found.mean, low), high),
            place,
            marker=method_style(row.system.method).marker,
            color=colour if _is_told(row) else "white",
            markeredgecolor=colour,
            markeredgewidth=1.2,
            markersize=7,
            zorder=3,
        )
    axes.set_title(_title(rows[0]), loc="left", fontsize=style.PANEL_SIZE, fontweight="bold")
    axes.set_xlabel(_x_label(rows[0]), fontsize=style.LABEL_SIZE)


def interactive(rows: Sequence[Row]) -> "go.Figure":
    """Draw one measure's panel for the page."""
    import plotly.graph_objects as go

    names = _names(rows)
    low, high = _limits(rows)
    figure = go.Figure()
    for row in rows:
        look, found = method_style(row.system.method), row.found
        left, right = max(found.interval.low, low), min(found.interval.high, high)
        ends = [
            "triangle-left" if found.interval.low < low else "line-ns",
            "triangle-right" if found.interval.high > high else "line-ns",
        ]
        text = (
            f"<b>{row.system.label}</b><br>to {row.reference.label}<br>"
            f"{found.mean:+.4g} [{found.interval.low:+.4g}, {found.interval.high:+.4g}]"
            f"<br>{found.num_pairs} pairs"
        )
        hover = {"text": [text] * 3, "hovertemplate": "%{text}<extra></extra>"}
        middle = look.symbol if _is_told(row) else f"{look.symbol}-open"
        figure.add_trace(
            go.Scatter(
                x=[left, min(max(found.mean, low), high), right],
                y=[names.index(_name(row))] * 3,
                mode="lines+markers",
                line={"color": look.colour, "width": 2},
                marker={
                    "symbol": [ends[0], middle, ends[1]],
                    "size": [8, 10, 8],
                    "color": look.colour,
                    "opacity": 1,
                    "line": {"color": look.colour, "width": 1.5},
                },
                name=_name(row),
                **hover,
            )
        )
    canvas.page_layout(figure, 120 + 21 * max(4, len(names)))
    figure.add_vline(x=0, line={"color": style.INK, "width": 1}, layer="below")
    figure.update_layout(
        showlegend=False,
        title={"text": f"<b>{_title(rows[0])}</b>", "font": {"size": 15}, "x": 0.02, "y": 0.98},
        margin={"l": 20, "r": 16, "t": 42, "b": 52},
    )
    figure.update_xaxes(title={"text": _x_label(rows[0]), "standoff": 8}, range=[low, high])
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.4, -0.6],
        automargin=True,
        showgrid=False,
        tickfont={"size": 12},
    )
    return figure


def _names(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_name(row) for row in rows))


def _name(row: Row) -> str:
    """Return the system, with its reference where that has a sparsity of its own."""
    label = row.system.label
    label = label if len(label) <= 36 else f"{label[:35]}…"
    if row.reference.sparsity and not row.system.sparsity:
        return f"{label} to {row.reference.label}"
    return label


def _is_told(row: Row) -> bool:
    return not row.found.interval.low <= 0 <= row.found.interval.high


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits with 0 and all means; an interval wider than most ends in an arrow."""
    means = [row.found.mean for row in rows]
    halves = [(row.found.interval.high - row.found.interval.low) / 2 for row in rows]
    finite = [half for half in halves if math.isfinite(half)]
    reach = _REACH * statistics.median(finite) if finite else 0.0
    low = min(0.0, *(max(row.found.interval.low, row.found.mean - reach) for row in rows), *means)
    high = max(0.0, *(min(row.found.interval.high, row.found.mean + reach) for row in rows), *means)
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _title(row: Row) -> str:
    return task_label(row.measure.partition("/")[0])


def _x_label(row: Row) -> str:
    unit = unit_label(row.measure)
    label = f"{metric_label(row.measure)} ({unit})" if unit else metric_label(row.measure)
    return f"{label}, better →"
