"""Forward FLOPs: torch's counter, closed forms by arithmetic alone, and RigL's published tables."""

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.presets import trial_config
from trainables.config import ModelConfig
from trainables.cost.cost_model import regrowth_step_flops, training_flops_fraction
from trainables.cost.flops import ForwardFlops, forward_flops
from trainables.models.catalogue import build_model
from trainables.sparsity.allocation import allocate

CHANNELS = {"segmentation": 40, "normals": 3}


def side(length: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Output length of a convolution or a pooling."""
    return (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def deeplab_by_formula(
    config: ModelConfig, channels: Mapping[str, int], size: Sequence[int]
) -> dict[str, int]:
    """2 · positions · in · out · kernel² for each convolution, from the configuration alone."""
    h, w = (side(length, 7, 2, 3) for length in size)
    found = {"backbone.conv1.weight": 2 * h * w * 3 * config.width * 49}
    h, w = (side(length, 3, 2, 1) for length in (h, w))
    c_in = config.width
    for stage, (blocks, stride, dilation) in enumerate(
        zip(config.blocks, config.strides, config.dilations, strict=True)
    ):
        c_out = config.width * 2**stage
        h, w = (side(length, 3, stride, dilation, dilation) for length in (h, w))
        if stride != 1 or c_in != c_out or dilation > 1:
            found[f"backbone.ds.{stage}.0.weight"] = 2 * h * w * c_in * c_out
        for block in range(blocks):
            name = f"backbone.blocks.{stage}.{block}"
            found[f"{name}.conv1.weight"] = 2 * h * w * c_in * c_out * 9
            found[f"{name}.conv2.weight"] = 2 * h * w * c_out * c_out * 9
            c_in = c_out
    width = config.head_width
    for task, out in channels.items():
        for branch in range(len(config.head_dilations)):
            name = f"heads.{task}.branches.{branch}"
            found[f"{name}.conv1.weight"] = 2 * h * w * c_in * width * 9
            found[f"{name}.conv2.weight"] = 2 * h * w * width * width
            found[f"{name}.conv3.weight"] = 2 * h * w * width * out
    return found


def on_meta(config: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        return build_model(config, CHANNELS, seed=0).eval()


def counted(model: nn.Module, size: Sequence[int]) -> dict[str, int]:
    """By torch's counter: module path below the root → FLOPs; "" = all."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *size, device="meta"))
    root = type(model).__name__
    return {
        path.removeprefix(root).removeprefix("."): sum(counts.values())
        for path, counts in counter.get_flop_counts().items()
        if path.startswith(root)
    }


@pytest.mark.parametrize(
    ("dataset", "preset"),
    [("scenes", "tiny"), ("scenes", "small"), ("nyu-v2", "small"), ("nyu-v2", "paper")],
)
def test_three_counts_agree_at_every_preset(dataset: str, preset: str) -> None:
    config = trial_config("dense", dataset, preset)
    model, size = on_meta(config.model), config.data.size
    flops, by_torch = forward_flops(model, size), counted(model, size)
    assert flops.layers == deeplab_by_formula(config.model, CHANNELS, size)
    assert flops.layers == {name: by_torch[name.removesuffix(".weight")] for name in flops.layers}
    assert (flops.other, flops.dense) == (0, by_torch[""])


def test_the_published_grid_is_counted() -> None:
    """61×81 cells at 480×640 and not 60×80; the head's 1×1 layers take their share more."""
    config = trial_config("dense", "nyu-v2", "paper", metrics="published")
    model, size = on_meta(config.model), config.data.size
    flops = forward_flops(model, size)
    assert flops.dense == counted(model, size)[""]
    layer = "heads.normals.branches.0.conv2.weight"
    assert flops.layers[layer] == 2 * 61 * 81 * 1024 * 1024


def test_the_paper_network_by_hand() -> None:
    """At the published 321² crop a 41² grid; its four 24-dilated and other 3×3 head convolutions
    (512 → 1024) take 2 · 41² · 512 · 1024 · 9 each, and the stem 2 · 161² · 3 · 64 · 49."""
    flops = forward_flops(on_meta(trial_config("dense", "nyu-v2", "paper").model), (321, 321))
    heads = [f"heads.normals.branches.{i}.conv1.weight" for i in range(4)]
    assert [flops.layers[name] for name in heads] == [15_863_906_304] * 4
    assert flops.layers["backbone.conv1.weight"] == 487_729_536


@settings(deadline=None, max_examples=12)
@given(
    size=st.tuples(st.integers(9, 97), st.integers(9, 97)),
    stages=st.lists(
        # Two blocks have all that three have: one that changes the shape and one that does not.
        st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4)),
        min_size=1,
        max_size=4,
    ),
    width=st.integers(1, 9),
    head=st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_odd_sizes_strides_and_dilations(
    size: tuple[int, int], stages: list[tuple[int, int, int]], width: int, head: list[int]
) -> None:
    blocks, strides, dilations = (tuple(column) for column in zip(*stages, strict=True))
    config = ModelConfig(
        name="deeplab-resnet",
        width=width,
        blocks=blocks,
        strides=strides,
        dilations=dilations,
        head_width=2 * width + 1,
        head_dilations=tuple(head),
        unit_rate=100.0,
    )
    model = on_meta(config)
    flops = forward_flops(model, size)
    assert flops.layers == deeplab_by_formula(config, CHANNELS, size)
    assert flops.dense == counted(model, size)[""]


class Chain(nn.Module):
    """A convolution of any kind, a linear layer over positions, a transposed convolution."""

    def __init__(self, conv: nn.Conv2d, up: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.tasks = ("depth",)
        self.conv, self.up = conv, up
        self.mix = nn.Linear(conv.out_channels, up.in_channels)

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        mixed = self.mix(self.conv(images).movedim(1, -1)).movedim(-1, 1)
        return {"depth": self.up(mixed)}


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(11, 41), st.integers(11, 41)),
    groups=st.sampled_from([1, 3]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    up_groups=st.sampled_from([1, 2]),
    up_kernel=st.integers(1, 4),
)
def test_layers_of_every_kind(
    size, groups, kernel, stride, padding, dilation, widths, up_groups, up_kernel
) -> None:
    """Grouped: each output sees in / groups channels. Transposed: each input position does work."""
    c_mid, c_up = 3 * widths[0], 2 * widths[1]
    with torch.device("meta"):
        conv = nn.Conv2d(
            3, c_mid, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        up = nn.ConvTranspose2d(c_up, 2, up_kernel, stride=2, groups=up_groups)
        model = Chain(conv, up)
    flops = forward_flops(model, size)
    h, w = (
        side(length, k, stride, padding, dilation) for length, k in zip(size, kernel, strict=True)
    )
    assert flops.layers == {
        "conv.weight": 2 * h * w * c_mid * (3 // groups) * kernel[0] * kernel[1],
        "mix.weight": 2 * h * w * c_mid * c_up,
        "up.weight": 2 * h * w * c_up * (2 // up_groups) * up_kernel**2,
    }
    assert flops.other == 0
    assert flops.dense == counted(model, size)[""]


class Attending(nn.Module):
    """Layers whose weights other code multiplies by."""

    def __init__(self, width: int, separate: bool) -> None:
        super().__init__()
        self.tasks = ("depth",)
        self.stem = nn.Conv2d(3, width, 1)
        sizes = {"kdim": 3, "vdim": 3} if separate else {}
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True, **sizes)
        self.mix = nn.Linear(width, width)

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        weight = self.stem.weight
        standardised = (weight - weight.mean()) / weight.std()
        features = nn.functional.conv2d(images, standardised).flatten(2).transpose(1, 2)
        pixels = images.flatten(2).transpose(1, 2)
        others = pixels if self.attention.kdim == 3 else features
        features = self.attention(features, others, others)[0]
        features = features @ self.mix.weight.T + features @ self.mix.weight
        return {"depth": features.transpose(1, 2).unflatten(2, images.shape[-2:])}


@pytest.mark.parametrize("separate", [False, True])
@given(width=st.integers(4, 6), side=st.integers(2, 5))
@settings(deadline=None, max_examples=5)
def test_weights_that_other_code_multiplies_by(width: int, side: int, separate: bool) -> None:
    model = Attending(width, separate)
    for network in (model, model.to("meta")):
        flops = forward_flops(network, (side, side))
        assert flops.layers == {
            "stem.weight": 2 * side**2 * 3 * width,
            "attention.out_proj.weight": 2 * side**2 * width**2,
            "mix.weight": 2 * (2 * side**2 * width**2),
        }
        # Queries, keys and values, and two products of attention.
        sources = width + 3 + 3 if separate else 3 * width
        products = 2 * (2 * side**4 * width)
        assert flops.other == 2 * side**2 * width * sources + products


def test_two_images_cost_twice_one() -> None:
    """What `forward_flops` says of one image is what a batch costs per image."""
    model = on_meta(trial_config("dense", "scenes", "tiny").model)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, 64, 64, device="meta"))
    assert counter.get_total_flops() == 2 * forward_flops(model, (64, 64)).dense


# --------------------------------------------------- RigL's published figures, from shapes alone


def resnet50() -> dict[str, tuple[tuple[int, ...], int]]:
    """ResNet-50 at 224² (stride in the 3×3): weight shape and side of the output, by layer."""
    layers: dict[str, tuple[tuple[int, ...], int]] = {"stem": ((64, 3, 7, 7), 112)}
    c_in, before = 64, 56
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        after = 56 >> stage
        for block in range(blocks):
            name = f"{stage}.{block}"
            layers[f"{name}.reduce"] = ((width, c_in, 1, 1), before)
            layers[f"{name}.conv"] = ((width, width, 3, 3), after)
            layers[f"{name}.expand"] = ((4 * width, width, 1, 1), after)
            if block == 0:
                layers[f"{name}.project"] = ((4 * width, c_in, 1, 1), after)
            c_in, before = 4 * width, after
    return layers | {"classify": ((1000, 2048), 1)}


RESNET50 = {name: shape for name, (shape, _) in resnet50().items()}
RESNET50_FLOPS = ForwardFlops(
    layers={name: 2 * math.prod(shape) * out**2 for name, (shape, out) in resnet50().items()},
    other=0,
)


def resnet50_fraction(distribution: str, sparsity: float) -> float:
    """Sparse / dense forward FLOPs. Their uniform leaves the stem dense, and so does their ERK at
    99 %; the sparsity is then that of the other layers."""
    names = list(RESNET50)
    if distribution == "uniform" or sparsity == 0.99:
        names.remove("stem")
    shapes = {name: RESNET50[name] for name in names}
    total = sum(map(math.prod, shapes.values()))
    kept = allocate(distribution, shapes, round((1 - sparsity) * total))
    densities = {name: kept[name] / math.prod(shape) for name, shape in shapes.items()}
    return RESNET50_FLOPS.sparse(densities) / RESNET50_FLOPS.dense


# distribution, sparsity, inference FLOPs, training FLOPs at 5 times the steps; from the tables of
# the authors' repository (google-research/rigl, README), those of the paper with its extension.
RIGL_TABLE = [
    ("erk", 0.8, 0.42, 2.09),
    ("uniform", 0.8, 0.23, 1.14),
    ("erk", 0.9, 0.24, 1.23),
    ("uniform", 0.9, 0.13, 0.66),
    ("erk", 0.95, 0.12, 0.63),
    ("uniform", 0.95, 0.08, 0.42),
    ("erk", 0.965, 0.09, 0.45),
    ("uniform", 0.965, 0.07, 0.34),
    ("erk", 0.99, 0.05, 0.29),
]


def test_dense_resnet50_is_the_published_one() -> None:
    """8.2e9 to infer, and 3.2e18 to train for 32,000 steps of 4,096 images."""
    assert sum(map(math.prod, RESNET50.values())) == 25_502_912
    assert f"{RESNET50_FLOPS.dense:.1e}" == "8.2e+09"
    assert f"{3 * RESNET50_FLOPS.dense * 32_000 * 4096:.1e}" == "3.2e+18"


@pytest.mark.parametrize(("distribution", "sparsity", "inference", "training"), RIGL_TABLE)
def test_rigl_fractions_are_the_published_ones(
    distribution: str, sparsity: float, inference: float, training: float
) -> None:
    """Within one unit of the last digit given: they also count biases and normalisation.

    Training: of every ΔT + 1 = 101 steps, one is an update, and there are 5 times the steps.
    """
    sparse = resnet50_fraction(distribution, sparsity)
    assert sparse == pytest.approx(inference, abs=0.01)
    average = (100 * sparse + regrowth_step_flops(sparse)) / 101
    fraction = 5 * training_flops_fraction(average_step_flops=average, train_steps=32_000)
    assert fraction == pytest.approx(training, abs=0.02)


def test_the_table_tells_the_rules_apart() -> None:
    """Plain ER in place of ERK, or a pruned stem, would miss it."""
    for sparsity, published in ((0.8, 0.42), (0.9, 0.24)):
        assert abs(resnet50_fraction("er", sparsity) - published) > 0.015
    stem = RESNET50_FLOPS.layers["stem"] / RESNET50_FLOPS.dense
    assert resnet50_fraction("uniform", 0.9) == pytest.approx(0.1 + 0.9 * stem, rel=1e-4)
    assert 0.9 * stem > 0.02
