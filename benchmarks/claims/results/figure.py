"""docs/images/claims.png: the effect of every claim with its interval, a panel per data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.methods import method_style
from analysis.plots import canvas, style
from analysis.studies.systems_by_seed import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by shape as well as by colour (Okabe & Ito 2008).
_LOOKS = {
    "holds": ("#0072B2", "o", "holds"),
    "does not hold": ("#D55E00", "X", "does not hold"),
    "undecided": ("#8c8c8c", "D", "undecided"),
}


def draw(found: Mapping[str, Any], path: Path) -> bool:
    """Write the figure; False, and no file, where no claim has been judged."""
    settings = [s for s in found["settings"] if any(c["delta"] for c in s["pairs"])]
    if not settings:
        path.unlink(missing_ok=True)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    figure(settings, percent(found["interval_level"])).savefig(path)
    return True


def figure(settings: Sequence[Mapping[str, Any]], level: str) -> "Figure":
    """Claims down the side in the document's order, one panel per setting, one row beneath for
    the watershed, whose effect is a correlation."""
    pairs = settings[0]["pairs"]
    watersheds = settings[0]["watersheds"]
    drawn = canvas.new_figure(
        3.2 + 3.1 * len(settings),
        2.6 + 0.27 * (len(pairs) + len(watersheds)),
        "Each claim's effect: first system against the second",
        f"mean over paired seeds with its {level} interval, test split; right of the line is "
        "better for the first system",
    )
    grid = drawn.subplots(
        2,
        len(settings),
        squeeze=False,
        sharey="row",
        gridspec_kw={"height_ratios": [len(pairs) + 1, len(watersheds) + 1]},
    )
    for column, setting in enumerate(settings):
        _pairs(grid[0, column], setting)
        _watersheds(grid[1, column], setting)
    labels = [_label(c["method"], c["reference"], c["sparsity"]) for c in pairs]
    _name_rows(grid[0, 0], labels)
    _name_rows(grid[1, 0], [_label(c["method"], "", c["sparsity"]) for c in watersheds])
    drawn.legend(
        handles=_legend(), loc="outside lower center", ncols=4, frameon=False, fontsize=9.5
    )
    return drawn


def _pairs(axes: "Axes", setting: Mapping[str, Any]) -> None:
    title = setting["title"].replace(", ", ",\n")  # panels are narrow
    axes.set_title(title, loc="left", fontsize=style.PANEL_SIZE, fontweight="bold")
    _frame(axes, len(setting["pairs"]))
    axes.axvline(0, color=style.INK, linewidth=1.0)
    groups = [c["group"] for c in setting["pairs"]]
    for row, claim in enumerate(setting["pairs"]):
        if row and groups[row] != groups[row - 1]:
            axes.axhline(row - 0.5, color=style.GRID, linewidth=1.4)
        if claim["margin_percent"] > 0:
            axes.plot(
                [-claim["margin_percent"]] * 2,
                [row - 0.5, row + 0.5],
                color=style.INK,
                linestyle=(0, (2, 1.5)),
                linewidth=1.2,
            )
        if claim["delta"] is not None:
            _effect(axes, row, claim["delta"], claim["verdict"])
    axes.set_xlabel("Δ_T (%)", fontsize=style.LABEL_SIZE)


def _watersheds(axes: "Axes", setting: Mapping[str, Any]) -> None:
    _frame(axes, len(setting["watersheds"]))
    axes.axvline(0, color=style.INK, linewidth=1.0)
    axes.set_xlim(-1.05, 1.05)
    for row, claim in enumerate(setting["watersheds"]):
        if claim["mean"] is not None:
            _effect(axes, row, claim, claim["verdict"])
    axes.set_xlabel("Spearman's ρ of agreement with depth\n(falling: left)", fontsize=9.5)


def _effect(axes: "Axes", row: int, effect: Mapping[str, Any], verdict: str) -> None:
    colour, marker, _ = _LOOKS[verdict]
    if effect["low"] is not None:
        axes.plot([effect["low"], effect["high"]], [row, row], color=colour, linewidth=2.0)
    axes.plot(
        effect["mean"],
        row,
        marker=marker,
        color=colour,
        markersize=7,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle="none",
    )


def _frame(axes: "Axes", rows: int) -> None:
    canvas.tidy(axes)
    axes.grid(False, axis="y")
    axes.set_ylim(rows - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _name_rows(axes: "Axes", labels: Sequence[str]) -> None:
    # In ink: here colour means a verdict, not a method as in the other figures.
    axes.set_yticks(range(len(labels)), labels, fontsize=9.5, color=style.INK)


def _label(method: str, reference: str, sparsity: float) -> str:
    what = method_style(reference).label if reference else "agreement by depth"
    return f"{method_style(method).label} – {what}, {percent(sparsity)}"


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=2.0, label=label)
        for colour, marker, label in _LOOKS.values()
    ]
    dashed = Line2D([], [], color=style.INK, linestyle=(0, (2, 1.5)), label="margin of lossless")
    return [*handles, dashed]
