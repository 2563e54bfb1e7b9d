"""The multitask baselines at a size where a test takes milliseconds."""

import dataclasses

import torch
from torch import Tensor, nn

from trainables.config import ModelConfig
from trainables.models.catalogue import build_model

BASELINES = ("cross-stitch", "sluice", "den")
CONFIG = ModelConfig(
    name="deeplab-resnet",
    width=8,
    blocks=(1, 2, 1, 1),
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    head_width=6,
    head_dilations=(1, 2),
    unit_rate=100.0,
)
CHANNELS = {"segmentation": 5, "normals": 3, "depth": 1, "keypoints": 1, "edges": 1}


def channels(num_tasks: int) -> dict[str, int]:
    return dict(list(CHANNELS.items())[:num_tasks])


def build(name: str, num_tasks: int = 2, seed: int = 0, **changes: object) -> nn.Module:
    config = dataclasses.replace(CONFIG, name=name, **changes)  # type: ignore[arg-type]
    return build_model(config, channels(num_tasks), seed)


def single_network(task: str, model: nn.Module, trunk: str, **changes: object) -> nn.Module:
    """DeepLab-ResNet for one task, with `model`'s weights for that trunk and head."""
    config = dataclasses.replace(CONFIG, **changes)  # type: ignore[arg-type]
    single = build_model(config, {task: CHANNELS[task]}, seed=99)
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith(f"{trunk}."):
            weights["backbone" + name.removeprefix(trunk)] = value
        elif name.startswith(f"heads.{task}."):
            weights[name] = value
    single.load_state_dict(weights)
    return single.train(model.training)


def images(count: int = 2, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
