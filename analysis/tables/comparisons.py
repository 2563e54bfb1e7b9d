"""Make tables of systems against a reference, and say how to read them."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from analysis.labels import axis_label, task_label
from analysis.statistics.comparing import comparison
from analysis.statistics.comparing.paired import Row
from analysis.studies.systems_by_seed import Grid
from analysis.tables.typeset import Table
from trainables import report


def tables(grid: Grid, rows: Sequence[Row]) -> list[Table]:
    """Make one table per measure."""
    heads = ["system", "reference", "n", "difference", "95 % interval", "relative"]
    heads += ["effect g_z", "95 % interval", "p", "p (Holm)", "better, by interval"]
    result = []
    for measure in dict.fromkeys(row.measure for row in rows):
        lines = [_cells(row) for row in rows if row.measure == measure]
        result.append(Table(title=_title(grid, measure), heads=heads, rows=lines, num_words=2))
    return result


def remarks(rows: Sequence[Row]) -> list[str]:
    """Say how to read the tables, and what the number of seeds allows."""
    most = max(row.found.num_pairs for row in rows)
    least = comparison.smallest_p(most)
    text = [
        "Differences are paired by seed and turned so that positive is better; intervals are "
        "Student's t. Δ_T is AdaShare's mean relative change, in percent, to the reference of the "
        "same seed. g_z is Cohen's d of the differences with Hedges' correction; it needs "
        f"{comparison.MIN_EFFECT_PAIRS} pairs, since with fewer its interval is too wide to use.",
        f"p is Wilcoxon's signed-rank test, corrected by Holm over all {len(rows)} rows. With "
        f"{most} seeds it cannot fall below {least:.3g}, so the last column rests on the interval "
        "alone, which is not corrected for the number of rows.",
    ]
    dropped = [row for row in rows if row.left_out]
    if dropped:
        named = "; ".join(
            f"{row.system.label} to {row.reference.label}: {', '.join(row.left_out)}"
            for row in dropped
        )
        text.append(
            "Left out of Δ_T at every seed, because the reference is 0 or a value is missing at "
            f"one: {named}."
        )
    return text


def to_table(grid: Grid, rows: Sequence[Row]) -> pa.Table:
    """Return one row per comparison, in the metrics' own units (`relative` is a fraction)."""
    return pa.Table.from_pylist([to_json(grid, row) for row in rows])


def to_json(grid: Grid, row: Row) -> dict[str, Any]:
    """Return one comparison by the names of the Parquet file's columns."""
    found = row.found
    return {
        "metric": f"{grid.split}/{row.measure}",
        "method": row.system.method,
        "sparsity": row.system.sparsity,
        "settings": row.system.variant,
        "reference": row.reference.method,
        "reference_sparsity": row.reference.sparsity,
        "reference_settings": row.reference.variant,
        "seeds": list(row.seeds),
        "num_pairs": found.num_pairs,
        "mean": found.mean,
        "low": found.interval.low,
        "high": found.interval.high,
        "relative": found.relative,
        "effect": found.effect,
        "effect_low": found.effect_interval.low,
        "effect_high": found.effect_interval.high,
        "p": found.p_value,
        "p_holm": row.holm_p,
        "better": row.verdict,
        "left_out": list(row.left_out),
    }


def _title(grid: Grid, measure: str) -> str:
    task = task_label(measure.partition("/")[0])
    what = axis_label(measure)
    return f"{task}: {what} on {grid.split}, difference to the reference (positive is better)"


def _cells(row: Row) -> list[str]:
    found = row.found
    digits = 2 if report.describe(row.measure).unit in ("deg", "percent") else 4
    low, high = found.effect_interval.low, found.effect_interval.high
    effect = "–" if math.isnan(found.effect) else f"{found.effect:+.2f}"
    if found.num_pairs < comparison.MIN_EFFECT_PAIRS:
        effect = "too few pairs"
    return [
        row.system.label,
        row.reference.label,
        str(found.num_pairs),
        f"{found.mean:+.{digits}f}",
        f"{found.interval.low:+.{digits}f} to {found.interval.high:+.{digits}f}",
        "–" if math.isnan(found.relative) else f"{100 * found.relative:+.1f} %",
        effect,
        f"{low:+.2f} to {high:+.2f}" if effect.startswith(("+", "-")) else "–",
        f"{found.p_value:.3g}",
        f"{row.holm_p:.3g}",
        {"holds": "yes", "does not hold": "no, worse"}.get(row.verdict, row.verdict),
    ]
