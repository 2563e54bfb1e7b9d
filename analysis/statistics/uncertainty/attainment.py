"""Find what a front attains at a share of the fresh seeds: empirical attainment surfaces.

At each seed the confirmed trials attain what they dominate; one whose training failed there attains
nothing. Seeds are compared at which each of them was trained: one that is yet to be trained would
look like one that failed. A point is attained at p % of the seeds
where so many of these sets reach it (Grunert da Fonseca, Fonseca & Hall, EMO 2001; computed by
moocore's `eaf`, López-Ibáñez et al.). The surface of 50 % is what a typical seed attains.
"""

from collections.abc import Sequence

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
    than two seeds at which all were trained, and where all trainings failed.
    """
    seeds = common_seeds(confirmed)
    sets: list[list[list[float]]] = []
    for seed in seeds:
        runs = [one.runs[seed].metrics for one in confirmed if seed in one.runs]
        known = [m for m in runs if not report.non_finite(m, [cost, quality])]
        sets.append([[m[cost], report.minimised(quality, m[quality])] for m in known])
    attained = [point for points in sets for point in points]
    if len(seeds) < 2 or not attained:
        return {}
    # A seed that attains nothing counts among the seeds: moocore is given a point beyond all others
    # for it, which no surface keeps.
    beyond = np.max(attained, axis=0) + 1.0
    padded = [points or [beyond.tolist()] for points in sets]
    rows = moocore.eaf(
        np.asarray([point for points in padded for point in points]),
        np.repeat(np.arange(len(padded)), [len(points) for points in padded]),
        percentiles=PERCENTILES,
    )
    sign = report.describe(quality).sign
    surfaces = {}
    for percentile in PERCENTILES:
        corners = rows[(rows[:, 2] == percentile) & (rows[:, 0] < beyond[0])][:, :2]
        corners = corners[np.lexsort((corners[:, 1], corners[:, 0]))]
        surfaces[percentile] = (
            tuple(corners[:, 0].tolist()),
            tuple((sign * corners[:, 1]).tolist()),
        )
    return surfaces


def common_seeds(confirmed: Sequence[Confirmed]) -> tuple[int, ...]:
    """Return the seeds at which each was trained, well or not, in ascending order."""
    tried = [set(one.tried) for one in confirmed]
    return tuple(sorted(set.intersection(*tried))) if tried else ()


def level_at(surface: tuple[Sequence[float], Sequence[float]], cost: float) -> float | None:
    """Return the quality that a surface attains at a cost; None where it begins beyond."""
    costs, qualities = surface
    place = int(np.searchsorted(costs, cost, side="right")) - 1
    return None if place < 0 else qualities[place]
