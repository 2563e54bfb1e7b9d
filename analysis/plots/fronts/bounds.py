"""Draw a study's constraints on a panel of quality against cost.

That is what the panel has room for, lines whose forbidden sides are shaded, and the trials that
ran to the end and missed a constraint.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.labels import number
from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.plots.fronts import crowding, uncertainty
from analysis.statistics.fronts import TaskFront
from analysis.studies.constraints import Bound
from analysis.studies.trials import Trial
from trainables import report

if TYPE_CHECKING:
    import plotly.graph_objects as go

CONSTRAINT = "forbidden by a constraint"
MISSED = "misses a constraint"
COLOUR = "#b42318"
MISSED_COLOUR = "#8b919b"
_SHADE = 0.055
# How far a miss or a bound may stretch an axis, in units of the range of everything else on it.
_REACH = 1.0
_INTERVAL_REACH = 0.4  # the same for an end of an interval, which is marked where it goes on


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Hold what one panel has room for.

    costs, qualities: the values that its axes make room for. missed: the infeasible trials within.
    num_outside: how many infeasible trials lie beyond. outliers: trials so much worse than the
    others that they are marked at the edge.
    """

    costs: tuple[float, ...]
    qualities: tuple[float, ...]
    missed: tuple[Trial, ...]
    num_outside: int
    outliers: tuple[Trial, ...]

    @property
    def cost_limits(self) -> tuple[float, float]:
        """Return the limits of the cost axis."""
        return canvas.cost_limits(self.costs)

    @property
    def quality_limits(self) -> tuple[float, float]:
        """Return the limits of the quality axis."""
        return canvas.quality_limits(self.qualities)


def window(front: TaskFront) -> Window:
    """Choose what the panel has room for; at least one trial must have run to its end.

    A trial that missed by far, or a bound that is far from all trials, does not squeeze the
    others: it is left outside. One that is far worse than the others is marked at the edge.
    """
    _, of_missed = front.points(front.infeasible)
    shown = (*front.trials, *front.dense, *front.fresh_runs) if front.trials else ()
    worse_high = not maximised(front.quality)
    core = crowding.without_outliers(front.points(shown)[1], high_is_worse=worse_high)
    of_missed = crowding.without_outliers(of_missed, high_is_worse=worse_high)
    qualities = _with_near(core or of_missed, of_missed)
    intervals = [end for one in front.confirmed for end in uncertainty.ends(one, front.quality)]
    qualities = _with_near(qualities, intervals, _INTERVAL_REACH)
    if front.quality_bound is not None:
        qualities = _with_near(qualities, [front.quality_bound.value])
    lowest, highest = min(qualities), max(qualities)
    missed = tuple(t for t in front.infeasible if lowest <= t.metrics[front.quality] <= highest)
    costs, _ = front.points((*front.trials, *front.infeasible))  # the same on all panels
    cap = front.cost_bound
    if cap is not None and min(costs) / 2 <= cap.value <= 2 * max(costs):
        costs.append(cap.value)
    far = tuple(t for t in front.trials if not lowest <= t.metrics[front.quality] <= highest)
    return Window(
        costs=tuple(costs),
        qualities=tuple(qualities),
        missed=missed,
        num_outside=len(front.infeasible) - len(missed),
        outliers=far,
    )


def draw(axes: Axes, front: TaskFront, shown: Window) -> None:
    """Draw bounds and misses on axes whose limits are set."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    if front.quality_bound is not None:
        level = front.quality_bound.value
        worst = bottom if front.quality_bound.is_floor else top
        if bottom < level < top:
            axes.axhline(level, color=COLOUR, linewidth=0.9, zorder=2)
            axes.axhspan(level, worst, color=COLOUR, alpha=_SHADE, linewidth=0, zorder=0.5)
            _label(axes, front.quality_bound.short, (1.0, level), ("axes fraction", "data"), -4)
    if front.cost_bound is not None:
        limit = front.cost_bound.value
        worst = left if front.cost_bound.is_floor else right
        if left < limit < right:
            axes.axvline(limit, color=COLOUR, linewidth=0.9, zorder=2)
            axes.axvspan(limit, worst, color=COLOUR, alpha=_SHADE, linewidth=0, zorder=0.5)
            at = 0.03 if maximised(front.quality) else 0.97
            _label(axes, front.cost_bound.short, (limit, at), ("data", "axes fraction"), -4)
    for trial in shown.missed:
        axes.scatter(
            trial.metrics[front.cost],
            trial.metrics[front.quality],
            s=24,
            marker=method_style(trial.method).marker,
            facecolors="none",
            edgecolors=MISSED_COLOUR,
            linewidths=0.9,
            zorder=3.5,
        )
    remarks = outside(front, shown)
    if remarks:
        axes.annotate(
            "\n".join(remarks),
            xy=(0.0, 0.0),
            xycoords="axes fraction",
            xytext=(0, -34),  # under the axis with its ticks and label
            textcoords="offset points",
            ha="left",
            va="top",
            fontsize=style.TICK_SIZE,
            color=style.QUIET,
        )


def _label(
    axes: Axes, text: str, place: tuple[float, float], system: tuple[str, str], right: float
) -> None:
    """Label a line on its allowed side: above a floor, below a ceiling, left of a cap."""
    of_quality = system[1] == "data"
    above = of_quality and text.startswith("≥")
    at_top = not of_quality and place[1] > 0.5
    axes.annotate(
        text,
        xy=place,
        xycoords=system,
        xytext=(right, 0 if not of_quality else 3 if above else -3),
        textcoords="offset points",
        ha="right",
        va="bottom" if above or not (of_quality or at_top) else "top",
        fontsize=style.TICK_SIZE,
        color=COLOUR,
        zorder=2.5,
    )


def handles(fronts: Sequence[TaskFront]) -> list[Artist]:
    """Return the legend's entries for what is on any of the panels."""
    found: list[Artist] = []
    if fronts[0].infeasible:
        found.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker="o",
                markerfacecolor="none",
                markeredgecolor=MISSED_COLOUR,
                markersize=5,
                label=MISSED,
            )
        )
    if _are_bounded(fronts):
        found.append(Patch(facecolor="#fbe9e7", edgecolor=COLOUR, linewidth=0.9, label=CONSTRAINT))
    return found


def page_legend(fronts: Sequence[TaskFront]) -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for what is on any panel of the page."""
    found = []
    if fronts[0].infeasible:
        found.append((MISSED, canvas.ring_svg(MISSED_COLOUR)))
    if _are_bounded(fronts):
        found.append((CONSTRAINT, canvas.line_svg(COLOUR, "")))
    return found


def traces(front: TaskFront, shown: Window, hover: Mapping[str, str]) -> list["go.Scatter"]:
    """Return the traces of bounds and misses for a panel of the page."""
    import plotly.graph_objects as go

    found: list[go.Scatter] = []
    (left, right), (bottom, top) = shown.cost_limits, shown.quality_limits
    floor, cap = front.quality_bound, front.cost_bound
    if floor is not None and bottom < floor.value < top:
        worst = bottom if floor.is_floor else top
        found.append(_shade([left, right, right, left], [floor.value] * 2 + [worst] * 2))
        found.append(_line([left, right], [floor.value] * 2, floor))
    if cap is not None and left < cap.value < right:
        worst = left if cap.is_floor else right
        found.append(_shade([cap.value] * 2 + [worst] * 2, [bottom, top, top, bottom]))
        found.append(_line([cap.value] * 2, [bottom, top], cap))
    if front.infeasible:
        costs, qualities = front.points(shown.missed)
        symbols = [f"{method_style(t.method).symbol}-open" for t in shown.missed]
        found.append(
            go.Scatter(
                x=costs,
                y=qualities,
                mode="markers",
                marker={"symbol": symbols, "color": MISSED_COLOUR, "size": 7, "opacity": 0.9},
                unselected={"marker": {"opacity": 0.06}},
                name=MISSED,
                customdata=[trial.trial for trial in shown.missed],
                text=[hover.get(t.trial, t.trial) for t in shown.missed],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return found


def annotate(figure: "go.Figure", front: TaskFront, shown: Window) -> None:
    """Write the labels of the bounds on a panel of the page."""
    (left, right), (bottom, top) = shown.cost_limits, shown.quality_limits
    floor, cap = front.quality_bound, front.cost_bound
    quiet = {"showarrow": False, "font": {"size": 12, "color": COLOUR}}
    if floor is not None and bottom < floor.value < top:
        shift = 10 if floor.is_floor else -10
        at_end = {"x": 1.0, "xref": "x domain", "xanchor": "right", "yshift": shift}
        figure.add_annotation(text=floor.short, y=floor.value, **at_end, **quiet)
    up = maximised(front.quality)
    if cap is not None and left < cap.value < right:
        # Plotly places an annotation on a logarithmic axis by the logarithm.
        place = math.log10(cap.value) if style.wants_log(shown.costs) else cap.value
        at = 0.02 if up else 0.98
        figure.add_annotation(
            text=cap.short, x=place, xanchor="right", y=at, yref="y domain", **quiet
        )
    remarks = outside(front, shown)
    if remarks:
        # Taller by the height of the lines, so that the axes of all panels keep the same height.
        room = 17 * len(remarks)
        figure.update_layout(height=figure.layout.height + room)
        figure.update_layout(margin_b=figure.layout.margin.b + room)
        figure.add_annotation(
            text="<br>".join(remarks),
            align="left",
            x=0.0,
            xref="x domain",
            xanchor="left",
            y=0.0,
            yref="y domain",
            yanchor="top",
            yshift=-44,
            showarrow=False,
            font={"size": 12, "color": style.QUIET},
        )


def _shade(xs: list[float], ys: list[float]) -> "go.Scatter":
    import plotly.graph_objects as go

    return go.Scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=f"rgba(180,35,24,{_SHADE})",
        name=CONSTRAINT,
        hoverinfo="skip",
    )


def _line(xs: list[float], ys: list[float], bound: Bound) -> "go.Scatter":
    import plotly.graph_objects as go

    return go.Scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"color": COLOUR, "width": 1.1},
        name=CONSTRAINT,
        hovertemplate=f"{bound.text}<extra></extra>",
    )


def _are_bounded(fronts: Sequence[TaskFront]) -> bool:
    """Tell whether a bound is drawn on any panel."""
    for front in fronts:
        if not (front.trials or front.infeasible):
            continue
        shown = window(front)
        for bound, (low, high) in (
            (front.quality_bound, shown.quality_limits),
            (front.cost_bound, shown.cost_limits),
        ):
            if bound is not None and low < bound.value < high:
                return True
    return False


def outside(front: TaskFront, shown: Window) -> list[str]:
    """List what the panel does not draw, one line each.

    These are bounds beyond its axes or on neither of them, and misses beyond its axes.
    """
    lines = [f"also required: {bound.label}" for bound in front.other_bounds]
    for bound, (low, high) in (
        (front.quality_bound, shown.quality_limits),
        (front.cost_bound, shown.cost_limits),
    ):
        if bound is not None and not low < bound.value < high:
            lines.append(f"{bound.label}, off the axis")
    if shown.outliers:
        worst = (max, min)[maximised(front.quality)](
            trial.metrics[front.quality] for trial in shown.outliers
        )
        count = len(shown.outliers)
        what = "1 outlier" if count == 1 else f"{count} outliers, the worst"
        lines.append(f"at the edge: {what} at {number(worst)}")
    if uncertainty.cut_ends(front, shown.quality_limits):
        lines.append("arrows: intervals that go on")
    if shown.num_outside:
        misses = "miss" if shown.num_outside == 1 else "misses"
        lines.append(f"{shown.num_outside} {misses} off the axis")
    return lines


def maximised(name: str) -> bool:
    """Tell whether higher is better."""
    return report.describe(name).direction == "maximize"


def _with_near(values: list[float], others: list[float], share: float = _REACH) -> list[float]:
    """Return `values` with those of `others` that are within reach of them."""
    low, high = min(values), max(values)
    reach = share * (high - low) or 0.5 * abs(high) or 0.5
    return values + [v for v in others if low - reach <= v <= high + reach]
