"""Defines DEN: for every image and task a selector chooses how many channels each block uses.

Deep Elastic Networks with Model Selection for Multi-Task Learning, Ahn et al., ICCV 2019, in
the form that AdaShare (Sun et al. 2020) compares against. One trunk serves all tasks. Each
residual block runs at a level, 0, 25, 50 or 100 % of its channels. A small network reads the
image and gives, for every task and block, the probabilities of the four levels. It learns by
REINFORCE from the reward (1 − density²) / ρ − loss + 1 with ρ = 10, where density is the share
of the trunk's channels in use. In training a level is drawn uniformly with probability
ε = 0.99^step. In evaluation the most likely level is taken and nothing is drawn.

Our choices, explained in docs/decisions/0008:
- a level keeps a prefix of the output channels of both convolutions of a block (nested, as in
  the paper), rounded up, as a mask for each image after normalisation; at 0 % only the shortcut is
  left. The blocks of AdaShare's and DiSparse's released code hold these levels too (`keep_channels`
  of `BasicBlock`), rounded down and applied after the first normalisation alone, so that at 0 % the
  second still adds its bias. Rounding is the same where 4 divides the width;
- batch statistics are those of all images and tasks in the batch, masked or not;
- T policies need T passes through the trunk (the stem is common), which run as one larger batch.
  Masks save no time here, and the FLOPs counted are those of T full passes;
- exploration is part of the policy: levels are drawn from ε · uniform + (1 − ε) · selector for
  each block separately, and the log-probabilities are those of this mixture, which keeps the
  gradient unbiased at every ε;
- the reward's baseline is the mean over the other images of the batch. It does not change the
  expected gradient, because images are drawn independently. A batch of one has no baseline.

Shape suffixes: B batch, C channels, H height, W width; h, w at the output stride; T tasks,
K blocks, L levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import ModelConfig
from trainables.models.base import chosen_tasks, owners_by_group
from trainables.models.deeplab_resnet import Backbone, build_heads, initialise

LEVELS = (0.0, 0.25, 0.5, 1.0)  # share of a block's channels
SPARSITY_TEMPERATURE = 10.0  # ρ
EXPLORATION_DECAY = 0.99  # ε = this to the power of the step


class Selector(nn.Module):
    """Computes the logits (B, K, L) of the levels of each block, for every task, from images.

    It has three strided convolutions, a mean over positions, and a linear layer for each task.
    There is no normalisation, so that an image's policy does not depend on other images.
    """

    def __init__(self, width: int, num_blocks: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.num_blocks = num_blocks
        self.conv1 = nn.Conv2d(3, width, 7, stride=4, padding=3)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.outputs = nn.ModuleDict(
            {task: nn.Linear(4 * width, num_blocks * len(LEVELS)) for task in tasks}
        )
        for output in self.outputs.values():  # close to uniform, whatever the image
            assert isinstance(output, nn.Linear)
            nn.init.normal_(output.weight, std=0.01)
            nn.init.zeros_(output.bias)

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Return the logits of each block's level by task: float32 (B, blocks, levels)."""
        hidden = F.relu(self.conv1(images_BCHW))
        hidden = F.relu(self.conv2(hidden))
        features_BC = F.relu(self.conv3(hidden)).mean(dim=(-2, -1))
        shape = (-1, self.num_blocks, len(LEVELS))
        # float32: half precision is too coarse for the probabilities of a policy.
        return {task: self.outputs[task](features_BC).float().reshape(shape) for task in tasks}


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """Holds one task's drawn levels for each image.

    log_probability_B: of all levels of the image together, with gradient.
    density_B: share of the trunk's channels in use.
    """

    log_probability_B: Tensor
    density_B: Tensor


class ElasticNetwork(nn.Module):
    """Runs one trunk whose blocks have a width that a selector picks for each image and task.

    Calling it gives `{task: prediction_BChw}`.

    num_channels: channels of each task's prediction; its order is the order of `tasks`.
    """

    needs_image_losses: ClassVar[bool] = True
    channels_kept: Tensor  # (K, L)
    exploration: Tensor  # ε, float64, a scalar that changes in place

    def __init__(self, config: ModelConfig, num_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.backbone = Backbone(config)
        self.selector = Selector(config.width, sum(config.blocks), self.tasks)
        self.heads = build_heads(config, self.backbone.num_channels, num_channels)
        # By block: its stage, and its width.
        self._stages = [stage for stage, count in enumerate(config.blocks) for _ in range(count)]
        self._widths = [self.backbone.stage_channels[stage] for stage in self._stages]
        # Rounded up, so that every level above 0 keeps a channel even in a narrow block.
        kept = [[-int(-width * share // 1) for share in LEVELS] for width in self._widths]
        self.register_buffer("channels_kept", torch.tensor(kept), persistent=False)
        exploration = torch.ones((), dtype=torch.float64)
        self.register_buffer("exploration", exploration, persistent=False)
        self._drawn: dict[str, Drawn] = {}
        initialise(self)

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute the policies, trunk passes and heads of `tasks`; None means all.

        In training it draws levels from torch's global generator. Raises `UserError` for an
        unknown task.
        """
        wanted = chosen_tasks(self.tasks, tasks)
        logits = self.selector(images_BCHW, wanted)
        if self.training:
            levels = {task: self._draw(task, logits_BKL) for task, logits_BKL in logits.items()}
        else:
            levels = {task: logits_BKL.argmax(dim=-1) for task, logits_BKL in logits.items()}
        return self.forward_at(images_BCHW, levels)

    def forward_at(self, images_BCHW: Tensor, levels_BK: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return predictions with given levels: by task, indices into `LEVELS` of shape (B, K)."""
        features = self.backbone.stem(images_BCHW).repeat(len(levels_BK), 1, 1, 1)
        gates = self._gates(torch.cat(list(levels_BK.values())), features.dtype)
        for stage in range(len(self.backbone.blocks)):
            own = [gate for gate, where in zip(gates, self._stages, strict=True) if where == stage]
            features = self.backbone.stage(stage, features, own)
        # Not `chunk`: an exporter could not leave the size of its last part open.
        parts = features.unflatten(0, (len(levels_BK), -1)).unbind()
        return {task: self.heads[task](part) for task, part in zip(levels_BK, parts, strict=True)}

    def owners(self) -> dict[str, str]:
        """Return `SHARED` for the trunk and the selector's convolutions, else the task.

        A task owns its head and the selector's output for it.
        """
        owners = owners_by_group(self, ("heads",))
        for task in self.tasks:
            for name in ("weight", "bias"):
                owners[f"selector.outputs.{task}.{name}"] = task
        return owners

    def start_step(self, phase: str, step: int) -> None:
        """Set ε = 0.99^step; in phase "pretrain" all levels are drawn uniformly."""
        self.exploration.fill_(EXPLORATION_DECAY**step if phase == "train" else 1.0)

    def auxiliary_loss(self, image_losses: Mapping[str, Tensor]) -> Tensor:
        """Return a scalar whose gradient is the policy gradient of the last training-mode forward.

        image_losses: by task, (B,). The scalar's value has no meaning. Only the selector gets a
        gradient.
        """
        surrogates = []
        for task, loss_B in image_losses.items():
            drawn = self._drawn.pop(task)
            surrogates.append(
                policy_surrogate(drawn.log_probability_B, reward(drawn.density_B, loss_B))
            )
        return torch.stack(surrogates).sum()

    def density(self, levels_BK: Tensor) -> Tensor:
        """Return the share of the channels of all trunk blocks that are in use, (B,)."""
        return self._kept(levels_BK).sum(dim=1) / sum(self._widths)

    def _draw(self, task: str, logits_BKL: Tensor) -> Tensor:
        policy_BKL = mixed_policy(logits_BKL, self.exploration)
        levels_BK = draw_levels(policy_BKL.detach())
        chosen_BK = policy_BKL.gather(-1, levels_BK[..., None]).squeeze(-1)
        # By rounding, a draw may give a level whose probability underflowed.
        chosen_BK = chosen_BK.clamp_min(torch.finfo(chosen_BK.dtype).tiny)
        self._drawn[task] = Drawn(
            log_probability_B=chosen_BK.log().sum(dim=1), density_B=self.density(levels_BK)
        )
        return levels_BK

    def _kept(self, levels_BK: Tensor) -> Tensor:
        """Return how many channels each block keeps, (B, K)."""
        # Not `len`: an exporter would fix the batch to the number of its example.
        kept_BKL = self.channels_kept.expand(levels_BK.shape[0], -1, -1)
        return kept_BKL.gather(-1, levels_BK[..., None])[..., 0]

    def _gates(self, levels_BK: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return 1 for the channels an image keeps and 0 for others, (B, C, 1, 1) by block."""
        return [
            (torch.arange(width, device=kept_B.device) < kept_B[:, None]).to(dtype)[..., None, None]
            for kept_B, width in zip(self._kept(levels_BK).unbind(dim=1), self._widths, strict=True)
        ]


def reward(density: Tensor, loss: Tensor) -> Tensor:
    """Return (1 − density²) / ρ − loss + 1; higher is better."""
    return (1 - density.square()) / SPARSITY_TEMPERATURE - loss + 1


def less_others_mean(reward_B: Tensor) -> Tensor:
    """Return each image's reward minus the mean of the others'; a single reward is unchanged."""
    count = len(reward_B)
    if count == 1:
        return reward_B
    return reward_B - (reward_B.sum() - reward_B) / (count - 1)


def policy_surrogate(log_probability_B: Tensor, reward_B: Tensor) -> Tensor:
    """Return a scalar whose expected gradient is that of the negative mean expected reward."""
    return -(less_others_mean(reward_B) * log_probability_B).mean()


def mixed_policy(logits_BKL: Tensor, exploration: Tensor | float) -> Tensor:
    """Return the policy of training, ε · uniform + (1 − ε) · softmax, (B, K, L)."""
    return exploration / logits_BKL.shape[-1] + (1 - exploration) * logits_BKL.softmax(dim=-1)


def draw_levels(policy_BKL: Tensor) -> Tensor:
    """Draw levels (B, K) from torch's global generator by inverting the distribution."""
    below_BKL = policy_BKL.cumsum(dim=-1)[..., :-1]  # without the end, where rounding may miss 1
    return (torch.rand_like(below_BKL[..., :1]) >= below_BKL).sum(dim=-1)
