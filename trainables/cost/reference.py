"""Measures the dense network that a trial's costs are fractions of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from trainables.config import ModelConfig
from trainables.cost.flops import forward_flops
from trainables.models.catalogue import build_model, service_of
from trainables.registry.lookup import MODEL
from trainables.sparsity.masking.prunable import find_prunable


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Holds what a dense network costs; None where the trial's own network is the reference.

    flops: of one image. weights: those that can be pruned.
    """

    flops: int | None = None
    weights: int | None = None


def dense_reference(asked: ModelConfig) -> ModelConfig:
    """Return the dense network that a model's costs are relative to: its own, or the one named."""
    return replace(asked, name=MODEL.find(asked.name).reference or asked.name)


def reference_of(
    asked: ModelConfig,
    trained: ModelConfig,
    num_channels: Mapping[str, int],
    image_size: Sequence[int],
) -> Reference:
    """Return the dense network that a trial's costs are relative to.

    asked: the trial's model. trained: the network that it trains, a narrower one for methods that
      scale: those are measured against the network asked for.

    The description of a model may name another one as its reference (`ModelDescription.reference`)
    for FLOPs. References are traced on the meta device, where they take no memory.
    """
    reference = dense_reference(asked)
    if reference != asked:
        model = _on_meta(reference, num_channels)
        return Reference(flops=forward_flops(model, image_size).dense)
    if trained == asked:
        return Reference()
    model = _on_meta(asked, num_channels)
    weights = find_prunable(model, service_of(asked, model, image_size)).total
    return Reference(flops=forward_flops(model, image_size).dense, weights=weights)


def _on_meta(config: ModelConfig, num_channels: Mapping[str, int]) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(config, num_channels, seed=0)
