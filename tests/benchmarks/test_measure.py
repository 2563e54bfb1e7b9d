"""The stopwatch of the benchmarks: ratios, intervals, order."""

import time

import numpy as np
import pytest

from benchmarks.measure import Comparison, Measurement, Skipped, compare


def measurement(first: list[float], second: list[float], target: float | None) -> Measurement:
    comparison = Comparison.of(np.array(first), np.array(second))
    return Measurement(name="x", statement="a / b", comparison=comparison, target=target)


def test_a_comparison_is_the_median_of_the_pairs_ratios() -> None:
    # Ratios 1, 2, 4, 8, 100: the median is 4, the quartiles are 2 and 8.
    comparison = Comparison.of(np.array([1.0, 2, 4, 8, 100]), np.ones(5))
    assert comparison.ratio == 4
    assert comparison.quartiles == (2, 8)
    assert comparison.low <= 4 <= comparison.high
    assert (comparison.first_seconds, comparison.second_seconds) == (4, 1)


def test_a_drift_that_slows_both_sides_leaves_the_ratio_alone() -> None:
    drift = np.linspace(1, 10, 40)
    comparison = Comparison.of(1.5 * drift, drift)
    assert comparison.ratio == pytest.approx(1.5)
    assert comparison.low == pytest.approx(comparison.high)


def test_the_interval_covers_the_true_ratio_of_noisy_pairs() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        first, second = 2 * np.exp(random.normal(0, 0.1, 31)), np.exp(random.normal(0, 0.1, 31))
        comparison = Comparison.of(first, second)
        covered += comparison.low <= 2 <= comparison.high
    assert covered >= 88  # 95 expected; 88 is 3.3 standard deviations below


def test_the_order_alternates_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    comparison = compare(
        lambda: calls.append("a"),
        lambda: calls.append("b"),
        budget_seconds=0,
        min_rounds=4,
    )
    warm_up, timed = calls[:-8], calls[-8:]
    assert comparison.rounds == 4
    assert timed == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert set(warm_up) == {"a", "b"}


def test_the_ratio_finds_the_slower_side() -> None:
    def work(num_loops: int) -> int:
        return sum(range(num_loops))

    comparison = compare(lambda: work(200_000), lambda: work(50_000), budget_seconds=0.3)
    assert 3 < comparison.ratio < 5.5


def test_the_budget_ends_the_rounds() -> None:
    started = time.perf_counter()
    compare(lambda: time.sleep(0.002), lambda: None, budget_seconds=0.1)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(("target", "met"), [(None, None), (1.9, False), (2.0, True)])
def test_a_target_is_met_up_to_and_including_itself(target: float | None, met: bool | None) -> None:
    result = measurement([2.0], [1.0], target)
    assert result.met is met
    assert result.to_dict()["met"] is met
    assert ("MISSED" in result.line()) is (met is False)


def test_a_skip_says_why() -> None:
    skipped = Skipped(name="cuda", reason="no CUDA device")
    assert "no CUDA device" in skipped.line()
    assert skipped.to_dict() == {"name": "cuda", "skipped": "no CUDA device"}
