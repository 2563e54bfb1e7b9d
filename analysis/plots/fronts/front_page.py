"""Draw the panels of `front` for the page: with hover, a legend to click, and trials to filter."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.labels import (
    admitting,
    axis_label,
    is_percentage,
    number,
    shown_factor,
    task_label,
)
from analysis.methods import method_order, method_style
from analysis.plots import canvas, style
from analysis.plots.fronts import bounds, uncertainty
from analysis.plots.fronts import front as front_plot
from analysis.plots.fronts.bounds import Window, maximised
from analysis.statistics.fronts import TaskFront, attainment_line
from analysis.studies.trials import Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go


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
    points = {t.trial: [t.metrics[front.cost], t.metrics[front.quality]] for t in front.trials}
    figure.update_layout(
        showlegend=False,
        meta={  # by which a page draws the front of some of the trials
            "eligible": points,
            "maximised": maximised(front.quality),
            "right": shown.cost_limits[1],
            "front": front_plot.TASK_FRONT,
            "attained": uncertainty.ATTAINED,
        },
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
            text=front_plot.dense_text(front, front.dense_level),
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
        entries.append((front_plot.TASK_FRONT, canvas.line_svg(style.FRONT, "")))
    if fronts[0].random_front:
        entries.append((front_plot.RANDOM_FRONT, canvas.line_svg(style.RANDOM_LINE, "2 3")))
    if fronts[0].dense:
        entries.append((front_plot.DENSE_LEVEL, canvas.line_svg("#000000", "6 4")))
    return entries + uncertainty.page_legend(fronts[0]) + bounds.page_legend(fronts)


def _arrow_text(quality: str) -> str:
    return canvas.better_html("↖" if maximised(quality) else "↙")


def _page_axes(figure: "go.Figure", front: TaskFront, shown: Window) -> None:
    axis: dict[str, object] = {
        "title": {"text": canvas.cost_label(front.cost, shown.costs), "standoff": 8}
    }
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
        traces.append(_staircase(xs, ys, line, front_plot.RANDOM_FRONT))
    if front.trials:
        xs, ys = attainment_line(*front.points(front.front), right_edge=right)
        line = {"color": style.FRONT, "width": 1.8}
        traces.append(_staircase(xs, ys, line, front_plot.TASK_FRONT))
    if front.dense_level is not None:
        line = {"color": "black", "width": 1.3, "dash": "dash"}
        level = front.dense_level
        traces.append(
            go.Scatter(
                x=[left, right],
                y=[level, level],
                mode="lines",
                line=line,
                name=front_plot.DENSE_LEVEL,
                hovertemplate=f"dense {admitting(level, front.quality)}<extra></extra>",
            )
        )
    placed = front_plot.placed(front, shown, members)
    for joint in (False, True):
        mine = [item for item in placed if (item[0].trial in members) == joint]
        for method in method_order(trial.method for trial, _, _ in mine):
            of_method = [item for item in mine if item[0].method == method]
            traces.append(_points(front, of_method, members, hover))
    for method in method_order(trial.method for trial in shown.outliers):
        traces.append(_at_edge(front, shown, method, hover))
    return traces + uncertainty.traces(front, right, shown.quality_limits)


def _staircase(
    xs: list[float], ys: list[float], line: dict[str, object], name: str
) -> "go.Scatter":
    import plotly.graph_objects as go

    return go.Scatter(x=xs, y=ys, mode="lines", line=line, name=name, hoverinfo="skip")


def _points(
    front: TaskFront,
    placed: Sequence[tuple[Trial, tuple[float, float], float]],
    members: Collection[str],
    hover: Mapping[str, str],
) -> "go.Scatter":
    """Return the trials of one method that are on the joint front, or those that are not."""
    trials = [trial for trial, _, _ in placed]
    look, joint = method_style(trials[0].method), trials[0].trial in members
    marker = {
        "symbol": look.symbol,
        "color": look.colour,
        "size": [round((10 if joint else 8) * math.sqrt(size), 2) for _, _, size in placed],
        "opacity": [front_plot.opacity(front, trial, members) for trial in trials],
        "line": {
            "color": style.INK if joint else "white",
            "width": 1.2 if joint else 0.6,
        },
    }
    return _marks(trials, [place for _, place, _ in placed], marker, look.label, hover)


def _at_edge(
    front: TaskFront, shown: Window, method: str, hover: Mapping[str, str]
) -> "go.Scatter":
    """Return the marks of one method's outliers, which point to where they lie."""
    look, trials = method_style(method), [t for t in shown.outliers if t.method == method]
    symbol = "triangle-down" if maximised(front.quality) else "triangle-up"
    marker = {"symbol": symbol, "color": look.colour, "size": 10}
    places = [(trial.metrics[front.cost], front_plot.edge_level(front, shown)) for trial in trials]
    return _marks(trials, places, marker, look.label, hover)


def _marks(
    trials: Sequence[Trial],
    places: Sequence[tuple[float, float]],
    marker: Mapping[str, object],
    name: str,
    hover: Mapping[str, str],
) -> "go.Scatter":
    """Return marks of trials; their names are the trace's `customdata`, by which a page filters."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=[cost for cost, _ in places],
        y=[quality for _, quality in places],
        mode="markers",
        marker=marker,
        unselected={"marker": {"opacity": 0.06}},
        name=name,
        customdata=[trial.trial for trial in trials],
        text=[hover.get(trial.trial, trial.trial) for trial in trials],
        hovertemplate="%{text}<extra></extra>",
    )
