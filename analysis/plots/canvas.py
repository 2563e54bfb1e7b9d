"""Prepare what figures are drawn on: Matplotlib without global state, Plotly's layout."""

import html
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.labels import axis_label, shown_factor
from analysis.methods import method_style
from analysis.plots import style
from trainables.errors import UserError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_HOVER_CHARACTERS = 34  # of a panel that is 300 pixels wide
# How an interactive figure behaves in a page.
PAGE_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,  # no button that gives the study away
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}


def new_figure(width_inches: float, height_inches: float, title: str, subtitle: str = "") -> Figure:
    """Return a white figure with a title at the left and a quieter line under it."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=style.DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08, wspace=0.04, hspace=0.06)
    text = f"{title}\n" if subtitle else title
    figure.suptitle(
        text,
        x=0.012,
        ha="left",
        fontsize=style.TITLE_SIZE,
        fontweight="bold",
        color=style.INK,
        linespacing=1.5,
    )
    if subtitle:
        # Under the title's first line, in the blank second line that the title reserves.
        figure.text(
            0.012,
            1 - 0.45 / height_inches,
            subtitle,
            ha="left",
            va="center",
            fontsize=style.LABEL_SIZE,
            color=style.QUIET,
        )
    return figure


def tidy(axes: Axes) -> None:
    """Give axes a quiet grid, no box and readable ticks."""
    axes.set_axisbelow(True)
    axes.grid(True, color=style.GRID, linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9ca3af")
    axes.tick_params(colors="#4b5563", labelsize=style.TICK_SIZE, length=3)
    axes.xaxis.label.set_color(style.INK)
    axes.yaxis.label.set_color(style.INK)


def mark_better(axes: Axes, arrow: str) -> None:
    """Write the arrow that leads to better values beside the panel's title."""
    axes.set_title(
        f"{arrow} better",
        loc="right",
        fontsize=style.LABEL_SIZE,
        color=style.BETTER,
        fontweight="bold",
    )


def folded(text: str, form: str = "{}") -> list[str]:
    """Return a hover's text in lines that the narrowest panel has room for.

    Each is escaped and put in `form`.
    """
    lines = textwrap.wrap(text, _HOVER_CHARACTERS, subsequent_indent="\u2003")
    return [form.format(html.escape(line)) for line in lines]


def better_html(arrow: str) -> str:
    """Return the same for a title of the page."""
    return f"<span style='color:{style.BETTER};font-size:12px'>{arrow} better</span>"


def cost_axis(axes: Axes, name: str, values: Sequence[float]) -> tuple[float, float]:
    """Set scale, limits and ticks of an x axis of costs, and return the limits."""
    low, high = cost_limits(values)
    if style.wants_log(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(style.log_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlim(low, high)
    factor = shown_factor(name)
    if factor != 1.0:  # the axis label says the unit
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{factor * v:.4g}"))
    axes.set_xlabel(cost_label(name, values), fontsize=style.LABEL_SIZE)
    return low, high


def cost_label(name: str, values: Sequence[float]) -> str:
    """Return the title of an axis of these costs, which says where its scale is logarithmic."""
    return f"{axis_label(name)}, log scale" if style.wants_log(values) else axis_label(name)


def cost_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits with room on both sides: a factor on a logarithmic axis, else a share."""
    low, high = min(values), max(values)
    if style.wants_log(values):
        factor = (high / low) ** 0.06
        return low / factor, high * factor
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def quality_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits with room at both ends for a label of the best or worst value.

    Constant values get a visible band around them.
    """
    low, high = min(values), max(values)
    margin = 0.14 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def method_handle(method: str, size: float = 7.0) -> Line2D:
    """Return the legend's entry of a method: its marker in its colour."""
    look = method_style(method)
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=look.marker,
        color=look.colour,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=look.label,
    )


def method_line_handle(method: str) -> Line2D:
    """Return the legend's entry of a method that is drawn as a line."""
    look = method_style(method)
    return Line2D([], [], color=look.colour, linewidth=2.2, label=look.label)


def marker_svg(marker: str | tuple[int, int, int], colour: str) -> str:
    """Return a Matplotlib marker as a small SVG picture."""
    shape = MarkerStyle(marker)
    path = shape.get_path().transformed(shape.get_transform())
    polygons = [np.asarray(polygon, dtype=float) for polygon in path.to_polygons()]
    size = max(float(np.abs(polygon).max()) for polygon in polygons)
    outline = "".join(
        "M" + "L".join(f"{6 * x / size:.2f},{-6 * y / size:.2f}" for x, y in polygon) + "Z"
        for polygon in polygons
    )
    shown = f'<path d="{outline}" fill="{colour}"/>'
    return f'<svg width="14" height="14" viewBox="-7 -7 14 14">{shown}</svg>'


def ring_svg(colour: str) -> str:
    """Return the outline of a marker as a small SVG picture."""
    ring = f'<circle r="5" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'<svg width="14" height="14" viewBox="-7 -7 14 14">{ring}</svg>'


def line_svg(colour: str, dashes: str) -> str:
    """Return a piece of a line as SVG; `dashes` are SVG's lengths, "" for a solid line."""
    return (
        '<svg width="30" height="10" viewBox="0 0 30 10"><path d="M1,5H29" fill="none" '
        f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes or "none"}"/></svg>'
    )


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int = 6) -> None:
    """Put one legend under all panels, where it covers nothing."""
    figure.legend(
        handles=list(handles),
        loc="outside lower left",
        ncols=min(columns, max(1, len(handles))),
        frameon=False,
        fontsize=style.LABEL_SIZE,
        handletextpad=0.5,
        columnspacing=1.5,
        labelcolor=style.INK,
    )


def png(figure: Figure) -> bytes:
    """Return the figure as the contents of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=style.DPI, format="png")
    return file.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all. Raises `UserError` where the folder is not writable."""
    return write_png(png(figure), path)


def write_png(contents: bytes, path: Path) -> Path:
    """Write what `png` gave, as `save` does."""
    partial = path.with_name(f".{path.name}.partial.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(contents)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; name another folder with --out"
        ) from None
    return path


def page_layout(figure: "go.Figure", height: int, **changes: Any) -> "go.Figure":
    """Give a figure of the page the common layout, with `changes`, and return it."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        font={"family": style.PAGE_FONT, "size": 13, "color": style.INK},
        margin={"l": 70, "r": 24, "t": 48, "b": 60},
        hoverlabel={"font": {"family": style.PAGE_FONT, "size": 13}, "align": "left"},
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(255,255,255,0)", "color": "#b6bcc6", "activecolor": style.QUIET},
        **changes,
    )
    axis = {"gridcolor": style.GRID, "zeroline": False, "linecolor": "#9ca3af"}
    figure.update_xaxes(title_font_size=13, **axis)
    figure.update_yaxes(title_font_size=13, **axis)
    return figure
