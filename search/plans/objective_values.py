"""Makes a vector to be minimised of a trial, with the cost that it will end with.

A gradual schedule is still dense early, so the cost that a trial reports in the middle of
training says little of the model that it will become; the final density is known beforehand.
"""

import math
from collections.abc import Mapping
from typing import Any

from search.plans.plan import Plan
from trainables.registry.lookup import METHOD
from trainables.registry.structures import WEIGHT
from trainables.report import minimised

# Costs that fall about in proportion to the density; the masks of the end are not known yet.
_PROPORTIONAL = ("cost/flops_fraction", "cost/parameters_kept")
_ROUNDING = 1e-3  # of densities, to whole weights


def final_density(config: Mapping[str, Any]) -> float | None:
    """Return the share of weights that a trial's model will keep; None where it is not known.

    It is known of single weights: N:M leaves layers dense, and channels are counted as parameters
    or FLOPs, so their costs are taken as they are reported.
    config: nested, as `TrialConfig.to_dict` gives it.
    """
    single = config["sparsity"]["structure"] == WEIGHT
    if not (single and METHOD.find(config["method"]).sparse):
        return None
    return 1.0 - float(config["sparsity"]["target"])


def final_costs(density: float | None, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those costs among `metrics` whose value at the end of training is known.

    density: that of the end, see `final_density`; None where the costs in `metrics` are final.
    While a gradual schedule is denser than its end, a mean over training is not known.
    """
    costs = {name: value for name, value in metrics.items() if name.startswith("cost/")}
    if density is None:
        return costs
    now = costs.get("cost/density", 0.0)
    known = {"cost/density": density, "cost/sparsity": 1.0 - density}
    if now > density:
        known |= {n: costs[n] * density / now for n in _PROPORTIONAL if n in costs}
    if now <= density * (1 + _ROUNDING):
        known = {**costs, **known}
    return {name: value for name, value in known.items() if name in costs}


def minimised_objectives(plan: Plan, metrics: Mapping[str, float]) -> list[float] | None:
    """Return the vector of the study's objectives, minimised; None where one is no number.

    metrics: with the costs of the end.
    """
    values = [metrics.get(name, math.nan) for name in plan.objectives]
    if not all(map(math.isfinite, values)):
        return None
    return list(map(minimised, plan.objectives, values))


def ending_objectives(
    plan: Plan, config: Mapping[str, Any] | None, metrics: Mapping[str, float]
) -> tuple[list[float] | None, dict[str, float]]:
    """Return the objectives, minimised, and the violations, with the costs of the end.

    config: nested; None where `metrics` are final.
    """
    density = None if config is None else final_density(config)
    ending = {**metrics, **final_costs(density, metrics)}
    return minimised_objectives(plan, ending), plan.constraints.violations(ending)
