"""Draw quality against cost, one panel per task: every trial, and the front as a staircase.

Beside them is what they are measured against: the level of the dense baseline, the front of Random
alone, and the constraints.
"""

import math
from collections.abc import Collection, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.labels import admitting, axis_label, task_label
from analysis.methods import method_order, method_style
from analysis.plots import canvas, style
from analysis.plots.fronts import bounds, crowding, uncertainty
from analysis.plots.fronts.bounds import Window, maximised
from analysis.statistics.fronts import TaskFront, attainment_line
from analysis.studies.trials import Trial

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
    canvas.mark_better(axes, "↖" if maximised(front.quality) else "↙")
    bounds.draw(axes, front, shown)
    uncertainty.draw(axes, front, right)

    xs, ys = attainment_line(*front.points(front.random_front), right_edge=right)
    axes.plot(xs, ys, color=style.RANDOM_LINE, linewidth=1.4, linestyle=(0, (1, 1.4)), zorder=2)
    xs, ys = attainment_line(*front.points(front.front), right_edge=right)
    axes.plot(xs, ys, color=style.FRONT, linewidth=1.6, zorder=3, solid_joinstyle="miter")
    worst = axes.get_ylim()[0 if maximised(front.quality) else 1]
    axes.fill_between(xs, ys, worst, color=style.FRONT, alpha=0.035, linewidth=0, zorder=1)

    for trial, place, size in placed(front, shown, members):
        look = method_style(trial.method)
        joint = trial.trial in members
        axes.scatter(
            *place,
            s=(54 if joint else 46 if trial.method == "random" else 36) * size,
            marker=look.marker,
            color=look.colour,
            alpha=opacity(front, trial, members),
            edgecolors=style.INK if joint else "white",
            linewidths=0.9 if joint else 0.5,
            zorder=5 if joint else 4,
        )
    if shown.outliers:
        axes.scatter(
            [trial.metrics[front.cost] for trial in shown.outliers],
            [edge_level(front, shown)] * len(shown.outliers),
            s=58,
            marker="v" if maximised(front.quality) else "^",
            color=[method_style(trial.method).colour for trial in shown.outliers],
            edgecolors="white",
            linewidths=0.5,
            zorder=5,
            clip_on=False,
        )
    if front.dense_level is not None:
        _dense_level(axes, front, front.dense_level)


def _dense_level(axes: Axes, front: TaskFront, level: float) -> None:
    axes.axhline(level, color="black", linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    # On the better side of the line, at the cheap end, where trials seldom lie. One that does is
    # drawn over the label.
    axes.annotate(
        dense_text(front, level),
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


def dense_text(front: TaskFront, level: float) -> str:
    """Return the label of the dense level."""
    count = f", mean of {len(front.dense)}" if len(front.dense) > 1 else ""
    return f"dense {admitting(level, front.quality)}{count}"


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


def placed(
    front: TaskFront, shown: Window, members: Collection[str]
) -> list[tuple[Trial, tuple[float, float], float]]:
    """Return trials within the axes in the order of drawing, with their places and sizes.

    Members of the joint front come last. A size is a factor: what lies under others is larger.
    """
    order = {name: i for i, name in enumerate(method_order(t.method for t in front.trials))}
    trials = sorted(
        (trial for trial in front.trials if trial not in shown.outliers),
        key=lambda t: (t.trial in members, order[t.method], t.number),
    )
    places = list(zip(*front.points(trials), strict=True))
    (left, right), (low, high) = shown.cost_limits, shown.quality_limits
    logarithmic = style.wants_log(shown.costs)

    def share(cost: float) -> float:
        if logarithmic:
            return math.log(cost / left) / math.log(right / left)
        return (cost - left) / (right - left)

    shares = [(share(cost), (quality - low) / (high - low)) for cost, quality in places]
    return list(zip(trials, places, crowding.nested_sizes(shares), strict=True))


def edge_level(front: TaskFront, shown: Window) -> float:
    """Return where outliers are marked: just inside the worse end of the axis."""
    low, high = shown.quality_limits
    inset = 0.03 * (high - low)
    return low + inset if maximised(front.quality) else high - inset


def opacity(front: TaskFront, trial: Trial, members: Collection[str]) -> float:
    """Return the opacity: faint for a trial on no front, except for Random, the yardstick."""
    if trial.trial in members or trial in front.front:
        return 1.0
    return 0.95 if trial.method == "random" else 0.5
