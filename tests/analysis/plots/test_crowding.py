"""Outliers do not squeeze an axis, and marks on one place stay visible."""

import math

from hypothesis import given
from hypothesis import strategies as st

from analysis.plots.fronts.crowding import nested_sizes, without_outliers

SHARES = st.floats(0, 1, allow_subnormal=False)
VALUES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=40)


def test_an_outlier_on_the_worse_side_is_left_out() -> None:
    values = [0.41, 0.45, 0.5, 0.62, 40.0]
    assert without_outliers(values, high_is_worse=True) == values[:4]
    assert without_outliers([-v for v in values], high_is_worse=False) == [-v for v in values[:4]]


def test_one_that_is_better_than_all_others_keeps_its_place() -> None:
    values = [0.4, 40.0, 41.0, 42.0, 43.0]
    assert without_outliers(values, high_is_worse=True) == values


def test_a_skewed_but_common_spread_is_kept() -> None:
    values = [1.0, 1.5, 2.0, 2.5, 3.0, 6.0]
    assert without_outliers(values, high_is_worse=True) == values


@given(VALUES, st.booleans())
def test_at_most_a_quarter_is_left_out_and_never_the_best(values: list, high: bool) -> None:
    kept = without_outliers(values, high_is_worse=high)
    assert len(values) - len(kept) <= len(values) // 4
    assert (min if high else max)(values) in kept
    assert without_outliers(values[::-1], high_is_worse=high)[::-1] == kept


def test_of_marks_on_one_place_the_lower_ones_are_larger() -> None:
    places = [(0.5, 0.5), (0.1, 0.9), (0.5, 0.5), (0.5, 0.5)]
    assert nested_sizes(places) == [1.9, 1.0, 1.45, 1.0]


@given(st.lists(st.tuples(SHARES, SHARES), max_size=30))
def test_every_mark_has_a_size(places: list[tuple[float, float]]) -> None:
    sizes = nested_sizes(places)
    assert len(sizes) == len(places)
    assert all(1 <= size < 2.4 and math.isfinite(size) for size in sizes)
