"""Find what the report of a grid shows: curves over sparsity and comparisons, and no front.

A grid trains every system at the same sparsities and seeds. It searches nothing, so progress and
importance mean nothing, and a front of its trials would be one of lucky seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.plots import canvas
from analysis.plots.systems import curves, forest
from analysis.statistics.comparing.curves import TaskCurves, task_curves
from analysis.statistics.comparing.paired import Row, compare_systems
from analysis.studies.systems_by_seed import Grid, read_grid
from analysis.studies.trials import Study
from analysis.tables import comparisons
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class GridFindings:
    """Hold a grid's curves and comparisons. `reason` says why there are no comparisons."""

    grid: Grid
    curves: tuple[TaskCurves, ...]
    rows: tuple[Row, ...]
    reason: str = ""

    @property
    def remarks(self) -> Sequence[str]:
        """Return how to read the comparisons."""
        return comparisons.remarks(self.rows)

    @property
    def num_seeds(self) -> int:
        """Return the largest number of seeds of a system."""
        return max(len(system.trials) for system in self.grid.systems)


def find_grid(study: Study) -> GridFindings | None:
    """Compute what a grid's report shows; None for a search, and before a trial is complete."""
    if not study.is_grid:
        return None
    try:
        grid = read_grid(study)
    except UserError:
        return None  # no complete trial: the page says so
    try:
        rows, reason = compare_systems(grid), ""
    except UserError as error:
        rows, reason = (), f"Nothing is compared: {error}."
    return GridFindings(grid=grid, curves=task_curves(grid), rows=rows, reason=reason)


def subtitle(found: GridFindings) -> str:
    """Return for example "scenes · tiny · test split · up to 5 seeds"."""
    facts = found.grid.study.facts
    known = [str(facts[key]) for key in ("dataset", "preset") if facts.get(key)]
    seeds = "1 seed" if found.num_seeds == 1 else f"up to {found.num_seeds} seeds"
    return " · ".join([*known, f"{found.grid.split} split", seeds])


def write_pictures(found: GridFindings, out: Path) -> list[Path]:
    """Write curves.png and, where something was compared, compare.png; return the paths."""
    name = found.grid.study.name
    paths = []
    if found.curves:
        title = f"{name}: every system over sparsity, mean with 95 % interval"
        picture = curves.draw(found.curves, title, subtitle(found))
        paths.append(canvas.save(picture, out / "curves.png"))
    if found.rows:
        paths.append(write_forest(found.grid, found.rows, out))
    return paths


def write_forest(grid: Grid, rows: Sequence[Row], out: Path) -> Path:
    """Write compare.png, the forest plot of comparisons, and return its path."""
    title = f"{grid.study.name}: difference to {rows[0].reference.label}, 95 % intervals"
    about = f"paired by seed · {grid.split} split · right is better"
    return canvas.save(forest.draw(rows, title, about), out / "compare.png")
