"""Draw quality against cost, one panel per task: every trial, and the front as a staircase.

Beside them is what they are measured against: the level of the dense baseline, the front of Random
alone, and the constraints.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.labels import axis_label, is_percentage, number, shown_factor, task_label
from analysis.methods import method_order, method_style
from analysis.plots import bounds, canvas, style, uncertainty
from analysis.plots.bounds import Window, maximised
from analysis.statistics.fronts import TaskFront, attainment_line
from analysis.studies.trials import Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go


TASK_FRONT = "front of this task"
RANDOM_FRONT = "front of Random alone"
DENSE_LEVEL = "dense level"
# Inches; three panels are about ten inches wide, so that their text is legible at 800 pixels.
_PANEL_WIDTH = {1: 7.2, 2: 4.4}
_NARROW_PANEL = 3.4


def draw(
    fronts: Sequence[TaskFront], members: Collection[str], title: str, subtitle: str
) -> Figure:
    """Draw panels side by side, at most three in a row. `members` are the joint front's trials."""
    rows, columns = grid(len(fronts))
    figure = canvas.new_figure(
        _PANEL_WIDTH.get(columns, _NARROW_PANEL) * columns, 3.5 * rows + 1.5, title, subtitle
    )
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, front in zip(cells, fronts, strict=False):
        _panel(axes, front, members)
    for axes in cells[len(fronts) :]:
        axes.set_visible(False)
    canvas.legend_below(figure, _handles(fronts), columns=3 if columns < 3 else 4)
    return figure


def grid(num_panels: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of the panels."""
    columns = {1: 1, 2: 2, 4: 2}.get(num_panels, 3)
    return math.ceil(num_panels / columns), columns


def _panel(axes: Axes, front: TaskFront, members: Collection[str]) -> None:
    canvas.tidy(axes)
    axes.set_title(
        task_label(front.task),
        loc="left",
        fontsize=style.PANEL_SIZE,
        fontweight="bold",
        color=style.INK,
    )
    axes.set_ylabel(axis_label(front.quality), fontsize=style.LABEL_SIZE)
    if not (front.trials or front.infeasible):
        _empty(axes, front)
        return
    shown = bounds.window(front)
    _, right = canvas.cost_axis(axes, front.cost, shown.costs)
    axes.set_ylim(*shown.quality_limits)
    _direction(axes, front.quality)
    bounds.draw(axes, front, shown)
    uncertainty.draw(axes, front, right)

    xs, ys = attainment_line(*front.points(front.random_front), right_edge=right)
    axes.plot(xs, ys, color=style.RANDOM_LINE, linewidth=1.4, linestyle=(0, (1, 1.4)), zorder=2)
    xs, ys = attainment_line(*front.points(front.front), right_edge=right)
    axes.plot(xs, ys, color=style.FRONT, linewidth=1.6, zorder=3, solid_joinstyle="miter")
    worst = axes.get_ylim()[0 if maximised(front.quality) else 1]
    axes.fill_between(xs, ys, worst, color=style.FRONT, alpha=0.035, linewidth=0, zorder=1)

    on_task_front = {trial.trial for trial in front.front}
    for trial in sorted(front.trials, key=lambda t: t.trial in members):
        look = method_style(trial.method)
        joint = trial.trial in members
        axes.scatter(
            trial.metrics[front.cost],
            trial.metrics[front.quality],
            s=54 if joint else 46 if trial.method == "random" else 36,
            marker=look.marker,
            color=look.colour,
            alpha=1.0 if joint or trial.trial in on_task_front else _alpha(trial.method),
            edgecolors=style.INK if joint else "white",
            linewidths=0.9 if joint else 0.5,
            zorder=5 if joint else 4.5 if trial.method == "random" else 4,
        )
    if front.dense_level is not None:
        _dense_level(axes, front, front.dense_level)


def _dense_level(axes: Axes, front: TaskFront, level: float) -> None:
    axes.axhline(level, color="black", linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    # On the better side of the line, at the cheap end, where trials seldom lie. One that does is
    # drawn over the label.
    axes.annotate(
        _dense_text(front, level),
        xy=(0.0, level),
        xycoords=("axes fraction", "data"),
        xytext=(5, 4 if maximised(front.quality) else -4),
        textcoords="offset points",
        ha="left",
        va="bottom" if maximised(front.quality) else "top",
        fontsize=style.TICK_SIZE,
        color=style.INK,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        zorder=2.5,
    )


def _dense_text(front: TaskFront, level: float) -> str:
    count = f", mean of {len(front.dense)}" if len(front.dense) > 1 else ""
    return f"dense {number(level)}{count}"


def _direction(axes: Axes, quality: str) -> None:
    """Write the arrow of "better", to the cheap and good corner, beside the panel's title."""
    arrow = "↖" if maximised(quality) else "↙"
    axes.set_title(
        f"{arrow} better",
        loc="right",
        fontsize=style.LABEL_SIZE,
        color="#047857",
        fontweight="bold",
    )


def _empty(axes: Axes, front: TaskFront) -> None:
    axes.set_xlabel(axis_label(front.cost), fontsize=style.LABEL_SIZE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, "no complete trial yet", transform=axes.transAxes, ha="center", color=style.QUIET
    )


def _handles(fronts: Sequence[TaskFront]) -> list[Artist]:
    trials = fronts[0].trials
    handles: list[Artist] = [
        canvas.method_handle(m) for m in method_order(t.method for t in trials)
    ]
    if not trials:
        return handles + bounds.handles(fronts)
    handles.append(Line2D([], [], color=style.FRONT, linewidth=1.6, label=TASK_FRONT))
    if fronts[0].random_front:
        handles.append(
            Line2D(
                [],
                [],
                color=style.RANDOM_LINE,
                linewidth=1.4,
                linestyle=(0, (1, 1.4)),
                label=RANDOM_FRONT,
            )
        )
    if fronts[0].dense:
        handles.append(
            Line2D([], [], color="black", linewidth=1.1, linestyle=(0, (5, 3)), label=DENSE_LEVEL)
        )
    handles += uncertainty.handles(fronts[0])
    handles.append(
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markerfacecolor="none",
            markeredgecolor=style.INK,
            markersize=7,
            label="outlined: on the joint front",
        )
    )
    return handles + bounds.handles(fronts)


def _alpha(method: str) -> float:
    """Return the opacity of a trial on no front: faint, except for Random, the yardstick."""
    return 0.95 if method == "random" else 0.5


def interactive(
    front: TaskFront, members: Collection[str], hover: Mapping[str, str]
) -> "go.Figure":
    """Draw one panel for the page; some trial of the study must have run to its end.

    It has no legend: `legend` serves all panels, which are side by side or, in a narrow window, one
    below the other. `hover` is the text by trial name (HTML, escaped).
    """
    import plotly.graph_objects as go  # only here: `analysis front` needs no Plotly

    shown = bounds.window(front)
    figure = go.Figure(_traces(front, shown, members, hover))
    canvas.page_layout(figure, 370)
    title = f"<b>{task_label(front.task)}</b>  {_arrow_text(front.quality)}"
    figure.update_layout(
        showlegend=False,
        title={"text": title, "font": {"size": 15}, "x": 0.02, "y": 0.97, "yanchor": "top"},
        margin={"l": 62, "r": 12, "t": 52, "b": 52},
    )
    _page_axes(figure, front, shown)
    if front.dense_level is not None:
        above = maximised(front.quality)
        figure.add_annotation(
            x=0.0,
            xref="x domain",
            xanchor="left",
            xshift=4,
            y=front.dense_level,
            yshift=11 if above else -11,
            showarrow=False,
            text=_dense_text(front, front.dense_level),
            font={"size": 12},
        )
    bounds.annotate(figure, front, shown)
    return figure


def legend(fronts: Sequence[TaskFront]) -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for everything that the page's panels show."""
    entries = []
    trials = fronts[0].trials
    for method in method_order(t.method for t in trials):
        look = method_style(method)
        entries.append((look.label, canvas.marker_svg(look.marker, look.colour)))
    if trials:
        entries.append((TASK_FRONT, canvas.line_svg(style.FRONT, "")))
    if fronts[0].random_front:
        entries.append((RANDOM_FRONT, canvas.line_svg(style.RANDOM_LINE, "2 3")))
    if fronts[0].dense:
        entries.append((DENSE_LEVEL, canvas.line_svg("#000000", "6 4")))
    return entries + uncertainty.page_legend(fronts[0]) + bounds.page_legend(fronts)


def _arrow_text(quality: str) -> str:
    arrow = "↖" if maximised(quality) else "↙"
    return f"<span style='color:#047857;font-size:12px'>{arrow} better</span>"


def _page_axes(figure: "go.Figure", front: TaskFront, shown: Window) -> None:
    axis: dict[str, object] = {"title": {"text": axis_label(front.cost), "standoff": 8}}
    axis |= {"tickangle": 0, "tickfont": {"size": 12}}
    low, high = shown.cost_limits
    if style.wants_log(shown.costs):
        ticks = style.log_ticks(low, high)
        axis |= {"type": "log", "range": [math.log10(low), math.log10(high)]}
        axis |= {"tickvals": ticks, "ticktext": [_tick(t, front.cost) for t in ticks]}
    else:
        axis |= {"range": [low, high], "tickformat": ".0%" if is_percentage(front.cost) else None}
        if not is_percentage(front.cost) and shown_factor(front.cost) != 1.0:
            ticks = style.linear_ticks(low, high)
            axis |= {"tickvals": ticks, "ticktext": [_tick(t, front.cost) for t in ticks]}
    figure.update_yaxes(range=list(shown.quality_limits))
    figure.update_xaxes(**axis)
    label = {"text": axis_label(front.quality), "standoff": 6}
    figure.update_yaxes(title=label, tickfont={"size": 12})


def _tick(value: float, name: str) -> str:
    return number(value, name).replace(" ", "")  # narrow: panels may stand three abreast


def _traces(
    front: TaskFront, shown: Window, members: Collection[str], hover: Mapping[str, str]
) -> list["go.Scatter"]:
    import plotly.graph_objects as go

    traces = bounds.traces(front, shown, hover)
    left, right = shown.cost_limits
    if front.random_front:
        xs, ys = attainment_line(*front.points(front.random_front), right_edge=right)
        line = {"color": style.RANDOM_LINE, "width": 1.6, "dash": "dot"}
        traces.append(
            go.Scatter(x=xs, y=ys, mode="lines", line=line, name=RANDOM_FRONT, hoverinfo="skip")
        )
    if front.trials:
        xs, ys = attainment_line(*front.points(front.front), right_edge=right)
        line = {"color": style.FRONT, "width": 1.8}
        traces.append(
            go.Scatter(x=xs, y=ys, mode="lines", line=line, name=TASK_FRONT, hoverinfo="skip")
        )
    if front.dense_level is not None:
        line = {"color": "black", "width": 1.3, "dash": "dash"}
        level = front.dense_level
        traces.append(
            go.Scatter(
                x=[left, right],
                y=[level, level],
                mode="lines",
                line=line,
                name=DENSE_LEVEL,
                hovertemplate=f"dense {number(level)}<extra></extra>",
            )
        )
    for method in method_order(t.method for t in front.trials):
        traces.append(_points(front, method, members, hover))
    return traces + uncertainty.traces(front, right)


def _points(
    front: TaskFront, method: str, members: Collection[str], hover: Mapping[str, str]
) -> "go.Scatter":
    import plotly.graph_objects as go

    trials: list[Trial] = [t for t in front.trials if t.method == method]
    look = method_style(method)
    costs, qualities = front.points(trials)
    joint = [t.trial in members for t in trials]
    marker = {
        "symbol": look.symbol,
        "color": look.colour,
        "size": [10 if j else 8 for j in joint],
        "opacity": [1.0 if j else _alpha(method) for j in joint],
        "line": {
            "color": [style.INK if j else "white" for j in joint],
            "width": [1.2 if j else 0.6 for j in joint],
        },
    }
    return go.Scatter(
        x=costs,
        y=qualities,
        mode="markers",
        marker=marker,
        name=look.label,
        text=[hover.get(t.trial, t.trial) for t in trials],
        hovertemplate="%{text}<extra></extra>",
    )
