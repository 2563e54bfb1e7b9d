"""Every method on every network of a zoo of users' habits: exact counts, or one sentence."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.contracts.conftest import MicroTrial
from tests.contracts.model_zoo import ZOO, Zoo
from tests.contracts.test_trials import assert_zeros
from trainables.config import ModelConfig, TrialConfig
from trainables.cost.cost_model import measure_latency_ms
from trainables.cost.flops import forward_flops
from trainables.errors import UserError
from trainables.models.catalogue import build_model, service_of
from trainables.models.copies import copy_of
from trainables.shipping.compact import compact
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.masks import MaskRegistry
from trainables.sparsity.prunable import what_stays_dense
from trainables.sparsity.structures.n_of_m import largest_group
from trainables.training.export import load_model
from trainables.training.trial import TrialRun

TASKS = ("segmentation", "depth")
CHANNELS = {"segmentation": 5, "depth": 1}
SIZE = (32, 32)
TRAINED = [name for name, kind in ZOO.items() if not kind.refused]
REFUSED = [name for name, kind in ZOO.items() if kind.refused]

# The rest of the grid is marked slow: rules that differ in what they ask of a network, and a
# network that every rule meets.
QUICK_METHODS = ("disparse-static", "rigl")
QUICK_MODELS = ("CheckpointedReentrant", "Frozen", "TiedHeads")


def asked(micro_trial: MicroTrial, method: str, model: str, **overrides: Any) -> TrialConfig:
    fixed = {
        "data.size": SIZE,
        "data.crop": SIZE,
        "model.name": f"{ZOO[model].__module__}:{model}",
        **overrides,
    }
    sparsity = {"channel": 0.4, None: 0.9}.get(overrides.get("sparsity.structure"))
    return micro_trial(method, steps=3, sparsity=sparsity, overrides=fixed)


def grid() -> list[Any]:
    cells = []
    for method in METHODS:
        for model in ZOO:
            quick = method in QUICK_METHODS or model in QUICK_MODELS
            cells.append(
                pytest.param(method, model, marks=[] if quick else pytest.mark.slow)
            )
    return cells


def trained(config: TrialConfig) -> TrialRun:
    run = TrialRun(config, device="cpu")
    while run.loop.step < config.training.steps:
        run.loop.advance()
        assert_zeros(run)
    return run


@pytest.mark.parametrize(("method", "model"), grid())
def test_every_method_on_every_network(micro_trial: MicroTrial, method: str, model: str) -> None:
    description, kind = METHODS[method].description, ZOO[model]
    structure = {} if "weight" in description.structures else {"sparsity.structure": "channel"}
    if description.scales:  # it needs a width to choose, which these networks do not have
        with pytest.raises(UserError, match="one of a conv|parameter that a mask|must find a net"):
            TrialRun(asked(micro_trial, method, model), device="cpu")
        return
    config = asked(micro_trial, method, model, **structure)
    if kind.refused:
        with pytest.raises(UserError, match=f"the weight of `{kind.refused}` must be") as said:
            TrialRun(config, device="cpu")
        assert "\n" not in str(said.value)
        return
    if structure:
        assert_channels(config)
        return
    run = trained(config)
    registry = run.registry
    assert set(registry.names) == kind.masked(TASKS)
    sparse = METHODS[method].sparse
    assert registry.kept == (round(0.1 * registry.total) if sparse else registry.total)
    assert registry.scored == registry.reached or model == "StochasticDepth"


def assert_channels(config: TrialConfig) -> None:
    """Whole channels are taken out and nothing else changes, or one sentence says why not."""
    try:
        run = trained(config)
    except UserError as error:
        assert "structure channel" in str(error)
        assert "\n" not in str(error)
        return
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        for task, prediction in compact(run.model, run.registry).model(images).items():
            expected = run.model.eval()(images)[task]
            assert (prediction - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-6
