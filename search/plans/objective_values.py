"""A trial as a vector to be minimised, with the cost that it will end with.

A gradual schedule is still dense early, so the cost that a trial reports in the middle of
training says little of the model that it will become; the final density is known beforehand.
"""

import math
from collections.abc import Mapping
from typing import Any

from search.plans.plan import Plan
from spaces.presets import DENSE_METHODS
from trainables.report import minimised

# Costs that fall in proportion to the density, as good as; the masks of the end are not known yet.
_PROPORTIONAL = ("cost/flops_fraction", "cost/parameters_kept")
_ROUNDING = 1e-3  # of densities, to whole weights
_DECIDED = ("cost/density", "cost/sparsity")  # by the final density


def final_density(config: Mapping[str, Any]) -> float | None:
    """Return the share of weights that a trial's model will keep; None where sparsity is not what
    decides it. config: nested, as `TrialConfig.to_dict` gives it."""
    if config["method"] in DENSE_METHODS:
        return None
    return 1.0 - float(config["sparsity"]["target"])


def final_cost(name: str, density: float | None, metrics: Mapping[str, float]) -> float:
    """The cost `name` at the end of training, as far as it is known; NaN where it is missing."""
    reported = metrics.get(name, math.nan)
    if density is None:
        return reported
    if name == "cost/density":
        return density
    if name == "cost/sparsity":
        return 1.0 - density
    now = metrics.get("cost/density", math.nan)
    if name in _PROPORTIONAL and now > density:
        return reported * density / now
    return reported


def final_costs(density: float | None, metrics: Mapping[str, float]) -> dict[str, float]:
    """The costs among `metrics` at the end of training, those alone that are known: while a
    gradual schedule is denser than its end, a mean over training (of density, of FLOPs) is not."""
    gradual = density is not None and metrics.get("cost/density", 0.0) > density * (1 + _ROUNDING)
    known = {n for n in metrics if n.startswith("cost/")}
    known &= {*_DECIDED, *_PROPORTIONAL} if gradual else known
    return {name: final_cost(name, density, metrics) for name in known}


def final_values(
    plan: Plan, density: float | None, metrics: Mapping[str, float]
) -> list[float] | None:
    """The vector of the study's objectives, minimised; None where one is missing or not a number.

    density: that of the end, see `final_density`; None where the costs in `metrics` are final.
    """
    *qualities, cost = plan.objectives
    named = {name: metrics.get(name, math.nan) for name in qualities}
    named[cost] = final_cost(cost, density, metrics)
    if not all(map(math.isfinite, named.values())):
        return None
    return [minimised(name, value) for name, value in named.items()]
