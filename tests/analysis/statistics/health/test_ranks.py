"""Rank correlation between rungs and ends: worked by hand, and over simulated studies."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.statistics.health.ranks import (
    MIN_TRIALS,
    LastingOrder,
    lasting_order,
    rank_correlations,
    unrestricted,
)
from search.plans.rung_settings import RungSettings
from search.schedulers.rungs import ParetoRungs

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


def test_thorndikes_case_2() -> None:
    """r = 0.6 over half the spread: 1.2 / √(1 - 0.36 + 1.44) = 1.2 / √2.08."""
    assert unrestricted(0.6, 2.0) == pytest.approx(1.2 / math.sqrt(2.08))
    assert unrestricted(-0.6, 2.0) == pytest.approx(-1.2 / math.sqrt(2.08))
    assert unrestricted(0.6, 1.0) == pytest.approx(0.6)
    assert [unrestricted(r, 3.0) for r in (-1.0, 0.0, 1.0)] == pytest.approx([-1.0, 0.0, 1.0])


def lasting(
    early: NDArray[np.float64], final: NDArray[np.float64], ended: NDArray[np.intp]
) -> LastingOrder | None:
    """Of values (tasks, trials), those at half of training and, of those that ended, the last."""
    names = [MIOU, ERROR, "val/normals/mean_error_deg"][: len(early)]
    signs = [1.0, -1.0, -1.0]  # higher is better here, whatever the metric

    def named(values: NDArray[np.float64]) -> dict[str, float]:
        return {n: s * float(v) for n, s, v in zip(names, signs, values, strict=False)}

    reports = {
        str(t): [{"training/fraction": 0.5, **named(early[:, t])}] for t in range(early.shape[1])
    }
    return lasting_order(reports, {str(t): named(final[:, t]) for t in ended}, 0.5, names)


def test_an_order_that_lasts_or_turns_round() -> None:
    early = np.arange(12.0)[None]
    found = lasting(early, early**3, np.arange(4, 12))
    assert found is not None
    assert (found.num_early, found.num_final, found.is_weak) == (12, 8, False)
    assert found.correlation > 0.99  # of 8 and of 12 ranks, the scores differ a little
    turned = lasting(early, -early, np.arange(4, 12))
    assert turned is not None
    assert turned.correlation < -0.99
    assert turned.is_weak
    whole = lasting(early, early**3, np.arange(12))
    assert whole is not None
    assert (whole.correlation, whole.low, whole.high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_correction_worked_by_hand() -> None:
    """Ranks 1 … 16, of which the upper 8 ended as 2 1 4 3 6 5 8 7."""
    scores = np.asarray([_normal_quantile((rank - 0.375) / 16.25) for rank in range(1, 17)])
    order = np.asarray([2, 1, 4, 3, 6, 5, 8, 7])
    final_scores = [_normal_quantile((rank - 0.375) / 8.25) for rank in order]
    r = np.corrcoef(scores[8:], final_scores)[0, 1]
    ratio = scores.std(ddof=1) / scores[8:].std(ddof=1)
    final = np.concatenate([np.zeros(8), order])[None]
    found = lasting(np.arange(16.0)[None], final, np.arange(8, 16))
    assert found is not None
    assert found.correlation == pytest.approx(r * ratio / math.sqrt(1 - r**2 + (r * ratio) ** 2))
    upper = math.tanh(math.atanh(r) + 1.959964 / math.sqrt(5))
    expected = upper * ratio / math.sqrt(1 - upper**2 + (upper * ratio) ** 2)
    assert found.high == pytest.approx(expected, rel=1e-6)
    assert found.low < found.correlation < found.high


def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def test_the_joint_order_needs_all_tasks_and_enough_trials() -> None:
    early = np.arange(float(MIN_TRIALS))[None].repeat(2, axis=0)
    every = np.arange(MIN_TRIALS)
    assert lasting(early, early, every) is not None
    assert lasting(early, early, every[1:]) is None
    assert lasting(np.zeros_like(early), early, every) is None
    assert lasting(early, np.zeros_like(early), every) is None
    early[1, 3] = np.nan
    assert lasting(early, early, every) is None


def _best_third(early: NDArray[np.float64], _: np.random.Generator) -> NDArray[np.intp]:
    return np.argsort(-early.mean(axis=0))[: early.shape[1] // 3]


def _pareto_asha(early: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """As the scheduler decides, one trial after another, by all tasks and a cost."""
    rungs = ParetoRungs(RungSettings(grace=0.5, reduction_factor=3.0), len(early) + 1)
    costs = rng.uniform(size=early.shape[1])
    vectors = np.vstack([-early, costs]).T
    return np.flatnonzero([rungs.decide(str(n), 0.5, v) for n, v in enumerate(vectors)])


@pytest.mark.parametrize("choose", [_best_third, _pareto_asha])
@pytest.mark.parametrize("num_tasks", [1, 3])
def test_sound_schedulers_are_not_accused_and_poor_ones_are_found(choose, num_tasks: int) -> None:
    """Of 60 trials, with a correlation over all of them of 0.8 and of 0.1 in every task."""
    rng = np.random.default_rng(20)
    weak = {}
    for rho in (0.8, 0.1):
        accused, num_studies = 0, 200
        for _ in range(num_studies):
            early = rng.normal(size=(num_tasks, 60))
            final = rho * early + math.sqrt(1 - rho**2) * rng.normal(size=early.shape)
            found = lasting(early, final, choose(early, rng))
            accused += found is not None and found.is_weak
        weak[rho] = accused / num_studies
    assert weak[0.8] <= 0.05
    assert weak[0.1] >= 0.6
