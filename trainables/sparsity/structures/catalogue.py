"""Builds the structure that a trial asks for."""

from collections.abc import Mapping, Sequence

from torch import nn

from trainables.config import SparsityConfig
from trainables.errors import UserError
from trainables.registry.structures import group_sizes
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.channels import ChannelStructure
from trainables.sparsity.structures.n_of_m import NofM
from trainables.sparsity.structures.structure import Structure
from trainables.sparsity.structures.tracing import trace_units
from trainables.sparsity.structures.weights import WeightStructure


def use_structure(
    name: str, registry: MaskRegistry, model: nn.Module, image_size: Sequence[int]
) -> None:
    """Make a new registry keep or prune what belongs together in the named structure.

    It traces the model for structure channel, and does nothing for the others. Raises `UserError`
    for a model whose channels cannot be found.
    """
    if name == "channel":
        registry.use_units(model, trace_units(model, image_size))


def build_structure(
    config: SparsityConfig,
    registry: MaskRegistry,
    flops: Mapping[str, int],
    other_flops: int = 0,
) -> Structure:
    """Return the structure of a trial, for a registry after `use_structure`.

    flops: of one image, by prunable weight; structure channel may count them. other_flops: those
      that no weight's mask can save.
    Raises `UserError` for a target that no network meets, and for FLOPs that cannot be counted.
    """
    # A dense method knows no units, whatever structure its study has, and prunes nothing.
    if config.structure == "channel" and registry.units is not None:
        if config.counts == "flops" and other_flops:
            raise UserError(
                "`sparsity.counts` must be parameters for a network that computes outside of "
                f"convolutions and linear layers, got flops, of which {other_flops:,} are there"
            )
        return ChannelStructure(registry, config, flops)
    sizes = group_sizes(config.structure)
    if sizes is not None:
        return NofM(registry, config, *sizes)
    return WeightStructure(registry, config)
