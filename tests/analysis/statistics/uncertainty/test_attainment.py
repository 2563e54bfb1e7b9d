"""Attainment surfaces: a case worked by hand, moocore's own answer, and brute force."""

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.uncertainty.attainment import (
    PERCENTILES,
    attainment_surfaces,
    level_at,
)
from analysis.statistics.uncertainty.confirmed import Confirmed
from analysis.studies.trials import Trial

COST, ERROR, MIOU = "cost/density", "val/depth/absolute_error", "val/segmentation/miou"

# By seed, the points that two models attain: cost and error.
WORKED = {
    0: [(1.0, 4.0), (2.0, 2.0)],
    1: [(1.0, 3.0), (3.0, 1.0)],
    2: [(1.5, 2.5), (4.0, 2.4)],
    3: [(1.0, 5.0), (2.0, 1.0)],
}


def models(points: dict[int, list[tuple[float, float]]]) -> list[Confirmed]:
    """Model k has the k-th point of every seed, or failed there; its cost, too, is the seed's."""

    def run(number: int, seed: int, cost: float, error: float) -> Trial:
        return Trial(
            trial=f"s-{number}",
            number=number,
            method="snip",
            seed=seed,
            status="complete",
            metrics={COST: cost, ERROR: error, MIOU: -error},
        )

    count = max(map(len, points.values()))
    found = []
    for number in range(count):
        runs = {s: run(number, s, *p[number]) for s, p in points.items() if number < len(p)}
        failed = {s: run(number, s, *p[0]) for s, p in points.items() if number >= len(p) > 0}
        failed |= {s: run(number, s, 0.0, 0.0) for s, p in points.items() if not p}
        found.append(Confirmed(trial=run(number, 0, 0.0, 0.0), runs=runs, failed=failed))
    return found


def test_a_case_worked_by_hand() -> None:
    """A point is attained by a seed that has one at least as good: 1, 2 and 3 of four seeds."""
    surfaces = attainment_surfaces(models(WORKED), COST, ERROR)
    assert surfaces == {
        25: ((1.0, 1.5, 2.0), (3.0, 2.5, 1.0)),
        50: ((1.0, 1.5, 2.0, 3.0), (4.0, 3.0, 2.0, 1.0)),
        75: ((1.0, 1.5, 2.0, 3.0), (5.0, 4.0, 2.5, 2.0)),
    }


def test_it_equals_moocore() -> None:
    points = np.asarray([p for found in WORKED.values() for p in found])
    rows = moocore.eaf(points, np.repeat(list(WORKED), 2), percentiles=PERCENTILES)
    surfaces = attainment_surfaces(models(WORKED), COST, ERROR)
    ours = [(c, q, p) for p, corners in surfaces.items() for c, q in zip(*corners, strict=True)]
    assert sorted(ours) == sorted(map(tuple, rows.tolist()))


def test_a_quality_to_maximise_is_turned_back() -> None:
    turned = attainment_surfaces(models(WORKED), COST, MIOU)
    plain = attainment_surfaces(models(WORKED), COST, ERROR)
    assert turned == {p: (c, tuple(-q for q in qs)) for p, (c, qs) in plain.items()}


@given(
    st.dictionaries(
        st.integers(0, 6),
        st.lists(
            st.tuples(st.integers(1, 6).map(float), st.integers(1, 6).map(float)),
            max_size=4,
        ),
        min_size=2,
        max_size=6,
    )
)
def test_against_brute_force(points: dict[int, list[tuple[float, float]]]) -> None:
    """The level of p % at a cost is the best that so many seeds reach at that cost or less."""
    surfaces = attainment_surfaces(models(points), COST, ERROR)
    assert bool(surfaces) == any(points.values())
    for percentile, surface in surfaces.items():
        needed = int(np.ceil(percentile / 100 * len(points)))
        for cost in (1.0, 2.0, 3.5, 6.0):
            reached = sorted(
                min((e for c, e in found if c <= cost), default=np.inf) for found in points.values()
            )
            level = level_at(surface, cost)
            assert (np.inf if level is None else level) == reached[needed - 1]


@pytest.mark.parametrize("points", [{}, {5: [(1.0, 2.0)]}])
def test_less_than_two_seeds_have_no_surface(points: dict[int, list[tuple[float, float]]]) -> None:
    found = models(points) if points else []
    assert attainment_surfaces(found, COST, ERROR) == {}


def test_a_seed_that_is_yet_to_be_trained_is_no_seed_that_attains_nothing() -> None:
    """The first model at four seeds, the second at two of them: only these two compare."""
    first, second = models(WORKED)
    late = Confirmed(trial=second.trial, runs={s: second.runs[s] for s in (1, 2)})
    seen = attainment_surfaces([first, late], COST, ERROR)
    assert seen == attainment_surfaces(models({s: WORKED[s] for s in (1, 2)}), COST, ERROR)
    lost = {s: second.runs[s] for s in (0, 3)}  # trained there, and failed
    failing = Confirmed(trial=second.trial, runs=late.runs, failed=lost)
    assert attainment_surfaces([first, failing], COST, ERROR) != seen
    alone = Confirmed(trial=second.trial, runs={1: second.runs[1]})
    assert attainment_surfaces([first, alone], COST, ERROR) == {}
