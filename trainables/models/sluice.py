"""Defines Sluice: a network per task, with mixed feature halves and all stages at the head.

Latent Multi-task Architecture Learning, Ruder et al., AAAI 2019:
- after a stage, each task's channels are two subspaces (the first half and the second), and
  α ∈ R^(2T×2T) mixes the 2T subspaces of all tasks linearly;
- a task's head reads Σ_i β_i · (stage i), over its own mixed stage outputs;
- 0.1 · ‖W₁ᵀW₂‖²_F, summed over stages and tasks, keeps the subspaces apart.

The paper uses recurrent networks whose layers are alike. Our choices for convolutional networks
are explained in docs/decisions/0008:
- W₁ and W₂ come from the convolution that ends a stage, the last block's `conv2`: the filters of
  the first and of the second half of its output channels, each filter flattened to a column.
  So W₁ᵀW₂ holds every inner product between a filter of one subspace and one of the other,
  and is 0 exactly when these are orthogonal. (The released code has filters as rows: its
  product vanishes only if the filters do, because there are more inputs than filters.)
- α starts at 0.95 on the diagonal, and a row shares 0.05 among the rest; β at 0.9 for the last
  stage, and the others share 0.1: the released "imbalanced" values, made to sum to 1.
- stages differ in width and resolution, so all but the last pass average pooling and a 1×1
  projection with normalisation, private to the task, on their way to the head.

Shape suffixes: B batch, C channels, H height, W width; h, w at the output stride; T tasks.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import ModelConfig
from trainables.errors import UserError
from trainables.models.base import chosen_tasks, owners_by_group
from trainables.models.deeplab_resnet import Backbone, BasicBlock, build_heads, initialise

NUM_SUBSPACES = 2
SELF_WEIGHT = 0.95  # of α; the other subspaces share the rest
LAST_STAGE_WEIGHT = 0.9  # of β; the other stages share the rest
PENALTY_WEIGHT = 0.1


class SubspaceMixing(nn.Module):
    """Mixes the subspaces of one stage by α: `weight[i, j]` is what i takes of j.

    Subspaces are numbered task by task: 2t and 2t + 1 are task t's.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        size = NUM_SUBSPACES * num_tasks
        weight = torch.full((size, size), (1 - SELF_WEIGHT) / (size - 1))
        self.weight = nn.Parameter(weight.fill_diagonal_(SELF_WEIGHT))

    def forward(self, features_BCHW: Sequence[Tensor]) -> list[Tensor]:
        """Return the mixed feature maps; one per task, in and out, in the order of the tasks."""
        half = features_BCHW[0].shape[1] // NUM_SUBSPACES
        # A task's features as they are, and with their two subspaces in each other's place.
        swapped_BCHW = [features.roll(half, dims=1) for features in features_BCHW]
        mixed = []
        for task in range(len(features_BCHW)):
            terms = []
            for other, (own, swapped) in enumerate(zip(features_BCHW, swapped_BCHW, strict=True)):
                block = self.weight[2 * task : 2 * task + 2, 2 * other : 2 * other + 2]
                terms.append(_along_channels(block[0, 0], block[1, 1], half) * own)
                terms.append(_along_channels(block[0, 1], block[1, 0], half) * swapped)
            mixed.append(sum(terms[1:], start=terms[0]))
        return mixed


def _along_channels(first: Tensor, second: Tensor, half: int) -> Tensor:
    """Return (C, 1, 1): one weight for the first half of the channels, one for the second."""
    return torch.stack([first, second]).repeat_interleave(half)[:, None, None]


class StageMixture(nn.Module):
    """Mixes the stages of one task by β; it projects the stages before the last."""

    def __init__(self, stage_channels: Sequence[int]) -> None:
        super().__init__()
        *earlier, last = stage_channels
        weight = torch.ones(1)
        if earlier:
            weight = torch.full((len(stage_channels),), (1 - LAST_STAGE_WEIGHT) / len(earlier))
            weight[-1] = LAST_STAGE_WEIGHT
        self.weight = nn.Parameter(weight)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last))
            for channels in earlier
        )

    def forward(self, stages_BCHW: Sequence[Tensor]) -> Tensor:
        """Return the mixture (B, last C, h, w) of the outputs of all stages, first to last."""
        *earlier, last = stages_BCHW
        mixed = self.weight[-1] * last
        for weight, projection, features in zip(
            self.weight[:-1], self.projections, earlier, strict=True
        ):
            pooled = F.adaptive_avg_pool2d(features, (last.shape[-2], last.shape[-1]))
            mixed = mixed + weight * projection(pooled)
        return mixed


def subspace_penalty(weight: Tensor) -> Tensor:
    """Return ‖W₁ᵀW₂‖²_F of a convolution's weight (2n, C, k, k), a scalar ≥ 0."""
    first, second = weight.flatten(1).chunk(NUM_SUBSPACES)
    return (first @ second.T).square().sum()


class SluiceNetwork(nn.Module):
    """Mixes a network per task by subspaces after each stage.

    Calling it gives `{task: prediction_BChw}`. Every task has a trunk, a mixture of its stages and
    a head.

    num_channels: channels of each task's prediction; its order is the order of `tasks`.
    Raises `UserError` for an odd width, which cannot be halved.
    """

    def __init__(self, config: ModelConfig, num_channels: Mapping[str, int]) -> None:
        super().__init__()
        if config.width % NUM_SUBSPACES:
            raise UserError(
                f"`model.width` must be even for sluice, got {config.width}; a stage's channels "
                "are cut into two subspaces"
            )
        self.tasks = tuple(num_channels)
        self.backbones = nn.ModuleDict({task: Backbone(config) for task in self.tasks})
        first = cast(Backbone, self.backbones[self.tasks[0]])
        self.mixing = nn.ModuleList(SubspaceMixing(len(self.tasks)) for _ in config.blocks)
        self.mixtures = nn.ModuleDict(
            {task: StageMixture(first.stage_channels) for task in self.tasks}
        )
        self.heads = build_heads(config, first.num_channels, num_channels)
        initialise(self)

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute the heads of `tasks`; None means all. Raises `UserError` for an unknown task.

        All trunks run, whichever tasks are asked for.
        """
        wanted = chosen_tasks(self.tasks, tasks)
        trunks = [cast(Backbone, trunk) for trunk in self.backbones.values()]
        features = [trunk.stem(images_BCHW) for trunk in trunks]
        stages: list[list[Tensor]] = []  # by stage, then by task
        for stage, mixing in enumerate(self.mixing):
            features = mixing(
                [trunk.stage(stage, own) for trunk, own in zip(trunks, features, strict=True)]
            )
            stages.append(features)
        by_task = dict(zip(self.tasks, zip(*stages, strict=True), strict=True))
        return {task: self.heads[task](self.mixtures[task](by_task[task])) for task in wanted}

    def owners(self) -> dict[str, str]:
        """Return the task for its trunk, mixture (β, projections) and head; α is `SHARED`."""
        return owners_by_group(self, ("backbones", "mixtures", "heads"))

    def auxiliary_loss(self, image_losses: Mapping[str, Tensor]) -> Tensor:
        """Return the orthogonality penalty over all stages of all tasks."""
        penalties = []
        for trunk in self.backbones.values():
            for blocks in cast(Backbone, trunk).blocks:
                last = cast(BasicBlock, cast(nn.ModuleList, blocks)[-1])
                penalties.append(subspace_penalty(last.conv2.weight))
        return PENALTY_WEIGHT * torch.stack(penalties).sum()

    def channel_subspaces(self) -> dict[str, int]:
        """Return the layers that end a stage: their channels are mixed by subspace."""
        return {
            f"backbones.{task}.blocks.{stage}.{len(cast(nn.ModuleList, blocks)) - 1}.conv2": (
                NUM_SUBSPACES
            )
            for task, trunk in self.backbones.items()
            for stage, blocks in enumerate(cast(Backbone, trunk).blocks)
        }
