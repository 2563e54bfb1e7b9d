"""Draw parallel coordinates: the trials' choices, what they cost and how well they did."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.labels import metric_label, number, task_label, unit_label
from analysis.methods import method_order, method_style
from analysis.plots import canvas, style
from analysis.plots.fronts import crowding
from analysis.plots.fronts.bounds import MISSED
from analysis.studies.trials import Trial, is_value
from trainables import report

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MAX_PARAMS = 6
_NOT_SHOWN = ("seed", "method")
_MISSED_DASHES = (0, (1, 1.6))


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Hold one coordinate.

    places: in [0, 1] by trial, None where it is not set. ticks: as (place, text). note: the second
    line, a direction or a unit.
    """

    label: str
    note: str  # direction or unit, second line
    places: tuple[float | None, ...]
    ticks: tuple[tuple[float, str], ...]


def coordinates(trials: Sequence[Trial], objectives: Sequence[str]) -> tuple[Axis, ...]:
    """Return the parameters that vary (target sparsity first), then the cost, then the qualities.

    Quality axes are turned so that better is up, cost axes so that cheaper is up.
    """
    axes = [_param_axis(trials, name) for name in varying_params(trials)[:_MAX_PARAMS]]
    cost = [n for n in objectives if n.startswith("cost/")]
    for name in cost + [n for n in objectives if n not in cost]:
        values = [trial.metrics.get(name) for trial in trials]
        axis = _numeric_axis(
            values, _metric_title(name), _metric_note(name), name, _worse_end(name)
        )
        if report.describe(name).direction == "minimize":
            axis = Axis(
                label=axis.label,
                note=axis.note,
                places=tuple(None if p is None else 1 - p for p in axis.places),
                ticks=tuple((1 - p, text) for p, text in axis.ticks),
            )
        axes.append(axis)
    return tuple(axes)


def varying_params(trials: Sequence[Trial]) -> list[str]:
    """Return the parameters with at least two values among the trials, the target sparsity first.

    A count of 0 steps of pre-training is no value: the method's name says that there are none.
    """
    names = sorted({name for t in trials for name in t.params})
    found = [
        name
        for name in names
        if name not in _NOT_SHOWN
        and len({repr(t.params[name]) for t in trials if is_value(name, t.params.get(name))}) > 1
    ]
    return sorted(found, key=lambda n: (n != "sparsity.target", n))


def draw(
    trials: Sequence[Trial],
    objectives: Sequence[str],
    members: Collection[str],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw members of the joint front in full colour over the faint lines of the others.

    A trial that ran to its end and missed a constraint is dotted.
    """
    axes_list = coordinates(trials, objectives)
    figure = canvas.new_figure(max(8.6, 1.75 * len(axes_list) + 0.8), 5.2, title, subtitle)
    plot = figure.subplots()
    plot.set_axis_off()
    plot.set_xlim(-0.25, len(axes_list) - 0.55)
    plot.set_ylim(-0.06, 1.2)
    for index, trial in sorted(enumerate(trials), key=lambda item: item[1].trial in members):
        joint, missed = trial.trial in members, trial.status == "infeasible"
        ys = [axis.places[index] for axis in axes_list]
        plot.plot(
            range(len(ys)),
            [math.nan if y is None else y for y in ys],
            color=method_style(trial.method).colour,
            alpha=0.95 if joint else 0.45 if missed else 0.18,
            linewidth=1.7 if joint else 1.0,
            linestyle=_MISSED_DASHES if missed else "-",
            zorder=3 if joint else 2,
            marker="o",
            markersize=3 if joint else 0,
        )
    for place, axis in enumerate(axes_list):
        plot.axvline(
            place, ymin=0.06 / 1.26, ymax=1.06 / 1.26, color="#6b7280", linewidth=1, zorder=4
        )
        plot.text(
            place, 1.13, axis.label, ha="center", fontsize=9.5, fontweight="bold", color=style.INK
        )
        plot.text(place, 1.07, axis.note, ha="center", fontsize=8, color=style.QUIET)
        for y, text in axis.ticks:
            plot.text(
                place + 0.03,
                y,
                text,
                va="center",
                fontsize=8,
                color=style.INK,
                zorder=5,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )
    methods = method_order(t.method for t in trials)
    handles = [canvas.method_line_handle(m) for m in methods]
    if any(trial.status == "infeasible" for trial in trials):
        handles.append(
            Line2D([], [], color=style.QUIET, linewidth=1, linestyle=_MISSED_DASHES, label=MISSED)
        )
    canvas.legend_below(figure, handles, columns=6)
    return figure


def interactive(trials: Sequence[Trial], objectives: Sequence[str]) -> "go.Figure":
    """Draw axes that can be brushed and moved, one line per trial, coloured by method.

    Plotly has no dashes here: where some trial missed a constraint, an axis of its own says which.
    """
    import plotly.graph_objects as go

    methods = method_order(t.method for t in trials)
    codes = [methods.index(t.method) for t in trials]
    last = max(1, len(methods) - 1)
    colours = [method_style(m).colour for m in methods]
    stops = [[i / last, colour] for i, colour in enumerate(colours)]
    dimensions: list[dict[str, Any]] = [
        {
            "label": "method",
            "values": codes,
            "tickvals": list(range(len(methods))),
            "ticktext": [method_style(m).label for m in methods],
            "range": [-0.3, last + 0.3],
        }
    ]
    if any(trial.status == "infeasible" for trial in trials):
        dimensions.append(
            {
                "label": "constraints",
                "values": [float(trial.status != "infeasible") for trial in trials],
                "tickvals": [0, 1],
                "ticktext": ["missed", "met"],
                "range": [-0.1, 1.1],
            }
        )
    num_params = len(coordinates(trials, objectives)) - len(objectives)
    for place, axis in enumerate(coordinates(trials, objectives)):
        # Plotly has no gap in a line: a value that is not set is drawn under the axis.
        absent = any(p is None for p in axis.places)
        dimensions.append(
            {
                "label": _full_label(axis, is_param=place < num_params),
                "values": [-0.15 if p is None else p for p in axis.places],
                "tickvals": [*([-0.15] if absent else []), *(p for p, _ in axis.ticks)],
                "ticktext": [*(["not set"] if absent else []), *(text for _, text in axis.ticks)],
                "range": [-0.15 if absent else 0.0, 1.0],
            }
        )
    figure = go.Figure(
        go.Parcoords(
            line={
                "color": codes,
                "cmin": 0,
                "cmax": last,
                "colorscale": stops if len(stops) > 1 else [[0, colours[0]], [1, colours[0]]],
            },
            dimensions=dimensions,
            labelangle=-26,
            labelside="top",
            unselected={"line": {"opacity": 0.06}},
        )
    )
    canvas.page_layout(figure, 490)
    figure.update_layout(
        margin={"l": 150, "r": 70, "t": 120, "b": 30},
        meta={"trials": [trial.trial for trial in trials]},  # by which a page filters
    )
    return figure


def page_width(trials: Sequence[Trial], objectives: Sequence[str]) -> int:
    """Return how many pixels wide the page's figure must be for the names of its axes."""
    return 220 + 95 * len(coordinates(trials, objectives))  # its margins, and from axis to axis


def _full_label(axis: Axis, *, is_param: bool) -> str:
    """Return for example "optimiser learning rate (log)": Plotly has no second line for a note."""
    words = axis.note.split(", ")
    scale = " (log)" if words[-1] == "log" else ""
    group = words[0] if is_param and words[0] not in ("", "log") else ""
    return f"{group} {axis.label}".strip() + scale


def _metric_title(name: str) -> str:
    if name.startswith("cost/"):
        return metric_label(name).capitalize()
    task = report.task_of(name)
    return task_label(task)


def _metric_note(name: str) -> str:
    if name.startswith("cost/"):
        return ""
    unit = unit_label(name)
    return f"{metric_label(name)} ({unit})" if len(unit) == 1 else metric_label(name)


def _param_axis(trials: Sequence[Trial], name: str) -> Axis:
    values = [trial.params.get(name) for trial in trials]
    present = [v for v in values if v is not None]
    group, _, leaf = name.rpartition(".")
    # "optimiser.name" is the optimiser; "sparsity.target" is the target of the sparsity.
    label = group if leaf == "name" else leaf.replace("_", " ")
    group = "" if leaf == "name" else group
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in present):
        metric = "cost/sparsity" if name == "sparsity.target" else None  # in percent, as costs are
        return _numeric_axis(values, label, group, metric)
    kinds = sorted({str(v) for v in present})
    spread = max(1, len(kinds) - 1)
    places = {kind: (i / spread if len(kinds) > 1 else 0.5) for i, kind in enumerate(kinds)}
    return Axis(
        label=label,
        note=group,
        places=tuple(None if v is None else places[str(v)] for v in values),
        ticks=tuple((place, kind) for kind, place in places.items()),
    )


def _worse_end(name: str) -> str:
    return "high" if report.describe(name).direction == "minimize" else "low"


def _numeric_axis(
    values: Sequence[Any], label: str, note: str, metric: str | None, worse_end: str = ""
) -> Axis:
    """Return an axis of numbers. Outliers at its `worse_end` are drawn at the end itself."""
    finite = [float(v) for v in values if v is not None and math.isfinite(v)]
    every = finite
    if worse_end:
        finite = crowding.without_outliers(every, high_is_worse=worse_end == "high")
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    logarithmic = style.wants_log(finite)
    beyond = {low: "≤ "} if every and min(every) < low else {}
    beyond |= {high: "≥ "} if every and max(every) > high else {}

    def place(value: float) -> float:
        value = min(max(value, low), high)
        if high == low:
            return 0.5
        if logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    if high == low:
        marks = [low] if finite else []
    elif logarithmic:
        inner = [t for t in style.log_ticks(low, high) if 0.08 < place(t) < 0.92]
        marks = [low, *inner[:: -(-len(inner) // 3) or 1], high]
    else:
        inner = [t for t in style.linear_ticks(low, high) if 0.06 < place(t) < 0.94]
        marks = [low, *inner, high]
    return Axis(
        label=label,
        note=", ".join(word for word in (note, "log" if logarithmic else "") if word),
        places=tuple(
            place(float(v)) if v is not None and math.isfinite(v) else None for v in values
        ),
        ticks=tuple((place(m), beyond.get(m, "") + number(m, metric)) for m in marks),
    )
