"""Every method in every structure it has, through whole trials; and the narrower dense network."""

import math
from pathlib import Path

import pytest
import torch

from tests.contracts.conftest import MICRO, MicroTrial
from tests.contracts.test_trials import assert_zeros
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.shipping.formats.packed import load_packed, save_packed
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.structures.compaction import compacted
from trainables.sparsity.structures.n_of_m import largest_group
from trainables.training.export import load_model
from trainables.training.trial import TrialRun
from trainables.training.watching.reports import Report

# Layers of four channels, images of three.
WIDER = {**MICRO, "model.width": 8, "model.head_width": 8}


def having(structure: str) -> list[str]:
    return [n for n, method in METHODS.items() if structure in method.description.structures]


def finished(config: TrialConfig) -> tuple[TrialRun, Report]:
    run = TrialRun(config, device="cpu")
    while (report := run.next_report()) is not None:
        last = report
    assert_zeros(run)
    return run, last


@pytest.mark.parametrize("counts", ["parameters", "flops"])
@pytest.mark.parametrize("method", having("channel"))
def test_channels(micro_trial: MicroTrial, method: str, counts: str, tmp_path: Path) -> None:
    overrides = {**WIDER, "sparsity.structure": "channel", "sparsity.counts": counts}
    config = micro_trial(method, sparsity=0.4, overrides=overrides)
    run, report = finished(config)
    smaller = compacted(run.model, run.registry)
    num_parameters = sum(p.numel() for p in smaller.parameters())
    assert report.metrics["cost/parameters_kept"] == num_parameters
    if counts == "parameters":
        share = num_parameters / sum(p.numel() for p in run.model.parameters())
    else:
        share = report.metrics["cost/flops_fraction"]
    assert 0.4 < share <= 0.6
    run.export(tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    images = torch.rand(1, 3, 16, 16)
    again = compacted(loaded.model, loaded.registry)
    with torch.no_grad():
        for task, prediction in smaller(images).items():
            assert torch.equal(prediction, again(images)[task])
            reference = run.model.eval()(images)[task]
            assert (prediction - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("method", ["disparse-static", "small-dense"])
def test_packed_weights_come_back_in_their_structure(
    micro_trial: MicroTrial, method: str, tmp_path: Path
) -> None:
    overrides = {**WIDER, "sparsity.structure": "channel"}
    run, _ = finished(micro_trial(method, sparsity=0.4, overrides=overrides))
    run.export(tmp_path / "model.pt")
    trained = load_model(tmp_path / "model.pt")
    save_packed(tmp_path / "weights.safetensors", trained)
    again = load_packed(tmp_path / "weights.safetensors")
    for name, value in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    sizes = [
        sum(p.numel() for p in compacted(one.model, one.registry).parameters())
        for one in (trained, again)
    ]
    assert sizes[0] == sizes[1]
    assert again.registry.kept == trained.registry.kept
    assert again.registry.pruned_companions == trained.registry.pruned_companions


@pytest.mark.parametrize("structure", ["2:4", "1:4"])
@pytest.mark.parametrize("method", having("N:M"))
def test_n_of_m(micro_trial: MicroTrial, method: str, structure: str) -> None:
    n, m = map(int, structure.split(":"))
    overrides = {**WIDER, "sparsity.structure": structure}
    config = micro_trial(method, overrides=overrides)
    assert math.isclose(config.sparsity.target, 1 - n / m)
    run, _ = finished(config)
    assert set(largest_group(run.registry.keep(), m).values()) == {n}


@pytest.mark.parametrize("method", having("N:M"))
def test_a_structure_that_a_method_lacks_is_refused(micro_trial: MicroTrial, method: str) -> None:
    if "channel" in METHODS[method].description.structures:
        return
    with pytest.raises(UserError, match=r"must be one of weight, N:M, got channel: a channel that"):
        micro_trial(method, overrides={**WIDER, "sparsity.structure": "channel"})


def test_channel_baselines_have_no_single_weights(micro_trial: MicroTrial) -> None:
    with pytest.raises(UserError, match="of channel-l1 must be one of channel, got weight"):
        micro_trial("channel-l1", overrides={**WIDER, "sparsity.structure": "weight"})


@pytest.mark.parametrize("counts", ["parameters", "flops"])
def test_the_narrower_dense_network_costs_what_was_asked(
    micro_trial: MicroTrial, counts: str
) -> None:
    overrides = {**WIDER, "sparsity.counts": counts}
    run, report = finished(micro_trial("small-dense", sparsity=0.5, overrides=overrides))
    dense = TrialRun(micro_trial("dense", overrides=WIDER), device="cpu")
    assert run.registry.kept == run.registry.total < dense.registry.total
    if counts == "parameters":
        whole = sum(p.numel() for p in dense.model.parameters())
        share = sum(p.numel() for p in run.model.parameters()) / whole
        assert report.metrics["cost/density"] == run.registry.total / dense.registry.total
    else:
        share = report.metrics["cost/flops_fraction"]
    assert 0.4 < share <= 0.5


def test_a_network_that_cannot_be_narrow_enough_is_said(micro_trial: MicroTrial) -> None:
    config = micro_trial("small-dense", sparsity=0.99, overrides=MICRO)
    with pytest.raises(UserError, match=r"small-dense must find a network of 0\.01"):
        TrialRun(config, device="cpu")
