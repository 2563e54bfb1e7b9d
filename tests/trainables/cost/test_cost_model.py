"""FLOPs by formula against torch's counter and by hand; training FLOPs in closed form."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.config import ModelConfig
from trainables.cost.cost_model import (
    CostModel,
    measure_latency_ms,
    parameters_kept,
    regrowth_step_flops,
    training_flops_fraction,
)
from trainables.cost.flops import forward_flops
from trainables.cost.reference import Reference, reference_of
from trainables.errors import UserError
from trainables.models.base import prunable_parameters
from trainables.models.catalogue import build_model
from trainables.models.deeplab_resnet import DeepLabResNet
from trainables.registry.models import MODELS, ModelDescription
from trainables.report import DEPLOYMENT_COSTS, METRICS
from trainables.sparsity.masking.masks import MaskRegistry

TINY = ModelConfig(
    name="deeplab-resnet",
    width=8,
    blocks=(1, 2, 1, 1),
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    head_width=12,
    head_dilations=(1, 2),
    unit_rate=100.0,
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
        "up.weight": 2 * 80 * (6 * 1 * 4),
    }
    assert flops.other == 0


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


def test_layers_add_up_to_the_totals() -> None:
    model = tiny()
    registry = MaskRegistry(model)
    cost = CostModel(model, registry, (64, 64))
    assert cost.sparse_flops() == cost.flops.dense
    stem, total = "backbone.conv1.weight", 8 * 3 * 49
    prune(registry, {stem: 100})
    layers = cost.layers()
    assert list(layers) == list(registry.layers())
    # 32 × 32 positions, at each of which every kept weight multiplies and adds once.
    assert layers[stem] == {"flops": 2 * 1024 * total, "sparse_flops": 2 * 1024 * 100}
    assert sum(layer["flops"] for layer in layers.values()) == cost.flops.dense
    assert sum(layer["sparse_flops"] for layer in layers.values()) == cost.sparse_flops()
    densities = {
        n: kept / math.prod(registry.shapes[n]) for n, kept in registry.kept_by_layer.items()
    }
    assert cost.sparse_flops() == pytest.approx(cost.flops.sparse(densities))
    assert cost.flops_fraction() == cost.sparse_flops() / cost.flops.dense


class Apart(nn.Module):
    """One whole network for each task: what stitching starts from."""

    def __init__(self, config: ModelConfig, num_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.networks = nn.ModuleDict(
            {task: DeepLabResNet(config, {task: n}) for task, n in num_channels.items()}
        )

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        return {
            name: self.networks[name](images)[name]
            for name in (self.tasks if tasks is None else tasks)
        }

    def owners(self) -> dict[str, str]:
        return {name: name.split(".")[1] for name, _ in self.named_parameters()}


CHANNELS = {"segmentation": 5, "depth": 1}
APART = replace(TINY, name="apart")


@pytest.fixture
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    described = ModelDescription(
        name="apart",
        summary="a network per task",
        implementation=f"{__name__}:Apart",
        reference="deeplab-resnet",
    )
    monkeypatch.setitem(MODELS, "apart", described)


@pytest.mark.usefixtures("_apart")
def test_another_network_is_measured_against_hard_sharing() -> None:
    """Two trunks for one: the fractions exceed 1 by what the second trunk costs."""
    shared = forward_flops(tiny(), (48, 40))
    trunk = sum(n for name, n in shared.layers.items() if name.startswith("backbone"))
    reference = reference_of(APART, APART, CHANNELS, (48, 40))
    assert reference == Reference(flops=shared.dense)
    model = build_model(APART, CHANNELS, seed=0)
    registry = MaskRegistry(model)
    cost = CostModel(model, registry, (48, 40), reference=reference)
    expected = 1 + trunk / shared.dense
    assert cost.flops_fraction() == 1  # of its own: what the training loop counts in
    metrics = cost.metrics(
        average_training_density=1.0, average_step_flops=1.0, train_steps=10, pretrain_steps=5
    )
    assert metrics["cost/flops_fraction"] == pytest.approx(expected)
    assert metrics["cost/train_flops_fraction"] == pytest.approx(1.5 * expected)
    assert metrics["cost/density"] == 1  # of its own weights
    prune(registry, {name: 1 for name in registry.names if name.startswith("networks.depth")})
    pruned = cost.metrics(average_training_density=1.0, average_step_flops=0.5, train_steps=10)
    assert pruned["cost/density"] == registry.density < 0.6
    assert pruned["cost/flops_fraction"] == cost.sparse_flops() / shared.dense
    assert pruned["cost/train_flops_fraction"] == pytest.approx(0.5 * expected)


@pytest.mark.parametrize("name", ["cross-stitch", "sluice", "den"])
def test_our_multitask_baselines_cost_a_trunk_for_each_task(name: str) -> None:
    """Sluice adds projections between stages; DEN has one stem, and a selector."""
    config, shared = replace(TINY, name=name), forward_flops(tiny(), (48, 40))
    trunk = sum(n for layer, n in shared.layers.items() if layer.startswith("backbone"))
    assert reference_of(config, config, CHANNELS, (48, 40)) == Reference(flops=shared.dense)
    flops = forward_flops(build_model(config, CHANNELS, seed=0), (48, 40))
    own = sum(n for layer, n in flops.layers.items() if not layer.startswith("selector"))
    added = own - shared.dense - trunk
    if name == "sluice":
        assert 0 < added < 0.1 * trunk
    else:
        assert added == (-shared.layers["backbone.conv1.weight"] if name == "den" else 0)
    assert flops.other == 0


@pytest.mark.usefixtures("_apart")
def test_hard_sharing_and_a_users_model_are_their_own_reference() -> None:
    assert reference_of(TINY, TINY, CHANNELS, (48, 40)) == Reference()
    own = replace(TINY, name=f"{__name__}:Apart")
    assert reference_of(own, own, CHANNELS, (48, 40)) == Reference()
    state = torch.get_rng_state()
    reference_of(APART, APART, CHANNELS, (48, 40))
    assert torch.equal(torch.get_rng_state(), state)


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
    costs = {name for name in METRICS if name.startswith("cost/")}
    assert set(metrics) == costs - set(DEPLOYMENT_COSTS) | {"cost/latency_ms"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["cost/density"] == 10 * len(registry.names) / registry.total
    assert metrics["cost/density"] + metrics["cost/sparsity"] == pytest.approx(1)
    assert metrics["cost/train_flops_fraction"] == 0.5
    assert "cost/latency_ms" not in cost.metrics(**known, train_steps=10)


def test_latency_is_positive_and_leaves_the_mode() -> None:
    model = tiny().train()
    assert measure_latency_ms(model, (32, 32), repeats=3) > 0
    assert model.training
