"""The fraction is a ratio of paired passes; costs at the end of a trial leave the trial alone."""

import copy
import time
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tests.trainables.shipping.conftest import Config
from tests.trainables.shipping.models import CHANNELS, untrained
from trainables.errors import UserError
from trainables.models.catalogue import build_model
from trainables.report import METRICS
from trainables.shipping.formats.packed import model_bytes
from trainables.shipping.latency import measure
from trainables.shipping.runtime import Predict, require_runtime
from trainables.shipping.trial_costs import costs_as_shipped


def sleeper(seconds: float) -> Predict:
    def predict(images_BCHW: Tensor) -> Mapping[str, Tensor]:
        time.sleep(seconds)
        return {}

    return predict


def test_the_fraction_is_that_of_the_passes() -> None:
    latency = measure(sleeper(0.04), sleeper(0.02), (8, 8), runtime="torch", repeats=7, batch=2)
    assert latency.fraction == pytest.approx(0.5, rel=0.2)
    assert latency.shipped_ms == pytest.approx(20, rel=0.3)
    assert latency.fraction_quartiles[0] <= latency.fraction <= latency.fraction_quartiles[1]
    assert latency.spread == latency.fraction_quartiles[1] - latency.fraction_quartiles[0]
    assert (latency.pairs, latency.passes_per_pair, latency.batch) == (7, 1, 2)
    assert (latency.device, latency.runtime, latency.size) == ("cpu", "torch", (8, 8))
    assert latency.device_name
    assert set(latency.metrics()) <= set(METRICS)


def test_neither_network_always_goes_first() -> None:
    order: list[str] = []

    def named(name: str) -> Predict:
        def predict(images_BCHW: Tensor) -> Mapping[str, Tensor]:
            order.append(name)
            time.sleep(0.03)
            return {}

        return predict

    latency = measure(named("dense"), named("shipped"), (8, 8), runtime="torch", repeats=4)
    assert latency.passes_per_pair == 1
    assert order[-8:] == ["dense", "shipped", "shipped", "dense"] * 2


def test_short_passes_are_repeated_within_a_pair() -> None:
    latency = measure(sleeper(1e-4), sleeper(1e-4), (8, 8), runtime="torch", repeats=5)
    assert latency.passes_per_pair > 1


def test_it_stops_in_time() -> None:
    latency = measure(
        sleeper(0.03), sleeper(0.03), (8, 8), runtime="torch", repeats=1000, max_seconds=0.01
    )
    assert 5 <= latency.pairs < 20


def test_threads_are_those_asked_for_and_then_as_before() -> None:
    seen = set()

    def predict(images_BCHW: Tensor) -> Mapping[str, Tensor]:
        seen.add(torch.get_num_threads())
        return {}

    before = torch.get_num_threads()
    measure(predict, predict, (8, 8), runtime="torch", repeats=2, threads=3)
    assert seen == {3}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("onnx", "cpu", 1), "unknown runtime 'onnx'; valid: onnxruntime, torch"),
        (("torch", "gpu", 1), r"unknown device 'gpu'\. .* Valid: cpu, cuda"),
        (("torch", "cpu", 0), "`--threads` must be at least 1, got 0"),
        (("onnxruntime", "cuda", 1), "pip install onnxruntime-gpu"),
    ],
)
def test_a_runtime_that_is_not_there(arguments: tuple[str, str, int], message: str) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and "cuda" in arguments:
        pytest.skip("ONNX Runtime has its CUDA provider here")
    with pytest.raises(UserError, match=message):
        require_runtime(*arguments)


@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_costs_as_shipped_leave_the_trial_as_it_was(config: Config, runtime: str) -> None:
    before = untrained(config())
    model = before.model.train()
    state, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    costs = costs_as_shipped(
        model, before.registry, before.config, CHANNELS, runtime=runtime, repeats=3
    )
    assert set(costs) == {
        "cost/latency_ms",
        "cost/latency_fraction",
        "cost/latency_spread",
        "cost/model_bytes",
    }
    assert set(costs) <= set(METRICS)
    assert all(value > 0 for value in costs.values())
    assert costs["cost/model_bytes"] == pytest.approx(model_bytes(before), abs=100)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_dense_network_can_be_another(config: Config) -> None:
    narrow = untrained(config())
    wide = build_model(config(model__width=64, model__head_width=64).model, CHANNELS, seed=0)
    costs = costs_as_shipped(
        narrow.model,
        narrow.registry,
        narrow.config,
        CHANNELS,
        runtime="torch",
        repeats=5,
        dense=wide,
    )
    assert costs["cost/latency_fraction"] < 0.8
