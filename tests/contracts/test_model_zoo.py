"""Every method on every network of a zoo of users' habits: exact counts, or one sentence."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.conftest import MicroTrial
from tests.contracts.test_trials import trained
from tests.contracts.zoo.catalogue import ZOO
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.models.copies import copy_of
from trainables.shipping.compact import compact
from trainables.shipping.formats.packed import load_packed, save_packed
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.structures.n_of_m import largest_group
from trainables.training.export import load_model
from trainables.training.trial import TrialRun

TASKS = ("segmentation", "depth")
SIZE = (32, 32)
TRAINED = [name for name, kind in ZOO.items() if not kind.refused]

# Their channels cannot be taken out: something counts on their number, or no trace follows them.
NO_CHANNELS = {
    "KeepsTensors",
    "TiedToEmbedding",
    "TiedByAnotherName",
    "CheckpointedReentrant",
    "Attention",
    "Functional",
}


def asked(micro_trial: MicroTrial, method: str, model: str, **overrides: Any) -> TrialConfig:
    fixed = {
        "data.size": SIZE,
        "data.crop": SIZE,
        "model.name": f"{ZOO[model].__module__}:{model}",
        **overrides,
    }
    sparsity = {"channel": 0.1, None: 0.9}.get(overrides.get("sparsity.structure"))
    return micro_trial(method, steps=3, sparsity=sparsity, overrides=fixed)


@pytest.mark.parametrize("model", ZOO)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_network(micro_trial: MicroTrial, method: str, model: str) -> None:
    description, kind = METHODS[method].description, ZOO[model]
    channels = description.sparse and "weight" not in description.structures
    if description.scales:  # it needs a width to choose, which these networks do not have
        with pytest.raises(UserError, match=r"parameter that a mask|must find a network"):
            TrialRun(asked(micro_trial, method, model), device="cpu")
        return
    structure = {"sparsity.structure": "channel"} if channels else {}
    config = asked(micro_trial, method, model, **structure)
    if kind.refused:
        with pytest.raises(
            UserError, match=rf"the weight of `{kind.refused}` \(.*\) must be"
        ) as said:
            TrialRun(config, device="cpu")
        assert "\n" not in str(said.value)
        return
    if channels:
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
    if config.model.name.partition(":")[2] in NO_CHANNELS:
        with pytest.raises(UserError, match="structure channel") as said:
            TrialRun(config, device="cpu")
        assert "\n" not in str(said.value)
        return
    run = trained(config)
    assert run.registry.kept < run.registry.total
    images = torch.rand(2, 3, *SIZE)
    smaller = compact(run.model, run.registry).model
    with torch.no_grad():
        expected, found = run.model.eval()(images), smaller(images)
    for task, prediction in found.items():
        largest = expected[task].abs().max()
        assert (prediction - expected[task]).abs().max() <= 1e-4 * largest + 1e-6


@pytest.mark.parametrize("model", TRAINED)
def test_channels_and_groups_of_every_network(micro_trial: MicroTrial, model: str) -> None:
    assert_channels(
        asked(micro_trial, "disparse-static", model, **{"sparsity.structure": "channel"})
    )
    run = trained(asked(micro_trial, "disparse-static", model, **{"sparsity.structure": "2:4"}))
    dense = run.loop.structure.left_dense
    assert {n for n in run.registry.prunable.transposed} <= set(dense)
    grouped = {n: keep for n, keep in run.registry.keep().items() if n not in dense}
    assert set(largest_group(grouped, 4).values()) == {2}
    assert all(bool(run.registry.keep()[name].all()) for name in dense)


@pytest.mark.parametrize("model", TRAINED)
def test_a_whole_trial_says_what_stays_dense_and_comes_back_from_its_file(
    micro_trial: MicroTrial, model: str, tmp_path: Path
) -> None:
    run = TrialRun(asked(micro_trial, "snip", model), device="cpu")
    (note,) = run.notes[:1] or [""]
    assert ZOO[model].said in note
    assert bool(note) == bool(ZOO[model].said) or "serves" in note or model == "TiedHeads"
    while (report := run.next_report()) is not None:
        last = report
    assert all(math.isfinite(v) for n, v in last.metrics.items() if n.startswith("cost/"))
    run.export(tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.registry.layers() == run.registry.layers()
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        expected, found = copy_of(run.model).eval()(images), loaded.model(images)
    if model != "KeepsTensors":  # which adds an average that is in no file
        for task in TASKS:  # in another memory format, so not to the bit
            torch.testing.assert_close(found[task], expected[task], rtol=1e-4, atol=1e-5)
    save_packed(tmp_path / "weights.safetensors", loaded)
    again = load_packed(tmp_path / "weights.safetensors").model.state_dict()
    assert all(torch.equal(again[n], v) for n, v in loaded.model.state_dict().items())
