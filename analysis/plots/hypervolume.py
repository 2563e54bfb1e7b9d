"""Draw how fast the study found its front: hypervolume by epochs and by time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.methods import method_order, method_style
from analysis.plots import canvas, style
from analysis.studies.effort import Course
from analysis.studies.trials import Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

LABEL = "hypervolume (share of the reference box)"
LINE = "hypervolume"


def draw(
    trials: Sequence[Trial],
    share_N: NDArray[np.float64],
    courses: Sequence[Course],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw one panel per course, the first one widest.

    trials: in the order they ended. share_N: the hypervolume after each of them, 0 to 1.
    """
    figure = canvas.new_figure(8.6 if len(courses) == 1 else 10.4, 4.7, title, subtitle)
    widths = [1.5, *[1.0] * (len(courses) - 1)]
    cells = figure.subplots(1, len(courses), squeeze=False, sharey=True, width_ratios=widths)
    for axes, course in zip(cells.ravel(), courses, strict=True):
        _panel(axes, trials, share_N, course)
    first = cells.ravel()[0]
    first.set_ylabel(LABEL, fontsize=style.LABEL_SIZE)
    first.set_ylim(0, max(0.05, float(share_N[-1]) * 1.12))
    canvas.legend_below(
        figure, [canvas.method_handle(m) for m in _methods(trials, share_N)], columns=5
    )
    return figure


def _panel(
    axes: Axes, trials: Sequence[Trial], share_N: NDArray[np.float64], course: Course
) -> None:
    canvas.tidy(axes)
    axes.set_xlabel(course.label, fontsize=style.LABEL_SIZE)
    canvas.mark_better(axes, "↑")
    xs, ys = _staircase(share_N, course)
    axes.step(xs, ys, where="post", color=style.FRONT, linewidth=1.8, zorder=3)
    axes.fill_between(xs, ys, step="post", color=style.FRONT, alpha=0.05, linewidth=0, zorder=1)
    for index in map(int, np.flatnonzero(_improving(share_N))):
        look = method_style(trials[index].method)
        axes.scatter(
            course.places[index],
            share_N[index],
            s=50,
            marker=look.marker,
            color=look.colour,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=course.whole))
    axes.set_xlim(*_limits(course))
    axes.annotate(
        f"{share_N[-1]:.3f}",
        xy=(course.end, share_N[-1]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        fontsize=style.LABEL_SIZE,
        fontweight="bold",
        color=style.INK,
    )


def interactive(
    trials: Sequence[Trial],
    share_N: NDArray[np.float64],
    courses: Sequence[Course],
    hover: Mapping[str, str],
) -> "go.Figure":
    """Draw one panel for the page, where buttons switch between the courses.

    It has no legend: `legend` serves it.
    """
    import plotly.graph_objects as go

    grew = list(map(int, np.flatnonzero(_improving(share_N))))
    methods = _methods(trials, share_N)
    traces = [
        go.Scatter(
            mode="lines",
            line={"shape": "hv", "color": style.FRONT, "width": 2},
            fill="tozeroy",
            fillcolor="rgba(17,24,39,0.05)",
            name=LINE,
            hoverinfo="skip",
        )
    ]
    for method in methods:
        look = method_style(method)
        mine = [index for index in grew if trials[index].method == method]
        marker = {"symbol": look.symbol, "color": look.colour, "size": 10}
        traces.append(
            go.Scatter(
                mode="markers",
                marker={**marker, "line": {"color": "white", "width": 0.8}},
                name=look.label,
                text=[hover.get(trials[i].trial, trials[i].trial) for i in mine],
            )
        )
    views = [_view(trials, share_N, grew, methods, course) for course in courses]
    for trace, x, y, template in zip(traces, *views[0][0].values(), strict=True):
        trace.update(x=x, y=y, hovertemplate=template)
    figure = go.Figure(traces)
    canvas.page_layout(figure, 400)
    figure.update_layout(showlegend=False, margin={"l": 62, "r": 12, "t": 52, "b": 52})
    figure.update_xaxes(tickangle=0)
    figure.update_yaxes(title={"text": LABEL, "standoff": 6}, rangemode="tozero")
    figure.update_layout(views[0][1])
    if len(courses) > 1:
        buttons = [
            {"label": f"by {_unit(course)}", "method": "update", "args": list(view)}
            for course, view in zip(courses, views, strict=True)
        ]
        menu = {"type": "buttons", "direction": "right", "buttons": buttons, "showactive": True}
        place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
        figure.update_layout(updatemenus=[{**menu, **place, "pad": {"t": 0, "b": 4}}])
    return figure


def _view(
    trials: Sequence[Trial],
    share_N: NDArray[np.float64],
    grew: Sequence[int],
    methods: Sequence[str],
    course: Course,
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return what one course changes: x, y and hover of every trace, and the axis."""
    xs, ys = _staircase(share_N, course)
    by_method = [[index for index in grew if trials[index].method == m] for m in methods]
    unit = _unit(course)
    text = f"hypervolume %{{y:.4f}} at %{{x:.4~g}} {unit}<br>%{{text}}<extra></extra>"
    step = max(1, round(course.end / 12)) if course.whole else None
    data: dict[str, list[Any]] = {
        "x": [xs, *([course.places[index] for index in mine] for mine in by_method)],
        "y": [ys, *([float(share_N[index]) for index in mine] for mine in by_method)],
        "hovertemplate": [None, *[text] * len(methods)],
    }
    axis: dict[str, Any] = {
        "xaxis.title.text": course.label,
        "xaxis.range": list(_limits(course)),
        "xaxis.tick0": 1 if course.whole else 0,
        "xaxis.dtick": step,
    }
    return data, axis


def legend(trials: Sequence[Trial], share_N: NDArray[np.float64]) -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for everything that the page's panel shows."""
    entries = [(LINE, canvas.line_svg(style.FRONT, ""))]
    for method in _methods(trials, share_N):
        look = method_style(method)
        entries.append((look.label, canvas.marker_svg(look.marker, look.colour)))
    return entries


def _methods(trials: Sequence[Trial], share_N: NDArray[np.float64]) -> list[str]:
    """Return the methods of the trials that raised the hypervolume."""
    improving = _improving(share_N)
    return method_order(t.method for t, grew in zip(trials, improving, strict=True) if grew)


def _staircase(share_N: NDArray[np.float64], course: Course) -> tuple[list[float], list[float]]:
    """Return the line from nothing at the course's start to the last level at its end."""
    xs, ys = list(course.places), share_N.tolist()
    if course.start < xs[0]:
        xs, ys = [course.start, *xs], [0.0, *ys]
    if course.end > xs[-1]:
        xs, ys = [*xs, course.end], [*ys, ys[-1]]
    return xs, ys


def _limits(course: Course) -> tuple[float, float]:
    if course.whole:
        return course.start - 0.5, course.end + 0.5
    margin = 0.02 * (course.end - course.start) or 0.5
    return course.start, course.end + margin


def _unit(course: Course) -> str:
    """Return the course's unit: epochs, minutes, trials and so on."""
    return "trials" if course.whole else course.label.partition(" ")[0]


def _improving(share_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    grew: NDArray[np.bool_] = np.diff(share_N, prepend=0.0) > 0
    return grew
