"""Random configurations of scenes, trained to their ends: a scale, and what a user might know."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.indicators import Normalisation
from benchmarks.search.workloads.mutation import mutated
from benchmarks.search.workloads.real import Scenes

_NUM_RANDOM = 40
_SEED = 12345  # of no search
_NADIR_QUANTILE = 0.95  # as of YAHPO's tasks


@functools.cache
def sample() -> tuple[tuple[Mapping[str, Any], ...], NDArray[np.float64]]:
    """Return the configurations, N of them, and their objectives (N, M). It takes minutes."""
    workload, chance = Scenes(), np.random.default_rng(_SEED)
    drawn = tuple(mutated(workload.space, {}, 1.0, chance) for _ in range(_NUM_RANDOM))
    ends = []
    for number, params in enumerate(drawn):
        run = workload.start(params, _SEED + number)
        values: tuple[float, ...] = ()
        for _ in range(workload.num_epochs):
            values = run.next_report().values
        ends.append(values)
    return drawn, np.array(ends)


def normalisation() -> Normalisation:
    """Return the scale from the best to the 95 % quantile of the sample."""
    _, values_NM = sample()
    nadir = np.quantile(values_NM, _NADIR_QUANTILE, axis=0)
    return Normalisation(ideal=tuple(values_NM.min(axis=0)), nadir=tuple(nadir))
