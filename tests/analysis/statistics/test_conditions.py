"""Check how `--where` is read, what meets it, and the bound that admits a value."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.conditions import Condition, metric_name, parse_condition
from trainables.errors import UserError

OBJECTIVES = ("val/segmentation/miou", "val/depth/absolute_error", "cost/density")
DENSE = {"val/segmentation/miou": 0.5, "val/depth/absolute_error": 0.4, "cost/density": 1.0}
OPERATORS = ("<=", ">=", "<", ">")


@pytest.mark.parametrize(
    ("text", "metric", "operator", "value"),
    [
        ("cost/density<=0.1", "cost/density", "<=", 0.1),
        (" depth/absolute_error < 1e-1 ", "val/depth/absolute_error", "<", 0.1),
        ("val/segmentation/miou>=.3", "val/segmentation/miou", ">=", 0.3),
        ("segmentation/miou>=90%", "val/segmentation/miou", ">=", 0.45),
        ("depth/absolute_error<=105 %", "val/depth/absolute_error", "<=", 0.42),
        ("cost/density<10%", "cost/density", "<", 0.1),
        ("cost/latency_fraction<=50%", "cost/latency_fraction", "<=", 0.5),
        ("multitask/delta_percent>-2.5", "val/multitask/delta_percent", ">", -2.5),
        ("segmentation/pixel_accuracy>=0.8", "val/segmentation/pixel_accuracy", ">=", 0.8),
    ],
)
def test_reads_a_bound(text: str, metric: str, operator: str, value: float) -> None:
    found = parse_condition(text, OBJECTIVES, DENSE)
    assert (found.metric, found.operator) == (metric, operator)
    assert found.value == pytest.approx(value)
    assert parse_condition(found.text, OBJECTIVES, DENSE) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cost/density", "in quotes, got 'cost/density'; e.g. --where 'cost/density<=0.1'"),
        ("cost/density=0.1", "must be a metric, one of <=, >=, < and >"),
        ("cost/density==0.1", "must be a metric, one of"),
        ("cost/density<=a tenth", "a number or a percentage"),
        ("cost/density<=nan", "a number or a percentage"),
        ("cost/density<=1e999", "a number or a percentage"),
        ("<=0.1", "must be a metric"),
        ("cost/densty<=0.1", "Did you mean 'cost/density'"),
        (
            "val/cost/density<=0.1",
            "unknown metric 'val/cost/density'. Did you mean 'cost/density'?",
        ),
        ("normals/mean_error_deg<=20", "unknown metric 'normals/mean_error_deg'; valid: "),
        ("test/segmentation/miou>=0.1", "must be chosen on val"),
        ("multitask/delta_percent>=-2%", "give multitask/delta_percent as a number"),
        ("cost/sparsity>=90%", "but no dense trial of the study has cost/sparsity"),
        ("cost/model_bytes<=50%", "but no dense trial of the study has cost/model_bytes"),
    ],
)
def test_refuses_in_words(text: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        parse_condition(text, OBJECTIVES, DENSE)
    assert message in str(told.value)


def test_a_percentage_needs_a_dense_model_with_a_positive_value() -> None:
    with pytest.raises(UserError, match="no dense trial of the study has segmentation/miou"):
        parse_condition("segmentation/miou>=95%", OBJECTIVES)
    with pytest.raises(UserError, match="of a positive value"):
        parse_condition("cost/sparsity>=95%", OBJECTIVES, {"cost/sparsity": 0.0})
    assert parse_condition("cost/density<=5%", OBJECTIVES).value == 0.05  # its dense value is 1


def test_valid_names_are_those_of_the_study() -> None:
    with pytest.raises(UserError) as told:
        metric_name("depth/rmse", OBJECTIVES)
    assert "depth/absolute_error" in str(told.value)
    assert "cost/latency_fraction" in str(told.value)
    assert "keypoints" not in str(told.value)


def test_what_is_missing_meets_nothing() -> None:
    bound = Condition(metric="cost/density", operator="<=", value=0.1)
    for metrics in ({}, {"cost/density": math.nan}, {"cost/density": -math.inf}):
        assert not bound.is_met(metrics)
        assert bound.miss(metrics) == math.inf
    assert bound.miss({"cost/density": 0.1}) == 0
    assert bound.miss({"cost/density": 0.25}) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("text", "value", "admits"),
    [
        ("cost/density<=0.1", 0.123456, "cost/density<=0.1235"),
        ("cost/density<0.1", 0.125, "cost/density<0.1251"),
        ("segmentation/miou>=0.5", 0.123456, "segmentation/miou>=0.1234"),
        ("segmentation/miou>0.5", 0.125, "segmentation/miou>0.1249"),
        ("segmentation/miou>=95%", 0.432, "segmentation/miou>=86.4%"),
        ("cost/latency_ms<1", 0.0, "cost/latency_ms<0.0001"),
        ("multitask/delta_percent>=0", -1.23456, "multitask/delta_percent>=-1.235"),
    ],
)
def test_the_admitting_bound_by_hand(text: str, value: float, admits: str) -> None:
    assert parse_condition(text, OBJECTIVES, DENSE).admitting(value).text == admits


@given(
    operator=st.sampled_from(OPERATORS),
    value=st.floats(-1e6, 1e6, allow_subnormal=False),
    dense=st.none() | st.floats(1e-3, 1e3, allow_subnormal=False),
)
def test_the_admitting_bound_admits(operator: str, value: float, dense: float | None) -> None:
    extra = {} if dense is None else {"percent": 95.0, "dense": dense}
    bound = Condition(metric="cost/model_bytes", operator=operator, value=1.0, **extra)
    assert bound.admitting(value).is_met({"cost/model_bytes": value})
