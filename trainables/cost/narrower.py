"""Finds the narrower dense network whose cost is that of a pruned one.

It is the reference that pruning has to beat: the same network with fewer channels everywhere,
trained from scratch (Liu et al. 2019, Rethinking the Value of Network Pruning).
"""

import functools
from collections.abc import Mapping
from dataclasses import replace

import torch

from trainables.config import ModelConfig, TrialConfig
from trainables.cost.flops import forward_flops
from trainables.errors import UserError
from trainables.models.catalogue import build_model
from trainables.registry.lookup import METHOD

_NUM_BISECTIONS = 12


def network_of(config: TrialConfig, num_channels: Mapping[str, int]) -> ModelConfig:
    """Return the network that a trial trains: a narrower one for methods that scale, else its own.

    num_channels: channels of the prediction, by task. Raises `UserError` for a model whose cost
    does not follow `model.width` and `model.head_width`, and for a target that none meets.
    """
    if not METHOD.find(config.method).scales or config.sparsity.target == 0:
        return config.model
    channels = tuple(num_channels.items())
    sparsity = config.sparsity
    return _narrowed(config.model, channels, 1 - sparsity.target, sparsity.counts, config.data.size)


@functools.cache
def _narrowed(
    model: ModelConfig,
    channels: tuple[tuple[str, int], ...],
    share: float,
    counts: str,
    size: tuple[int, int],
) -> ModelConfig:
    """Return the widest network that costs at most `share` of the dense one."""

    def cost(candidate: ModelConfig) -> int:
        with torch.device("meta"):
            network = build_model(candidate, dict(channels), seed=0)
        if counts == "flops":
            return forward_flops(network, size).dense
        return sum(parameter.numel() for parameter in network.parameters())

    def scaled(factor: float) -> ModelConfig:
        return replace(
            model,
            width=max(1, int(model.width * factor)),
            head_width=max(1, int(model.head_width * factor)),
        )

    budget = share * cost(model)
    low, high = 0.0, 1.0
    if cost(scaled(low)) > budget:
        raise UserError(
            f"small-dense must find a network of {share:.3g} of the {counts} by "
            "`model.width` and `model.head_width`, got none that narrow; lower sparsity.target, or "
            "let the model's factory read these settings"
        )
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(scaled(middle)) <= budget else (low, middle)
    found = scaled(low)
    # Widths are whole numbers, so the head may have room left.
    while cost(wider := replace(found, head_width=found.head_width + 1)) <= budget:
        if wider.head_width > model.head_width:
            break
        found = wider
    return found
