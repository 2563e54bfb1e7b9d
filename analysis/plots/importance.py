"""Draw the importance of parameters: one panel of bars per objective."""

import html
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from analysis.labels import metric_label, task_label
from analysis.plots import canvas, style
from analysis.statistics.importance import MAX_SHOWN, Importance, Importances
from trainables import report

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TOLD, _UNTOLD = "#0072B2", "#c7ccd4"
_TOLD_LABEL = "distinguishable from chance (p < 0.05)"
_UNTOLD_LABEL = "not distinguishable from chance"
_WHISKER = "#374151"
_DEVIATION_LABEL = "± one standard deviation"
_FLAT = "more than half of", "the trials share", "the best value"


def shown(found: Importances) -> tuple[str, ...]:
    """Return the most important parameters, all of them if they are few."""
    return found.parameters[:MAX_SHOWN]


def panel_titles(objective: str) -> tuple[str, str]:
    """Return the two lines of a title, such as "Segmentation" and "mIoU", "Cost" and "density"."""
    if objective.startswith("cost/"):
        return "Cost", metric_label(objective)
    task = report.task_of(objective)
    return task_label(task), metric_label(objective)


def draw(found: Importances, title: str, subtitle: str) -> Figure:
    """Draw bars of the shares with deviations, pale where they may be due to chance."""
    names = shown(found)
    count = len(found.objectives)
    height = 1.9 + 0.29 * max(3, len(names))
    figure = canvas.new_figure(3.0 + 2.0 * max(2, count), height, title, subtitle)
    cells = figure.subplots(1, count, squeeze=False, sharey=True, sharex=True).ravel()
    for axes, objective in zip(cells, found.objectives, strict=True):
        _panel(axes, found, objective, names)
    cells[0].set_yticks(range(len(names)), names)
    cells[0].set_ylim(len(names) - 0.4, -0.6)
    handles = [
        Patch(color=_TOLD, label=_TOLD_LABEL),
        Patch(color=_UNTOLD, label=_UNTOLD_LABEL),
        Line2D([], [], color=_WHISKER, linewidth=1.1, label=_DEVIATION_LABEL),
    ]
    canvas.legend_below(figure, handles)
    return figure


def _panel(axes: Axes, found: Importances, objective: str, names: tuple[str, ...]) -> None:
    canvas.tidy(axes)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.set_xlim(0, 1.0)
    axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1.0]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}"))
    axes.set_xlabel("share (%)", fontsize=style.LABEL_SIZE)
    head, below = panel_titles(objective)
    axes.set_title(head, loc="left", fontsize=style.PANEL_SIZE, fontweight="bold", pad=17)
    note: dict[str, Any] = {
        "transform": axes.transAxes,
        "fontsize": style.TICK_SIZE,
        "color": style.QUIET,
    }
    axes.text(0, 1.01, below, va="bottom", **note)
    items = found.of(objective)
    if not items:
        axes.text(0.5, 0.5, "\n".join(_FLAT), ha="center", va="center", **note)
        return
    for place, name in enumerate(names):
        item = items[name]
        axes.barh(place, item.share, height=0.66, color=_colour(item), zorder=2)
        # With butt ends an interval of length 0 does not appear as a dot.
        line: dict[str, Any] = {
            "color": _WHISKER,
            "linewidth": 1.1,
            "solid_capstyle": "butt",
            "zorder": 3,
        }
        axes.plot(_interval(item), [place, place], **line)


def interactive(found: Importances) -> "go.Figure":
    """Draw the bars for the page, without a legend: `legend` serves them."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = shown(found)
    heads = [panel_titles(objective) for objective in found.objectives]
    figure = make_subplots(
        rows=1,
        cols=len(heads),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[
            f'<b>{head}</b><br><span style="color:{style.QUIET}">{below}</span>'
            for head, below in heads
        ],
    )
    for column, objective in enumerate(found.objectives, start=1):
        items = found.of(objective)
        for label, told in ((_TOLD_LABEL, True), (_UNTOLD_LABEL, False)):
            mine = [items[n] for n in names if n in items and items[n].is_told == told]
            bars = go.Bar(
                x=[100 * item.share for item in mine],
                y=[item.parameter for item in mine],
                orientation="h",
                marker={"color": _TOLD if told else _UNTOLD},
                error_x={
                    "array": [100 * (_interval(item)[1] - item.share) for item in mine],
                    "arrayminus": [100 * (item.share - _interval(item)[0]) for item in mine],
                    "symmetric": False,
                    "color": _WHISKER,
                    "thickness": 1.1,
                    "width": 0,
                },
                name=label,
                text=[_hover(item, found.num_trials) for item in mine],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
            figure.add_trace(bars, row=1, col=column)
        if not items:
            figure.add_annotation(
                x=50,
                y=(len(names) - 1) / 2,
                text="<br>".join(_FLAT),
                showarrow=False,
                font={"color": style.QUIET},
                row=1,
                col=column,
            )
    canvas.page_layout(figure, 150 + 24 * max(4, len(names)))
    figure.update_layout(
        showlegend=False, barmode="overlay", margin={"l": 20, "r": 16, "t": 58, "b": 52}
    )
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title={"text": "share (%)", "standoff": 8}, range=[0, 100], dtick=25)
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=list(names),
        range=[len(names) - 0.4, -0.6],
        automargin=True,
        showgrid=False,
    )
    return figure


def page_width(found: Importances) -> int:
    """Return how many pixels wide the page's figure must be for the titles of its panels."""
    return 200 + 175 * len(found.objectives)


def legend() -> list[tuple[str, str]]:
    """Return (trace name, SVG of its look) for everything that the page's panels show."""
    return [
        (_TOLD_LABEL, canvas.marker_svg("s", _TOLD)),
        (_UNTOLD_LABEL, canvas.marker_svg("s", _UNTOLD)),
    ]


def _hover(item: Importance, num_trials: int) -> str:
    deviation = f"{100 * item.share:.0f} % ± {100 * item.deviation:.0f}"
    return (
        f"<b>{html.escape(item.parameter)}</b>: {deviation}<br>p = {item.p_value:.3f}<br>"
        f"in {item.num_trials} of {num_trials} trials"
    )


def _colour(item: Importance) -> str:
    return _TOLD if item.is_told else _UNTOLD


def _interval(item: Importance) -> tuple[float, float]:
    """Return one deviation to both sides, cut to [0, 1]; no interval about a share of 0."""
    if item.share == 0:
        return 0.0, 0.0
    return max(0.0, item.share - item.deviation), min(1.0, item.share + item.deviation)
