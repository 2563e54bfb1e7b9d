"""A trial as a vector, with the cost it will end with; see `search.plans.objective_values`."""

import math

import pytest

from search.plans.objective_values import final_costs, final_density, minimised_objectives
from tests.search.studies import plan_of

PLAN = plan_of()
MIOU, NORMALS, DEPTH, COST = PLAN.objectives
# In the middle of a gradual schedule: half of the weights, of a tenth at the end.
HALFWAY = {
    MIOU: 0.4,
    NORMALS: 20.0,
    DEPTH: 0.5,
    COST: 0.5,
    "cost/sparsity": 0.5,
    "cost/parameters_kept": 600.0,
    "cost/flops_fraction": 0.6,
    "cost/train_flops_fraction": 0.7,
    "cost/average_training_density": 0.8,
    "training/epochs": 3.0,
}


def test_final_density_is_what_sparsity_leaves() -> None:
    snip = {"method": "snip", "sparsity": {"structure": "weight", "target": 0.9}}
    assert final_density(snip) == pytest.approx(0.1)
    assert final_density(PLAN.config({"method": "snip"}, 0).to_dict()) == pytest.approx(0.1)
    for method in ("dense", "cross-stitch", "sluice"):
        dense = {"method": method, "sparsity": {"structure": "weight", "target": 0.0}}
        assert final_density(dense) is None
    # Channels are counted as parameters or FLOPs, and N:M leaves layers dense.
    for structure in ("channel", "2:4"):
        sparsity = {"structure": structure, "target": 0.5}
        assert final_density({"method": "snip", "sparsity": sparsity}) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cost/density", 0.1),
        ("cost/sparsity", 0.9),
        ("cost/parameters_kept", 120.0),
        ("cost/flops_fraction", 0.12),
    ],
)
def test_costs_fall_with_the_density_that_is_to_come(name: str, expected: float) -> None:
    assert final_costs(0.1, HALFWAY)[name] == pytest.approx(expected)
    assert final_costs(None, HALFWAY)[name] == HALFWAY[name]


@pytest.mark.parametrize("name", ["cost/parameters_kept", "cost/flops_fraction"])
def test_at_the_end_the_reported_costs_are_final(name: str) -> None:
    ended = HALFWAY | {COST: 0.0999}
    assert final_costs(0.1, ended)[name] == HALFWAY[name]
    assert final_costs(0.1, {}) == {}


def test_a_mean_over_training_is_not_known_before_its_end() -> None:
    gradual, static = final_costs(0.1, HALFWAY), final_costs(0.5, HALFWAY)
    assert set(gradual) == {n for n in HALFWAY if n.startswith("cost/")} - {
        "cost/train_flops_fraction",
        "cost/average_training_density",
    }
    assert gradual["cost/density"] == 0.1
    assert static == {n: v for n, v in HALFWAY.items() if n.startswith("cost/")}
    assert final_costs(None, HALFWAY) == static  # a dense model
    # Whole weights: a density that is off by less than one of them is that of the end.
    assert "cost/train_flops_fraction" in final_costs(0.49999, HALFWAY)


def test_the_vector_is_minimised_and_in_the_order_of_the_objectives() -> None:
    ending = {**HALFWAY, **final_costs(0.1, HALFWAY)}
    assert minimised_objectives(PLAN, ending) == [-0.4, 20.0, 0.5, 0.1]
    assert minimised_objectives(PLAN, HALFWAY) == [-0.4, 20.0, 0.5, 0.5]


@pytest.mark.parametrize("name", PLAN.objectives)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, ...])
def test_no_vector_where_an_objective_is_missing_or_no_number(name: str, value: object) -> None:
    metrics = {n: v for n, v in {**HALFWAY, name: value}.items() if v is not ...}
    assert minimised_objectives(PLAN, metrics) is None
