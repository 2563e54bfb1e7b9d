"""Compare the systems of a study with a reference, paired by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.statistics.comparing import comparison
from analysis.statistics.comparing.comparison import Comparison
from analysis.statistics.comparing.deltas import paired_deltas
from analysis.studies.systems_by_seed import DELTA, Grid, System
from analysis.studies.trials import Trial
from trainables import report
from trainables.errors import UserError, unknown_name

_DENSE = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Hold one system against one reference in one measure; positive is better.

    measure: a task's primary metric without split, or `multitask/delta_percent`: Δ_T of the
      system to the reference itself, seed by seed, in percent.
    holm_p: the p-value corrected over all rows of the answer.
    left_out: metrics that are not in Δ_T because they cannot be compared at some seed.
    """

    system: System
    reference: System
    measure: str
    seeds: tuple[int, ...]
    found: Comparison
    holm_p: float
    verdict: comparison.Verdict  # of "better than the reference", from the interval
    left_out: tuple[str, ...] = ()


def compare_systems(grid: Grid, reference: str | None = None) -> tuple[Row, ...]:
    """Compare every system with the reference method at the same sparsity.

    A dense system is compared at every sparsity. reference: a method; None for dense where the
    study has it, else random. Raises `UserError` where no two systems share two seeds.
    """
    chosen = _reference(grid, reference)
    rows: list[Row] = []
    for measure in (*grid.primary(), DELTA):
        for other, system in _pairs(grid, chosen):
            seeds = tuple(s for s in system.seeds if s in other.trials)
            row = _row(grid, system, other, measure, seeds)
            if row is not None:
                rows.append(row)
    if not rows:
        raise UserError(
            f"there is nothing to pair in study {grid.study.name!r}: no system shares two seeds "
            f"with {chosen!r} at its sparsity; `python -m search baselines RECIPE --seeds 5` "
            "trains every system at the same seeds"
        )
    corrected = comparison.holm([row.found.p_value for row in rows])
    return tuple(replace(r, holm_p=float(p)) for r, p in zip(rows, corrected, strict=True))


def _reference(grid: Grid, wanted: str | None) -> str:
    methods = {system.method for system in grid.systems}
    if wanted is not None:
        if wanted not in methods:
            raise unknown_name(f"method of study {grid.study.name!r}", wanted, methods)
        return wanted
    for name in ("dense", "random"):
        if name in methods:
            return name
    raise UserError(
        f"`--reference` must name a method: study {grid.study.name!r} has neither dense nor "
        f"random, but {', '.join(sorted(methods))}"
    )


def _pairs(grid: Grid, reference: str) -> list[tuple[System, System]]:
    """Return (reference, system) by the reference's sparsity, then the system's."""
    return [
        (other, system)
        for other in grid.systems
        if other.method == reference
        for system in grid.systems
        if system.method != reference
        and (system.sparsity == other.sparsity or _DENSE in (system.sparsity, other.sparsity))
    ]


def _row(
    grid: Grid, system: System, other: System, measure: str, seeds: Sequence[int]
) -> Row | None:
    """Compare two systems; None where fewer than two shared seeds have finite values."""
    left_out: tuple[str, ...] = ()
    if measure == DELTA:
        whole = [s for s in seeds if _whole(grid, system.trials[s], other.trials[s])]
        deltas = paired_deltas(
            {seed: grid.task_values(system.trials[seed]) for seed in whole},
            {seed: grid.task_values(other.trials[seed]) for seed in whole},
        )
        pairs = {seed: (delta, 0.0) for seed, delta in deltas.by_seed.items()}
        left_out = deltas.left_out
    else:
        values = {
            seed: (
                grid.value(system.trials[seed], measure),
                grid.value(other.trials[seed], measure),
            )
            for seed in seeds
        }
        pairs = {seed: pair for seed, pair in values.items() if all(map(math.isfinite, pair))}
    if len(pairs) < 2:
        return None
    found = comparison.compare(
        [ours for ours, _ in pairs.values()],
        [theirs for _, theirs in pairs.values()],
        lower_is_better=report.describe(measure).direction == "minimize",
    )
    return Row(
        system=system,
        reference=other,
        measure=measure,
        seeds=tuple(pairs),
        found=found,
        holm_p=math.nan,
        verdict=comparison.verdict(found.interval, kind="superior"),
        left_out=left_out,
    )


def _whole(grid: Grid, *trials: Trial) -> bool:
    """Tell whether all have every task's primary metric: without one, Δ_T would lose a task."""
    return all(math.isfinite(grid.value(t, name)) for t in trials for name in grid.primary())
