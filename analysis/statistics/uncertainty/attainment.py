"""Find what a front attains at a share of the fresh seeds: empirical attainment surfaces.

At each seed the confirmed trials attain what they dominate. A point is attained at p % of the seeds
where so many of these sets reach it (Grunert da Fonseca, Fonseca & Hall, EMO 2001; computed by
moocore's `eaf`, López-Ibáñez et al.). The surface of 50 % is what a typical seed attains.
"""

from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from analysis.statistics.uncertainty.confirmed import Confirmed
from trainables import report

PERCENTILES = (25, 50, 75)  # of the seeds; the first lies beyond the others, towards the better


def attainment_surfaces(
    confirmed: Sequence[Confirmed], cost: str, quality: str
) -> dict[int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return costs and qualities of the corners of each surface, the cheapest first.

    The keys are `PERCENTILES`. Values are in the metrics' own directions. It is empty with fewer
    than two seeds.
    """
    points, sets = [], []
    for place, seed in enumerate(sorted({seed for one in confirmed for seed in one.runs})):
        runs = [one.runs[seed].metrics for one in confirmed if seed in one.runs]
        found = [[m[cost], report.minimised(quality, m[quality])] for m in runs if _has(m, cost)]
        points += found
        sets += [place] * len(found)
    if len(set(sets)) < 2:
        return {}
    rows = moocore.eaf(np.asarray(points), np.asarray(sets), percentiles=PERCENTILES)
    sign = report.describe(quality).sign
    surfaces = {}
    for percentile in PERCENTILES:
        corners = rows[rows[:, 2] == percentile][:, :2]
        corners = corners[np.lexsort((corners[:, 1], corners[:, 0]))]
        surfaces[percentile] = (
            tuple(corners[:, 0].tolist()),
            tuple((sign * corners[:, 1]).tolist()),
        )
    return surfaces


def level_at(surface: tuple[Sequence[float], Sequence[float]], cost: float) -> float | None:
    """Return the quality that a surface attains at a cost; None where it begins beyond."""
    costs, qualities = surface
    place = int(np.searchsorted(costs, cost, side="right")) - 1
    return None if place < 0 else qualities[place]


def _has(metrics: Mapping[str, float], cost: str) -> bool:
    return not report.non_finite(metrics, [cost])
