"""How fast the study found its front: the hypervolume of all trials so far, by trial."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.plots import canvas, style
from analysis.trials import Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

LABEL = "hypervolume (share of the reference box)"


def draw(
    trials: Sequence[Trial], share_N: NDArray[np.float64], title: str, subtitle: str
) -> Figure:
    """`trials` in the order they ended and `share_N`, the hypervolume after each, 0 to 1."""
    figure = canvas.new_figure(8.6, 4.7, title, subtitle)
    axes = figure.subplots()
    canvas.tidy(axes)
    axes.set_xlabel("complete trials, in the order they ended", fontsize=style.LABEL_SIZE)
    axes.set_ylabel(LABEL, fontsize=style.LABEL_SIZE)
    axes.set_title(
        "↑ better", loc="right", fontsize=style.LABEL_SIZE, color="#047857", fontweight="bold"
    )
    if not len(trials):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(
            0.5,
            0.5,
            "no complete trial yet",
            transform=axes.transAxes,
            ha="center",
            color=style.QUIET,
        )
        return figure
    count_N = np.arange(1, len(trials) + 1)
    axes.step(count_N, share_N, where="post", color=style.FRONT, linewidth=1.8, zorder=3)
    axes.fill_between(
        count_N, share_N, step="post", color=style.FRONT, alpha=0.05, linewidth=0, zorder=1
    )
    improving = _improving(share_N)
    for index in map(int, np.flatnonzero(improving)):
        look = style.method_style(trials[index].method)
        axes.scatter(
            count_N[index],
            share_N[index],
            s=50,
            marker=look.marker,
            color=look.colour,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.5, len(trials) + 0.5)
    axes.set_ylim(0, max(0.05, float(share_N[-1]) * 1.12))
    axes.annotate(
        f"{share_N[-1]:.3f}",
        xy=(count_N[-1], share_N[-1]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        fontsize=style.LABEL_SIZE,
        fontweight="bold",
        color=style.INK,
    )
    methods = style.method_order(
        t.method for t, grew in zip(trials, improving, strict=True) if grew
    )
    canvas.legend_below(figure, [canvas.method_handle(m) for m in methods], columns=5)
    return figure


def interactive(
    trials: Sequence[Trial], share_N: NDArray[np.float64], hover: Mapping[str, str]
) -> "go.Figure":
    """The same for the page."""
    import plotly.graph_objects as go

    figure = go.Figure()
    count = list(range(1, len(trials) + 1))
    figure.add_trace(
        go.Scatter(
            x=count,
            y=share_N.tolist(),
            mode="lines",
            line={"shape": "hv", "color": style.FRONT, "width": 2},
            fill="tozeroy",
            fillcolor="rgba(17,24,39,0.05)",
            name="hypervolume",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    improving = _improving(share_N)
    grew = [(n, t) for n, t in zip(count, trials, strict=True) if improving[n - 1]]
    for method in style.method_order(t.method for _, t in grew):
        look = style.method_style(method)
        mine = [(n, t) for n, t in grew if t.method == method]
        figure.add_trace(
            go.Scatter(
                x=[n for n, _ in mine],
                y=[float(share_N[n - 1]) for n, _ in mine],
                mode="markers",
                marker={
                    "symbol": look.symbol,
                    "color": look.colour,
                    "size": 10,
                    "line": {"color": "white", "width": 0.8},
                },
                name=look.label,
                text=[hover.get(t.trial, t.trial) for _, t in mine],
                hovertemplate="hypervolume %{y:.4f}<br>%{text}<extra></extra>",
            )
        )
    canvas.page_layout(figure, 400)
    figure.update_xaxes(
        title_text="complete trials, in the order they ended",
        range=[0.5, len(trials) + 0.5],
        tick0=1,
        dtick=max(1, round(len(trials) / 12)),
    )
    figure.update_yaxes(title_text=LABEL, rangemode="tozero")
    return figure


def _improving(share_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    grew: NDArray[np.bool_] = np.diff(share_N, prepend=0.0) > 0
    return grew
