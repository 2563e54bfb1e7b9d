"""Names and directions of metrics: the contract every room relies on."""

import pytest

from trainables.errors import UserError
from trainables.report import (
    METRICS,
    PRIMARY_METRICS,
    describe,
    minimised,
    non_finite,
    objective_names,
    without_split,
)


def test_every_primary_metric_exists():
    assert set(PRIMARY_METRICS.values()) <= set(METRICS)


def test_direction_is_converted_at_one_place():
    assert minimised("val/segmentation/miou", 0.4) == -0.4
    assert minimised("test/depth/absolute_error", 0.4) == 0.4
    assert minimised("cost/density", 0.1) == 0.1


def test_split_is_removed_once():
    assert without_split("val/edges/error") == "edges/error"
    assert without_split("edges/error") == "edges/error"
    assert without_split("cost/density") == "cost/density"


def test_objectives_are_one_metric_per_task_and_one_cost():
    assert objective_names(["segmentation", "depth"]) == (
        "val/segmentation/miou",
        "val/depth/absolute_error",
        "cost/density",
    )


@pytest.mark.parametrize("cost", ["density", "val/depth/absolute_error", "depth/absolute_error"])
def test_a_cost_must_be_a_cost(cost):
    with pytest.raises(UserError, match="unknown"):
        objective_names(["depth"], cost=cost)


def test_an_unknown_metric_lists_the_close_one():
    with pytest.raises(UserError, match="Did you mean 'segmentation/miou'"):
        describe("val/segmentation/mio")


def test_missing_nan_and_infinite_values_are_all_non_finite():
    metrics = {"a": 1.0, "b": float("nan"), "c": float("inf")}
    assert non_finite(metrics, ["a", "b", "c", "d"]) == ("b", "c", "d")


def test_parameters_kept_says_what_it_counts() -> None:
    # As `trainables.cost.cost_model.parameters_kept`: all parameters of the model, less the pruned.
    metric = describe("cost/parameters_kept")
    assert metric.unit == "parameters"
    assert "biases and normalisation included" in metric.description
