"""Compute Δ_T of one system to another over seeds, from the same metrics at every seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainables import report

Scores = Mapping[int, Mapping[str, float]]  # metrics without split, by seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Deltas:
    """Hold Δ_T by seed.

    by_seed: in percent, positive is better. left_out: metrics that cannot be compared at some seed.
    """

    by_seed: Mapping[int, float]
    left_out: tuple[str, ...]


def paired_deltas(method: Scores, reference: Scores) -> Deltas:
    """Compute Δ_T at every shared seed, over the metrics that all of these seeds have.

    A relative change needs a reference that is not 0 (early in training, the share of pixels within
    a small angle may be 0). Where the reference is 0 at one seed, or where a seed lacks the metric
    on either side, the metric is left out at all seeds. Otherwise the mean over seeds would mix
    means over different metrics.
    """
    seeds = sorted(set(method) & set(reference))
    names = dict.fromkeys(
        name for seed in seeds for scores in (reference[seed], method[seed]) for name in scores
    )
    kept = [
        name for name in names if all(_comparable(method[s], reference[s], name) for s in seeds)
    ]
    by_seed = {
        seed: report.delta_percent(
            {n: method[seed][n] for n in kept}, {n: reference[seed][n] for n in kept}
        )
        for seed in seeds
    }
    return Deltas(
        by_seed={seed: value for seed, value in by_seed.items() if math.isfinite(value)},
        left_out=tuple(name for name in names if name not in kept),
    )


def _comparable(method: Mapping[str, float], reference: Mapping[str, float], name: str) -> bool:
    values = (method.get(name, math.nan), reference.get(name, math.nan))
    return all(map(math.isfinite, values)) and values[1] != 0
