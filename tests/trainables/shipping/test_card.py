"""The card gives the figures of ship.json, and intervals where there are seeds."""

import pytest

from trainables.report import METRICS
from trainables.shipping.card import _percent, _quality, _unit, _value, interval
from trainables.shipping.in_words import at_most, costs_in_words, share


def test_the_interval_is_students() -> None:
    # Mean 2, deviation 1, three values: 4.303 / sqrt(3).
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(2.4843, abs=1e-3))


def test_beyond_the_table_it_is_wider_than_needed() -> None:
    values = [float(i % 2) for i in range(30)]
    _, half = interval(values)
    assert half > 2.045 * 0.5085 / 30**0.5


@pytest.mark.parametrize(
    ("dataset", "unit"),
    [("scenes", "m"), ("cityscapes", "disparity"), ("not_here.data:SPEC", "dataset unit")],
)
def test_depth_is_in_the_unit_of_its_data_set(dataset: str, unit: str) -> None:
    shipped = {"config": {"data": {"dataset": dataset}}}
    assert _unit(METRICS["depth/absolute_error"], shipped) == unit
    assert _unit(METRICS["normals/mean_error_deg"], shipped) == "deg"


def test_values_are_rounded_to_the_worse_side() -> None:
    assert _value("test/segmentation/miou", 0.49999) == "0.4999"
    assert _value("test/depth/absolute_error", 0.50001) == "0.5001"
    assert (_percent(0.10001), _percent(0.5), _percent(0.0123)) == ("10.01 %", "50 %", "1.23 %")


def test_intervals_bytes_and_times_are_never_written_smaller() -> None:
    assert (at_most(0.0124001, 2), at_most(0.012, 2), at_most(0.0, 2)) == ("0.013", "0.012", "0")
    assert (at_most(1.231, 3), at_most(1.21e-7, 2)) == ("1.24", "1.3e-07")
    assert (share(0.5001), share(0.5), share(0.4999, down=True)) == ("0.501", "0.500", "0.499")
    sizes = {"bytes_dense": 10_000}
    latency = {"fraction": 0.2501, "shipped_ms": 1.231, "runtime": "torch", "device": "cpu"}
    shipped = {"files": {"weights.safetensors": 1231}, "sizes": sizes, "latency": latency}
    latency["threads"] = 1
    assert costs_in_words(shipped) == (
        "weights.safetensors 0.124 of the dense network's bytes; time 0.251 of the dense network's "
        "(1.24 ms, torch, cpu, 1 thread)"
    )


def test_an_interval_on_the_card_is_no_narrower_than_it_is() -> None:
    name = "test/depth/absolute_error"
    data = {"dataset": "scenes", "tasks": ["depth"]}
    shipped = {
        "config": {"data": data, "metrics": "exact"},
        "metrics": {name: 1.0},
        "verification": {"num_images": 1, "errors": {"onnx": {"depth": 1.21e-7}}},
        "verified_in": "torch",
    }
    said = _quality(shipped, [{name: 1.0}, {name: 1.0019}], "")  # 12.706 * 0.00095 = 0.01207
    assert "| 1.001 ± 0.013 |" in said
    assert "at most 1.3e-07 of" in said


def test_bytes_are_said_with_the_name_of_their_file() -> None:
    latency = {"fraction": 0.5, "shipped_ms": 1.25, "runtime": "torch", "device": "cpu"}
    shipped = {
        "files": {"model.onnx": 30, "model.pt2": 1, "weights.safetensors": 10},
        "sizes": {"onnx_bytes_dense": 60, "bytes_dense": 40},
        "latency": {**latency, "threads": 1},
    }
    assert costs_in_words(shipped) == (
        "model.onnx 0.500 of the dense network's bytes, weights.safetensors 0.250 of the dense "
        "network's bytes; time 0.500 of the dense network's (1.25 ms, torch, cpu, 1 thread)"
    )
    shipped["sizes"]["onnx_bytes_dense"] = None  # timed in torch: the dense one was not exported
    assert costs_in_words(shipped).startswith("weights.safetensors 0.250 of the dense network's")
