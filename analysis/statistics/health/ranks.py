"""Tell whether trials stand early in training in the order in which they end.

Successive halving stops trials by their order at a rung, which is sound as far as this order lasts.
Only trials that ran to their end have a final value, and they are the better ones at the rung:
among them alone, early values differ little, and the order seems to last less than it does (a
restricted range). `lasting_order` corrects for that, by Thorndike's case 2 (Thorndike 1949,
"Personnel Selection"; Sackett and Yang 2000, "Correction for range restriction: an expanded
typology"): from the correlation r among those that ended, and the ratio u of the early values'
standard deviation among all that reached the rung to that among those that ended,

    ρ = r u / √(1 - r² + r² u²).

The ends of Fisher's interval of r are corrected in the same way (Hunter and Schmidt 2004, "Methods
of Meta-Analysis", chapter 3).

Trials are not stopped by one task alone, so what is correlated is one number per trial: the mean
over tasks of normal scores of its rank (Blom's), which neither a task's unit nor an outlier moves.
Its cost at the end is known beforehand and is left out. Selection by later rungs is not corrected.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.studies.reports import at_fraction
from trainables import report

MIN_TRIALS = 8  # of fewer, chance decides
# An order is weak where it is estimated to last by less than `WEAK`, and the interval leaves out
# what a sound one has.
WEAK, SOUND = 0.5, 0.8
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCorrelation:
    """Hold how an objective's orders at a fraction of training and at the end agree.

    Both are Spearman's and Kendall's among the trials that ran to their end, uncorrected.
    """

    fraction: float
    objective: str
    num_trials: int
    spearman: float
    kendall: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LastingOrder:
    """Hold how the order at a fraction of training and that at the end correlate over all tasks.

    correlation: among all `num_early` trials that got so far, estimated from the `num_final` of
    them that ran to their end; low, high: its 95 % interval.
    """

    fraction: float
    num_early: int
    num_final: int
    correlation: float
    low: float
    high: float

    @property
    def is_weak(self) -> bool:
        """Tell whether the data show that trials should not be stopped by this order."""
        return self.correlation < WEAK and self.high < SOUND


def lasting_order(
    reports: Mapping[str, Sequence[dict[str, float]]],
    final: Mapping[str, Mapping[str, float]],
    fraction: float,
    objectives: Sequence[str],
) -> LastingOrder | None:
    """Return by how much the order at a fraction of training lasts, corrected for who was stopped.

    reports: of every trial, stopped ones included, in order. final: of those that ran to their end,
    the metrics there. objectives: one quality per task. None where fewer than `MIN_TRIALS` trials
    have finite values of all objectives at both, or all of these stand alike.
    """
    early = {name: at_fraction(rows, fraction) or {} for name, rows in reports.items()}
    reached = [name for name, known in early.items() if not report.non_finite(known, objectives)]
    ended = [
        place
        for place, name in enumerate(reached)
        if not report.non_finite(final.get(name, {}), objectives)
    ]
    if len(ended) < MIN_TRIALS:
        return None
    then_N = _scores([early[name] for name in reached], objectives)
    now_E = _scores([final[reached[place]] for place in ended], objectives)
    then_E = then_N[ended]
    if not (np.ptp(then_E) > 0 and np.ptp(now_E) > 0):
        return None
    ratio = float(np.std(then_N, ddof=1) / np.std(then_E, ddof=1))
    found = float(np.clip(np.corrcoef(then_E, now_E)[0, 1], -1.0, 1.0))
    reach = float(special.ndtri((1 + _CONFIDENCE) / 2)) / math.sqrt(len(ended) - 3)
    return LastingOrder(
        fraction=fraction,
        num_early=len(reached),
        num_final=len(ended),
        correlation=unrestricted(found, ratio),
        low=unrestricted(_moved(found, -reach), ratio),
        high=unrestricted(_moved(found, reach), ratio),
    )


def unrestricted(correlation: float, ratio: float) -> float:
    """Return the correlation over the whole range by Thorndike's case 2.

    ratio: the standard deviation over the whole range, divided by that where `correlation` was
    found.
    """
    stretched = correlation * ratio
    return stretched / math.sqrt(1 - correlation**2 + stretched**2)


def rank_correlations(
    reports: Mapping[str, Sequence[dict[str, float]]],
    final: Mapping[str, Mapping[str, float]],
    fractions: Sequence[float],
    objectives: Sequence[str],
) -> list[RankCorrelation]:
    """Return the correlations by fraction and objective, over the trials that have both values.

    reports: of each trial, in order. final: of those that ended, the metrics at the end. What fewer
    than `MIN_TRIALS` trials have, or where all values are equal, is left out.
    """
    found = []
    for fraction in fractions:
        early = {name: at_fraction(rows, fraction) for name, rows in reports.items()}
        for objective in objectives:
            pairs = [
                (values[objective], final[name][objective])
                for name, values in early.items()
                if values is not None and objective in values and objective in final.get(name, ())
            ]
            pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if len(pairs) < MIN_TRIALS or any(
                len(set(side)) == 1 for side in zip(*pairs, strict=True)
            ):
                continue
            then, now = zip(*pairs, strict=True)
            found.append(
                RankCorrelation(
                    fraction=fraction,
                    objective=objective,
                    num_trials=len(pairs),
                    spearman=float(stats.spearmanr(then, now).statistic),
                    kendall=float(stats.kendalltau(then, now).statistic),
                )
            )
    return found


def _scores(
    metrics: Sequence[Mapping[str, float]], objectives: Sequence[str]
) -> NDArray[np.float64]:
    """Return (N,) the mean over objectives of the normal scores of each trial's rank, lower better.

    Blom's: Φ⁻¹((rank - 3/8) / (N + 1/4)).
    """
    columns = [[report.minimised(name, one[name]) for one in metrics] for name in objectives]
    ranks_MN = stats.rankdata(np.asarray(columns), axis=1)
    scores_MN = special.ndtri((ranks_MN - 0.375) / (len(metrics) + 0.25))
    return np.asarray(scores_MN.mean(axis=0), dtype=float)


def _moved(correlation: float, distance: float) -> float:
    """Move a correlation by so much on Fisher's scale, on which ±1 are infinitely far away."""
    if abs(correlation) > 1 - 1e-12:
        return correlation
    return math.tanh(math.atanh(correlation) + distance)
