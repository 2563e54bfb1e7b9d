"""The full-size network has the published number of parameters, to the single one.

67.61 M for 40-class segmentation + normals: DiSparse, Sun et al. 2022 (the "paper" preset).
"""

import pytest
import torch
from torch import nn

from spaces.presets import trial_config
from trainables.models.base import SHARED, prunable_parameters
from trainables.models.catalogue import build_model


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The paper's network for NYU-v2, with shapes and no memory for its weights."""
    config = trial_config("dense", "nyu-v2", "paper")
    channels = {"segmentation": 40, "normals": 3}
    assert set(config.data.tasks) == set(channels)
    with torch.device("meta"):
        return build_model(config.model, channels, seed=0)


def test_counts_by_owner(model: nn.Module) -> None:
    """The shared trunk and the two heads have the published numbers of parameters."""
    counts: dict[str, int] = {}
    owners = model.owners()
    for name, parameter in model.named_parameters():
        counts[owners[name]] = counts.get(owners[name], 0) + parameter.numel()
    assert counts == {SHARED: 21_284_672, "segmentation": 23_240_864, "normals": 23_089_164}
    assert sum(counts.values()) == 67_614_700


def test_sixty_convolutions_and_all_are_prunable(model: nn.Module) -> None:
    """All sixty convolutions can be pruned, and nothing else can."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 60
    assert len(prunable_parameters(model)) == 60
    assert sum(weight.numel() for weight in prunable_parameters(model).values()) == 67_581_120


def test_shared_layers_carry_the_published_names_in_the_published_order(model: nn.Module) -> None:
    """Shared layers are named and ordered as in the published mask statistics."""
    shared = [n for n in prunable_parameters(model) if n.startswith("backbone.")]
    blocks = [
        f"blocks.{stage}.{block}.conv{conv}"
        for stage, num_blocks in enumerate((3, 4, 6, 3))
        for block in range(num_blocks)
        for conv in (1, 2)
    ]
    expected = ["conv1", *blocks, "ds.1.0", "ds.2.0", "ds.3.0"]
    assert shared == [f"backbone.{name}.weight" for name in expected]


@pytest.mark.parametrize(
    ("size", "cells"),
    [((321, 321), (41, 41)), ((224, 224), (28, 28)), ((480, 640), (60, 80)), ((33, 50), (5, 7))],
)
def test_output_stride_is_eight(
    model: nn.Module, size: tuple[int, int], cells: tuple[int, int]
) -> None:
    """Predictions have an eighth of the image's height and width, rounded up."""
    predictions = model(torch.empty(2, 3, *size, device="meta"))
    shapes = {task: tuple(prediction.shape) for task, prediction in predictions.items()}
    assert shapes == {"segmentation": (2, 40, *cells), "normals": (2, 3, *cells)}


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((321, 321), (41, 41)),
        ((224, 224), (29, 29)),
        ((480, 640), (61, 81)),
        ((256, 512), (33, 65)),
    ],
)
def test_the_released_grid_with_the_same_weights(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    """The released network's max-pool rounds its size up; its weights are the same."""
    config = trial_config("dense", "nyu-v2", "paper", metrics="published")
    assert config.model.pool_rounding == "up"
    with torch.device("meta"):
        published = build_model(config.model, {"segmentation": 40, "normals": 3}, seed=0)
    assert sum(p.numel() for p in published.parameters()) == 67_614_700
    predictions = published(torch.empty(2, 3, *size, device="meta"))
    shapes = {task: tuple(prediction.shape) for task, prediction in predictions.items()}
    assert shapes == {"segmentation": (2, 40, *cells), "normals": (2, 3, *cells)}
