"""A grid of twelve trials or so, for tests of `search baselines`."""

from typing import Any

from search.plans.baselines import make_baselines_plan
from search.plans.plan import Plan
from tests.search.studies import DEMO

RATE = "optimiser.learning_rate"
SYSTEMS = ("dense", "snip", "disparse-pretrained")
REFUSED = {"sparsity.schedule": "one-shot"}  # by lth, which has a schedule of its own
UPSIDE_DOWN = {"sparsity.start_fraction": 0.4, "sparsity.end_fraction": 0.3}


def small(**arguments: Any) -> Plan:
    few = {"methods": SYSTEMS, "sparsities": (0.5, 0.9), "seeds": 2}
    return make_baselines_plan(DEMO, **{**few, **arguments})


def cells_of(plan: Plan) -> list[tuple[Any, ...]]:
    """Seed, method and sparsity of every trial, in order."""
    assert plan.grid is not None
    cells = plan.grid.cells()
    return [(seed, params["method"], params.get("sparsity.target")) for params, seed in cells]
