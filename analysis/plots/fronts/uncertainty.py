"""Draw what fresh seeds tell of a front: means with intervals, and what the seeds attain."""

import itertools
import math
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.labels import admitting, metric_label, numbers
from analysis.methods import method_style
from analysis.plots import canvas
from analysis.statistics.fronts import TaskFront, attainment_line
from analysis.statistics.uncertainty.attainment import level_at
from analysis.statistics.uncertainty.confirmed import Confirmed
from trainables.terminal.plurals import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEAN = "mean at fresh seeds, 95 % interval"
ATTAINED = "attained at half of the fresh seeds (shaded: 25 to 75 %)"
_COLOUR = "#6d28d9"  # no built-in method's: bars and markers overlap
_SHADE = 0.14


def draw(axes: Axes, front: TaskFront, right: float) -> None:
    """Draw on axes whose limits are set; nothing where no trial was confirmed."""
    if front.attainment:
        xs, better, worse = _band(front, right)
        axes.fill_between(xs, better, worse, color=_COLOUR, alpha=_SHADE, linewidth=0, zorder=1.5)
        xs, ys = attainment_line(*front.attainment[50], right_edge=right)
        axes.plot(xs, ys, color=_COLOUR, linewidth=1.1, zorder=2.5)
    costs, means, below, above = _means(front)
    if costs:
        axes.errorbar(
            costs,
            means,
            yerr=[below, above],
            fmt="_",
            color=_COLOUR,
            markersize=7,
            elinewidth=0.9,
            capsize=2.0,
            zorder=6,
        )
    for cost, level, up in _arrows(front, axes.get_ylim()):
        marker = "^" if up else "v"
        axes.scatter([cost], [level], s=34, marker=marker, color=_COLOUR, linewidths=0, zorder=6)


def cut_ends(front: TaskFront, limits: tuple[float, float]) -> list[tuple[Confirmed, bool]]:
    """Return the intervals that go on beyond an axis, and whether at its upper end."""
    low, high = limits
    return [
        (one, upper)
        for one in front.confirmed
        for end, upper in zip(ends(one, front.quality), (False, True), strict=True)
        if (end > high if upper else end < low)
    ]


def ends(one: Confirmed, quality: str) -> tuple[float, float]:
    """Return the ends of the interval that is drawn; the mean, twice, for a single seed."""
    mean, interval = one.mean(quality), one.interval(quality)
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return mean, mean
    return interval.low, interval.high


def _arrows(front: TaskFront, limits: tuple[float, float]) -> list[tuple[float, float, bool]]:
    """Return where an arrow says that an interval goes on: cost, quality, and whether upwards."""
    inset = 0.02 * (limits[1] - limits[0])
    places = {False: limits[0] + inset, True: limits[1] - inset}
    return [(one.mean(front.cost), places[up], up) for one, up in cut_ends(front, limits)]


def handles(front: TaskFront) -> list[Artist]:
    """Return the legend's entries."""
    found: list[Artist] = []
    if front.confirmed:
        found.append(Line2D([], [], color=_COLOUR, marker="_", markersize=9, label=MEAN))
    if front.attainment:
        found.append(Patch(facecolor=_COLOUR, alpha=0.4, label=ATTAINED))
    return found


def page_legend(front: TaskFront) -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for the page."""
    found = [(MEAN, canvas.line_svg(_COLOUR, ""))] if front.confirmed else []
    return found + ([(ATTAINED, canvas.line_svg(_COLOUR, "1 1"))] if front.attainment else [])


def traces(front: TaskFront, right: float, limits: tuple[float, float]) -> list["go.Scatter"]:
    """Return the same for the page. limits: of the axis of qualities."""
    import plotly.graph_objects as go

    found = []
    if front.attainment:
        xs, better, worse = _band(front, right)
        band = {"mode": "lines", "line": {"width": 0}, "name": ATTAINED, "hoverinfo": "skip"}
        fill = {"fill": "toself", "fillcolor": f"rgba{(*bytes.fromhex(_COLOUR[1:]), _SHADE)}"}
        found.append(go.Scatter(x=[*xs, *xs[::-1]], y=[*better, *worse[::-1]], **band, **fill))
        xs, ys = attainment_line(*front.attainment[50], right_edge=right)
        line = {"color": _COLOUR, "width": 1.3}
        about = {"name": ATTAINED, "hoverinfo": "skip"}
        found.append(go.Scatter(x=xs, y=ys, mode="lines", line=line, **about))
    costs, means, below, above = _means(front)
    if costs:
        bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
        found.append(
            go.Scatter(
                x=costs,
                y=means,
                error_y={**bars, "color": _COLOUR, "thickness": 1.0, "width": 2},
                mode="markers",
                marker={"symbol": "line-ew", "size": 9, "line": {"color": _COLOUR, "width": 2}},
                name=MEAN,
                customdata=[one.trial.trial for one in front.confirmed],
                meta={"costs": costs},  # by which a page puts back what it has filtered out
                text=[_hover(front, one) for one in front.confirmed],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    arrows = _arrows(front, limits)
    if arrows:
        cut = [one for one, _ in cut_ends(front, limits)]
        symbols = [f"triangle-{'up' if up else 'down'}" for _, _, up in arrows]
        found.append(
            go.Scatter(
                x=[cost for cost, _, _ in arrows],
                y=[level for _, level, _ in arrows],
                mode="markers",
                marker={"symbol": symbols, "size": 9, "color": _COLOUR},
                unselected={"marker": {"opacity": 0}},
                name=MEAN,
                customdata=[one.trial.trial for one in cut],
                text=[_hover(front, one) for one in cut],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return found


def _hover(front: TaskFront, one: Confirmed) -> str:
    """Return what hovering over a bar shows, as escaped HTML."""
    label = f"{one.trial.trial} {method_style(one.trial.method).label}"
    seeds = counted(len(one.runs), "fresh seed")
    mean, interval = one.mean(front.quality), one.interval(front.quality)
    lines = canvas.folded(label, "<b>{}</b>")
    lines += canvas.folded(
        f"{metric_label(front.quality)}, mean of {seeds}: {admitting(mean, front.quality)}"
    )
    if math.isfinite(interval.low) and math.isfinite(interval.high):
        low, high = numbers([interval.low, interval.high], front.quality)
        lines += canvas.folded(f"95 % interval: {low} to {high}")
    return "<br>".join(lines)


def _means(front: TaskFront) -> tuple[list[float], ...]:
    """Return costs, means, and how far the intervals reach below and above; 0 for one seed."""
    rows = []
    for one in front.confirmed:
        mean, (low, high) = one.mean(front.quality), ends(one, front.quality)
        reach = [mean - low, high - mean]
        rows.append([one.mean(front.cost), mean, *reach])
    return tuple(map(list, zip(*rows, strict=True))) if rows else ([], [], [], [])


def _band(front: TaskFront, right: float) -> tuple[list[float], list[float], list[float]]:
    """Return the steps of the surfaces of 25 and 75 %, over the costs where both exist."""
    better, worse = front.attainment[25], front.attainment[75]
    if not (better[0] and worse[0]):
        return [], [], []
    start = max(better[0][0], worse[0][0])
    costs = sorted({start, right, *(c for c in (*better[0], *worse[0]) if start < c < right)})
    xs, lows, highs = [], [], []
    for left, end in itertools.pairwise(costs):
        levels = [level_at(surface, left) for surface in (better, worse)]
        xs += [left, end]
        lows += [levels[0] or 0.0] * 2
        highs += [levels[1] or 0.0] * 2
    return xs, lows, highs
