"""Draw how fast the study found its front: hypervolume by epochs and by time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
    axes.set_title(
        "↑ better", loc="right", fontsize=style.LABEL_SIZE, color="#047857", fontweight="bold"
    )
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
    course: Course,
    hover: Mapping[str, str],
) -> "go.Figure":
    """Draw one course for the page, without a legend: `legend` serves all courses."""
    import plotly.graph_objects as go

    figure = go.Figure()
    xs, ys = _staircase(share_N, course)
    figure.add_trace(
        go.Scatter(
            x=xs,
            y=ys,
            mode="lines",
            line={"shape": "hv", "color": style.FRONT, "width": 2},
            fill="tozeroy",
            fillcolor="rgba(17,24,39,0.05)",
            name=LINE,
            hoverinfo="skip",
        )
    )
    grew = [
        (trials[i], course.places[i], float(share_N[i]))
        for i in map(int, np.flatnonzero(_improving(share_N)))
    ]
    for method in _methods(trials, share_N):
        look = method_style(method)
        mine = [item for item in grew if item[0].method == method]
        figure.add_trace(
            go.Scatter(
                x=[place for _, place, _ in mine],
                y=[share for _, _, share in mine],
                mode="markers",
                marker={
                    "symbol": look.symbol,
                    "color": look.colour,
                    "size": 10,
                    "line": {"color": "white", "width": 0.8},
                },
                name=look.label,
                text=[hover.get(trial.trial, trial.trial) for trial, _, _ in mine],
                hovertemplate=(
                    f"hypervolume %{{y:.4f}} at %{{x:.4~g}} {_unit(course)}<br>%{{text}}"
                    "<extra></extra>"
                ),
            )
        )
    canvas.page_layout(figure, 370)
    figure.update_layout(showlegend=False, margin={"l": 62, "r": 12, "t": 34, "b": 52})
    figure.update_xaxes(
        title={"text": course.label, "standoff": 8},
        range=list(_limits(course)),
        tickangle=0,
        **({"tick0": 1, "dtick": max(1, round(course.end / 12))} if course.whole else {}),
    )
    figure.update_yaxes(title={"text": LABEL, "standoff": 6}, rangemode="tozero")
    return figure


def legend(trials: Sequence[Trial], share_N: NDArray[np.float64]) -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for everything that the page's panels show."""
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
