"""Rank correlation between rungs and ends, worked by hand."""

import pytest

from analysis.statistics.health.ranks import MIN_TRIALS, rank_correlations

MIOU, ERROR = "val/segmentation/miou", "val/depth/absolute_error"


def correlate(
    early: list[float], final: list[float], name: str = MIOU
) -> list[tuple[float, float]]:
    """Spearman's and Kendall's at half of training; each trial reports at 0.25, 0.5 and 1."""
    reports = {
        str(number): [
            {"training/fraction": 0.25, name: -value},
            {"training/fraction": 0.5, name: value},
            {"training/fraction": 1.0, name: 0.0},
        ]
        for number, value in enumerate(early)
    }
    ends = {str(number): {name: value} for number, value in enumerate(final)}
    found = rank_correlations(reports, ends, [0.5], [name])
    return [(one.spearman, one.kendall) for one in found]


def test_the_same_order_and_its_reverse() -> None:
    early = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert correlate(early, [v**3 for v in early]) == [pytest.approx((1.0, 1.0))]
    assert correlate(early, early[::-1]) == [pytest.approx((-1.0, -1.0))]


def test_a_case_worked_by_hand() -> None:
    """Ranks 1 … 8 become 2 1 4 3 6 5 8 7: d² is 1 each, ρ = 1 - 6·8 / (8·63) = 19/21.

    Of 28 pairs 4 are swapped, τ = (24 - 4) / 28 = 5/7.
    """
    found = correlate([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7], ERROR)
    assert found == [pytest.approx((19 / 21, 5 / 7))]


def test_ties_share_their_rank() -> None:
    """Ranks 1.5 1.5 3 4 5 6 7 8 against 1 … 8.

    ρ is Pearson's of the ranks, whose squares sum to 41.5 and 42: Σd² = 0.5, so their products sum
    to (42 + 41.5 - 0.5) / 2 = 41.5; τ_b = 27 / √(28 · 27).
    """
    found = correlate([1, 1, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8])
    assert found == [pytest.approx((41.5 / (42 * 41.5) ** 0.5, 27 / (28 * 27) ** 0.5))]


def test_too_few_trials_and_equal_values_tell_nothing() -> None:
    few = [0.1 * n for n in range(MIN_TRIALS - 1)]
    assert correlate(few, few) == []
    assert correlate([0.5] * MIN_TRIALS, [0.1 * n for n in range(MIN_TRIALS)]) == []
    assert correlate([0.1 * n for n in range(MIN_TRIALS)], [0.5] * MIN_TRIALS) == []


def test_who_never_reached_the_rung_or_left_the_numbers_does_not_count() -> None:
    numbers = [0.1 * n for n in range(MIN_TRIALS)]
    assert correlate([*numbers, float("nan")], [*numbers, 0.0]) == [pytest.approx((1.0, 1.0))]
    reports = {str(n): [{"training/fraction": 0.25, MIOU: v}] for n, v in enumerate(numbers)}
    ends = {str(n): {MIOU: v} for n, v in enumerate(numbers)}
    assert rank_correlations(reports, ends, [0.5], [MIOU]) == []
    assert len(rank_correlations(reports, ends, [0.25, 0.5], [MIOU])) == 1
