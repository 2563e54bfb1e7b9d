"""docs/images/search.png: hypervolume over epochs, a panel per workload."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.plots import canvas, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by dashes as well as by colour (Okabe & Ito 2008).
_LOOKS: dict[str, tuple[str, Any, float]] = {
    "ours": ("#0072B2", "-", 2.6),
    "random": ("#8c8c8c", (0, (1, 1)), 1.8),
    "ray-asha": ("#E69F00", (0, (5, 1, 1, 1)), 1.8),
    "optuna-search": ("#D55E00", (0, (4, 1.5)), 1.8),
    "moasha": ("#CC79A7", (0, (2, 1)), 1.8),
}
_COLUMNS = 4


def draw(found: Mapping[str, Any], path: Path) -> bool:
    """Write the figure; False, and no file, where nothing was run."""
    if not found["workloads"]:
        path.unlink(missing_ok=True)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    figure(found).savefig(path)
    return True


def figure(found: Mapping[str, Any]) -> "Figure":
    """Ours and its peers; the parts are in the tables."""
    workloads = found["workloads"]
    rows = -(-len(workloads) // _COLUMNS)
    columns = min(_COLUMNS, len(workloads))
    drawn = canvas.new_figure(
        1.0 + 3.1 * columns,
        1.5 + 2.7 * rows,
        "What a search has found, by the epochs it has used",
        "hypervolume of full-length feasible trials, mean over seeds; dots: ours with its 95 % "
        "interval at every quarter",
    )
    grid = drawn.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index < len(workloads):
            _panel(axes, workloads[index])
        else:
            axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9.5)
    return drawn


def _panel(axes: "Axes", workload: Mapping[str, Any]) -> None:
    canvas.tidy(axes)
    axes.set_title(
        workload["title"].replace(", ", ",\n", 1),
        loc="left",
        fontsize=style.LABEL_SIZE,
        fontweight="bold",
    )
    lowest = []
    for system in workload["systems"]:
        if system["name"] not in _LOOKS:
            continue
        colour, dashes, width = _LOOKS[system["name"]]
        curve = system["curve"]
        axes.plot(
            curve["epochs"],
            curve["hypervolume"],
            color=colour,
            linestyle=dashes,
            linewidth=width,
            label=system["label"],
            zorder=3 if system["name"] == "ours" else 2,
        )
        lowest.append(system["quarters"][0]["mean"])
        if system["name"] == "ours":
            _quarters(axes, system["quarters"], workload["budget_epochs"], colour)
    if workload["front_hypervolume"] is not None:
        axes.axhline(workload["front_hypervolume"], color=style.INK, linewidth=1.0)
    axes.set_xlim(0, workload["budget_epochs"])
    axes.set_ylim(bottom=max(0.0, min(lowest) - 0.1))
    axes.set_xlabel("epochs", fontsize=style.LABEL_SIZE)


def _quarters(axes: "Axes", quarters: Any, budget: int, colour: str) -> None:
    for number, quarter in enumerate(quarters, start=1):
        at = budget * number / len(quarters)
        if quarter["low"] is not None:
            axes.plot([at, at], [quarter["low"], quarter["high"]], color=colour, linewidth=1.4)
        axes.plot(at, quarter["mean"], "o", color=colour, markersize=4)
