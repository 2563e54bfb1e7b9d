"""Draw each system's mean quality over sparsity, with bands of 95 % and the dense levels."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.labels import axis_label, number, task_label
from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.plots.fronts import crowding, front
from analysis.plots.fronts.bounds import maximised
from analysis.statistics.comparing.curves import Curve, Point, TaskCurves
from trainables.terminal.plurals import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

X_LABEL = "sparsity (weights pruned, %), log scale of what is kept"
BAND = "95 % interval of the mean over seeds"
_SHADE = 0.14
_DASHES = ("-", "--", ":", "-.")
_PAGE_DASHES = ("solid", "dash", "dot", "dashdot")


def draw(panels: Sequence[TaskCurves], title: str, subtitle: str) -> Figure:
    """Draw one panel per task."""
    rows, columns = front.grid(len(panels))
    width = {1: 7.2, 2: 9.0}.get(columns, 10.4)
    figure = canvas.new_figure(width, 3.6 * rows + 1.5, title, subtitle)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(cells, panels, strict=False):
        _panel(axes, panel)
    for axes in cells[len(panels) :]:
        axes.set_visible(False)
    canvas.legend_below(figure, _handles(panels), columns=3 if columns < 3 else 5)
    return figure


def _panel(axes: Axes, panel: TaskCurves) -> None:
    canvas.tidy(axes)
    axes.set_title(task_label(panel.task), loc="left", fontsize=style.PANEL_SIZE, fontweight="bold")
    canvas.mark_better(axes, "↑" if maximised(panel.quality) else "↓")
    axes.set_ylabel(_quality_label(panel), fontsize=style.LABEL_SIZE)
    ticks = panel.sparsities
    axes.set_xticks([_place(s) for s in ticks], [_percent(s) for s in ticks])
    axes.set_xlim(*_limits(panel))
    axes.set_ylim(*_quality_limits(panel))
    axes.set_xlabel(X_LABEL.replace(", log", ",\nlog"), fontsize=style.LABEL_SIZE)
    for curve in panel.levels:
        point, look = curve.points[0], method_style(curve.method)
        axes.axhline(point.mean, color=look.colour, linewidth=1.2, linestyle=(0, (5, 3)))
        if _is_bounded(point):
            ends = point.interval.low, point.interval.high
            axes.axhspan(*ends, color=look.colour, alpha=0.09, linewidth=0)
    for curve, dashes in _dashed(panel.curves, _DASHES):
        look = method_style(curve.method)
        xs = [_place(point.sparsity) for point in curve.points]
        axes.plot(
            xs,
            [point.mean for point in curve.points],
            color=look.colour,
            linestyle=dashes,
            marker=look.marker,
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linewidth=1.7,
            zorder=3,
        )
        known = [point for point in curve.points if _is_bounded(point)]
        axes.fill_between(
            [_place(point.sparsity) for point in known],
            [point.interval.low for point in known],
            [point.interval.high for point in known],
            color=look.colour,
            alpha=_SHADE,
            linewidth=0,
        )


def interactive(panel: TaskCurves) -> "go.Figure":
    """Draw one task's panel for the page; `legend` serves all panels."""
    import plotly.graph_objects as go

    figure = go.Figure()
    left, right = _limits(panel)
    for curve in panel.levels:
        point, look = curve.points[0], method_style(curve.method)
        if _is_bounded(point):
            ends = [point.interval.low] * 2 + [point.interval.high] * 2
            figure.add_trace(_band([left, right, right, left], ends, look.colour, curve.label))
        line = {"color": look.colour, "width": 1.4, "dash": "dash"}
        figure.add_trace(
            go.Scatter(
                x=[left, (left + right) / 2, right],
                y=[point.mean] * 3,
                mode="lines",
                line=line,
                name=curve.label,
                hovertemplate=f"{_hover(curve, point)}<extra></extra>",
            )
        )
    for curve, dashes in _dashed(panel.curves, _PAGE_DASHES):
        look = method_style(curve.method)
        known = [point for point in curve.points if _is_bounded(point)]
        xs = [_place(point.sparsity) for point in known]
        ends = [p.interval.low for p in known] + [p.interval.high for p in known[::-1]]
        figure.add_trace(_band([*xs, *xs[::-1]], ends, look.colour, curve.label))
        figure.add_trace(
            go.Scatter(
                x=[_place(point.sparsity) for point in curve.points],
                y=[point.mean for point in curve.points],
                mode="lines+markers",
                line={"color": look.colour, "width": 2, "dash": dashes},
                marker={"symbol": look.symbol, "size": 8, "line": {"color": "white", "width": 0.7}},
                name=curve.label,
                text=[_hover(curve, point) for point in curve.points],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    canvas.page_layout(figure, 400)
    better = canvas.better_html("↑" if maximised(panel.quality) else "↓")
    title = {"text": f"<b>{task_label(panel.task)}</b>  {better}", "font": {"size": 15}}
    figure.update_layout(
        showlegend=False,
        title={**title, "x": 0.02, "y": 0.97, "yanchor": "top"},
        margin={"l": 66, "r": 12, "t": 52, "b": 66},
    )
    figure.update_xaxes(
        title={"text": X_LABEL.replace(", log", ",<br>log"), "standoff": 8},
        range=[left, right],
        tickvals=[_place(s) for s in panel.sparsities],
        ticktext=[_percent(s) for s in panel.sparsities],
    )
    figure.update_yaxes(
        title={"text": _quality_label(panel), "standoff": 6}, range=list(_quality_limits(panel))
    )
    return figure


def legend(panels: Sequence[TaskCurves]) -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for everything that the page's panels show."""
    entries = {
        curve.label: canvas.line_svg(method_style(curve.method).colour, "6 4")
        for panel in panels
        for curve in panel.levels
    }
    for panel in panels:
        for curve in panel.curves:
            look = method_style(curve.method)
            entries.setdefault(curve.label, canvas.marker_svg(look.marker, look.colour))
    return list(entries.items())


def _band(xs: list[float], ys: list[float], colour: str, name: str) -> "go.Scatter":
    import plotly.graph_objects as go

    red, green, blue = (int(colour.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4))
    fill = {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},{_SHADE})"}
    return go.Scatter(
        x=xs, y=ys, mode="lines", line={"width": 0}, name=name, hoverinfo="skip", **fill
    )


def _handles(panels: Sequence[TaskCurves]) -> list[Artist]:
    handles: dict[str, Artist] = {}
    for panel in panels:
        for curve, dashes in _dashed(panel.curves, _DASHES):
            look = method_style(curve.method)
            line: dict[str, Any] = {"color": look.colour, "linestyle": dashes, "linewidth": 1.7}
            mark: dict[str, Any] = {"marker": look.marker, "markersize": 6, "label": curve.label}
            handles.setdefault(curve.label, Line2D([], [], **line, **mark))
        for curve in panel.levels:
            colour = method_style(curve.method).colour
            line = {"color": colour, "linestyle": (0, (5, 3)), "linewidth": 1.2}
            handles.setdefault(curve.label, Line2D([], [], **line, label=curve.label))
    band = Patch(facecolor=style.QUIET, alpha=0.25, label=BAND)
    return [*handles.values(), band]


def _dashed(curves: Iterable[Curve], dashes: Sequence[str]) -> list[tuple[Curve, str]]:
    """Pair curves with line styles, which tell the variants of one method apart."""
    count: dict[str, int] = {}
    pairs = []
    for curve in curves:
        place = count.get(curve.method, 0)
        count[curve.method] = place + 1
        pairs.append((curve, dashes[place % len(dashes)]))
    return pairs


def _hover(curve: Curve, point: Point) -> str:
    at = f" at {_percent(point.sparsity)} sparsity" if point.sparsity else ""
    told = f"<b>{curve.label}</b>{at}<br>{number(point.mean)}"
    if _is_bounded(point):
        told += f" [{number(point.interval.low)}, {number(point.interval.high)}]"
    return f"{told}<br>{counted(point.num_seeds, 'seed')}"


def _is_bounded(point: Point) -> bool:
    return math.isfinite(point.interval.low) and math.isfinite(point.interval.high)


def _place(sparsity: float) -> float:
    """Return x: every halving of what is kept is a step of one."""
    return -math.log2(max(1 - sparsity, 1e-6))


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.4g}"


def _limits(panel: TaskCurves) -> tuple[float, float]:
    places = [_place(s) for s in panel.sparsities] or [0.0]
    margin = 0.06 * (places[-1] - places[0]) or 0.5
    return places[0] - margin, places[-1] + margin


def _quality_limits(panel: TaskCurves) -> tuple[float, float]:
    """Return limits with room for the means, and for bands as far as they squeeze nothing."""
    points = [point for curve in (*panel.curves, *panel.levels) for point in curve.points]
    means = crowding.without_outliers(
        [point.mean for point in points], high_is_worse=not maximised(panel.quality)
    )
    low, high = min(means), max(means)
    reach = 0.3 * (high - low)
    ends = [end for p in points for end in (p.interval.low, p.interval.high) if math.isfinite(end)]
    near = [end for end in ends if low - reach <= end <= high + reach]
    return canvas.quality_limits([*means, *near])


def _quality_label(panel: TaskCurves) -> str:
    return f"{axis_label(panel.quality)} on {panel.quality.partition('/')[0]}"
