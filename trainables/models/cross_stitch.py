"""Defines Cross-Stitch: a network for each task, with features mixed after each stage.

Cross-stitch Networks for Multi-task Learning, Misra et al., CVPR 2016. After a stage, channel c
of task t becomes Σ_s α[t, s, c] · (channel c of task s). α starts at 0.9 for the task itself and
shares 0.1 among the others, and learns at `model.unit_rate` (100) times the rate. The networks
start from networks that were trained alone: in phase "pretrain" the units are off.

Our choices, explained in docs/decisions/0008: there are units after all four stages (the authors:
after pooling layers), and α is not constrained. Task t's network belongs to t, although through
the units its weights also serve other tasks. Only the units are shared, so a method that looks for
shared weights to prune finds none.

Shape suffixes: B batch, C channels, H height, W width; h, w at the output stride; T tasks.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainables.config import ModelConfig
from trainables.models.base import chosen_tasks, owners_by_group
from trainables.models.deeplab_resnet import Backbone, build_heads, initialise

SELF_WEIGHT = 0.9  # the other tasks share the rest, so that a row sums to 1


class CrossStitchUnit(nn.Module):
    """Mixes T tasks channel by channel: `weight_TTC[t, s]` is what task t takes of task s."""

    def __init__(self, num_tasks: int, channels: int) -> None:
        super().__init__()
        weight_TT = torch.ones(1, 1)
        if num_tasks > 1:
            weight_TT = torch.full((num_tasks, num_tasks), (1 - SELF_WEIGHT) / (num_tasks - 1))
            weight_TT.fill_diagonal_(SELF_WEIGHT)
        self.weight = nn.Parameter(weight_TT[..., None].repeat(1, 1, channels))

    def forward(self, features_BCHW: Sequence[Tensor]) -> list[Tensor]:
        """Return the mixed feature maps; one per task, in and out, in the order of the tasks."""
        mixed = []
        for row_TC in self.weight:
            terms = [
                weight_C[:, None, None] * features
                for weight_C, features in zip(row_TC, features_BCHW, strict=True)
            ]
            # Under autocast, float32 weights would make everything after them float32.
            total = cast(Tensor, sum(terms[1:], start=terms[0]))
            mixed.append(total.to(features_BCHW[0].dtype))
        return mixed


class CrossStitchNetwork(nn.Module):
    """Mixes a DeepLab-ResNet per task channel by channel after each stage.

    Calling it gives `{task: prediction_BChw}`.

    num_channels: channels of each task's prediction; its order is the order of `tasks`.
    """

    def __init__(self, config: ModelConfig, num_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.backbones = nn.ModuleDict({task: Backbone(config) for task in self.tasks})
        first = cast(Backbone, self.backbones[self.tasks[0]])
        self.units = nn.ModuleList(
            CrossStitchUnit(len(self.tasks), channels) for channels in first.stage_channels
        )
        self.heads = build_heads(config, first.num_channels, num_channels)
        self.stitched = True
        self._unit_rate = config.unit_rate
        initialise(self)

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute the heads of `tasks`; None means all. Raises `UserError` for an unknown task.

        All trunks run, whichever tasks are asked for, except in pre-training.
        """
        wanted = chosen_tasks(self.tasks, tasks)
        running = self.tasks if self.stitched else wanted
        trunks = [cast(Backbone, self.backbones[task]) for task in running]
        features = [trunk.stem(images_BCHW) for trunk in trunks]
        for stage, unit in enumerate(self.units):
            features = [
                trunk.stage(stage, own) for trunk, own in zip(trunks, features, strict=True)
            ]
            if self.stitched:
                features = unit(features)
        by_task = dict(zip(running, features, strict=True))
        return {task: self.heads[task](by_task[task]) for task in wanted}

    def owners(self) -> dict[str, str]:
        """Return the task for its trunk and head, and `SHARED` for the units."""
        return owners_by_group(self, ("backbones", "heads"))

    def start_step(self, phase: str, step: int) -> None:
        """Train every network alone in phase "pretrain", and mix their features in "train"."""
        self.stitched = phase != "pretrain"

    def learning_rate_scales(self) -> dict[str, float]:
        """Return the units' learning-rate factor (`ModelConfig.unit_rate`) by parameter name."""
        return {
            name: self._unit_rate
            for name, _ in self.named_parameters()
            if name.startswith("units.")
        }

    def channel_parameters(self) -> dict[str, tuple[int, str]]:
        """Return the units' weights: their last dimension runs along a stage's channels."""
        first = self.tasks[0]
        return {
            f"units.{stage}.weight": (2, f"backbones.{first}.blocks.{stage}.0.conv2")
            for stage in range(len(self.units))
        }
