"""Check that what a reader compares is written as it compares."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.labels import (
    admitting,
    admitting_numbers,
    axis_label,
    beside_bound,
    difference,
    losing,
    number,
    numbers,
    plus_minus,
    share_of_dense,
)
from analysis.statistics.conditions import parse_condition
from analysis.statistics.uncertainty.losses import losing_between
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy


@pytest.mark.parametrize(
    ("values", "name", "texts"),
    [
        ([0.1001, 0.1], "cost/density", ["10.01 %", "10 %"]),
        ([0.100001, 0.1], "cost/density", ["10.0001 %", "10 %"]),
        ([0.1, 0.1], "cost/density", ["10 %", "10 %"]),
        ([0.44, 0.4637], "val/segmentation/miou", ["0.44", "0.4637"]),
        ([18.62, 17.5], "val/normals/mean_error_deg", ["18.62°", "17.5°"]),
        ([1_234_567.0], "cost/model_bytes", ["1.235 MB"]),
        ([7.2114], "cost/latency_ms", ["7.211 ms"]),
        ([0.5], "cost/latency_fraction", ["50 %"]),
        ([123_456.0, 1.0], "cost/parameters_kept", ["123,456", "1"]),
        ([], "cost/density", []),
    ],
)
def test_numbers_by_hand(values: list[float], name: str, texts: list[str]) -> None:
    assert numbers(values, name) == texts


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.0123, "cost/density", "1.23 %"),
        (4.2, "cost/latency_ms", "4.2 ms"),
        (30_000.0, "cost/model_bytes", "0.03 MB"),
        (0.4123456, "val/segmentation/miou", "0.4123"),
    ],
)
def test_one_number(value: float, name: str, text: str) -> None:
    assert number(value, name) == text


def test_axes_of_costs_have_units() -> None:
    assert axis_label("cost/latency_fraction") == "latency (% of dense)"
    assert axis_label("cost/latency_ms") == "latency per image (ms)"
    assert axis_label("cost/model_bytes") == "weights.safetensors (MB)"


@given(
    values=st.lists(
        st.floats(-1e4, 1e4, allow_subnormal=False).map(lambda v: round(v, 9)), max_size=4
    ),
    name=st.sampled_from(["cost/density", "cost/model_bytes", "val/segmentation/miou"]),
)
def test_what_is_shown_compares_as_what_is_compared(values: list[float], name: str) -> None:
    read = [float(text.split()[0].replace(",", "")) for text in numbers(values, name)]
    for i, first in enumerate(values):
        for j, second in enumerate(values):
            assert (first < second) == (read[i] < read[j])


OBJECTIVES = ["val/segmentation/miou", "val/normals/mean_error_deg", "cost/density"]
_BOUNDS = {"val/segmentation/miou": ">=", "val/normals/mean_error_deg": "<=", "cost/density": "<="}


@given(value=st.floats(1e-6, 1e4), name=st.sampled_from(OBJECTIVES))
def test_a_bound_of_what_is_shown_admits_what_is_shown(value: float, name: str) -> None:
    shown = admitting(value, name).replace(",", "").replace(" ", "").replace("°", "")
    bound = parse_condition(f"{name}{_BOUNDS[name]}{shown}", OBJECTIVES)
    assert bound.is_met({name: value})
    assert bound.value == pytest.approx(value, rel=1e-3)


@given(value=st.floats(1e-3, 1e3), dense=st.floats(1e-3, 1e3), name=st.sampled_from(OBJECTIVES[:2]))
def test_a_bound_of_the_share_that_is_shown_admits_it(value, dense, name) -> None:
    share = share_of_dense(value, dense, name).replace(",", "")
    bound = parse_condition(f"{name}{_BOUNDS[name]}{share}", OBJECTIVES, {name: dense})
    assert bound.is_met({name: value})


def test_values_are_rounded_to_the_worse_side() -> None:
    assert admitting(0.1000001, "cost/density") == "10.01 %"
    assert admitting(0.1, "cost/density") == "10 %"
    assert admitting(0.44049, "val/segmentation/miou") == "0.4404"
    assert admitting(92310.0, "cost/parameters_kept") == "92,310"
    assert admitting(float("nan"), "cost/density") == "–"
    assert admitting_numbers([0.10011, 0.10012], "cost/density") == ["10.011 %", "10.012 %"]
    assert share_of_dense(1.0, 0.0, "val/segmentation/miou") == "–"


@pytest.mark.parametrize(
    ("value", "operator", "bound", "dense", "texts"),
    [
        (0.1, "<=", 0.10004, None, ["10 %", "10.004 %"]),  # as it was typed
        (0.10003, "<=", 0.10004, None, ["10.003 %", "10.004 %"]),  # and met as it is written
        (0.2, "<=", 0.100049, 1.0, ["20 %", "10 %", "100 %"]),
        (0.2, ">=", 0.100041, 1.0, ["20 %", "10.01 %", "100 %"]),
        (0.100041, ">=", 0.100041, 1.0, ["10.01 %", "10.01 %", "100 %"]),
        (92_310.0, "<=", 92_311.0, None, ["92,310", "92,311"]),
    ],
)
def test_a_bound_is_never_written_weaker(value, operator, bound, dense, texts) -> None:
    name = "cost/density" if value < 1 else "cost/parameters_kept"
    assert beside_bound(value, operator, bound, name, dense) == texts


@pytest.mark.parametrize(
    ("percent", "text"),
    [
        (1.04, "1.04 % worse"),
        (1.0004, "1.01 % worse"),
        (104.0, "104 % worse"),
        (999.6, "1,000 % worse"),
        (123_456.7, "123,457 % worse"),
        (-104.7, "104 % better"),
        (-0.2, "0.2 % better"),
        (0.00001234, "0.0000124 % worse"),
        (0.0, "equal"),
        (1e-14, "equal"),  # what is left of floats that are equal
        (5.000000000000004, "5 % worse"),
    ],
)
def test_losses_are_never_written_smaller(percent: float, text: str) -> None:
    assert losing(percent) == text


@given(percent=st.floats(1e-6, 1e6))
def test_a_loss_is_written_as_much_or_more(percent: float) -> None:
    said = losing(percent)
    assert "e" not in said.replace("worse", "")
    shown = float(said.partition(" ")[0].replace(",", ""))
    assert percent - 1e-9 <= shown <= max(1.01 * percent, percent + 1e-9)
    gained = losing(-percent)
    assert gained.endswith("better")
    assert float(gained.partition(" ")[0].replace(",", "")) <= percent + 1e-9


@pytest.mark.parametrize(
    ("loss", "name", "text"),
    [
        (0.50 - 0.44, "val/segmentation/miou", "0.06"),
        (0.0225401, "val/segmentation/miou", "0.02255"),
        (-0.0225401, "val/segmentation/miou", "0.02254"),  # a gain, never greater
        (4.2, "val/normals/mean_error_deg", "4.2°"),
        (0.004978, "cost/density", "0.4978 percentage points"),
        (0.01, "cost/density", "1 percentage point"),
        (2.0, "val/multitask/delta_percent", "2 percentage points"),
        (0.5, "cost/latency_ms", "0.5 ms"),
        (1e-15, "cost/density", "0 percentage points"),
    ],
)
def test_differences_are_never_written_smaller(loss: float, name: str, text: str) -> None:
    assert difference(loss, name) == text


def test_a_mean_and_half_its_interval() -> None:
    assert plus_minus(0.41204, 0.008101, "val/segmentation/miou") == "0.412 ± 0.00811"
    assert plus_minus(0.6, 0.02, "cost/latency_fraction") == "60 % ± 2 %"
    assert plus_minus(0.6, float("inf"), "cost/latency_fraction") == "60 %"


def test_an_interval_of_losses_is_not_narrowed_and_says_its_sides() -> None:
    assert losing_between(-0.4121, 3.921) == "0.413 % better to 3.93 % worse"
    assert losing_between(1.2345, 3.9) == "1.23 % to 3.9 % worse"
    assert losing_between(-3.921, -1.2345) == "3.93 % to 1.23 % better"
    assert losing_between(0.0, 104.2) == "0 % to 105 % worse"
    assert losing_between(-2.0, 0.0) == "2 % better to 0 %"
    assert losing_between(-1e-15, 1e-15) == "0 % to 0 %"


@pytest.mark.parametrize("value", [1e-9, 0.123, 1.0, 123.4])
def test_percentages_have_no_exponent(value: float) -> None:
    for text in (number(value, "cost/density"), *numbers([value], "cost/density")):
        assert "e" not in text
        assert float(text.split()[0].replace(",", "")) == pytest.approx(100 * value, rel=1e-3)


@pytest.mark.parametrize(
    ("dataset", "label"),
    [
        ("scenes", "absolute error (m)"),
        ("cityscapes", "absolute error (disparity)"),
        ("my_lab.datasets:ROOMS", "absolute error (data units)"),
    ],
)
def test_depths_are_in_the_unit_of_the_data_set(
    record: Callable[..., BuiltStudy], dataset: str, label: str
) -> None:
    built = record("one", [], tasks=("depth",), facts={"dataset": dataset})
    load_study("one", built.storage)
    assert axis_label("val/depth/absolute_error") == label
