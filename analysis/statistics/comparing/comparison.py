"""Compare two systems over the same seeds. NumPy and SciPy only.

Everything is turned so that a positive difference means that the system is better than its
reference, whichever way the metric is measured.

With few pairs the Wilcoxon signed-rank test cannot reject anything: its smallest two-sided p is
2^(1 - n), 0.0625 for five seeds and 0.25 for three (`smallest_p`), before any correction. A
`verdict` therefore rests on the t interval, and p is given beside it.

Shape suffixes: N pairs (seeds), P p-values.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from trainables.errors import UserError

Verdict = Literal["holds", "does not hold", "undecided"]
MIN_EFFECT_PAIRS = 5  # with fewer, the interval of an effect says nothing: -95 to -8 for three
_EXACT_PAIRS = 14  # every assignment of signs is enumerated up to here: 16,384


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Hold both ends of an interval; infinite where the data set no bound."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Hold a system against its reference over `num_pairs` seeds; positive is better.

    mean: of the differences, in the metric's unit.
    relative: the mean over |mean of the reference|, a fraction; NaN where that is 0.
    interval: Student's t of the mean, infinite for one pair.
    effect: Hedges' g_z, see `effect_size`; NaN for one pair.
    p_value: Wilcoxon signed-rank, two-sided, see `signed_rank_p`.
    """

    num_pairs: int
    mean: float
    relative: float
    interval: Interval
    effect: float
    effect_interval: Interval
    p_value: float


def compare(
    values_N: ArrayLike,
    reference_N: ArrayLike,
    *,
    lower_is_better: bool = False,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two lists of values pair by pair; entry i of both belongs to one seed.

    A per-seed measure that is already a difference (`trainables.report.delta_percent`) is
    compared with zeros. Raises `UserError` where the lengths differ, nothing is paired or a
    value is not finite.
    """
    values, reference = np.asarray(values_N, dtype=float), np.asarray(reference_N, dtype=float)
    if values.ndim != 1 or values.shape != reference.shape or not len(values):
        raise UserError(
            "a paired comparison needs two equally long, non-empty lists, got shapes "
            f"{values.shape} and {reference.shape}; give one value per shared seed"
        )
    if not (np.isfinite(values).all() and np.isfinite(reference).all()):
        raise UserError(
            "a paired comparison needs finite values, got NaN or infinity; leave that seed out"
        )
    differences = (reference - values) if lower_is_better else (values - reference)
    scale = abs(float(reference.mean()))
    mean = float(differences.mean())
    # Differences of nearly equal floats: what is left of a constant one is rounding.
    rounding = 8 * np.finfo(float).eps * float(np.abs([values, reference]).max())
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else math.nan
    if deviation <= rounding:
        deviation = 0.0
    effect, effect_interval = _effect(mean, deviation, len(differences), confidence)
    return Comparison(
        num_pairs=len(differences),
        mean=mean,
        relative=mean / scale if scale > 0 else math.nan,
        interval=_interval(mean, deviation, len(differences), confidence),
        effect=effect,
        effect_interval=effect_interval,
        p_value=signed_rank_p(differences),
    )


def mean_interval(values_N: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Student's t interval of the mean; infinite for one value, NaN for none."""
    values = np.asarray(values_N, dtype=float)
    if not len(values):
        return Interval(low=math.nan, high=math.nan)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return _interval(float(values.mean()), deviation, len(values), confidence)


def effect_size(differences_N: ArrayLike, confidence: float = 0.95) -> tuple[float, Interval]:
    """Return Hedges' g_z and an exact interval of the population's δ_z = mean / deviation.

    g_z = J(n - 1) · mean / s: Cohen's d of the differences (d_z) with the bias of few pairs
    removed, J(ν) = Γ(ν/2) / (√(ν/2) Γ((ν - 1)/2)) (Hedges 1981, J. Educ. Stat. 6, equation 6e).
    The interval inverts the non-central t distribution of √n · d_z (Cumming & Finch 2001,
    Educ. Psychol. Meas. 61). It is of δ itself and takes no factor J, which would spoil its
    coverage. NaN where there are fewer than two differences or all are zero, infinite where they
    are constant.
    """
    differences = np.asarray(differences_N, dtype=float)
    if len(differences) < 2:
        return math.nan, Interval(low=-math.inf, high=math.inf)
    return _effect(
        float(differences.mean()), float(differences.std(ddof=1)), len(differences), confidence
    )


def hedges_correction(degrees: int) -> float:
    """Return J(ν), in (0, 1); NaN for one degree of freedom, where d has no expectation."""
    if degrees < 2:
        return math.nan
    half = degrees / 2
    return math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)


def signed_rank_p(differences_N: ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test, exact for up to 14 differences.

    Zeros are ranked and then dropped (Pratt 1959), and ties share their mean rank. The distribution
    is over all signs of the ranks at hand, which is exact with ties too. Beyond 14 non-zero
    differences SciPy chooses the method. The p is 1 where all differences are zero.
    """
    differences = np.asarray(differences_N, dtype=float)
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    signs = np.sign(differences[differences != 0])
    count = len(ranks)
    if not count:
        return 1.0
    if count > _EXACT_PAIRS:
        return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)
    observed = abs(float(signs @ ranks))
    choices = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    totals = np.abs((2 * choices - 1) @ ranks)
    return float(np.mean(totals >= observed - 1e-9))


def smallest_p(num_pairs: int) -> float:
    """Return the least that the two-sided signed-rank test can give: 2^(1 - n) for n pairs."""
    return min(1.0, 2.0 ** (1 - num_pairs))


def holm(p_values_P: ArrayLike) -> NDArray[np.float64]:
    """Return adjusted p-values (P,) in the given order (Holm 1979, Scand. J. Stat. 6).

    The i-th smallest of m is multiplied by m - i + 1; the result never falls along the order of
    the p-values and never exceeds 1. NaN stays NaN and is not counted in m.
    """
    p_values = np.asarray(p_values_P, dtype=float)
    adjusted = np.full(p_values.shape, np.nan)
    (known,) = np.nonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def verdict(
    interval: Interval, margin: float = 0.0, *, kind: Literal["superior", "non-inferior"]
) -> Verdict:
    """Tell what an interval of "system minus reference, positive is better" says of a claim.

    superior: the system is better by more than `margin` (≥ 0). non-inferior: it is worse by less
    than `margin` (> 0), if at all. Either way the claim is "the true difference exceeds a
    threshold", `margin` or `-margin`: it holds where the whole interval lies above the threshold,
    does not hold where all of it lies below, and is undecided where the threshold is inside.
    Raises `UserError` for a margin that is out of range.
    """
    at_least_zero = kind == "superior"
    if not (math.isfinite(margin) and (margin > 0 or (at_least_zero and margin == 0))):
        rule = "at least 0" if at_least_zero else "positive"
        raise UserError(
            f"`margin` must be {rule} for {kind}, got {margin}; give the size of a difference "
            "that matters"
        )
    threshold = margin if at_least_zero else -margin
    if interval.low > threshold:
        return "holds"
    if interval.high < threshold:
        return "does not hold"
    return "undecided"


def correlation_with_depth(values_N: Sequence[float]) -> float:
    """Return Spearman's rank correlation of the values with their position.

    NaN where it is undefined: for fewer than two values, or where all are equal.
    """
    if len(values_N) < 2 or len(set(values_N)) == 1:
        return math.nan
    ranks = stats.rankdata(values_N)
    return float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])


def _interval(mean: float, deviation: float, count: int, confidence: float) -> Interval:
    _check_confidence(confidence)
    if count < 2:
        return Interval(low=-math.inf, high=math.inf)
    half_width = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(low=mean - half_width, high=mean + half_width)


def _effect(mean: float, deviation: float, count: int, confidence: float) -> tuple[float, Interval]:
    _check_confidence(confidence)
    if count < 2 or (deviation == 0 and mean == 0):
        return math.nan, Interval(low=-math.inf, high=math.inf)
    if deviation == 0:
        certain = math.copysign(math.inf, mean)
        return certain, Interval(low=certain, high=certain)
    degrees, root = count - 1, math.sqrt(count)
    statistic = root * mean / deviation
    tail = (1 - confidence) / 2
    ends = [_noncentrality(statistic, degrees, share) / root for share in (1 - tail, tail)]
    return hedges_correction(degrees) * mean / deviation, Interval(low=ends[0], high=ends[1])


def _noncentrality(statistic: float, degrees: int, share: float) -> float:
    """The non-centrality λ at which P(T ≤ statistic) = share, T = (Z + λ) / V, V = √(χ²_ν / ν).

    SciPy's non-central t gives NaN for the large statistics of nearly constant differences, so
    P is integrated here: over V where the statistic t is small, P = E Φ(t V - λ), and over Z
    where it is large, P = E P(V ≥ (Z + λ) / t), each of which is smooth there.
    """
    if statistic < 0:
        return -_noncentrality(-statistic, degrees, 1 - share)
    nodes, weights = _quadrature()
    spread = _spread(degrees)
    reach = 12.0 + 6.0 * statistic

    def excess(noncentrality: float) -> float:
        if statistic < 3:
            return float(weights @ special.ndtr(statistic * spread - noncentrality)) / 2 - share
        z = 9 * nodes
        ratio = np.maximum((z + noncentrality) / statistic, 0.0)
        beyond = special.chdtrc(degrees, degrees * ratio**2)
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return float(9 * (weights * density) @ beyond) - share

    return float(optimize.brentq(excess, -reach, reach, xtol=1e-10))


@functools.cache
def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes on [-1, 1] and their weights."""
    nodes, weights = special.roots_legendre(400)
    return nodes, weights


@functools.cache
def _spread(degrees: int) -> NDArray[np.float64]:
    """V at the nodes, taken as its quantiles on [0, 1]."""
    quantiles = stats.chi2.ppf((_quadrature()[0] + 1) / 2, degrees)
    spread: NDArray[np.float64] = np.sqrt(quantiles / degrees)
    return spread


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UserError(f"`confidence` must be in (0, 1), got {confidence}; 0.95 is usual")
