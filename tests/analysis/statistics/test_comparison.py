"""Check the paired comparison: SciPy, numbers by hand, enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.comparing.comparison import (
    Interval,
    compare,
    correlation_with_depth,
    effect_size,
    hedges_correction,
    holm,
    mean_interval,
    signed_rank_p,
    smallest_p,
    verdict,
)
from trainables.errors import UserError

# Not st.floats: torch, where loaded, flushes subnormal numbers, which Hypothesis refuses.
FINITE = st.integers(-10_000, 10_000).map(lambda v: v / 37)


def test_a_comparison_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t(2) at 97.5 % is 4.30265."""
    found = compare([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert found.num_pairs == 3
    assert found.mean == 2.0
    assert found.relative == 1.0  # 2 over a mean reference of 2
    assert found.interval.low == pytest.approx(2 - 4.302653 / 3**0.5)
    assert found.interval.high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert found.effect == pytest.approx(2 / math.sqrt(math.pi))  # d_z = 2, J(2) = 1/√π
    assert found.p_value == 0.25  # 2 of 8 assignments of signs are as extreme


def test_lower_is_better_turns_the_sign_and_nothing_else() -> None:
    values, reference = [0.5, 0.4, 0.45, 0.44], [0.6, 0.51, 0.44, 0.58]
    lower = compare(values, reference, lower_is_better=True)
    higher = compare(values, reference)
    assert lower.mean == pytest.approx(0.085)
    assert lower.relative == pytest.approx(0.085 / 0.5325)
    assert (lower.mean, lower.relative) == (-higher.mean, -higher.relative)
    assert lower.interval.low == pytest.approx(-higher.interval.high)
    assert lower.effect_interval.high == pytest.approx(-higher.effect_interval.low)
    assert lower.p_value == higher.p_value


@given(st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_interval_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    values, reference = map(np.asarray, zip(*pairs, strict=True))
    found = compare(values, reference)
    differences = values - reference
    if differences.std(ddof=1) < 1e-9:
        assert found.interval.low == pytest.approx(found.interval.high)
        return
    expected = stats.ttest_rel(values, reference).confidence_interval(0.95)
    assert found.interval.low == pytest.approx(expected.low, rel=1e-6, abs=1e-9)
    assert found.interval.high == pytest.approx(expected.high, rel=1e-6, abs=1e-9)
    assert mean_interval(differences) == found.interval


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    """20,000 draws of five seeds: 95 % to within four standard errors, 0.0062."""
    rng = np.random.default_rng(0)
    draws = rng.normal(0.3, 2.0, (20_000, 5))
    means, deviations = draws.mean(axis=1), draws.std(axis=1, ddof=1)
    unit = mean_interval([-1.0, -0.5, 0.0, 0.5, 1.0])  # its half-width per deviation
    half = unit.high / np.std([-1.0, -0.5, 0.0, 0.5, 1.0], ddof=1) * deviations
    assert np.mean(abs(means - 0.3) <= half) == pytest.approx(0.95, abs=0.0062)
    first = mean_interval(draws[0])
    assert first.high - first.low == pytest.approx(2 * half[0])


def test_the_interval_of_the_effect_covers_it_as_often_as_it_says() -> None:
    """δ = 0.8 from four seeds. An end is beyond δ exactly where the statistic is in its tail."""
    rng = np.random.default_rng(1)
    draws = rng.normal(0.8, 1.0, (400, 4))
    covered = 0
    for row in draws:
        _, interval = effect_size(row)
        covered += interval.low <= 0.8 <= interval.high
    assert covered / 400 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400))


def test_hedges_correction_removes_the_bias() -> None:
    assert hedges_correction(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert hedges_correction(4) == pytest.approx(0.7978845608)  # √(2/π)
    assert hedges_correction(10_000) == pytest.approx(1 - 3 / (4 * 10_000 - 1), abs=1e-8)
    assert math.isnan(hedges_correction(1))
    rng = np.random.default_rng(2)
    draws = rng.normal(1.0, 1.0, (40_000, 5))
    d = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    assert d.mean() > 1.2
    assert hedges_correction(4) * d.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("differences", [[1, 2, 4, 1.5, 0.2], [-3, 1, -1, 2, -5, -2], [0.1, 0.3]])
def test_the_ends_of_the_effect_put_the_statistic_in_its_tails(differences) -> None:
    count = len(differences)
    _, interval = effect_size(differences)
    statistic = stats.ttest_1samp(differences, 0).statistic
    for end, share in ((interval.low, 0.975), (interval.high, 0.025)):
        reached = stats.nct.cdf(statistic, count - 1, end * math.sqrt(count))
        assert reached == pytest.approx(share, abs=2e-5)


def test_nearly_constant_differences_have_a_finite_effect() -> None:
    """Where SciPy's non-central t gives up; at so large a statistic δ / d is √(χ²/ν)."""
    effect, interval = effect_size([1.0, 1.0001, 0.9999])
    assert effect == pytest.approx(1e4 / math.sqrt(math.pi), rel=1e-6)
    for end, share in ((interval.low, 0.025), (interval.high, 0.975)):
        assert end / 1e4 == pytest.approx(math.sqrt(stats.chi2.ppf(share, 2) / 2), rel=1e-3)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_signed_ranks_against_enumeration(differences: list[int]) -> None:
    """Ties and zeros included: every assignment of signs to the non-zero ranks."""
    size = sorted(map(abs, differences))
    rank = {v: np.mean([i + 1 for i, w in enumerate(size) if w == v]) for v in size}
    ranks = [rank[abs(d)] for d in differences if d]
    observed = abs(sum(math.copysign(rank[abs(d)], d) for d in differences if d))
    totals = [
        abs(sum(s * r for s, r in zip(signs, ranks, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(ranks))
    ]
    expected = np.mean([total >= observed - 1e-9 for total in totals])
    assert signed_rank_p(differences) == pytest.approx(expected)


@pytest.mark.parametrize("count", [3, 5, 9, 14, 20])
def test_signed_ranks_without_ties_are_those_of_scipy(count: int) -> None:
    rng = np.random.default_rng(count)
    differences = rng.normal(0.4, 1.0, count)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_the_smallest_p_is_reached_and_no_smaller(count: int) -> None:
    assert signed_rank_p(np.arange(1, count + 1)) == pytest.approx(smallest_p(count))


def test_holm_by_hand() -> None:
    """0.01 × 4, 0.02 × 3, 0.03 × 2, then 0.04, lifted to what came before it."""
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.03, math.nan, 0.02]) == pytest.approx([0.04, math.nan, 0.04], nan_ok=True)
    assert holm([]).shape == (0,)


@given(st.lists(st.integers(0, 1000).map(lambda v: v / 1000), min_size=1, max_size=7))
def test_holm_rejects_what_the_step_down_rejects(p_values: list[float]) -> None:
    """Holm's own procedure: stop at the first p(i) > α / (m - i + 1)."""
    adjusted = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(order):
            bound = level / (len(order) - step)
            if abs(p_values[index] - bound) < 1e-9:
                return  # on the edge the two round differently
            if p_values[index] > bound:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


@pytest.mark.parametrize(
    ("low", "high", "superior", "non_inferior"),
    [
        (0.6, 2.0, "holds", "holds"),
        (0.4, 2.0, "undecided", "holds"),
        (-0.4, 0.4, "does not hold", "holds"),
        (-0.6, 0.6, "undecided", "undecided"),
        (-2.0, -0.6, "does not hold", "does not hold"),
        (0.5, 0.7, "undecided", "holds"),  # the margin itself is not exceeded
        (-math.inf, math.inf, "undecided", "undecided"),
    ],
)
def test_verdicts_with_a_margin_of_a_half(
    low: float, high: float, superior: str, non_inferior: str
) -> None:
    interval = Interval(low=low, high=high)
    assert verdict(interval, 0.5, kind="superior") == superior
    assert verdict(interval, 0.5, kind="non-inferior") == non_inferior


def test_a_true_claim_is_seldom_refuted() -> None:
    """With no difference at all, "superior" is wrongly held in 2.5 % of 4,000 draws."""
    rng = np.random.default_rng(3)
    found = [verdict(mean_interval(row), kind="superior") for row in rng.normal(0, 1, (4000, 3))]
    for wrong in ("holds", "does not hold"):
        assert found.count(wrong) / 4000 == pytest.approx(0.025, abs=0.0099)


def test_one_pair_decides_nothing() -> None:
    found = compare([0.5], [0.4])
    assert found.interval == Interval(low=-math.inf, high=math.inf)
    assert verdict(found.interval, kind="superior") == "undecided"
    assert math.isnan(found.effect)
    assert found.p_value == 1.0


def test_equal_and_constantly_different_systems() -> None:
    same = compare([0.1, 0.2, 0.7], [0.1, 0.2, 0.7])
    assert (same.mean, same.interval.low, same.interval.high) == (0.0, 0.0, 0.0)
    assert math.isnan(same.effect)
    assert same.p_value == 1.0
    shifted = compare([0.4, 0.5, 1.0], [0.1, 0.2, 0.7])  # 0.3 but for rounding
    assert shifted.interval.low == pytest.approx(0.3)
    assert shifted.effect == math.inf
    assert math.isnan(compare([1.0, 2.0], [0.0, 0.0]).relative)


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([1.0], [1.0, 2.0], "equally long"),
        ([], [], "non-empty"),
        ([1.0, math.nan], [1.0, 2.0], "finite"),
    ],
)
def test_what_cannot_be_paired_is_refused(values, reference, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare(values, reference)


def test_margins_and_confidences_that_make_no_sense_are_refused() -> None:
    interval = Interval(low=0.0, high=1.0)
    with pytest.raises(UserError, match="`margin` must be positive"):
        verdict(interval, 0.0, kind="non-inferior")
    with pytest.raises(UserError, match="`margin` must be at least 0"):
        verdict(interval, -0.1, kind="superior")
    with pytest.raises(UserError, match="`confidence`"):
        compare([1.0, 2.0], [0.0, 0.0], confidence=95)


def test_correlation_with_depth() -> None:
    values = [0.9, 0.95, 0.5, 0.4, 0.41]
    expected = stats.spearmanr(values, range(5)).statistic
    assert correlation_with_depth(values) == pytest.approx(expected)
    assert correlation_with_depth([3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert math.isnan(correlation_with_depth([1.0, 1.0, 1.0]))
    assert math.isnan(correlation_with_depth([1.0]))
