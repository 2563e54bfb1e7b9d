"""Tell whether trials stand early in training in the order in which they end.

Successive halving stops trials by their order at a rung. That is sound as far as this order agrees
with the final one: Spearman's ρ and Kendall's τ_b, 1 for the same order, 0 for none, -1 for the
reverse. Only trials that ran to their end have a final value, so those stopped are not among them.
They were the poorest, so the agreement over all trials is usually higher.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from analysis.studies.reports import at_fraction

MIN_TRIALS = 8  # of fewer, chance decides


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCorrelation:
    """Hold how an objective's order at a fraction of training agrees with that at the end."""

    fraction: float
    objective: str
    num_trials: int
    spearman: float
    kendall: float


def rank_correlations(
    reports: Mapping[str, Sequence[dict[str, float]]],
    final: Mapping[str, Mapping[str, float]],
    fractions: Sequence[float],
    objectives: Sequence[str],
) -> list[RankCorrelation]:
    """Return the correlations by fraction and objective, over the trials that have both values.

    reports: of each trial, in order. final: its metrics at the end. What fewer than `MIN_TRIALS`
    trials have, or where all values are equal, is left out.
    """
    found = []
    for fraction in fractions:
        early = {name: at_fraction(rows, fraction) for name, rows in reports.items()}
        for objective in objectives:
            pairs = [
                (values[objective], final[name][objective])
                for name, values in early.items()
                if values is not None and objective in values and objective in final[name]
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
