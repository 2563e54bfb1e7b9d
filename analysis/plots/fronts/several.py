"""Draw several studies on one front: coloured by study, dense models aligned."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.labels import admitting, axis_label, metric_label, number, task_label, unit_label
from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.plots.fronts import crowding, front
from analysis.plots.fronts.bounds import maximised
from analysis.statistics.fronts import attainment_line
from analysis.statistics.several import Placed, Several
from trainables import report

if TYPE_CHECKING:
    import plotly.graph_objects as go

TOGETHER = "front of all studies together"
DENSE = "dense model of each study"
# Okabe & Ito (2008), without the yellow that is lost on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw(found: Several, title: str, subtitle: str) -> Figure:
    """Draw one panel per task, with a staircase per study and one of all together."""
    rows, columns = front.grid(len(found.qualities))
    width = {1: 7.2, 2: 8.8}.get(columns, 10.4)
    figure = canvas.new_figure(width, 3.6 * rows + 1.5, title, subtitle)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, quality in zip(cells, found.qualities, strict=False):
        _panel(axes, found, quality)
    for axes in cells[len(found.qualities) :]:
        axes.set_visible(False)
    canvas.legend_below(figure, _handles(found), columns=3)
    return figure


def _panel(axes: Axes, found: Several, quality: str) -> None:
    canvas.tidy(axes)
    axes.set_title(_title(quality), loc="left", fontsize=style.PANEL_SIZE, fontweight="bold")
    canvas.mark_better(axes, "↖" if maximised(quality) else "↙")
    axes.set_ylabel(_quality_label(found, quality), fontsize=style.LABEL_SIZE)
    _, right = canvas.cost_axis(axes, found.cost, _costs(found))
    low, high = _limits(found, quality)
    axes.set_ylim(low, high)
    if found.aligned:
        axes.axhline(0, color="black", linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    for name in found.studies:
        colour = colour_of(found, name)
        axes.plot(*_line(found, quality, name, right), color=colour, linewidth=1.3, zorder=2.5)
        if found.dense[name] and not found.aligned:
            level = found.dense[name][quality]
            axes.axhline(level, color=colour, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    line = _line(found, quality, None, right)
    axes.plot(*line, color=style.FRONT, linewidth=3.6, alpha=0.22, zorder=2.4)
    members = {one.trial.trial for one in found.members}
    inset = 0.03 * (high - low)
    outwards = "v" if maximised(quality) else "^"  # of an outlier, marked at the edge
    for one in sorted(found.placed, key=lambda p: p.trial.trial in members):
        joint, value = one.trial.trial in members, one.values[quality]
        axes.scatter(
            one.values[found.cost],
            min(max(value, low + inset), high - inset),
            s=48 if joint else 30,
            marker=method_style(one.trial.method).marker if low < value < high else outwards,
            color=colour_of(found, one.study),
            alpha=1.0 if joint else 0.45,
            edgecolors=style.INK if joint else "white",
            linewidths=0.8 if joint else 0.4,
            zorder=5 if joint else 4,
        )


def interactive(found: Several, title: str) -> "go.Figure":
    """Draw all panels as one page, one above the other; a click on a study hides it in all."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    count = len(found.qualities)
    titles = [f"<b>{_title(quality)}</b>" for quality in found.qualities]
    figure = make_subplots(rows=count, cols=1, subplot_titles=titles, vertical_spacing=0.3 / count)
    low, right = canvas.cost_limits(_costs(found))
    logarithmic = style.wants_log(_costs(found))
    for row, quality in enumerate(found.qualities, start=1):
        for name in found.studies:
            colour = colour_of(found, name)
            common = {"legendgroup": name, "name": name}
            xs, ys = _line(found, quality, name, right)
            line = {"color": colour, "width": 1.6}
            stairs = go.Scatter(
                x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False, **common
            )
            figure.add_trace(stairs, row=row, col=1)
            figure.add_trace(_points(found, quality, name, common, first=row == 1), row=row, col=1)
        xs, ys = _line(found, quality, None, right)
        line = {"color": "rgba(17,24,39,0.25)", "width": 5}
        both = go.Scatter(
            x=xs,
            y=ys,
            mode="lines",
            line=line,
            hoverinfo="skip",
            name=TOGETHER,
            legendgroup=TOGETHER,
            showlegend=row == 1,
        )
        figure.add_trace(both, row=row, col=1)
        if found.aligned:
            figure.add_hline(
                y=0, line={"color": "black", "width": 1.3, "dash": "dash"}, row=row, col=1
            )
        figure.update_yaxes(
            title_text=_quality_label(found, quality),
            range=list(_limits(found, quality)),
            row=row,
            col=1,
        )
    canvas.page_layout(figure, 160 + 400 * count)
    ticks = style.log_ticks(low, right) if logarithmic else style.linear_ticks(low, right)
    axis = {"range": [math.log10(v) for v in (low, right)], "type": "log"}
    figure.update_xaxes(
        title_text=canvas.cost_label(found.cost, _costs(found)),
        tickvals=ticks,
        ticktext=[number(tick, found.cost).replace(" ", "") for tick in ticks],
        **(axis if logarithmic else {"range": [low, right]}),
    )
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    figure.update_layout(title={"text": title, "font": {"size": 17}}, legend=legend)
    figure.update_layout(margin={"l": 76, "r": 24, "t": 120, "b": 60})
    return figure


def colour_of(found: Several, study: str) -> str:
    """Return the colour of a study, by its place among those named."""
    return _COLOURS[found.studies.index(study) % len(_COLOURS)]


def _points(
    found: Several, quality: str, name: str, common: dict[str, str], *, first: bool
) -> "go.Scatter":
    import plotly.graph_objects as go

    members = {one.trial.trial for one in found.members}
    mine = [one for one in found.placed if one.study == name]
    joint = [one.trial.trial in members for one in mine]
    low, high = _limits(found, quality)
    return go.Scatter(
        x=[one.values[found.cost] for one in mine],
        y=[min(max(one.values[quality], low), high) for one in mine],
        mode="markers",
        marker={
            "symbol": [method_style(one.trial.method).symbol for one in mine],
            "color": colour_of(found, name),
            "size": [10 if j else 8 for j in joint],
            "opacity": [1.0 if j else 0.45 for j in joint],
            "line": {"color": [style.INK if j else "white" for j in joint], "width": 1},
        },
        showlegend=first,
        text=[_hover(found, one, quality) for one in mine],
        hovertemplate="%{text}<extra></extra>",
        **common,
    )


def _hover(found: Several, one: Placed, quality: str) -> str:
    label = method_style(one.trial.method).label
    told = [
        f"<b>{one.trial.trial}</b>",
        label,
        admitting(one.trial.metrics[found.cost], found.cost),
    ]
    told.append(f"{metric_label(quality)}: {admitting(one.trial.metrics[quality], quality)}")
    if found.aligned:
        told.append(f"{one.values[quality]:+.4g} to its dense model")
    return "<br>".join(told)


def _handles(found: Several) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour_of(found, name), marker="o", linewidth=1.3, label=name)
        for name in found.studies
    ]
    handles.append(Line2D([], [], color=style.FRONT, linewidth=3.6, alpha=0.22, label=TOGETHER))
    if any(found.dense.values()):
        dashed: dict[str, Any] = {"color": "black", "linewidth": 1.1, "linestyle": (0, (5, 3))}
        handles.append(Line2D([], [], **dashed, label=DENSE))
    for method in dict.fromkeys(one.trial.method for one in found.placed):
        look = method_style(method)
        plain: dict[str, Any] = {"linestyle": "none", "color": style.QUIET, "markersize": 6}
        handles.append(Line2D([], [], marker=look.marker, **plain, label=look.label))
    return handles


def _costs(found: Several) -> list[float]:
    return [one.values[found.cost] for one in found.placed]


def _limits(found: Several, quality: str) -> tuple[float, float]:
    values = [one.values[quality] for one in found.placed]
    levels = [0.0] if found.aligned else [dense[quality] for dense in found.dense.values() if dense]
    kept = crowding.without_outliers(values, high_is_worse=not maximised(quality))
    return canvas.quality_limits([*kept, *levels])


def _line(
    found: Several, quality: str, study: str | None, right: float
) -> tuple[list[float], list[float]]:
    members: Sequence[Placed] = found.front(quality, study)
    costs = [one.values[found.cost] for one in members]
    return attainment_line(costs, [one.values[quality] for one in members], right_edge=right)


def _title(quality: str) -> str:
    return task_label(report.task_of(quality))


def _quality_label(found: Several, quality: str) -> str:
    if not found.aligned:
        return axis_label(quality)
    unit = unit_label(quality)
    return f"{metric_label(quality)} − dense{f' ({unit})' if unit else ''}"
