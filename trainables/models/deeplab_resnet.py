"""Defines DeepLab-ResNet with hard parameter sharing: one trunk, one multi-branch head per task.

This is the network of AdaShare (Sun et al. 2020) and DiSparse (Sun et al. 2022): a ResNet whose
last two stages are dilated instead of strided, and for each task parallel dilated branches that
are summed. Layers keep the published names (`blocks.1.0.conv1`, `ds.2.0`) and order, so that
figures by layer can be compared with the papers'.

Deviations and their reasons:
- no dropout in the heads (published: 0.5 before both 1×1 convolutions). Saliencies taken in
  training mode would measure the drawn units, and one forward pass could not serve all tasks;
- the max-pool rounds down, so the output has ceil(H / 8) × ceil(W / 8) cells. Where 8 divides the
  image, up-sampling then shifts every cell by the same 3.5 pixels. `model.pool_rounding` up is the
  published `ceil_mode=True`, whose last row and column lie past the border: 61×81 cells at 480×640
  and not 60×80, 29² at 224², 33×65 at 256×512. The shift then falls from 3.4 pixels at one border
  to -4.4 at the other. Both agree at the published 321² crops (41²);
- He initialisation in place of N(0, 0.01²) for the trunk and torch's default for the heads.

Shape suffixes: B batch, C channels, H height, W width; h, w at the output stride.
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import ModelConfig
from trainables.errors import UserError
from trainables.models.base import chosen_tasks, owners_by_group


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        bias=False,
    )


class BasicBlock(nn.Module):
    """Computes the residual branch, conv → norm → ReLU → conv → norm, without the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, 1, dilation)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features_BCHW: Tensor, gate_BC11: Tensor | None = None) -> Tensor:
        """Return the branch's output; `gate_BC11` scales the channels of both convolutions."""
        hidden = F.relu(self.bn1(self.conv1(features_BCHW)))
        if gate_BC11 is None:
            return self.bn2(self.conv2(hidden))
        return gate_BC11 * self.bn2(self.conv2(gate_BC11 * hidden))


class Backbone(nn.Module):
    """Computes the trunk: a stem, then stages.

    The output stride is 4 (stem) × the product of `config.strides`. The max-pool's size is rounded
    as `config.pool_rounding` says.

    stage_channels: channels of every stage's output.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        rounds_up = config.pool_rounding == "up"
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=rounds_up)
        self.blocks = nn.ModuleList()
        # "ds" (down-sampling) is the published name of the projection shortcuts, by stage.
        self.ds = nn.ModuleDict()
        self.stage_channels = tuple(config.width * 2**i for i in range(len(config.blocks)))
        in_channels = config.width
        stages = zip(config.blocks, config.strides, config.dilations, strict=True)
        for stage, (num_blocks, stride, dilation) in enumerate(stages):
            channels = self.stage_channels[stage]
            # As published, a dilated stage projects its shortcut even where shapes agree.
            if stride != 1 or in_channels != channels or dilation > 1:
                self.ds[str(stage)] = nn.Sequential(
                    nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                    nn.BatchNorm2d(channels),
                )
            blocks = nn.ModuleList()
            for block in range(num_blocks):
                first = block == 0
                blocks.append(
                    BasicBlock(
                        in_channels if first else channels,
                        channels,
                        stride if first else 1,
                        dilation,
                    )
                )
            self.blocks.append(blocks)
            in_channels = channels
        self.num_channels = in_channels
        self.output_stride = 4 * math.prod(config.strides)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return features (B, C, h, w) at the output stride, for images (B, 3, H, W)."""
        features = self.stem(images_BCHW)
        for stage in range(len(self.blocks)):
            features = self.stage(stage, features)
        return features

    def stem(self, images_BCHW: Tensor) -> Tensor:
        """Return the input of the first stage, at stride 4.

        Raises `UserError` in training if batch normalisation would see one value per channel.
        """
        if self.training:
            self._require_statistics(images_BCHW.shape)
        return self.maxpool(F.relu(self.bn1(self.conv1(images_BCHW))))

    def stage(
        self, stage: int, features: Tensor, gates_BC11: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Return one stage's output; `gates_BC11` holds a gate for each block (`BasicBlock`)."""
        shortcut = self.ds[str(stage)](features) if str(stage) in self.ds else features
        for i, block in enumerate(cast(nn.ModuleList, self.blocks[stage])):
            gate = None if gates_BC11 is None else gates_BC11[i]
            features = F.relu(shortcut + block(features, gate))
            shortcut = features
        return features

    def _require_statistics(self, shape: torch.Size) -> None:
        """Raise `UserError` if batch normalisation would see one value per channel."""
        batch, (height, width) = shape[0], shape[-2:]
        if batch * self._num_cells(height) * self._num_cells(width) == 1:
            raise UserError(
                "batch normalisation needs at least 2 values per channel, got one: a (micro-)batch "
                f"of 1 crop of {height}x{width} at output stride {self.output_stride} (4 times the "
                "product of `model.strides`); lower the strides, enlarge `data.crop`, or raise "
                "`training.batch_size` over `training.accumulation`"
            )

    def _num_cells(self, side: int) -> int:
        """Return the height or width of the trunk's output for an image's, in pixels."""
        halved = -(-side // 2)
        pooled = halved // 2 + 1 if self.maxpool.ceil_mode else -(-halved // 2)
        return -(-pooled // (self.output_stride // 4))


class HeadBranch(nn.Module):
    """Computes 3×3 dilated → ReLU → 1×1 → ReLU → 1×1, with biases, without normalisation."""

    def __init__(self, in_channels: int, width: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.conv3 = nn.Conv2d(width, out_channels, 1)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return a prediction (B, C, h, w) from features at the same stride."""
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(features_BCHW)))))


class Head(nn.Module):
    """Sums one task's branches, one per dilation."""

    def __init__(
        self, in_channels: int, width: int, out_channels: int, dilations: Sequence[int]
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            HeadBranch(in_channels, width, out_channels, dilation) for dilation in dilations
        )

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Return the sum of the branches' predictions, (B, C, h, w)."""
        prediction = self.branches[0](features_BCHW)
        for branch in self.branches[1:]:
            prediction = prediction + branch(features_BCHW)
        return prediction


def build_heads(
    config: ModelConfig, in_channels: int, num_channels: Mapping[str, int]
) -> nn.ModuleDict:
    """Return a head for each task, in the order of `num_channels` (predictions' channels)."""
    return nn.ModuleDict(
        {
            task: Head(in_channels, config.head_width, channels, config.head_dilations)
            for task, channels in num_channels.items()
        }
    )


def initialise(network: nn.Module) -> None:
    """Initialise every convolution by He, in definition order, with unit gain for each head."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # fan_in where there is no normalisation (heads): it keeps the forward scale.
            if module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    with torch.no_grad():
        for head in network.modules():
            if isinstance(head, Head):
                # The last layer feeds no ReLU, and the branches add up: unit gain for the sum.
                for branch in head.branches:
                    weight = cast(HeadBranch, branch).conv3.weight
                    weight.mul_((2 * len(head.branches)) ** -0.5)


class DeepLabResNet(nn.Module):
    """Computes all tasks with one shared trunk and one head per task.

    Calling it gives `{task: prediction_BChw}` at output stride 8 (for the published strides).

    num_channels: channels of each task's prediction; its order is the order of `tasks`.
    """

    def __init__(self, config: ModelConfig, num_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.backbone = Backbone(config)
        self.heads = build_heads(config, self.backbone.num_channels, num_channels)
        initialise(self)

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute the heads of `tasks`; None means all. Raises `UserError` for an unknown task."""
        wanted = chosen_tasks(self.tasks, tasks)
        features = self.backbone(images_BCHW)
        return {task: self.heads[task](features) for task in wanted}

    def owners(self) -> dict[str, str]:
        """Return `SHARED` for the trunk, normalisation included, and the task for its head."""
        return owners_by_group(self, ("heads",))
