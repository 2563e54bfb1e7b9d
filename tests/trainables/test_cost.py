"""FLOPs by formula against torch's counter and by hand; training FLOPs in closed form."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.config import ModelConfig
from trainables.cost import (
    CostModel,
    forward_flops,
    measure_latency_ms,
    parameters_kept,
    regrowth_step_flops,
    training_flops_fraction,
)
from trainables.errors import UserError
from trainables.models.base import prunable_parameters
from trainables.models.catalogue import build_model
from trainables.report import METRICS
from trainables.sparsity.masks import MaskRegistry

TINY = ModelConfig(
    name="deeplab-resnet",
    width=8,
    blocks=(1, 2, 1, 1),
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    head_width=12,
    head_dilations=(1, 2),
)


def tiny() -> nn.Module:
    return build_model(TINY, {"segmentation": 5, "depth": 1}, seed=0)


def prune(registry: MaskRegistry, kept_of: dict[str, int]) -> None:
    """Keep the first `n` weights of each named layer, all of the others."""
    masks = {name: mask.bool() for name, mask in registry.masks.items()}
    for name, kept in kept_of.items():
        keep = torch.arange(masks[name].numel()) < kept
        masks[name] = keep.reshape(masks[name].shape)
    registry.update(masks, None)


@pytest.mark.parametrize("size", [(64, 64), (33, 50)])
def test_the_formula_agrees_with_torchs_counter(size: tuple[int, int]) -> None:
    model = tiny()
    flops = forward_flops(model, size)
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.rand(1, 3, *size))
    assert flops.other == 0
    assert flops.dense == counter.get_total_flops()
    assert list(flops.layers) == list(prunable_parameters(model))
    by_module = counter.get_flop_counts()
    for name, count in flops.layers.items():
        module = f"DeepLabResNet.{name.removesuffix('.weight')}"
        assert count == sum(by_module[module].values()), name


def test_stem_by_hand() -> None:
    flops = forward_flops(tiny(), (64, 48))
    assert flops.layers["backbone.conv1.weight"] == 2 * (8 * 3 * 7 * 7) * (32 * 24)


class Mixed(nn.Module):
    """Grouped and transposed convolutions, a linear layer over positions, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = ("depth",)
        self.grouped = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.mix = nn.Linear(6, 6)
        self.again = nn.Linear(6, 6)
        self.again.weight = self.mix.weight
        self.up = nn.ConvTranspose2d(6, 1, 2, stride=2)

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        features = self.grouped(images).movedim(1, -1)
        return {"depth": self.up(self.again(self.mix(features)).movedim(-1, 1))}

    def owners(self) -> dict[str, str]:
        return {name: "shared" for name, _ in self.named_parameters()}


def test_layers_that_are_not_plain_convolutions() -> None:
    flops = forward_flops(Mixed(), (8, 10))
    assert flops.layers == {
        "grouped.weight": 2 * 80 * (6 * 1 * 9),
        "mix.weight": 2 * (2 * 80 * 36),  # tied: used twice, masked once
    }
    assert flops.other == 2 * 80 * (6 * 1 * 4)  # the transposed convolution, always dense


class MakesItsOwnTensors(Mixed):
    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        return super().forward(images + torch.zeros(images.shape[-1]))


def test_a_model_that_cannot_run_on_meta_runs_for_real() -> None:
    assert forward_flops(MakesItsOwnTensors(), (8, 10)) == forward_flops(Mixed(), (8, 10))


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = tiny().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    forward_flops(model, (32, 32))
    assert model.training
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_sparse_flops_follow_the_counts() -> None:
    model = tiny()
    registry = MaskRegistry(model)
    cost = CostModel(model, registry, (64, 64))
    assert cost.flops_fraction() == 1
    stem, total = "backbone.conv1.weight", 8 * 3 * 49
    prune(registry, {stem: total // 4})
    saved = 0.75 * cost.flops.layers[stem]
    assert cost.flops_fraction() == pytest.approx(1 - saved / cost.flops.dense)
    # The stem has 3 % of the weights and, at full resolution, far more of the FLOPs.
    assert 1 - cost.flops_fraction() > 2 * (1 - registry.density)


def test_parameters_kept_counts_biases_and_normalisation() -> None:
    model = tiny()
    registry = MaskRegistry(model)
    everything = sum(p.numel() for p in model.parameters())
    assert parameters_kept(model, registry) == everything
    prune(registry, dict.fromkeys(registry.names, 1))
    remaining = everything - registry.total + len(registry.names)
    assert parameters_kept(model, registry) == remaining


def test_training_flops_in_closed_form() -> None:
    """RigL, appendix H, in units of f_D."""
    sparse, interval = 0.2, 100
    static = training_flops_fraction(average_step_flops=sparse, train_steps=1000)
    assert static == sparse
    # RigL: of ΔT + 1 steps, one is an update.
    update = regrowth_step_flops(sparse)
    average = (interval * sparse + update) / (interval + 1)
    rigl = training_flops_fraction(average_step_flops=average, train_steps=1000)
    assert rigl == pytest.approx((3 * sparse * interval + 2 * sparse + 1) / (interval + 1) / 3)
    # Two tasks: one sparse forward pass, then 0.2 + 1 for each backward pass, over 3.
    assert regrowth_step_flops(sparse, 2) == pytest.approx(2.6 / 3)
    assert regrowth_step_flops(1.0) == 1
    pretrained = training_flops_fraction(
        average_step_flops=sparse, train_steps=1000, pretrain_steps=1000
    )
    assert pretrained == pytest.approx(1.2)
    scored = training_flops_fraction(
        average_step_flops=sparse, train_steps=1000, scoring_steps=50 * 5 / 3
    )
    assert scored == pytest.approx(0.2 + 50 * 5 / 3 / 1000)
    with pytest.raises(UserError, match="at least 1, got 0"):
        training_flops_fraction(average_step_flops=1.0, train_steps=0)


def test_metrics_have_the_contracts_names() -> None:
    model = tiny()
    registry = MaskRegistry(model)
    prune(registry, {name: 10 for name in registry.names})
    cost = CostModel(model, registry, (32, 32))
    known = {"average_training_density": registry.density, "average_step_flops": 0.5}
    metrics = cost.metrics(**known, train_steps=10, latency=True)
    assert set(metrics) == {name for name in METRICS if name.startswith("cost/")}
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["cost/density"] == 10 * len(registry.names) / registry.total
    assert metrics["cost/density"] + metrics["cost/sparsity"] == pytest.approx(1)
    assert metrics["cost/train_flops_fraction"] == 0.5
    assert "cost/latency_ms" not in cost.metrics(**known, train_steps=10)


def test_latency_is_positive_and_leaves_the_mode() -> None:
    model = tiny().train()
    assert measure_latency_ms(model, (32, 32), repeats=3) > 0
    assert model.training
