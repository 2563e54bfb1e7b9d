"""Δ_T of one system to another, over seeds, of the same metrics at every seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainables import report

Scores = Mapping[int, Mapping[str, float]]  # metrics without split, by seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Deltas:
    """by_seed: in percent, positive is better. left_out: metrics that some seed cannot compare."""

    by_seed: Mapping[int, float]
    left_out: tuple[str, ...]


def paired_deltas(method: Scores, reference: Scores) -> Deltas:
    """Δ_T at every shared seed, over the metrics that all of these seeds have.

    A relative change needs a reference that is not 0 (the share of pixels within a small angle
    may be, early in training). Where one seed's is, or where a seed lacks the metric on either
    side, the metric is left out at all seeds: a mean over seeds of means over different metrics
    would be none of one quantity.
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
