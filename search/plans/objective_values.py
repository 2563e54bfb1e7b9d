"""Makes a vector to be minimised of a trial, with the cost that it will end with.

A gradual schedule is still dense early, so the cost that a trial reports in the middle of
training says little of the model that it will become; the final density is known beforehand.
"""

import math
from collections.abc import Mapping
from typing import Any

from search.plans.plan import Plan
from trainables.registry.lookup import METHOD
from trainables.report import minimised

# Costs that fall about in proportion to the density; the masks of the end are not known yet.
_PROPORTIONAL = ("cost/flops_fraction", "cost/parameters_kept")
_KNOWN_BEFORE = ("cost/density", "cost/sparsity", *_PROPORTIONAL)
_ROUNDING = 1e-3  # of densities, to whole weights


def final_density(config: Mapping[str, Any]) -> float | None:
    """Return the share of weights that a trial's model will keep.

    None for a dense method. config: nested, as `TrialConfig.to_dict` gives it.
    """
    if not METHOD.find(config["method"]).sparse:
        return None
    return 1.0 - float(config["sparsity"]["target"])


def final_cost(name: str, density: float | None, metrics: Mapping[str, float]) -> float:
    """Return the cost `name` at the end of training, as far as it is known; NaN if missing."""
    reported = metrics.get(name, math.nan)
    if density is None:
        return reported
    if name in ("cost/density", "cost/sparsity"):
        return density if name == "cost/density" else 1.0 - density
    now = metrics.get("cost/density", math.nan)
    return reported * density / now if name in _PROPORTIONAL and now > density else reported


def final_costs(density: float | None, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those costs among `metrics` whose value at the end of training is known.

    While a gradual schedule is denser than its end, a mean over training (of density, of FLOPs)
    is not.
    """
    gradual = density is not None and metrics.get("cost/density", 0.0) > density * (1 + _ROUNDING)
    return {
        name: final_cost(name, density, metrics)
        for name in metrics
        if name.startswith("cost/") and (not gradual or name in _KNOWN_BEFORE)
    }


def final_values(
    plan: Plan, density: float | None, metrics: Mapping[str, float]
) -> list[float] | None:
    """Return the vector of the study's objectives, minimised.

    None where one is missing or not a number. density: that of the end, see `final_density`;
    None where the costs in `metrics` are final.
    """
    *qualities, cost = plan.objectives
    values = [*(metrics.get(n, math.nan) for n in qualities), final_cost(cost, density, metrics)]
    if not all(map(math.isfinite, values)):
        return None
    return list(map(minimised, plan.objectives, values))
