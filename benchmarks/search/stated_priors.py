"""What a search is told before it begins, good, useless or misleading, to measure its worth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.workloads import real_sample, yahpo
from benchmarks.search.workloads.mutation import mutated
from benchmarks.search.workloads.real import Scenes
from benchmarks.search.workloads.surrogate_points import Task
from benchmarks.search.workloads.surrogates import Surrogate
from search.samplers.prior import Prior

PRIORS = ("good", "useless", "misleading")
_NOISE = 0.05  # of a range: how far a good prior is off the best value
_NUM_RANDOM = 1_000


def prior_of(workload: Surrogate | yahpo.Task | Scenes, kind: str, seed: int) -> Prior:
    """Return a prior of one of `PRIORS` for a workload whose good values are known."""
    if isinstance(workload, Surrogate):
        return _of_surrogate(workload, kind, seed)
    chance = np.random.default_rng([seed, 77])
    if isinstance(workload, Scenes):
        known, ends_NM = real_sample.sample()
        some = chance.permutation(len(known))[: len(known) // 2]
        return _of_configurations([known[place] for place in some], ends_NM[some], kind)
    drawn = [mutated(workload.space, {}, 1.0, chance) for _ in range(_NUM_RANDOM)]
    return _of_configurations(drawn, workload.final(drawn), kind)


def _of_surrogate(workload: Surrogate, kind: str, seed: int) -> Prior:
    """Of every parameter but the method and the sparsity, which span the front.

    good: the best values, those of several tasks averaged, each number off by normal noise of a
    twentieth of its range. useless: drawn from the space. misleading: the worst choices, and the
    ends of the ranges that are furthest from the best.
    """
    chance = np.random.default_rng([seed, 77])
    tasks: Sequence[Task] = workload.tasks
    # The best rate falls with sparsity: this is where it is halfway (see `surrogates`).
    rate = float(np.mean([task.best_rate for task in tasks])) - 0.15
    regrowth = float(np.mean([task.best_regrowth for task in tasks]))
    score, allocation = "taylor", "erk"
    if kind == "good":
        rate += float(chance.normal()) * _NOISE * 2.0
        regrowth += float(chance.normal()) * _NOISE * 0.5
    elif kind == "useless":
        rate, regrowth = float(chance.uniform(-1, 1)), float(chance.uniform(0.1, 0.6))
        score = str(chance.choice(["taylor", "published", "magnitude"]))
        allocation = str(chance.choice(["erk", "er", "uniform"]))
    else:
        rate, regrowth = (1.0 if rate < 0 else -1.0), (0.1 if regrowth > 0.35 else 0.6)
        score, allocation = "magnitude", "uniform"
    point = {
        "optimiser.learning_rate": float(10 ** (1.5 * np.clip(rate, -1, 1) - 2.5)),
        "regrowth.fraction": float(np.clip(regrowth, 0.1, 0.6)),
        "sparsity.score": score,
        "sparsity.allocation": allocation,
    }
    return Prior((point,))


def _of_configurations(
    drawn: Sequence[Mapping[str, Any]], values_NM: NDArray[np.float64], kind: str
) -> Prior:
    """A configuration for each objective, as PriMO's authors have priors.

    Of random ones, good: the best in it; misleading: the worst; useless: any. There are a thousand
    to choose from, where they cost nothing; of scenes twenty.
    """
    if kind == "useless":
        return Prior(tuple(drawn[: values_NM.shape[1]]))
    chosen_M = np.argmin(values_NM if kind == "good" else -values_NM, axis=0)
    return Prior(tuple(drawn[place] for place in chosen_M))
